// Runs worker.mjs in workerd, connects alice's account as a connect page would (authorization code,
// PKCE), and prints one line of JSON: where everything is, and the first tokens. Logs requests to
// the token endpoint, with their responses, to the file of the first argument. Ends with its stdin.
import { createHash, randomBytes } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Miniflare } from "miniflare";

const CALLBACK = "https://broker.example.com/callback";
const SCOPE = "crm:read";
const [log] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const library = join(here, "node_modules/@cloudflare/workers-oauth-provider/dist/oauth-provider.js");

let miniflare;

// A forwarder, which logs: the worker has no file system.
const forwarder = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const sent = Buffer.concat(chunks);
  const headers = { ...request.headers, host: authority };
  delete headers["content-length"];
  delete headers["transfer-encoding"];
  delete headers["connection"];
  const { method } = request;
  const body = method === "GET" || method === "HEAD" ? undefined : sent;
  const url = `http://${authority}${request.url}`;
  const answer = await miniflare.dispatchFetch(url, { method, headers, body, redirect: "manual" });
  const text = Buffer.from(await answer.arrayBuffer());
  if (request.url === "/token") {
    const line = {
      agent: request.headers["user-agent"],
      authorization: request.headers.authorization,
      form: sent.toString(),
      status: answer.status,
      body: text.toString(),
    };
    appendFileSync(log, `${JSON.stringify(line)}\n`);
  }
  const fields = Object.fromEntries(answer.headers);
  delete fields["content-length"];
  delete fields["transfer-encoding"];
  response.writeHead(answer.status, fields);
  response.end(text);
});
await new Promise((resolve) => forwarder.listen(0, "127.0.0.1", resolve));
const authority = `127.0.0.1:${forwarder.address().port}`;
const base = `http://${authority}`;

miniflare = new Miniflare({
  modules: [
    { type: "ESModule", path: "worker.mjs", contents: readFileSync(join(here, "worker.mjs"), "utf8") },
    {
      type: "ESModule",
      path: "@cloudflare/workers-oauth-provider",
      contents: readFileSync(library, "utf8"),
    },
  ],
  modulesRoot: "/",
  compatibilityDate: "2026-07-01",
  kvNamespaces: ["OAUTH_KV"],
  bindings: { RESOURCE: `${base}/mcp` },
});

const client = await (await fetch(`${base}/test/client`)).json();
const verifier = randomBytes(32).toString("base64url");
const authorize = new URLSearchParams({
  response_type: "code",
  client_id: client.client_id,
  redirect_uri: CALLBACK,
  scope: SCOPE,
  state: "state",
  code_challenge: createHash("sha256").update(verifier).digest("base64url"),
  code_challenge_method: "S256",
});
const redirect = await fetch(`${base}/authorize?${authorize}`, { redirect: "manual" });
const code = new URL(redirect.headers.get("location")).searchParams.get("code");
const basic = Buffer.from(`${client.client_id}:${client.client_secret}`).toString("base64");
const tokens = await fetch(`${base}/token`, {
  method: "POST",
  headers: { authorization: `Basic ${basic}`, "content-type": "application/x-www-form-urlencoded" },
  body: new URLSearchParams({
    grant_type: "authorization_code",
    code,
    redirect_uri: CALLBACK,
    code_verifier: verifier,
  }),
});
console.log(JSON.stringify({ base, ...client, ...(await tokens.json()) }));

process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
