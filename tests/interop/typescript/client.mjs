// The official TypeScript SDK as a client with only broker tokens: version 1, and version 2 in both
// revisions.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as v2 from '@modelcontextprotocol/client';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const { GATEWAY, CONTROL, SEEN, AUDIT, UPSTREAM_TOKEN } = process.env;
let failures = 0;
let everything = '';

function check(what, holds, found) {
  failures += holds ? 0 : 1;
  console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : ` ${JSON.stringify(found)}`}`);
}

const lines = (file) => readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));

async function tell(what, query) {
  const answer = await fetch(`${CONTROL}/${what}?${new URLSearchParams(query)}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
  return answer.text();
}

// Keeps received bytes: `answers` has one entry per request.
function tap(token, answers) {
  return async (url, init) => {
    const headers = new Headers(init?.headers);
    headers.set('authorization', `Bearer ${token.value}`);
    const answer = await fetch(url, { ...init, headers });
    const entry = { asked: init?.body ?? '', status: answer.status, headers: JSON.stringify([...answer.headers]), body: '', ended: null };
    entry.challenge = answer.headers.get('www-authenticate') ?? '';
    answers.push(entry);
    if (!answer.body) return answer;
    const decoder = new TextDecoder();
    const seen = answer.body.pipeThrough(new TransformStream({
      transform(chunk, next) { entry.body += decoder.decode(chunk, { stream: true }); next.enqueue(chunk); },
      flush() { entry.ended = Date.now(); },
    }));
    return new Response(seen, { status: answer.status, statusText: answer.statusText, headers: answer.headers });
  };
}

const model = async () => ({ role: 'assistant', model: 'none', content: { type: 'text', text: 'this one' } });
const user = async () => ({ action: 'accept', content: { word: 'tea' } });
const capabilities = { sampling: {}, elicitation: {} };
const info = { name: 'interop', version: '1' };

function version1(fetch) {
  const client = new ClientV1(info, { capabilities });
  client.setRequestHandler(CreateMessageRequestSchema, model);
  client.setRequestHandler(ElicitRequestSchema, user);
  const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
  return { client, call, transport: new TransportV1(new URL(GATEWAY), { fetch }) };
}

function version2(mode) {
  return (fetch) => {
    const client = new v2.Client(info, { capabilities, versionNegotiation: { mode } });
    client.setRequestHandler('sampling/createMessage', model);
    client.setRequestHandler('elicitation/create', user);
    const call = (name, args, options) => client.callTool({ name, arguments: args }, options);
    return { client, call, transport: new v2.StreamableHTTPClientTransport(new URL(GATEWAY), { fetch }) };
  };
}

const settled = (promise) => promise.then((value) => ({ value }), (error) => ({ error }));

