// Checks on connects, the same for each client.
import { digest } from './accounts.mjs';

// No token of the authorization server left the broker for a client, and the MCP servers saw only those.
export function judgeTokens(trial, accounts) {
  const tokens = accounts.tokens();
  const left = trial.wire.entries.map((entry) => JSON.stringify(entry.responseHeaders) + entry.responseBody).join('\n');
  const own = trial.tokenRequests().flatMap(({ entry }) => JSON.parse(entry.responseBody).access_token ?? []);
  trial.check('what left the broker is searched', own.length > 0 && own.every((token) => left.includes(token)), own.length);
  trial.check(`none of ${tokens.length} upstream tokens left it`, tokens.length > 0 && !tokens.some((token) => left.includes(token)), left.length);
  const known = new Set(tokens.map(digest));
  const seen = Object.keys(accounts.servers).flatMap((name) => accounts.seen(name));
  trial.check('the servers saw these, and no other', seen.length > 0 && seen.every(({ token }) => known.has(token)), seen.length);
}

const isMcp = (entry) => entry.url.split('?')[0] === '/items/mcp';
const isCall = (entry) => isMcp(entry) && entry.body.includes('"tools/call"');
const works = (entry) => entry.status === 200 && entry.responseBody.includes('item 7');

// One connect, with the operator's scopes.
export function judgeConnect(trial, accounts, scopes) {
  const wanted = scopes.join(' ');
  const authorized = accounts.requests('authorize');
  trial.check(`one connect, for ${wanted}`, authorized.length === 1 && authorized[0].scope === wanted, authorized);
  const tokens = accounts.requests('token');
  const other = tokens.filter(({ scope, issued, grant }) => issued !== wanted || (grant === 'refresh_token' && scope !== wanted));
  trial.check('each token request is for these', tokens.length > 0 && other.length === 0, other);
  trial.check('the authorization server reported no error', accounts.errors().length === 0, accounts.errors());
  trial.check('the broker registered there once', accounts.requests('register').length === 1, accounts.requests('register'));
}

// The forms of a signal in a response.
const forms = {
  '-32042': (entry) => entry.responseBody.includes('"code":-32042') && entry.responseBody.includes('"elicitations":[{"mode":"url"'),
  input_required: (entry) => entry.responseBody.includes('"resultType":"input_required"') && entry.responseBody.includes('"requestState"'),
  '-32001': (entry) => entry.responseBody.includes('"code":-32001'),
};

export function judgeLater(trial, accounts, { revision, signal }) {
  const check = trial.check.bind(trial);
  const { wire } = trial;
  const signals = wire.entries.filter((entry) => isMcp(entry) && entry.responseBody.includes('/connect/items?for='));
  trial.lines.push(`  signals: ${signals.map((entry) => `${entry.body.match(/"method":\s*"([^"]+)"/)?.[1]} ${entry.status} ${Object.keys(forms).find((form) => forms[form](entry))}`).join(', ')}`);
  check('the connect page was shown twice: in the consent, and by the link', trial.person.connectPages.length === 2, trial.person.connectPages);
  check(`the signal is ${signal}`, signals.length > 0 && signals.every(forms[signal]), signals.map(({ responseBody }) => responseBody));
  check('the user opened its link once', trial.signals.length === 1 && signals.some(({ responseBody }) => responseBody.includes(trial.signals[0].link)), trial.signals);
  check('one sign-in', trial.signIns.length === 1 && wire.in('connected').every(({ url }) => !url.startsWith('/oauth/')), wire.in('connected').map(({ url }) => url));
  check('no call succeeds before, and one after', wire.in('sign-in').filter(works).length === 0 && wire.in('connected').filter(isCall).some(works), wire.entries.filter(isMcp).length);
  const seen = accounts.seen();
  check('the server saw one call', seen.filter(({ name, status }) => name === 'get_item' && status === 200).length === 1, seen);
}
