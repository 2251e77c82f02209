// Between the suite and the broker. Adds the broker token, once there is one: the suite cannot send
// it. Forwards everything else unchanged, including `Host`, and streams in both directions.
import http from 'node:http';

export class Forwarder {
  target = null;
  token = null;

  async listen() {
    this.server = http.createServer((request, response) => this.#forward(request, response));
    await new Promise((resolve) => { this.server.listen(0, '127.0.0.1', resolve); });
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
    return this.origin;
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }

  #forward(request, response) {
    const { hostname, port } = new URL(this.target);
    const authorization = this.token ? ['Authorization', `Bearer ${this.token}`] : [];
    const headers = [...request.rawHeaders, ...authorization];
    const onward = http.request({ hostname, port, method: request.method, path: request.url, headers });
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
      response.flushHeaders();
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  }
}
