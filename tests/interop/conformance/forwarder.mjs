// Adds the broker token, which the suite cannot send. Forwards everything else unchanged, including
// `Host`, and streams in both directions.
import http from 'node:http';

const [port, gateway] = process.argv.slice(2);
const { hostname, port: to } = new URL(gateway);
const authorization = `Bearer ${process.env.BROKER_TOKEN}`;

http.createServer((request, response) => {
  const headers = [...request.rawHeaders, 'Authorization', authorization];
  const onward = http.request({ hostname, port: to, method: request.method, path: request.url, headers });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}).listen(Number(port), '127.0.0.1');
