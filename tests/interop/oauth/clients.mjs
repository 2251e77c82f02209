// The clients, and how their programs run.
import { freePort } from './server.mjs';

const { PYTHON, FASTMCP, RMCP, HERE } = process.env;
export const OLD = '2025-11-25';
export const NEW = '2026-07-28';
export const node = (file, ...args) => [process.execPath, [`${HERE}/${file}`, ...args]];
export const python = (file, ...args) => [PYTHON, [`${HERE}/${file}`, ...args]];
const fastmcp = (...args) => [FASTMCP, [`${HERE}/fastmcp_client.py`, ...args]];

// A client's document names its redirect URIs; those on loopback may have any port.
const redirects = ['http://127.0.0.1:3030/callback', 'http://localhost/callback', 'http://localhost/oauth/callback', 'http://127.0.0.1:6276/oauth/callback'];
export const document = (name) => ({
  client_name: name, redirect_uris: redirects, grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
  token_endpoint_auth_method: 'none',
});

export const clients = [
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

// Returns what the program printed.
export async function one(trial, command, env) {
  const { code, text } = await trial.run(...command, env);
  trial.check('the program ends well', code === 0, text.slice(-1400));
  return text.trimEnd();
}

// The environment of a client, with its document if it has one.
export async function environment(trial, name, { documents = false } = {}) {
  const env = { STORE: `${trial.folder}/store`, CALLBACK_PORT: String(await freePort()) };
  if (documents) env.DOCUMENT = trial.server.publish('client', document(name));
  return env;
}
