// Runs the trials: all clients, or those whose name contains an argument.
import { startBrowser, endBrowser } from './browser.mjs';
import { judge, judgeReplay, judgeSecrets, judgeShared } from './judge.mjs';
import { freePort } from './server.mjs';
import { Trial } from './trial.mjs';

const { PYTHON, FASTMCP, RMCP, HERE } = process.env;
// Refreshes by each of two processes, and trials at once.
const REFRESHES = Number(process.env.REFRESHES ?? 10);
const AT_ONCE = Number(process.env.AT_ONCE ?? 3);
const OLD = '2025-11-25';
const NEW = '2026-07-28';
const node = (file, ...args) => [process.execPath, [`${HERE}/${file}`, ...args]];
const python = (file, ...args) => [PYTHON, [`${HERE}/${file}`, ...args]];
const fastmcp = (...args) => [FASTMCP, [`${HERE}/fastmcp_client.py`, ...args]];

// A client's document names its redirect URIs; those on loopback may have any port.
const redirects = ['http://127.0.0.1:3030/callback', 'http://localhost/callback', 'http://localhost/oauth/callback', 'http://127.0.0.1:6276/oauth/callback'];
const document = (name) => ({
  client_name: name, redirect_uris: redirects, grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  token_endpoint_auth_method: 'none',
});

const clients = [
  ['Python SDK legacy', OLD, python('python_sdk.py', 'legacy')],
  ['Python SDK auto', NEW, python('python_sdk.py', 'auto'), { documents: true }],
  ['TypeScript SDK 1', OLD, node('typescript_1.mjs')],
  ['TypeScript SDK 1 document', OLD, node('typescript_1.mjs'), { documents: true }],
  ['TypeScript SDK 2 legacy', OLD, node('typescript_2.mjs', 'legacy')],
  ['TypeScript SDK 2 auto', NEW, node('typescript_2.mjs', 'auto'), { documents: true }],
  ['FastMCP legacy', OLD, fastmcp('legacy')],
  ['FastMCP auto', NEW, fastmcp('auto'), { documents: true }],
  ['mcp-remote legacy', OLD, node('mcp_remote.mjs', 'legacy')],
  ['mcp-remote auto', NEW, node('mcp_remote.mjs', 'auto'), { documents: true }],
  ['MCP Inspector legacy', OLD, node('inspector.mjs', 'legacy')],
  ['MCP Inspector modern', NEW, node('inspector.mjs', 'modern'), { documents: true }],
  ['rmcp legacy', OLD, [RMCP, ['legacy']]],
  ['rmcp modern', NEW, [RMCP, ['modern']], { documents: true }],
];
const shared = [
  ['two processes of Python SDK', (...args) => python('python_sdk.py', 'auto', ...args)],
  ['two processes of TypeScript SDK 2', (...args) => node('typescript_2.mjs', 'auto', ...args)],
  ['two processes of mcp-remote', (...args) => node('mcp_remote.mjs', 'legacy', ...args)],
];

async function one(trial, command, env) {
  const { code, text } = await trial.run(...command, env);
  trial.check('the program ends well', code === 0, text.slice(-1400));
  return text.trimEnd();
}

async function whole(name, revision, command, { documents = false } = {}) {
  const trial = await Trial.start(name);
  const env = { STORE: `${trial.folder}/store`, CALLBACK_PORT: String(await freePort()) };
  if (documents) env.DOCUMENT = trial.server.publish('client', document(name));
  await one(trial, command, env);
  judge(trial, { revision, documents });
  return trial.end();
}

async function twoProcesses(name, command) {
  const trial = await Trial.start(name);
  const env = { STORE: `${trial.folder}/store`, CALLBACK_PORT: String(await freePort()), LIMIT: String(120 + REFRESHES * 10) };
  trial.wire.phase = 'sign-in';
  await one(trial, command('begin'), env);
  trial.wire.phase = 'shared';
  await Promise.all([0, 1].map(() => one(trial, command('share', String(REFRESHES)), env)));
  judgeShared(trial, REFRESHES);
  judgeSecrets(trial);
  return trial.end();
}

// A process that was idle holds a refresh token that was superseded long ago: its use is a replay. It
// ends the family, and each process signs in again.
async function idleProcess(name) {
  const trial = await Trial.start(name, { lifetime: 1, grace: '2s' });
  const env = { STORE: `${trial.folder}/store` };
  trial.wire.phase = 'sign-in';
  await one(trial, python('python_sdk.py', 'auto', 'begin'), env);
  trial.wire.phase = 'shared';
  await Promise.all([
    one(trial, python('python_sdk.py', 'auto', 'share', '12'), env),
    one(trial, python('python_sdk.py', 'auto', 'share', '1', '8'), env),
  ]);
  judgeReplay(trial);
  judgeSecrets(trial);
  return trial.end();
}

async function strict(name) {
  const trial = await Trial.start(name, { lifetime: 60 });
  trial.lines.push(await one(trial, node('openid_client.mjs')));
  judgeSecrets(trial);
  return trial.end();
}

const trials = [
  ...shared.map(([name, command]) => [name, () => twoProcesses(name, command)]),
  ...clients.map(([name, ...how]) => [name, () => whole(name, ...how)]),
  ['openid-client', () => strict('openid-client')],
  ['idle process of Python SDK', () => idleProcess('idle process of Python SDK')],
];

const wanted = process.argv.slice(2);
const waiting = trials.filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
let [passed, failed] = [0, 0];
async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, run] = next;
    try {
      const [good, bad] = await run();
      passed += good;
      failed += bad;
    } catch (error) {
      failed += 1;
      console.log(`${name}\n  FAIL ${error.stack}`);
    }
  }
}

await startBrowser();
await Promise.all(Array.from({ length: AT_ONCE }, work));
await endBrowser();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
