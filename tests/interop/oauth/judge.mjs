// The checks on what client and server exchanged, the same for each client. The phases are
// `sign-in`, `expired`, `restarted` (the gateway), `revoked`.

// The token endpoint is found by its end: a client that has not read the metadata since its start uses
// the default path of MCP 2025-03-26.
const is = (method, end) => (entry) => entry.method === method && entry.url.split('?')[0].endsWith(end);
const isMcp = (entry) => entry.url.split('?')[0] === '/items/mcp';
const isCall = (entry) => isMcp(entry) && entry.body.includes('"tools/call"');
const works = (entry) => entry.status === 200 && entry.responseBody.includes('item 7');
const query = (url) => new URL(url, 'http://c').searchParams;
const json = (text) => { try { return JSON.parse(text); } catch { return {}; } };

function judgeAuthorization(trial, entries, { documents }) {
  const { check, server } = { check: trial.check.bind(trial), server: trial.server };
  const authorize = entries.find(is('GET', '/oauth/authorize'));
  const sent = query(authorize?.url ?? '/');
  check('it sends the browser to the authorize endpoint', authorize, entries.map(({ url }) => url));
  check('with S256, and the resource', sent.get('code_challenge_method') === 'S256' && sent.get('resource') === server.url, authorize?.url);
  const registered = entries.filter(is('POST', '/oauth/register'));
  if (documents) {
    check('its client ID is its document', sent.get('client_id')?.startsWith(server.documentOrigin) && registered.length === 0, authorize?.url);
  } else {
    const id = json(registered[0]?.responseBody).client_id;
    check('it has registered itself', registered.length === 1 && registered[0].status === 201 && id === sent.get('client_id'), registered);
  }
  // The response to the consent, or a later one if the user connects an account in between.
  const decided = entries.find(({ responseHeaders }) => query(responseHeaders.location ?? '/').get('code'));
  const back = query(decided?.responseHeaders.location ?? '/');
  check('the consent returns code, state and iss', back.get('code') && back.get('iss') === server.origin && back.get('state') === sent.get('state'), decided?.responseHeaders);
  const redeemed = entries.find((entry) => is('POST', '/token')(entry) && entry.body.includes('authorization_code'));
  const tokens = json(redeemed?.responseBody);
  check('the code is redeemed', redeemed?.status === 200 && tokens.access_token && tokens.refresh_token && tokens.expires_in === server.lifetime, redeemed);
}

// `judgeOwn` are the checks on upstream credentials.
export function judge(trial, { revision, documents = false, judgeOwn = judgeSecrets }) {
  const { wire, server } = trial;
  const check = trial.check.bind(trial);
  const began = wire.in('sign-in');
  const challenge = began.find((entry) => isMcp(entry) && entry.status === 401);
  const named = challenge?.responseHeaders['www-authenticate']?.match(/resource_metadata="([^"]+)"/)?.[1];
  check('the first response is a 401 that names the metadata', began.find(isMcp) === challenge && named, challenge);
  check('it reads that metadata', began.some((entry) => server.origin + entry.url === named && entry.status === 200), named);
  const discovery = began.filter(({ url }) => url.includes('/.well-known/oauth-authorization-server'));
  check('and that of the authorization server', discovery.some(({ status }) => status === 200), began.map(({ url }) => url));
  judgeAuthorization(trial, began, { documents });
  check('it lists and calls', began.some((entry) => isMcp(entry) && entry.body.includes('"tools/list"') && entry.status === 200)
    && began.filter(isCall).some(works), began.filter(isMcp));

  const later = wire.in('expired');
  const refreshed = later.filter((entry) => is('POST', '/token')(entry));
  check('after the token expired it refreshes', refreshed.length > 0
    && refreshed.every(({ body, status }) => body.includes('grant_type=refresh_token') && status === 200), refreshed);
  check('and calls again', later.filter(isCall).some(works), later);
  check('without a sign-in', trial.signIns.filter((phase) => phase === 'expired').length === 0
    && !later.some(is('GET', '/oauth/authorize')), trial.signIns);

  const restarted = wire.in('restarted');
  check('after a restart of the gateway it calls', restarted.filter(isCall).some(works), restarted);
  check('without a sign-in or registration', !trial.signIns.includes('restarted')
    && !restarted.some((entry) => is('GET', '/oauth/authorize')(entry) || is('POST', '/oauth/register')(entry)), restarted);

  const revoked = wire.in('revoked');
  const consent = revoked.findIndex(is('POST', '/oauth/consent'));
  const before = revoked.slice(0, consent < 0 ? revoked.length : consent);
  check('after the revocation it is refused', before.some((entry) => isMcp(entry) && entry.status === 401)
    && !before.some((entry) => isMcp(entry) && entry.method === 'POST' && entry.status < 300), before);
  const dead = before.filter(is('POST', '/token'));
  check('its refresh token, too', dead.every((entry) => entry.status === 400 && json(entry.responseBody).error === 'invalid_grant'), dead);
  check('it starts over with one sign-in', trial.signIns.filter((phase) => phase === 'revoked').length === 1, trial.signIns);
  check('and calls again', revoked.slice(Math.max(consent, 0)).filter(isCall).some(works), revoked);

  judgeRevision(trial, revision);
  judgeOwn(trial);
}

