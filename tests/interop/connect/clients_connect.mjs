// The clients of the suite `oauth`, in front of a server that needs the user's own account.
import { Accounts } from './accounts.mjs';
import { environment, one } from './clients.mjs';
import { judge, judgeRevision } from './judge.mjs';
import { judgeConnect, judgeLater, judgeTokens } from './judge_connect.mjs';
import { credential } from './scopes.mjs';
import { Trial } from './trial.mjs';

const { WORK } = process.env;
const SCOPES = ['items:read'];
// MCP Inspector ends if it may not set the level of a server that announces logging, as FastMCP does.
const rules = `
[[server.allow]]
tools = ["list_*", "get_*", "count_*"]
methods = ["logging/setLevel"]
scope = "items:read"

[[server.allow]]
tools = ["update_*"]
scope = "items:write"
`;

async function begin(name, connects) {
  const folder = `${WORK}/${name.replaceAll(' ', '-')}`;
  const accounts = await Accounts.start(`${folder}/accounts`, { lifetime: 5, servers: { items: SCOPES[0] } });
  try {
    const trial = await Trial.start(name, {
      upstream: accounts.servers.items.url, loopback: [new URL(accounts.origin).host], credential: credential(SCOPES), rules,
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
export async function later(name, revision, command, { inSession, elicits = false, hidesLink = false, ...options } = {}) {
  const [trial, accounts] = await begin(name, 'later');
  const env = { ...await environment(trial, name, options), STORY: 'later', ...(elicits && { ELICITS: 'yes' }), ...(hidesLink && { HIDES_LINK: 'yes' }) };
  await one(trial, command, env);
  judgeLater(trial, accounts, { revision, inSession, hidesLink });
  judgeConnect(trial, accounts, SCOPES, 2);
  judgeTokens(trial, accounts);
  return end(trial, accounts);
}

// rmcp forgets its credentials as its program ends: the user allows access again, but signs in and
// connects only once.
export async function laterRmcp(name, revision, command, options = {}) {
  const [trial, accounts] = await begin(name, 'later');
  const env = await environment(trial, name, options);
  const { code, text } = await trial.run(...command, env);
  const [link] = text.match(/http[^\s"'\\]+\/connect\/items\?for=[\w-]+(?:\.[\w-]+)?/) ?? [];
  trial.lines.push(`  it printed: ${text.trimEnd().slice(0, 400)}`);
  trial.check('without an account the program ends', code !== 0 && !accounts.seen().some(({ name: called }) => called), text);
  trial.check(options.hidesLink ? 'and does not show the link' : 'and shows the link', Boolean(link) !== Boolean(options.hidesLink), text);
  await trial.person.connect(link ?? `${trial.server.origin}/connect/items`);
  await one(trial, command, env);
  trial.check('the connect page was shown in the consent, and by the link', trial.person.connectPages.length === 2, trial.person.connectPages);
  trial.check('the calls go through', accounts.seen().filter(({ name: called, status }) => called === 'get_item' && status === 200).length === 4, accounts.seen());
  judgeRevision(trial, revision);
  judgeConnect(trial, accounts, SCOPES, 1);
  judgeTokens(trial, accounts);
  return end(trial, accounts);
}
