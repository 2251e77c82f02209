// A proxy that records each request and response, between the clients and the server under test. A
// test may let it change responses, to show that a client notices.
import { createServer, request as send } from 'node:http';

export class Wire {
  // In order of arrival: { phase, method, url, headers, body, status, responseHeaders, responseBody }.
  entries = [];
  phase = 'start';
  // (entry) => void, called when a response without a stream is complete; may change it.
  change = null;
  target = null;

  async listen() {
    this.server = createServer((incoming, outgoing) => this.#forward(incoming, outgoing));
    await new Promise((resolve) => { this.server.listen(0, '127.0.0.1', resolve); });
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
    return this.origin;
  }

  in(phase) {
    return this.entries.filter((entry) => entry.phase === phase);
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }

  async #forward(incoming, outgoing) {
    const chunks = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const entry = {
      phase: this.phase, method: incoming.method, url: incoming.url, headers: incoming.headers,
      body: body.toString(), status: null, responseHeaders: {}, responseBody: '',
    };
    this.entries.push(entry);
    const { hostname, port } = new URL(this.target);
    const headers = [];
    for (let at = 0; at < incoming.rawHeaders.length; at += 2) {
      if (!/^(transfer-encoding|connection|content-length)$/i.test(incoming.rawHeaders[at])) {
        headers.push(incoming.rawHeaders[at], incoming.rawHeaders[at + 1]);
      }
    }
    if (body.length > 0) headers.push('content-length', String(body.length));
    const upstream = send({ hostname, port, method: incoming.method, path: incoming.url, headers, agent: false });
    outgoing.on('close', () => upstream.destroy());
    upstream.on('error', () => outgoing.destroy());
    upstream.on('response', (response) => {
      entry.status = response.statusCode;
      entry.responseHeaders = response.headers;
      const streams = (response.headers['content-type'] ?? '').includes('text/event-stream');
      const names = Object.entries(response.headers);
      const kept = names.filter(([name]) => !['connection', 'transfer-encoding', 'content-length'].includes(name));
      if (streams || !this.change) outgoing.writeHead(entry.status, Object.fromEntries(kept));
      response.on('error', () => outgoing.destroy());
      response.on('data', (chunk) => {
        entry.responseBody += chunk.toString();
        if (streams || !this.change) outgoing.write(chunk);
      });
      response.on('end', () => {
        if (streams || !this.change) return outgoing.end();
        this.change(entry);
        const changed = ['connection', 'transfer-encoding', 'content-length'];
        const fields = Object.entries(entry.responseHeaders).filter(([name]) => !changed.includes(name));
        return outgoing.writeHead(entry.status, Object.fromEntries(fields)).end(entry.responseBody);
      });
    });
    upstream.end(body);
  }
}