async function run(what, revision, make) {
  console.log(`${what}, ${revision}`);
  const who = what.replaceAll(' ', '-');
  const reader = await tell('token', { user: who, scope: 'items:read' });
  const writer = await tell('token', { user: who, scope: 'items:read items:write' });
  const [token, answers, before] = [{ value: reader }, [], lines(SEEN).length];
  const { client, call, transport } = make(tap(token, answers));
  await client.connect(transport);
  const answersTo = (name) => answers.filter((answer) => answer.asked.includes('"tools/call"') && answer.asked.includes(`"${name}"`));

  const names = (await client.listTools()).tools.map((tool) => tool.name);
  check('the list has what is allowed', ['get_item', 'update_item', 'watch_items'].every((name) => names.includes(name)), names);
  check('the list hides what is denied', !names.includes('delete_item'), names);
  const called = await call('get_item', { number: 7 });
  check('a call returns its result', called.content[0].text === 'item 7', called);

  const denied = await settled(call('delete_item', { number: 7 }));
  const unknown = await settled(call('unknown_item', { number: 7 }));
  check('a denied call is refused with -32602', denied.error?.code === -32602 && unknown.error?.code === -32602, denied);
  const [said, same] = ['delete_item', 'unknown_item'].map((name) => answersTo(name)[0]?.body.replace(/"id":\d+/, '"id":0'));
  check('with the same bytes as an unknown tool', said?.includes('-32602') && said === same, [said, same]);

  const stepUp = await settled(call('update_item', { number: 7 }));
  const challenge = answersTo('update_item')[0];
  check('a call that needs a scope is refused', stepUp.error !== undefined, stepUp);
  check('with 403 and the scope', challenge?.status === 403 && /error="insufficient_scope".*scope="items:write"/.test(challenge.challenge), challenge);
  token.value = writer;
  const updated = await call('update_item', { number: 7 });
  check('and passes with it, in the same session', updated.content[0].text === 'item 7 is new', updated);

  const progress = [];
  const counted = await call('count_slowly', { to: 3 }, { onprogress: (at) => progress.push(at.progress) });
  check('a streamed response completes, with its progress', counted.content[0].text === 'counted to 3' && progress.join() === '1,2,3', progress);
  check('as a stream', answersTo('count_slowly')[0]?.headers.includes('text/event-stream'), answersTo('count_slowly'));

  const asked = await call('ask_user', {});
  check('an elicitation reaches the user', asked.content[0].text === 'the user says tea', asked);
  const questions = answersTo('ask_user').map((answer) => answer.body).join('');
  if (revision === '2025-11-25') {
    check('by a request to the client', questions.includes('"elicitation/create"') && !questions.includes('input_required'), questions);
    const sampled = await call('ask_model', {});
    check('and sampling the model', sampled.content[0].text === 'the model says this one', sampled);
  } else {
    check('by a result that requires input', questions.includes('"input_required"') && answersTo('ask_user').length === 2, questions);
    const kept = /"requestState":"([^"]+)"/.exec(questions)?.[1];
    const state = lines(SEEN).slice(before).find((entry) => entry.name === 'ask_user' && entry.state)?.state;
    check('whose state the client kept sealed, and the server received as its own', kept && state && kept !== state, [kept, state]);
  }

  let revoked;
  const watched = await settled(call('watch_items', {}, {
    timeout: 5000,
    onprogress: (at) => {
      if (at.progress === 2) revoked = tell('revoke', { user: who }).then(() => Date.now());
    },
  }));
  const cut = answersTo('watch_items')[0];
  // This SDK waits for its own timeout if a stream ends without a result.
  check('a stream of a revoked user has no result', revoked !== undefined && watched.error !== undefined, watched);
  check('the stream ends within two seconds', cut?.body.includes('"progress":2') && cut.ended !== null && cut.ended - (await revoked) < 2000, cut);
  const after = await settled(call('get_item', { number: 8 }));
  check('and later calls are refused', after.error !== undefined && answersTo('get_item').at(-1).status === 401, after);
  await settled(client.close());

  const seen = lines(SEEN).slice(before);
  const versions = [...new Set(seen.map((entry) => entry['mcp-protocol-version']).filter(Boolean))];
  check(`the server saw ${revision} on the wire`, versions.join() === revision, versions);
  const reached = seen.filter((entry) => entry.method === 'tools/call').map((entry) => entry.name);
  check('the calls that were let through reached it', ['get_item', 'update_item', 'count_slowly', 'watch_items'].every((name) => reached.includes(name)), reached);
  check('and no other', !reached.includes('delete_item') && !reached.includes('unknown_item'), reached);
  check('once each', reached.filter((name) => name === 'update_item').length === 1, reached);
  const digest = createHash('sha256').update(UPSTREAM_TOKEN).digest('hex');
  check('it saw its own token and no other', seen.every((entry) => entry.token === digest), seen.map((entry) => entry.token));
  if (revision === '2025-11-25') {
    const sessions = [...new Set(seen.map((entry) => entry['mcp-session-id']).filter(Boolean))];
    const kept = /"mcp-session-id","([^"]+)"/.exec(answers.map((answer) => answer.headers).join())?.[1];
    check('one session, whose id the client has sealed', sessions.length === 1 && kept && kept !== sessions[0], [sessions, kept]);
  }
  everything += answers.map((answer) => answer.headers + answer.body).join('');
}

await run('typescript 1', '2025-11-25', version1);
await run('typescript 2 legacy', '2025-11-25', version2('legacy'));
await run('typescript 2 auto', '2026-07-28', version2('auto'));
await run('typescript 2 pinned', '2026-07-28', version2({ pin: '2026-07-28' }));
console.log('in all');
check('the clients received data', everything.length > 10000);
check('which does not contain the upstream token', !everything.includes(UPSTREAM_TOKEN));
// A result may be written to the log shortly after its response.
let missing = [];
for (let turn = 0; turn < 100; turn += 1) {
  const reasons = new Set(lines(AUDIT).map((record) => record.reason));
  missing = ['filter.tool_denied', 'filter.insufficient_scope', 'authn.revoked'].filter((reason) => !reasons.has(reason));
  if (missing.length === 0) break;
  await new Promise((wake) => setTimeout(wake, 20));
}
check('the audit names each refusal', missing.length === 0, missing);
console.log(`${failures} failed`);
process.exit(failures ? 1 : 0);
