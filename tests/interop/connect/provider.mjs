// `oidc-provider` as the authorization server of the protected servers: `provider.mjs PORT LOG TTL
// SCOPE...`. It offers all these scopes, agrees to whatever is requested, without a page, and rotates
// refresh tokens. The log has one line per request, with the scopes as they were sent.
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { Provider, interactionPolicy } from 'oidc-provider';

const [port, file, ttl, ...offered] = process.argv.slice(2);
const scopes = offered.join(' ');
const lifetime = Number(ttl);
const day = 86_400;
const log = (entry) => appendFileSync(file, `${JSON.stringify({ at: Date.now(), ...entry })}\n`);

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const policy = interactionPolicy.base();
policy.get('consent').checks.remove('native_client_prompt');

// With a slash at its end: FastMCP adds one to an issuer without a path.
const provider = new Provider(`http://127.0.0.1:${port}/`, {
  jwks: { keys: [{ ...key, alg: 'RS256', use: 'sig', kid: 'one' }] },
  cookies: { keys: [key.d.slice(0, 32)] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  scopes: ['openid', 'offline_access', ...offered],
  pkce: { required: () => true },
  responseTypes: ['code'],
  rotateRefreshToken: true,
  issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: lifetime, RefreshToken: day, Grant: day, Session: day, Interaction: 600, IdToken: 600 },
  interactions: { policy, url: (_, interaction) => `/auto/${interaction.uid}` },
  loadExistingGrant: async ({ oidc }) => {
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope(`openid offline_access ${scopes}`);
    for (const resource of [].concat(oidc.params.resource ?? [])) grant.addResourceScope(resource, scopes);
    await grant.save();
    return grant;
  },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true, defaultResource: () => undefined, useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: scopes, audience: resource, accessTokenTTL: lifetime, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

for (const event of ['grant.error', 'authorization.error', 'revocation.error', 'registration_create.error', 'server_error']) {
  provider.on(event, (_, error) => log({ what: event, error: error.error ?? error.message, detail: error.error_detail ?? error.error_description }));
}
provider.on('grant.success', (ctx) => log({ what: 'grant.success', grant: ctx.oidc.params.grant_type }));

// What is logged of each request, by route.
const facts = {
  authorization: ({ oidc }) => ({ what: 'authorize', scope: oidc.params?.scope, resource: oidc.params?.resource, client: oidc.params?.client_id }),
  token: ({ oidc, body }) => ({
    what: 'token', grant: oidc.body?.grant_type, scope: oidc.body?.scope, resource: oidc.body?.resource, presented: oidc.body?.refresh_token,
    // The scopes that were issued, and the tokens, so that the test can search for them.
    issued: body?.scope, tokens: [body?.access_token, body?.refresh_token].filter(Boolean), refresh: body?.refresh_token, error: body?.error,
  }),
  registration: ({ oidc, body }) => ({ what: 'register', scope: oidc.body?.scope, client: body?.client_id, secret: body?.client_secret, error: body?.error }),
  revocation: ({ oidc, body }) => ({ what: 'revoke', token: oidc.body?.token, hint: oidc.body?.token_type_hint, error: body?.error }),
};
provider.use(async (ctx, next) => {
  if (ctx.path.startsWith('/auto/')) {
    await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'account-of-alice' }, consent: {} });
    ctx.respond = false;
    return;
  }
  await next();
  const entry = facts[ctx.oidc?.route]?.(ctx);
  if (entry) log({ ...entry, status: ctx.status });
});
provider.listen(Number(port), '127.0.0.1');
