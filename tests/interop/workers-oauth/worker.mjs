// The upstream and its authorization server, as one worker: the MCP endpoint is protected by
// @cloudflare/workers-oauth-provider. Paths below /test belong to the test.
import { env as bindings } from "cloudflare:workers";
import OAuthProvider from "@cloudflare/workers-oauth-provider";

const SCOPE = "crm:read";

const mcp = {
  async fetch(request) {
    const { id } = await request.json();
    return Response.json({ jsonrpc: "2.0", id, result: { content: [] } });
  },
};

const pages = {
  async fetch(request, env) {
    const url = new URL(request.url);
    const helpers = env.OAUTH_PROVIDER;
    if (url.pathname === "/authorize") {
      const authorization = await helpers.parseAuthRequest(request);
      const { redirectTo } = await helpers.completeAuthorization({
        request: authorization,
        userId: "alice",
        metadata: {},
        scope: authorization.scope,
        props: { user: "alice" },
      });
      return Response.redirect(redirectTo, 302);
    }
    if (url.pathname === "/test/client") {
      const client = await helpers.createClient({
        redirectUris: ["https://broker.example.com/callback"],
        clientName: "broker",
        tokenEndpointAuthMethod: "client_secret_basic",
      });
      return Response.json({ client_id: client.clientId, client_secret: client.clientSecret });
    }
    if (url.pathname === "/test/revoke") {
      const { items } = await helpers.listUserGrants("alice");
      for (const grant of items) await helpers.revokeGrant(grant.id, "alice");
      return Response.json({ revoked: items.length });
    }
    return new Response("not found", { status: 404 });
  },
};

export default new OAuthProvider({
  apiRoute: "/mcp",
  apiHandler: mcp,
  defaultHandler: pages,
  authorizeEndpoint: "/authorize",
  tokenEndpoint: "/token",
  clientRegistrationEndpoint: "/register",
  scopesSupported: [SCOPE],
  resourceMetadata: { resource: bindings.RESOURCE },
});
