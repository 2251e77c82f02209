// An MCP client in a page. `run` is called by the driver.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { discoverOAuthProtectedResourceMetadata } from '@modelcontextprotocol/sdk/client/auth.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

async function session(gateway, token) {
  const requestInit = { headers: { authorization: `Bearer ${token}` } };
  const transport = new StreamableHTTPClientTransport(new URL(gateway), { requestInit });
  const client = new Client({ name: 'page', version: '1' });
  await client.connect(transport);
  const { tools } = await client.listTools();
  const called = await client.callTool({ name: 'list_items', arguments: {} });
  await transport.terminateSession();
  await client.close();
  return { tools: tools.map((tool) => tool.name), isError: called.isError ?? false };
}

async function refused(gateway) {
  const answer = await fetch(gateway, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
    body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
  });
  return { status: answer.status, challenge: answer.headers.get('www-authenticate'), id: answer.headers.get('x-request-id') };
}

// The SDK sends `MCP-Protocol-Version`, so that the browser sends a preflight.
const metadata = (gateway) => discoverOAuthProtectedResourceMetadata(gateway);

const settled = (promise) => promise.then((value) => ({ value }), (error) => ({ error: String(error) }));

window.run = async (gateway, token) => ({
  session: await settled(session(gateway, token)),
  refused: await settled(refused(gateway)),
  metadata: await settled(metadata(gateway)),
});
