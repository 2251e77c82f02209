// Runs the trials: all, or those whose name contains an argument.
import { OLD, clients } from './clients.mjs';
import { chained, later, laterRmcp } from './clients_connect.mjs';
import { runTrials } from './pool.mjs';
import { moreScopes, renamed, scopeOfRule, threeServers, wholeLife } from './scopes.mjs';

// The clients that can open a link for the user, in the tests. `mcp-remote auto` is not one: it declares
// elicitation if its own client does, but does not pass on what a server of 2026-07-28 requires.
const eliciting = ['Python SDK', 'TypeScript', 'FastMCP', 'mcp-remote legacy'];
// With only 2026-07-28, an error to `server/discover` reaches no one: the client reports that the server
// does not support the revision.
const hiding = ['MCP Inspector modern'];
const isOne = (names, name) => names.some((part) => name.startsWith(part));
const inSession = (name, revision) => {
  if (!isOne(eliciting, name)) return '-32001';
  return revision === OLD ? '-32042' : 'input_required';
};
const laters = clients.map(([name, revision, command, options]) => {
  const how = { ...options, elicits: isOne(eliciting, name), hidesLink: isOne(hiding, name), inSession: inSession(name, revision) };
  const run = name.startsWith('rmcp') ? laterRmcp : later;
  return [`${name} later`, () => run(`${name} later`, revision, command, how)];
});

await runTrials([
  ['50 refreshes', () => wholeLife('50 refreshes')],
  ['three servers', () => threeServers('three servers')],
  ['more scopes', () => moreScopes('more scopes')],
  ['another name', () => renamed('another name')],
  ['scope of a rule', () => scopeOfRule('scope of a rule')],
  ...clients.map(([name, ...how]) => [`${name} chained`, () => chained(`${name} chained`, ...how)]),
  ...laters,
]);
