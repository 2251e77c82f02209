// A client that requests all scopes that it knows of: `openid-client` for the authorization, and the
// TypeScript SDK for calls.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import {
  None, allowInsecureRequests, authorizationCodeGrant, buildAuthorizationUrl, calculatePKCECodeChallenge, dynamicClientRegistration,
  randomPKCECodeVerifier, randomState,
} from 'openid-client';
import { OFFERED } from './accounts.mjs';

const redirect_uri = 'http://127.0.0.1:3030/callback';
export const EVERYTHING = [...OFFERED, 'openid', 'profile', 'email', 'offline_access'].join(' ');

export class Greedy {
  // The access token of each resource.
  #tokens = new Map();
  #clients = new Map();

  static async register(trial) {
    const greedy = new Greedy();
    greedy.trial = trial;
    greedy.config = await dynamicClientRegistration(new URL(trial.server.origin), {
      client_name: 'Greedy', redirect_uris: [redirect_uri], grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none', scope: EVERYTHING,
    }, None(), { algorithm: 'oauth2', execute: [allowInsecureRequests] });
    return greedy;
  }

  // Returns the scopes that the broker granted.
  async authorize(resource) {
    const [verifier, state] = [randomPKCECodeVerifier(), randomState()];
    const url = buildAuthorizationUrl(this.config, {
      redirect_uri, state, scope: EVERYTHING, resource, code_challenge_method: 'S256', prompt: 'consent',
      code_challenge: await calculatePKCECodeChallenge(verifier),
    });
    const back = new URL(await this.trial.browse(url.href));
    const tokens = await authorizationCodeGrant(this.config, back, { pkceCodeVerifier: verifier, expectedState: state }, { resource });
    this.#tokens.set(resource, tokens.access_token);
    return tokens.scope;
  }

  // The client of a resource, which remains connected.
  async #client(resource) {
    if (!this.#clients.has(resource)) {
      const requestInit = { headers: { authorization: `Bearer ${this.#tokens.get(resource)}` } };
      const client = new Client({ name: 'greedy', version: '1' }, { versionNegotiation: { mode: { pin: '2026-07-28' } } });
      await client.connect(new StreamableHTTPClientTransport(new URL(resource), { requestInit }));
      this.#clients.set(resource, client);
    }
    return this.#clients.get(resource);
  }

  // Returns the text of the response, or of the error with its code and data.
  async call(resource, tool = 'get_item') {
    try {
      const { content } = await (await this.#client(resource)).callTool({ name: tool, arguments: { number: 7 } });
      return content[0].text;
    } catch (error) {
      return `${error} ${error.code} ${JSON.stringify(error.data ?? null)}`;
    }
  }

  async end() {
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }
}
