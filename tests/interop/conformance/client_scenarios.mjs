// What the operator configures in each scenario, and how it must end. Scopes are the operator's: the
// broker never takes them from a challenge or from metadata, so they are set to what the suite expects.

const scopes = (...names) => `scopes = [${names.map((name) => `"${name}"`).join(', ')}]`;
const CONNECTED = { credential: '', ends: 'connected' };

const refused = (page, reason) => ({ ...CONNECTED, ends: 'refused', page, reason });
// A return that is not from the authorization server.
const foreignReturn = refused('another server', 'the response is from another authorization server');

// The operator looks up where a client is registered: it is used at this issuer only.
const read = async (place) => (await fetch(place)).json();
async function issuerOf(url) {
  const { authorization_servers: [issuer] } = await read(new URL('/.well-known/oauth-protected-resource/mcp', url));
  return issuer;
}

const withClient = {
  ...CONNECTED,
  credential: async (url, { client_id: id }) =>
    `issuer = "${await issuerOf(url)}"\nclient_id = "${id}"\nclient_secret_file = "client.secret"`,
};

// A token of the broker itself: there is nothing to connect.
async function clientCredentials(url, { client_id: id }) {
  const issuer = await issuerOf(url);
  const { token_endpoint: endpoint } = await read(`${issuer}/.well-known/oauth-authorization-server`);
  return `kind = "client_credentials"
issuer = "${issuer}"
token_endpoint = "${endpoint}"
client_id = "${id}"
client_secret_file = "client.secret"`;
}

// The client of the user under test is that of the Python SDK; it calls the server through the broker.
const THROUGH = {
  ends: 'through', credential: 'kind = "static"\nsecret_file = "client.secret"', direct: true, secret: 'a-secret-for-the-server',
  rules: 'prompts = ["*"]\nresources = ["*"]\nmethods = ["logging/setLevel"]',
};

export const DOCUMENT = 'https://conformance-test.local/client-metadata.json';

export const SCENARIOS = {
  'initialize': THROUGH,
  'tools_call': THROUGH,
  'elicitation-sep1034-client-defaults': THROUGH,
  'sse-retry': THROUGH,
  'request-metadata': THROUGH,
  'sep-2322-client-request-state': THROUGH,
  'http-standard-headers': THROUGH,
  'http-custom-headers': THROUGH,
  'http-invalid-tool-headers': THROUGH,
  'json-schema-ref-no-deref': THROUGH,
  'json-schema-2020-12-preservation': THROUGH,
  'auth/metadata-default': CONNECTED,
  'auth/metadata-var1': CONNECTED,
  'auth/metadata-var2': CONNECTED,
  'auth/metadata-var3': CONNECTED,
  // The suite accepts one document only; that of the broker is at another path of its URL. So the
  // broker is started twice: with its own document, and with that of the suite.
  'auth/basic-cimd': {
    ...CONNECTED, origin: 'https://conformance-test.local', document: true,
    credential: async (url) =>
      `issuer = "${await issuerOf(url)}"\nclient_id = "${DOCUMENT}"\nclient_authentication = "none"`,
  },
  'auth/scope-from-www-authenticate': { ...CONNECTED, credential: scopes('mcp:basic') },
  'auth/scope-from-scopes-supported': { ...CONNECTED, credential: scopes('mcp:basic', 'mcp:read', 'mcp:write') },
  'auth/scope-omitted-when-undefined': CONNECTED,
  'auth/scope-step-up': { ...CONNECTED, credential: scopes('mcp:basic'), upstreamScopes: ['mcp:write'], connects: 2 },
  'auth/scope-retry-limit': { ...CONNECTED, credential: scopes('mcp:admin'), ends: 'denied' },
  'auth/token-endpoint-auth-basic': CONNECTED,
  'auth/token-endpoint-auth-post': CONNECTED,
  'auth/token-endpoint-auth-none': CONNECTED,
  'auth/pre-registration': withClient,
  'auth/resource-mismatch': refused('cannot be connected', 'prm.resource_mismatch'),
  'auth/offline-access-scope': { ...CONNECTED, credential: scopes('mcp:basic') },
  'auth/offline-access-not-supported': { ...CONNECTED, credential: scopes('mcp:basic', 'mcp:read') },
  'auth/authorization-server-migration': { ...CONNECTED, credential: scopes('mcp:basic'), connects: 2 },
  'auth/iss-supported': CONNECTED,
  'auth/iss-not-advertised': CONNECTED,
  'auth/iss-supported-missing': foreignReturn,
  'auth/iss-wrong-issuer': foreignReturn,
  'auth/iss-unexpected': foreignReturn,
  'auth/iss-normalized': foreignReturn,
  'auth/client-credentials-basic': { ...CONNECTED, credential: clientCredentials, direct: true },
  'auth/metadata-issuer-mismatch': refused('cannot be connected', 'as.issuer_mismatch'),
};
