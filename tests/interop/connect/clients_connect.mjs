// The clients of the suite `oauth`, in front of a server that needs the user's own account.
import { Accounts } from './accounts.mjs';
import { environment, one } from './clients.mjs';
import { judge } from './judge.mjs';
import { judgeConnect, judgeLater, judgeTokens } from './judge_connect.mjs';
import { credential } from './scopes.mjs';
import { Trial } from './trial.mjs';

const { WORK } = process.env;
const SCOPES = ['items:read'];

async function begin(name, connects) {
  const folder = `${WORK}/${name.replaceAll(' ', '-')}`;
  const accounts = await Accounts.start(`${folder}/accounts`, { lifetime: 5, servers: { items: SCOPES[0] } });
  try {
    const trial = await Trial.start(name, {
      upstream: accounts.servers.items.url, loopback: [new URL(accounts.origin).host], credential: credential(SCOPES),
      person: { connects, via: [accounts.origin] },
    });
    return [trial, accounts];
  } catch (error) {
    await accounts.end();
    throw error;
  }
}

async function end(trial, accounts) {
  const result = await trial.end();
  await accounts.end();
  return result;
}

// The user connects within the first consent.
export async function chained(name, revision, command, options = {}) {
  const [trial, accounts] = await begin(name, 'now');
  await one(trial, command, await environment(trial, name, options));
  judge(trial, { revision, ...options, judgeOwn: () => judgeTokens(trial, accounts) });
  judgeConnect(trial, accounts, SCOPES, 1);
  const refreshed = accounts.grants('refresh_token');
  trial.check('the upstream token is refreshed', refreshed.length > 0, accounts.requests('token').length);
  return end(trial, accounts);
}

// The user continues without connecting, and connects by the link of a signal; later the account is
// disconnected, and the user connects by the link of a signal in a session.
export async function later(name, revision, command, { inSession, elicits = false, ...options } = {}) {
  const [trial, accounts] = await begin(name, 'later');
  const env = { ...await environment(trial, name, options), STORY: 'later', ...(elicits && { ELICITS: 'yes' }) };
  await one(trial, command, env);
  judgeLater(trial, accounts, { revision, inSession });
  judgeConnect(trial, accounts, SCOPES, 2);
  judgeTokens(trial, accounts);
  return end(trial, accounts);
}
