// Runs the trials: all clients, or those whose name contains an argument.
import { clients, environment, node, one, python } from './clients.mjs';
import { judge, judgeReplay, judgeSecrets, judgeShared } from './judge.mjs';
import { runTrials } from './pool.mjs';
import { Trial } from './trial.mjs';

// Refreshes by each of two processes.
const REFRESHES = Number(process.env.REFRESHES ?? 10);

const shared = [
  ['two processes of Python SDK', (...args) => python('python_sdk.py', 'auto', ...args)],
  ['two processes of TypeScript SDK 2', (...args) => node('typescript_2.mjs', 'auto', ...args)],
  ['two processes of mcp-remote', (...args) => node('mcp_remote.mjs', 'legacy', ...args)],
];

async function whole(name, revision, command, { documents = false } = {}) {
  const trial = await Trial.start(name);
  await one(trial, command, await environment(trial, name, { documents }));
  judge(trial, { revision, documents });
  return trial.end();
}

async function twoProcesses(name, command) {
  const trial = await Trial.start(name);
  const env = { ...await environment(trial, name), LIMIT: String(120 + REFRESHES * 10) };
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

await runTrials(trials);
