// The official TypeScript SDK, version 2: `typescript_2.mjs MODE` for all phases, `begin`, and
// `share COUNT` as one of two processes on a token store.
import { Client, StreamableHTTPClientTransport, UnauthorizedError, auth } from '@modelcontextprotocol/client';
import { Provider } from './store.mjs';
import { ELICITS, LEEWAY, MCP_URL, elicited, expect, signalled, whole } from './trial_client.mjs';

const [mode, what, count] = process.argv.slice(2);
const versionNegotiation = { legacy: undefined, auto: { mode: 'auto' }, pinned: { mode: { pin: '2026-07-28' } } }[mode];
const authProvider = new Provider('TypeScript SDK 2');

async function connect() {
  const transport = new StreamableHTTPClientTransport(new URL(MCP_URL), { authProvider });
  const capabilities = ELICITS ? { elicitation: { url: {} } } : {};
  const client = new Client({ name: 'interop', version: '1' }, { capabilities, ...(versionNegotiation && { versionNegotiation }) });
  if (ELICITS) client.setRequestHandler('elicitation/create', elicited);
  try {
    await client.connect(transport);
  } catch (error) {
    const unauthorized = [error, error.cause].find((one) => one instanceof UnauthorizedError);
    if (!unauthorized || !authProvider.ended) throw error;
    // All parameters, so that `iss` is checked.
    const ended = authProvider.ended;
    authProvider.ended = null;
    await transport.finishAuth(ended);
    return connect();
  }
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
  for (let number = 0; number < Number(count); number += 1) {
    // The function that the transport calls after a 401, so that none has to be waited for.
    const result = await auth(authProvider, { serverUrl: MCP_URL });
    expect('the refresh', result === 'AUTHORIZED', result);
    expect('the call', await call(client) === 'item 7');
  }
} else {
  await whole(call, LEEWAY);
}
process.exit(0);
