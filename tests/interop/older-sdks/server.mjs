// An MCP server of the TypeScript SDK 1, which accepts one token, and logs each request.
import { createHash, randomUUID } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

const [port, log] = process.argv.slice(2);
const sessions = new Map();

function items() {
  const server = new McpServer({ name: 'items', version: '1' });
  for (const [name, said] of [['get_item', ''], ['delete_item', ' is gone']]) {
    server.registerTool(name, { description: name, inputSchema: { number: z.number() } },
      async ({ number }) => ({ content: [{ type: 'text', text: `item ${number}${said}` }] }));
  }
  return server;
}

async function opened() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  await items().connect(transport);
  return transport;
}

createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const message = body ? JSON.parse(body) : undefined;
  const presented = (request.headers.authorization ?? '').replace('Bearer ', '');
  const session = request.headers['mcp-session-id'] ?? null;
  appendFileSync(log, `${JSON.stringify({
    http: request.method,
    method: message?.method ?? null,
    name: message?.params?.name ?? null,
    requested: message?.params?.protocolVersion ?? null,
    'mcp-protocol-version': request.headers['mcp-protocol-version'] ?? null,
    'mcp-session-id': session,
    token: createHash('sha256').update(presented).digest('hex'),
  })}\n`);
  if (presented !== process.env.UPSTREAM_TOKEN) {
    response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
    return;
  }
  const transport = sessions.get(session) ?? await opened();
  await transport.handleRequest(request, response, message);
}).listen(Number(port), '127.0.0.1');
