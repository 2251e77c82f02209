// `openid-client` and `oauth4webapi`, which check what they receive: discovery, registration with
// each way to authenticate, PKCE, `iss`, code, refresh, revocation. Each is repeated with a wrong
// response of the server, which must fail.
import * as oauth from 'oauth4webapi';
import {
  ClientSecretBasic, ClientSecretPost, None, PrivateKeyJwt, allowInsecureRequests, authorizationCodeGrant, buildAuthorizationUrl,
  calculatePKCECodeChallenge, dynamicClientRegistration, randomPKCECodeVerifier, randomState, refreshTokenGrant, tokenRevocation,
} from 'openid-client';
import { CONTROL, MCP_URL, browse, deny, expect, phase } from './trial_client.mjs';

const issuer = new URL(MCP_URL).origin;
const insecure = { [oauth.allowInsecureRequests]: true };
const redirect_uri = 'http://127.0.0.1:3030/callback';
let steps = 0;

async function change(name) {
  const response = await fetch(`${CONTROL}/change`, { method: 'POST', body: name });
  expect(`change ${name}`, response.ok, await response.text());
}

// Returns whether a request is accepted, with a token.
async function isAccepted(token) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const body = JSON.stringify({
    jsonrpc: '2.0', id: 1, method: 'initialize',
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'openid-client', version: '6' } },
  });
  const response = await fetch(MCP_URL, { method: 'POST', headers, body });
  const text = await response.text();
  expect('accepted or refused', response.status === 401 || (response.ok && text.includes('protocolVersion')), text);
  return response.ok;
}

function step(what, holds, found) {
  expect(what, holds, found);
  steps += 1;
}

async function fails(what, name, call, named) {
  await change(name);
  const error = await call().then(() => null, (failed) => failed);
  await change('nothing');
  const text = `${error} ${error?.code} ${error?.cause?.message ?? ''} ${JSON.stringify(error?.cause ?? '')}`;
  step(`${what}: it must fail`, error && text.includes(named), text);
}

async function register(authentication, metadata) {
  const options = { algorithm: 'oauth2', execute: [allowInsecureRequests] };
  return dynamicClientRegistration(new URL(issuer), {
    client_name: 'openid-client', redirect_uris: [redirect_uri], grant_types: ['authorization_code', 'refresh_token'], ...metadata,
  }, authentication, options);
}

async function authorize(config, decide = browse) {
  const [verifier, state] = [randomPKCECodeVerifier(), randomState()];
  const url = buildAuthorizationUrl(config, {
    redirect_uri, state, scope: 'items:read', resource: MCP_URL, code_challenge_method: 'S256',
    code_challenge: await calculatePKCECodeChallenge(verifier),
  });
  const back = new URL(`${redirect_uri}?${await decide(url)}`);
  return { back, checks: { pkceCodeVerifier: verifier, expectedState: state } };
}

const redeem = (config, { back, checks }) => authorizationCodeGrant(config, back, checks, { resource: MCP_URL });

async function whole(name, authentication, metadata) {
  await phase(name);
  const config = await register(authentication, { token_endpoint_auth_method: name, ...metadata });
  const server = config.serverMetadata();
  step('discovery', server.issuer === issuer && server.supportsPKCE(), server);
  const authorized = await authorize(config);
  step('`iss`', authorized.back.searchParams.get('iss') === issuer, authorized.back.href);
  const tokens = await redeem(config, authorized);
  step('tokens', tokens.token_type === 'bearer' && tokens.scope === 'items:read' && tokens.expires_in > 0, tokens);
  step('the token is accepted', await isAccepted(tokens.access_token));
  const again = await redeem(config, authorized).then(() => null, (error) => error.error);
  step('the code is redeemed once', again === 'invalid_grant', again);
  const refreshed = await refreshTokenGrant(config, tokens.refresh_token, { resource: MCP_URL });
  step('refresh', refreshed.refresh_token && refreshed.access_token !== tokens.access_token, refreshed);
  step('the new token is accepted', await isAccepted(refreshed.access_token));
  await tokenRevocation(config, refreshed.access_token, { token_type_hint: 'access_token' });
  step('a revoked access token is refused', !(await isAccepted(refreshed.access_token)));
  step('the other is not', await isAccepted(tokens.access_token));
  await tokenRevocation(config, refreshed.refresh_token, { token_type_hint: 'refresh_token' });
  step('with its family all are', !(await isAccepted(tokens.access_token)));
  const dead = await refreshTokenGrant(config, refreshed.refresh_token).then(() => null, (error) => error.error);
  step('its refresh token, too', dead === 'invalid_grant', dead);
}

