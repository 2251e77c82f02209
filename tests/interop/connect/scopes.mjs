// Trials with a client that requests everything: 50 refreshes and the end of an account, and three
// servers with different scopes.
import { setTimeout as sleep } from 'node:timers/promises';
import { Accounts, OFFERED } from './accounts.mjs';
import { EVERYTHING, Greedy } from './greedy.mjs';
import { judgeTokens } from './judge_connect.mjs';
import { Trial } from './trial.mjs';

const { WORK } = process.env;
const REFRESHES = Number(process.env.REFRESHES ?? 50);
// Of access tokens of the authorization server, in seconds.
const LIFETIME = 2;

// All scopes that are offered are scopes of the broker, too, so that it grants them to the client.
const rules = `
[[server.allow]]
tools = ["get_*", "list_*"]
scope = "items:read"

[[server.allow]]
tools = ["nothing_*"]
scope = "${OFFERED.join(' ')}"
`;
export const credential = (scopes) => `
kind = "oauth"
scopes = ${JSON.stringify(scopes)}
`;
const section = (name, { url, host }, authorizationServer, scopes) => `
[[server]]
name = "${name}"
title = "${title(name)}"
upstream = "${url}"
loopback_hosts = ${JSON.stringify([host, authorizationServer])}

[server.credential]
${credential(scopes)}
${rules}
`;
const title = (name) => name[0].toUpperCase() + name.slice(1);

// What the log of the authorization server has of one resource: exactly the operator's scopes at
// authorize, exchange and refresh, in what was requested and what was issued.
function judgeScopes(trial, accounts, name, scopes, refreshes) {
  const check = (what, ...rest) => trial.check(`${name}: ${what}`, ...rest);
  const wanted = scopes.join(' ');
  const sorted = (text) => (text ?? '').split(' ').sort().join(' ');
  const is = (text) => sorted(text) === sorted(wanted);
  const own = accounts.requests().filter(({ resource }) => resource === accounts.servers[name].url);
  const authorized = own.filter(({ what }) => what === 'authorize');
  check(`one authorize request, for ${wanted}`, authorized.length === 1 && is(authorized[0].scope), authorized);
  const tokens = own.filter(({ what }) => what === 'token');
  const exchanged = tokens.filter(({ grant }) => grant === 'authorization_code');
  check('one code is exchanged, for these', exchanged.length === 1 && is(exchanged[0].issued) && is(exchanged[0].scope ?? wanted), exchanged);
  const refreshed = tokens.filter(({ grant }) => grant === 'refresh_token');
  check(`at least ${refreshes} refreshes, each for these`, refreshed.length >= refreshes
    && refreshed.every(({ scope, issued }) => is(scope) && is(issued)), refreshed.filter(({ scope, issued }) => !is(scope) || !is(issued)));
  check('no other request names the resource', own.length === authorized.length + tokens.length, own.map(({ what }) => what));
  return refreshed;
}