export function judgeRevision(trial, revision) {
  const versions = new Set(trial.wire.entries.filter((entry) => isMcp(entry) && entry.status === 200)
    .map((entry) => entry.headers['mcp-protocol-version'] ?? (entry.body.includes('"initialize"') ? revision : 'none')));
  trial.check(`it speaks ${revision} on the wire`, versions.size === 1 && versions.has(revision), [...versions]);
}

// No upstream credential in anything that left the broker, and no other one reached the upstream.
export function judgeSecrets(trial) {
  const { wire, server } = trial;
  const forms = [server.secret, Buffer.from(server.secret).toString('base64').replace(/=+$/, ''), Buffer.from(server.secret).toString('hex')];
  const left = wire.entries.map((entry) => JSON.stringify(entry.responseHeaders) + entry.responseBody).join('\n');
  // The search finds what was sent: the broker's own tokens.
  const own = trial.tokenRequests().flatMap(({ entry }) => json(entry.responseBody).access_token ?? []);
  trial.check('what left the broker is searched', own.length > 0 && own.every((token) => left.includes(token)), own.length);
  trial.check('it does not contain the upstream credential', !forms.some((form) => left.includes(form)), left.length);
  const seen = new Set(server.upstreamRequests().map(({ token }) => token));
  trial.check('the upstream saw its credential, and no other', seen.size === 1 && seen.has(server.digest()), [...seen]);
}

// Two processes of one client on one token store, in the phase `shared`.
export function judgeShared(trial, count) {
  const { wire } = trial;
  const entries = wire.in('shared');
  const requests = trial.tokenRequests('shared').map(({ entry }) => entry);
  const refused = requests.filter(({ status }) => status !== 200);
  trial.check(`${2 * count} refreshes by two processes`, requests.length >= 2 * count, requests.length);
  trial.check('none is refused', refused.length === 0, refused);
  trial.check('no sign-in more', trial.signIns.filter((phase) => phase === 'shared').length === 0 && !entries.some(is('GET', '/oauth/authorize')), trial.signIns);
  trial.check('no registration more', !entries.some(is('POST', '/oauth/register')));
  const calls = entries.filter(isCall);
  trial.check('each process calls with its tokens', calls.filter(works).length >= 2 * count, calls.length);
  const records = trial.server.records();
  const stale = records.filter((record) => record.stale === true);
  const ended = records.filter(({ kind }) => kind === 'family_ended');
  trial.check('no family ended', ended.length === 0, ended);
  trial.lines.push(`  ${requests.length} refreshes, ${refused.length} refused, ${stale.length} with a superseded token, ${ended.length} families ended`);
}

export function judgeReplay(trial) {
  const refused = trial.tokenRequests('shared').filter(({ entry }) => entry.status === 400);
  const ended = trial.server.records().filter(({ kind }) => kind === 'family_ended');
  trial.check('the replay ends the family', ended.length === 1, ended);
  trial.check('and the record states it', ended[0]?.what === 'refresh_replay', ended[0]);
  trial.check('both refresh tokens are refused', refused.length === 2, refused);
  trial.check('each process signs in again', trial.signIns.filter((phase) => phase === 'shared').length === 2, trial.signIns);
}
