// The official TypeScript SDK, version 1.
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { Provider } from './store.mjs';
import { ELICITS, LEEWAY, MCP_URL, elicited, expect, signalled, whole } from './trial_client.mjs';

const authProvider = new Provider('TypeScript SDK 1');

async function connect() {
  const transport = new StreamableHTTPClientTransport(new URL(MCP_URL), { authProvider });
  const client = new Client({ name: 'interop', version: '1' }, { capabilities: ELICITS ? { elicitation: { url: {} } } : {} });
  if (ELICITS) client.setRequestHandler(ElicitRequestSchema, elicited);
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(authProvider.ended.get('code'));
    return connect();
  }
  return client;
}

async function call() {
  const client = await connect();
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  expect('the list', names.includes('get_item') && !names.includes('delete_item'), names);
  const { content } = await signalled(() => client.callTool({ name: 'get_item', arguments: { number: 7 } }));
  await client.close();
  return content[0].text;
}

await whole(call, LEEWAY);
process.exit(0);
