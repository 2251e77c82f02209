// The suite against `token-broker serve`: `through_serve.mjs authorization FOLDER`, or with a revision in
// place of `authorization` its server mode, with the token of a user who has signed in. The results are
// in FOLDER/results, the audit records in FOLDER/audit.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  None, allowInsecureRequests, authorizationCodeGrant, buildAuthorizationUrl, calculatePKCECodeChallenge, discovery,
  randomPKCECodeVerifier, randomState,
} from 'openid-client';
import { decide, endBrowser, startBrowser } from './browser.mjs';
import { Forwarder } from './forwarder.mjs';
import { Server, freePort } from './server.mjs';

const { PYTHON, SERVER, SUITE } = process.env;
const [mode, folder] = process.argv.slice(2);
const CLIENT = 'conformance';

// Everything that the suite calls, by name.
const rules = `
[[server.allow]]
tools = ["test_*", "json_schema_*"]
prompts = ["*"]
resources = ["*"]
methods = ["logging/setLevel"]
scope = "items:read"
`;
const more = `
[[client]]
id = "${CLIENT}"
redirect_uris = ["http://127.0.0.1/callback"]
`;
const upstream = (port) => [
  PYTHON, ['-m', 'mcp_everything_server', '--port', String(port), '--log-level', 'WARNING'], { PYTHONPATH: SERVER },
];

// Runs the suite; `line` is called with each line of its output, and a function that ends the suite.
// Returns its exit code.
function suite(args, line = () => {}) {
  const child = spawn(process.execPath, [SUITE, ...args, '--output-dir', join(folder, 'results')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const limit = setTimeout(() => child.kill(), 300_000);
  let rest = '';
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    for (const text of lines) line(text, () => child.kill());
  });
  return new Promise((resolve) => {
    child.on('close', (code) => { clearTimeout(limit); resolve(code ?? 1); });
  });
}

// The suite prints the URL for the user, and waits at its redirect URI.
async function authorization(server) {
  const port = String(await freePort());
  let count = 0;
  const code = await suite(['authorization', '--url', server.origin, '--client-id', CLIENT, '--resource', server.url, '--port', port], (line, end) => {
    if (!line.startsWith(`${server.origin}/`)) return;
    count += 1;
    decide(line.trim(), server).catch((error) => { console.log(error.message); end(); });
  });
  if (count !== 1) throw new Error(`the suite has named ${count} URLs`);
  return code;
}

async function signIn(server) {
  const options = { algorithm: 'oauth2', execute: [allowInsecureRequests] };
  const config = await discovery(new URL(server.origin), CLIENT, {}, None(), options);
  const [verifier, state] = [randomPKCECodeVerifier(), randomState()];
  const url = buildAuthorizationUrl(config, {
    redirect_uri: `http://127.0.0.1:${await freePort()}/callback`, state, resource: server.url, code_challenge_method: 'S256',
    code_challenge: await calculatePKCECodeChallenge(verifier),
  });
  const ended = new URL(await decide(url.href, server));
  const tokens = await authorizationCodeGrant(config, ended, { pkceCodeVerifier: verifier, expectedState: state }, { resource: server.url });
  return tokens.access_token;
}

const forwarder = new Forwarder();
const origin = await forwarder.listen();
const server = await Server.start(folder, { origin, lifetime: 3600, upstream, rules, more });
forwarder.target = server.target;
let code = 1;
try {
  await startBrowser();
  if (mode === 'authorization') {
    code = await authorization(server);
  } else {
    forwarder.token = await signIn(server);
    code = await suite(['server', '--url', server.url, '--requirements', mode]);
  }
} finally {
  await endBrowser();
  forwarder.close();
  await server.end();
}
process.exit(code);
