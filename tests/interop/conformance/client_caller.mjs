// A client of the broker: obtains its token, and calls the protected server, in both revisions.
import { createHash, randomBytes } from 'node:crypto';
import { send } from './client_person.mjs';

export const CLIENT = 'conformance';
const REDIRECT = 'http://127.0.0.1:33418/callback';
const META = 'io.modelcontextprotocol';

export class Caller {
  #verifier = randomBytes(32).toString('base64url');
  #count = 0;

  constructor(broker, revision) {
    Object.assign(this, { broker, revision, isStateless: revision >= '2026' });
  }

  // The authorization request.
  authorization() {
    const url = new URL('/oauth/authorize', this.broker.origin);
    url.search = new URLSearchParams({
      response_type: 'code', client_id: CLIENT, redirect_uri: REDIRECT, state: 'xyz', resource: this.broker.url,
      code_challenge: createHash('sha256').update(this.#verifier).digest('base64url'), code_challenge_method: 'S256',
    });
    return url;
  }

  // Redeems the code of a redirect.
  async redeem(location) {
    const query = new URL(location).searchParams;
    if (!location.startsWith(`${REDIRECT}?`) || !query.has('code')) throw new Error(`no code: ${location}`);
    const body = new URLSearchParams({
      grant_type: 'authorization_code', client_id: CLIENT, code: query.get('code'), redirect_uri: REDIRECT, code_verifier: this.#verifier,
    }).toString();
    const response = await this.#post('/oauth/token', { 'content-type': 'application/x-www-form-urlencoded' }, body);
    if (response.status !== 200) throw new Error(`no token: ${response.text}`);
    this.token = JSON.parse(response.text).access_token;
  }

  // The handshake of 2025-11-25.
  async initialize() {
    if (this.isStateless) return;
    const clientInfo = { name: CLIENT, version: '1.0.0' };
    const params = { protocolVersion: this.revision, capabilities: { elicitation: { url: {} } }, clientInfo };
    const { result, text } = await this.request('initialize', params);
    if (result?.protocolVersion !== this.revision) throw new Error(`initialize: ${text}`);
    await this.#message({ method: 'notifications/initialized' });
  }

  // Sends a request. Returns its result or its error, or the link under which the user must connect,
  // with what the retry must contain.
  async request(method, params = {}) {
    const meta = {
      [`${META}/protocolVersion`]: this.revision, [`${META}/clientInfo`]: { name: CLIENT, version: '1.0.0' },
      [`${META}/clientCapabilities`]: { elicitation: { url: {} } },
    };
    this.#count += 1;
    const sent = this.isStateless ? { ...params, _meta: meta } : params;
    const { status, text } = await this.#message({ id: this.#count, method, params: sent });
    // A stream has the response in its last event.
    const data = text.trimStart().startsWith('{') ? text : text.split('\n').findLast((line) => line.startsWith('data: {'))?.slice(6);
    const response = data ? JSON.parse(data) : {};
    return { status, text, result: response.result, error: response.error, signal: this.#signal(response) };
  }

  // "Please connect", as this revision has it.
  #signal({ result, error }) {
    if (this.isStateless && result?.resultType === 'input_required') {
      const [[key, { method, params }]] = Object.entries(result.inputRequests);
      if (method !== 'elicitation/create' || params.mode !== 'url') throw new Error(`an input request ${JSON.stringify(params)}`);
      return { url: params.url, retry: { inputResponses: { [key]: { action: 'accept' } }, requestState: result.requestState } };
    }
    if (!this.isStateless && error?.code === -32042) return { url: error.data.elicitations[0].url, retry: {} };
    // Without a session of the server, the broker cannot know what the client supports, and some methods
    // have no elicitation: the link is in the text.
    if (error?.code === -32001) return { url: error.message.match(/http\S+/)[0], retry: {} };
    return null;
  }

  #message(message) {
    const name = message.params?.name;
    const headers = {
      authorization: `Bearer ${this.token}`, 'content-type': 'application/json', accept: 'application/json, text/event-stream',
      ...(message.method !== 'initialize' && { 'mcp-protocol-version': this.revision }),
      ...(this.isStateless && { 'mcp-method': message.method }), ...(this.isStateless && name && { 'mcp-name': name }),
    };
    return this.#post(new URL(this.broker.url).pathname, headers, JSON.stringify({ jsonrpc: '2.0', ...message }));
  }

  #post(path, headers, body) {
    const host = new URL(this.broker.origin).host;
    const more = { host, connection: 'close', 'content-length': Buffer.byteLength(body) };
    return send(this.broker.target, 'POST', new URL(path, this.broker.origin), { ...headers, ...more }, body);
  }
}