async function setUp(name, servers, more = '') {
  const accounts = await Accounts.start(`${WORK}/${name.replaceAll(' ', '-')}/accounts`, {
    lifetime: LIFETIME, servers: Object.fromEntries(Object.entries(servers).map(([server, scopes]) => [server, scopes.at(-1)])),
  });
  const { host } = new URL(accounts.origin);
  const [, ...others] = Object.entries(servers);
  try {
    const trial = await Trial.start(name, {
      lifetime: 900, upstream: accounts.servers.items.url, loopback: [host], credential: credential(servers.items), rules: rules + more,
      more: others.map(([server, scopes]) => section(server, accounts.servers[server], host, scopes)).join('\n'),
      person: { via: [accounts.origin] },
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

// Connect, 50 refreshes, disconnect.
export async function wholeLife(name) {
  const [trial, accounts] = await setUp(name, { items: ['items:read'] });
  const check = trial.check.bind(trial);
  const { url, origin } = trial.server;
  const greedy = await Greedy.register(trial);
  trial.wire.phase = 'sign-in';
  const granted = await greedy.authorize(url);
  check('the broker grants the client all that it requested', OFFERED.every((scope) => granted.split(' ').includes(scope)), granted);
  check('the connect page was shown once', trial.person.connectPages.length === 1, trial.person.connectPages);
  trial.wire.phase = 'refreshes';
  let calls = 0;
  for (; accounts.grants('refresh_token').length < REFRESHES && calls < REFRESHES * 2; calls += 1) {
    const text = await greedy.call(url);
    if (text !== 'item 7') check(`call ${calls}`, false, text);
    // The next call finds the token expired.
    await sleep(LIFETIME * 1000 + 50);
  }
  check('each call goes through', accounts.seen().filter(({ name, status }) => name === 'get_item' && status === 200).length === calls, calls);
  const refreshes = accounts.grants('refresh_token');
  trial.lines.push(`  ${refreshes.length} refreshes in ${calls} calls`);
  judgeScopes(trial, accounts, 'items', ['items:read'], REFRESHES);
  check('each with the refresh token of the one before', refreshes.every(({ presented }, index) => (
    presented === (index === 0 ? accounts.grants('authorization_code')[0] : refreshes[index - 1]).refresh)), refreshes.length);
  check('each is another one', new Set(refreshes.map(({ refresh }) => refresh)).size === refreshes.length, refreshes.length);
  const events = accounts.requests('grant.success').length;
  check('its own events count the same', events === refreshes.length + 1, events);
  check('it reported no error', accounts.errors().length === 0, accounts.errors());
  check('no sign-in or connect more', trial.signIns.length === 1 && trial.person.connectPages.length === 1, trial.signIns);

  trial.wire.phase = 'disconnected';
  const last = refreshes.at(-1).refresh;
  check('the last refresh token is alive', await accounts.isActive(last) === true);
  const page = await trial.person.connections(origin);
  await trial.person.disconnect(origin, 'Items');
  check('the page names the account, its scopes and the client', ['Items', 'items:read', 'by Greedy'].every((text) => page.includes(text)), page);
  const before = accounts.seen().length;
  const refused = await greedy.call(url);
  check('a call asks to connect at once', refused.includes('-32001') && refused.includes(`${origin}/connect/items?for=`), refused);
  check('and reaches no server', accounts.seen().length === before, accounts.seen().slice(before));
  for (let wait = 0; wait < 300 && !accounts.requests('revoke').some(({ token }) => token === last); wait += 1) await sleep(100);
  const revoked = accounts.requests('revoke');
  check('the refresh token is revoked at the authorization server', revoked.some(({ token, status, error }) => token === last && status === 200 && !error), revoked);
  check('which considers it dead', await accounts.isActive(last) === false);
  const outcome = () => trial.server.records().filter(({ kind }) => kind === 'upstream_revocation');
  for (let wait = 0; wait < 100 && outcome().length === 0; wait += 1) await sleep(100);
  // `not_supported` because of the access token, a JWT.
  check('the record has the outcome', outcome().length === 1 && ['revoked', 'not_supported'].includes(outcome()[0].outcome), outcome());
  trial.lines.push(`  outcome on the record: ${outcome()[0]?.outcome}`);
  judgeTokens(trial, accounts);
  await greedy.end();
  return end(trial, accounts);
}

// Three servers with different scopes, and one authorization server.
export async function threeServers(name) {
  const servers = { items: ['items:read'], mail: ['mail:read', 'mail:send'], files: ['files:read', 'files:write'] };
  const [trial, accounts] = await setUp(name, servers);
  const greedy = await Greedy.register(trial);
  const names = Object.keys(servers);
  const resource = (server) => `${trial.server.origin}/${server}/mcp`;
  for (const server of names) {
    trial.wire.phase = server;
    const granted = await greedy.authorize(resource(server));
    trial.check(`${server}: the broker grants all`, OFFERED.every((scope) => granted.split(' ').includes(scope)), granted);
  }
  trial.check('one connect page for each', trial.person.connectPages.length === 3, trial.person.connectPages);
  for (let turn = 0; turn < 4; turn += 1) {
    for (const server of names) {
      const text = await greedy.call(resource(server));
      trial.check(`${server}: call ${turn}`, text === 'item 7', text);
    }
    await sleep(LIFETIME * 1000 + 50);
  }
  for (const server of names) judgeScopes(trial, accounts, server, servers[server], 3);
  const sent = new URLSearchParams(new URL(trial.wire.entries.find(({ url }) => url.startsWith('/oauth/authorize')).url, 'http://c').search);
  trial.check('the client requested everything', sent.get('scope') === EVERYTHING, sent.get('scope'));
  trial.check('the authorization server reported no error', accounts.errors().length === 0, accounts.errors());
  judgeTokens(trial, accounts);
  await greedy.end();
  return end(trial, accounts);
}

const withoutJwt = (accounts) => accounts.errors().filter(({ error }) => error !== 'unsupported_token_type');

// The operator changes what is configured: no one connects again because of it.
async function changed(name, more = '') {
  const [trial, accounts] = await setUp(name, { items: ['items:read'] }, more);
  const greedy = await Greedy.register(trial);
  await greedy.authorize(trial.server.url);
  const call = async (when, tool) => {
    const text = await greedy.call(trial.server.url, tool);
    trial.check(`${when} the call goes through`, text.startsWith('item 7'), text);
    return text;
  };
  const finish = async () => {
    trial.check('the authorization server reported no error', withoutJwt(accounts).length === 0, withoutJwt(accounts));
    judgeTokens(trial, accounts);
    await greedy.end();
    return end(trial, accounts);
  };
  await call('before');
  return { trial, greedy, accounts, check: trial.check.bind(trial), call, finish };
}

const asked = (accounts) => accounts.requests('authorize').map(({ scope }) => scope);
const granted = (accounts) => accounts.grants('authorization_code').map(({ issued }) => issued.split(' ').sort().join(' '));
const succeeds = (promise) => promise.then(() => true, (error) => error.message);

// A further scope: those who are connected remain so, and connect again only for what needs it.
export async function moreScopes(name) {
  const { trial, accounts, check, call, finish } = await changed(name);
  const { origin } = trial.server;
  await trial.server.reconfigure((text) => text.replace('scopes = ["items:read"]', 'scopes = ["items:read","items:write"]'));
  await call('after the change');
  const page = await trial.person.connections(origin);
  check('the page names the scope that is missing', page.includes('will not work until you connect again: items:write'), page);
  const connected = await succeeds(trial.person.reconnect(origin, 'Items'));
  check('the user connects again', connected === true, connected);
  check('first for the one, then for both', asked(accounts).join() === 'items:read,items:read items:write', asked(accounts));
  check('and both are granted', granted(accounts).join() === 'items:read,items:read items:write', granted(accounts));
  await call('after the new connect');
  return finish();
}

// A scope that only one rule needs.
export async function scopeOfRule(name) {
  const { trial, greedy, accounts, check, call, finish } = await changed(name, `
[[server.allow]]
tools = ["update_*"]
scope = "items:write"
upstream_scopes = ["items:write"]
`);
  const [link] = (await greedy.call(trial.server.url, 'update_item')).match(/http\S+\/connect\/items\?for=[\w-]+(?:\.[\w-]+)?/) ?? [];
  if (link) {
    const connected = await succeeds(trial.person.connect(link));
    check('the user connects by the link', connected === true, connected);
    await call('then', 'update_item');
  }
  const all = ['items:read', 'items:write'];
  check('the operator\'s scopes were requested', asked(accounts).at(-1)?.split(' ').sort().join() === all.join(), asked(accounts));
  const tokens = accounts.requests('token');
  const other = tokens.filter(({ issued }) => issued.split(' ').some((scope) => !all.includes(scope)));
  check('and no other', other.length === 0, other);
  const page = await trial.person.connections(trial.server.origin);
  const card = page.slice(page.indexOf('Your accounts'), page.indexOf('Applications with access'));
  check('the page of the account shows both', all.every((scope) => card.includes(scope)), card);
  return finish();
}

// Another name of the server.
export async function renamed(name) {
  const { trial, accounts, check, call, finish } = await changed(name);
  await trial.server.reconfigure((text) => text.replace('name = "items"', 'name = "things"\nprevious_names = ["items"]'));
  await sleep(LIFETIME * 1000 + 50);
  await call('by the former URL');
  check('it refreshes', accounts.grants('refresh_token').some(({ issued }) => issued === 'items:read'), accounts.requests('token'));
  check('no one connects again', trial.person.connectPages.length === 1 && accounts.requests('authorize').length === 1, trial.person.connectPages);
  const connected = await succeeds(trial.person.reconnect(trial.server.origin, 'Items'));
  check('a user who wants to can', connected === true, connected);
  await call('after the new connect');
  return finish();
}
