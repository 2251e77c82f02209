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

// This many connects, each with the operator's scopes.
export function judgeConnect(trial, accounts, scopes, count) {
  const wanted = scopes.join(' ');
  const authorized = accounts.requests('authorize');
  const other = authorized.filter(({ scope }) => scope !== wanted);
  trial.check(`the user connects ${count === 1 ? 'once' : `${count} times`}, for ${wanted}`, authorized.length === count && other.length === 0, authorized);
  const tokens = accounts.requests('token');
  const wider = tokens.filter(({ scope, issued, grant }) => issued !== wanted || (grant === 'refresh_token' && scope !== wanted));
  trial.check('each token request is for these', tokens.length > 0 && wider.length === 0, wider);
  // RFC 7009 §2.2.1: it cannot revoke access tokens that are JWTs.
  const errors = accounts.errors().filter(({ error, what }) => !(error === 'unsupported_token_type' && what.startsWith('revo')));
  trial.check('the authorization server reported no error', errors.length === 0, errors);
  trial.check('the broker registered there once', accounts.requests('register').length === 1, accounts.requests('register'));
}

// The forms of a signal in a response.
const forms = {
  '-32042': (entry) => entry.responseBody.includes('"code":-32042') && entry.responseBody.includes('"elicitations":[{"mode":"url"'),
  input_required: (entry) => entry.responseBody.includes('"resultType":"input_required"') && entry.responseBody.includes('"requestState"'),
  '-32001': (entry) => entry.responseBody.includes('"code":-32001'),
};

const methodOf = (entry) => { try { return JSON.parse(entry.body).method; } catch { return null; } };

// The signals of a phase: methods and forms.
function signalsIn(trial, phase) {
  const found = trial.wire.in(phase).filter((entry) => isMcp(entry) && entry.method === 'POST' && entry.responseBody.includes('/connect/items?for='));
  return found.map((entry) => ({
    entry, method: methodOf(entry), form: Object.keys(forms).find((form) => forms[form](entry)),
    link: entry.responseBody.match(/http[^\s"'\\]+\/connect\/items\?for=[\w-]+(?:\.[\w-]+)?/)[0],
  }));
}

const HANDSHAKE = ['initialize', 'server/discover'];

// `inSession` is the form in which the client receives the signal in a session.
export function judgeLater(trial, accounts, { revision, inSession, hidesLink = false }) {
  const check = trial.check.bind(trial);
  const { wire } = trial;
  const [first, second] = [signalsIn(trial, 'sign-in'), signalsIn(trial, 'disconnected')];
  trial.lines.push(...[first, second].map((signals) => `  signalled: ${signals.map(({ method, form }) => `${method} ${form}`).join(', ')}`));
  const shown = (signals) => signals.map(({ entry }) => `${entry.body} → ${entry.status} ${entry.responseBody}`);
  check('without an account the handshake is refused, with the link', first.length > 0
    && first.every(({ method, form }) => HANDSHAKE.includes(method) && form === '-32001'), shown(first));
  check('nothing reaches the server before', accounts.requests('token').length > 0 && wire.in('sign-in').every((entry) => !works(entry)), wire.in('sign-in').filter(works));
  check('after the connect the call goes through', wire.in('connected').filter(isCall).some(works), wire.in('connected').filter(isMcp).length);
  check(`after the disconnect the signal is ${inSession}`, second.length > 0 && second.every(({ form }) => form === inSession), shown(second));
  check('no call goes through before the account is connected again', !wire.in('disconnected').some((entry) => isCall(entry) && works(entry)));
  check('then the call goes through', wire.in('again').filter(isCall).some(works), wire.in('again').filter(isMcp).length);
  if (inSession === 'input_required') judgeRetry(trial, second);
  const links = trial.signals.map(({ link }) => link);
  if (hidesLink) check('the client did not show the links', links.length === 2 && links.every((link) => link === null), trial.signals);
  else check('the user opened both links', links.length === 2 && first.some(({ link }) => link === links[0]) && second.some(({ link }) => link === links[1]), trial.signals);
  check('the connect page was shown in the consent, and by each link', trial.person.connectPages.length === 3, trial.person.connectPages);
  const again = wire.entries.filter(({ phase, url }) => phase !== 'sign-in' && /^\/oauth\/(authorize|consent|register)/.test(url));
  check('one sign-in', trial.signIns.length === 1 && again.length === 0, [trial.signIns, again.map(({ url }) => url)]);
  const calls = wire.entries.filter((entry) => isCall(entry) && works(entry));
  check(`the calls are of ${revision}`, calls.every(({ headers }) => headers['mcp-protocol-version'] === revision), calls.map(({ headers }) => headers['mcp-protocol-version']));
  const seen = accounts.seen().filter(({ name, status }) => name === 'get_item' && status === 200);
  check('the server saw two calls', seen.length === 2, accounts.seen());
}

// The client repeats its call with the state, which the server does not see.
function judgeRetry(trial, signals) {
  const state = JSON.parse(signals[0]?.entry.responseBody ?? '{}').result?.requestState;
  const retries = trial.wire.in('again').filter((entry) => isCall(entry) && works(entry));
  trial.check('the retry has the state and the response', state && retries.length === 1 && retries[0].body.includes(state)
    && JSON.parse(retries[0].body).params.inputResponses?.connect, retries.map(({ body }) => body));
}
