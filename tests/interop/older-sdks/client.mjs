// The TypeScript SDK 1 as a client with only a broker token, in front of a server that speaks an older version.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

function check(what, holds, found) {
  console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : ` ${JSON.stringify(found)}`}`);
  if (!holds) process.exit(1);
}

const headers = { authorization: `Bearer ${process.env.BROKER_TOKEN}` };
const transport = new StreamableHTTPClientTransport(new URL(process.env.GATEWAY), { requestInit: { headers } });
const client = new Client({ name: 'interop', version: '1' });
await client.connect(transport);
const names = (await client.listTools()).tools.map((tool) => tool.name);
check('the list has what is allowed', names.includes('get_item') && !names.includes('delete_item'), names);
const called = await client.callTool({ name: 'get_item', arguments: { number: 7 } });
check('a call returns its result', called.content[0].text === 'item 7', called);
const denied = await client.callTool({ name: 'delete_item', arguments: { number: 7 } }).catch((error) => error);
check('a denied call is refused', denied.code === -32602, denied);
await client.close();
process.exit(0);