await whole('none', None());
await whole('client_secret_basic', undefined);
await whole('client_secret_post', undefined);
const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
const jwk = { ...await crypto.subtle.exportKey('jwk', pair.publicKey), kid: 'k1', alg: 'ES256', use: 'sig' };
delete jwk.key_ops;
await whole('private_key_jwt', PrivateKeyJwt({ key: pair.privateKey, kid: 'k1' }), { jwks: { keys: [jwk] } });

// The metadata of the resource (RFC 9728) and the access token (RFC 9068), by another library.
await phase('oauth4webapi');
const resource = new URL(MCP_URL);
const found = await oauth.resourceDiscoveryRequest(resource, insecure);
const described = await oauth.processResourceDiscoveryResponse(resource, found);
step('the resource names its authorization server', described.authorization_servers.includes(issuer), described);
const discovered = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure });
const server = await oauth.processDiscoveryResponse(new URL(issuer), discovered);
const config = await register(None(), { token_endpoint_auth_method: 'none' });
const authorized = await authorize(config);
const tokens = await redeem(config, authorized);
const request = new Request(MCP_URL, { headers: { authorization: `Bearer ${tokens.access_token}` } });
const claims = await oauth.validateJwtAccessToken(server, request, MCP_URL, insecure);
step('the access token is one of RFC 9068', claims.aud === MCP_URL || claims.aud.includes(MCP_URL), claims);

const denied = await redeem(config, await authorize(config, deny)).then(() => null, (error) => error);
step('a denied request is `access_denied`, with `iss` and state', denied?.error === 'access_denied', denied);

// Wrong responses. The client must notice each.
await phase('wrong');
await fails('another issuer in the metadata', 'issuer', () => register(None(), {}), 'issuer');
const wrong = async (name, named) => {
  await change(name);
  const response = await authorize(config);
  await change('nothing');
  const error = await redeem(config, response).then(() => null, (failed) => failed);
  step(`${name}: it must fail`, error && `${error.message} ${error.cause?.message}`.includes(named), error);
};
await wrong('another-iss', 'iss');
await wrong('no-iss', 'iss');
await wrong('another-state', 'state');
const verified = await authorize(config);
const another = { back: verified.back, checks: { ...verified.checks, pkceCodeVerifier: randomPKCECodeVerifier() } };
const refused = await redeem(config, another).then(() => null, (error) => error.error);
step('another verifier is refused', refused === 'invalid_grant', refused);
const ended = await redeem(config, verified).then(() => null, (error) => error.error);
step('and ends the code', ended === 'invalid_grant', ended);
await fails('another type of token', 'token-type', async () => refreshTokenGrant(config, tokens.refresh_token), 'token_type');
await fails('no access token', 'no-token', async () => refreshTokenGrant(config, tokens.refresh_token), 'access_token');
const revived = await refreshTokenGrant(config, tokens.refresh_token);
step('a refresh whose response was lost is repeated', revived.access_token, revived);
await fails('an access token of another key', 'signature', async () => {
  const keys = { ...server, jwks_uri: `${server.jwks_uri}?other` };
  return oauth.validateJwtAccessToken(keys, request, MCP_URL, insecure);
}, 'signature');
console.log(`  ${steps} steps`);
process.exit(0);
