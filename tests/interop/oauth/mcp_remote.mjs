// `mcp-remote`, as an MCP client on its standard streams: `mcp_remote.mjs PROTOCOL` for all phases,
// and `share COUNT` as one of two processes on a configuration folder.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { DOCUMENT, ELICITS, MCP_URL, elicited, expect, signalled, whole } from './trial_client.mjs';

const [protocol, what, count] = process.argv.slice(2);
const program = join(dirname(createRequire(import.meta.url).resolve('mcp-remote/package.json')), 'dist/proxy.js');

async function connect() {
  const args = [program, MCP_URL, process.env.CALLBACK_PORT, '--protocol', protocol];
  if (DOCUMENT) args.push('--client-metadata-url', DOCUMENT);
  const transport = new StdioClientTransport({
    command: process.execPath, args, env: { ...process.env, MCP_REMOTE_CONFIG_DIR: process.env.STORE }, stderr: 'pipe',
  });
  const client = new Client({ name: 'interop', version: '1' }, { capabilities: ELICITS ? { elicitation: { url: {} } } : {} });
  if (ELICITS) client.setRequestHandler(ElicitRequestSchema, elicited);
  let errors = '';
  transport.stderr.on('data', (text) => { errors += text; process.stderr.write(text); });
  // If the program ends, the reason is in its output.
  await client.connect(transport, { timeout: 60_000 }).catch((error) => {
    error.message += errors;
    throw error;
  });
  return client;
}

async function call(given) {
  const client = given ?? await connect();
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  expect('the list', names.includes('get_item') && !names.includes('delete_item'), names);
  const { content } = await signalled(() => client.callTool({ name: 'get_item', arguments: { number: 7 } }));
  if (!given) await client.close();
  return content[0].text;
}

if (what === 'begin') {
  expect('the call', await call() === 'item 7');
} else if (what === 'share') {
  const client = await connect();
  for (let number = 0; number < Number(count); number += 1) expect('the call', await call(client) === 'item 7');
  await client.close();
} else {
  await whole(() => call());
}
process.exit(0);
