// Runs the trials: all, or those whose name contains an argument.
import { OLD, clients } from './clients.mjs';
import { chained, later } from './clients_connect.mjs';
import { runTrials } from './pool.mjs';
import { threeServers, wholeLife } from './scopes.mjs';

// Clients that can elicit by URL, and those that cannot.
const elicits = ['Python SDK', 'TypeScript', 'FastMCP', 'mcp-remote'];
const laters = clients.map(([name, revision, command, options]) => {
  const can = elicits.some((part) => name.startsWith(part));
  const inSession = can ? (revision === OLD ? '-32042' : 'input_required') : '-32001';
  return [`${name} later`, revision, command, { ...options, elicits: can, inSession }];
});

await runTrials([
  ['50 refreshes', () => wholeLife('50 refreshes')],
  ['three servers', () => threeServers('three servers')],
  ...clients.map(([name, ...how]) => [`${name} chained`, () => chained(`${name} chained`, ...how)]),
  ...laters.map(([name, ...how]) => [name, () => later(name, ...how)]),
]);
