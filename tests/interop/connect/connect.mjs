// Runs the trials: all, or those whose name contains an argument.
import { runTrials } from './pool.mjs';
import { threeServers, wholeLife } from './scopes.mjs';

await runTrials([
  ['50 refreshes', () => wholeLife('50 refreshes')],
  ['three servers', () => threeServers('three servers')],
]);
