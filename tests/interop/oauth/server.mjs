// The server under test, and the MCP server that it protects. All that depends on how the broker is
// configured and started is in this file.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const { PYTHON, ITEMS, INTEROP_BROKER } = process.env;

export const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

export async function until(what, holds) {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const found = await holds();
    if (found) return found;
    await sleep(100);
  }
  throw new Error(`${what} did not start`);
}

// The certificate of a host for clients' metadata documents: the broker fetches them by https only.
function certificate(folder) {
  const [key, root] = [join(folder, 'documents.key'), join(folder, 'documents.pem')];
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
    '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', root,
  ], { stdio: 'ignore' });
  return { key: readFileSync(key), cert: readFileSync(root) };
}

const STATIC = `
kind = "static"
secret_file = "items.secret"
`;

const RULES = `
[[server.allow]]
tools = ["list_*", "get_*", "count_*"]
scope = "items:read"

[[server.allow]]
tools = ["update_*"]
scope = "items:write"
`;

export class Server {
  user = 'alice';
  password = `${randomBytes(9).toString('hex')} of a test`;
  secret = `tbm-${randomBytes(24).toString('hex')}`;
  children = [];
  // The metadata document of each path.
  documents = new Map();

  // `origin` is where clients reach it: a proxy. `upstream` returns the command of the protected
  // server for its port, and its environment; or it is the URL of one that runs. `loopback` are
  // further hosts that it needs, `credential` and `rules` are its sections; `more` are further ones.
  static async start(folder, options) {
    const { origin, lifetime, grace = '10m', upstream, loopback = [], credential = STATIC, rules = RULES, more = '' } = options;
    const server = new Server();
    mkdirSync(folder, { recursive: true });
    Object.assign(server, { folder, origin, lifetime, grace, loopback, credential, rules, more, url: `${origin}/items/mcp` });
    try {
      await server.#startDocuments();
      await server.#serve(typeof upstream === 'string' ? upstream : await server.#startUpstream(upstream));
      return server;
    } catch (error) {
      await server.end();
      throw error;
    }
  }

  async #startUpstream(upstream) {
    this.seen = join(this.folder, 'seen');
    writeFileSync(this.seen, '');
    const port = await freePort();
    const [command, args, env] = upstream?.(port)
      ?? [PYTHON, [ITEMS, String(port), this.seen], { UPSTREAM_TOKEN: this.secret }];
    const started = this.#spawn('upstream', command, args, env);
    await until('the upstream', async () => {
      if (started.exitCode !== null) throw new Error(`the upstream ended: ${this.log('upstream')}`);
      return fetch(`http://127.0.0.1:${port}/mcp`).then(() => true, () => false);
    });
    // Without the requests above.
    writeFileSync(this.seen, '');
    return `http://127.0.0.1:${port}/mcp`;
  }

  async #startDocuments() {
    const tls = certificate(this.folder);
    const host = createTlsServer(tls, (request, response) => {
      const document = this.documents.get(request.url);
      response.writeHead(document ? 200 : 404, { 'content-type': 'application/json', 'cache-control': 'max-age=3600' });
      response.end(JSON.stringify(document ?? {}));
    });
    await new Promise((resolve) => { host.listen(0, 'localhost', resolve); });
    this.host = host;
    this.documentOrigin = `https://localhost:${host.address().port}`;
  }

  // Publishes the metadata document of a client; returns its URL, which is the client's ID.
  publish(name, metadata) {
    const url = `${this.documentOrigin}/${name}.json`;
    this.documents.set(`/${name}.json`, { client_id: url, ...metadata });
    return url;
  }

  // `token-broker serve` in a folder of its own.
  async #serve(upstream) {
    // Not synchronous: the proxies of other trials are in this process.
    const run = (args, input = '') => new Promise((resolve, reject) => {
      const child = execFile(INTEROP_BROKER, args, { cwd: this.folder }, (error, output, errors) => {
        error ? reject(new Error(`${args.join(' ')}: ${errors}`)) : resolve(output);
      });
      child.stdin.end(input);
    });
    const port = await freePort();
    await run(['init', '.']);
    writeFileSync(join(this.folder, 'items.secret'), `${this.secret}\n`, { mode: 0o600 });
    writeFileSync(join(this.folder, 'token-broker.toml'), `
public_url = "${this.origin}"
listen = "127.0.0.1:${port}"

[store]
url = "sqlite://token-broker.db"
key_file = "token-broker.key"

[audit]
folder = "audit"

[login]
kind = "local"
access_token_lifetime = "${this.lifetime}s"
refresh_reuse_window = "${this.grace}"
loopback_hosts = ["localhost"]
trusted_roots = ["documents.pem"]

[[server]]
name = "items"
title = "Items"
upstream = "${upstream}"
loopback_hosts = ${JSON.stringify([new URL(upstream).host, ...this.loopback])}

[server.credential]
${this.credential}
${this.rules}
${this.more}`);
    await run(['users', 'add', this.user, '--password-file', '-'], `${this.password}\n`);
    this.target = `http://127.0.0.1:${port}`;
    await this.#startServing();
    const audit = join(this.folder, 'audit');
    this.records = () => readdirSync(audit).filter((file) => file.endsWith('.jsonl')).flatMap((file) => {
      const lines = readFileSync(join(audit, file), 'utf8').split('\n').slice(0, -1);
      return lines.map((text) => JSON.parse(text));
    });
    // It holds in each process a second after the command has returned.
    this.revoke = async (client) => {
      await run(['clients', 'revoke', client]);
      await sleep(1_000);
    };
  }

  async #startServing() {
    this.serving = this.#spawn('server', INTEROP_BROKER, ['serve']);
    await until('the server', async () => {
      if (this.serving.exitCode !== null) throw new Error(`the server ended: ${this.log('server')}`);
      return fetch(`${this.target}/readyz`).then((response) => response.ok, () => false);
    });
  }

  // Changes the text of the configuration, and starts the gateway again.
  async reconfigure(change) {
    const file = join(this.folder, 'token-broker.toml');
    const before = readFileSync(file, 'utf8');
    const after = change(before);
    if (after === before) throw new Error('the configuration is the same');
    writeFileSync(file, after);
    await this.restart();
  }

  // Stops the gateway, and starts it again on its store.
  async restart() {
    const ended = new Promise((resolve) => { this.serving.on('exit', resolve); });
    this.serving.kill('SIGTERM');
    await ended;
    await this.#startServing();
  }

  #spawn(name, command, args, env = {}) {
    const child = spawn(command, args, { cwd: this.folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.logs ??= {};
    this.logs[name] = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { this.logs[name] += text; });
    child.on('error', (error) => { this.logs[name] += error; });
    this.children.push(child);
    return child;
  }

  log(name) {
    return this.logs?.[name] ?? '';
  }

  // The digest that `items.py` logs of the credential.
  digest() {
    return createHash('sha256').update(this.secret).digest('hex');
  }

  // What the protected server received: one entry per request.
  upstreamRequests() {
    return readFileSync(this.seen, 'utf8').split('\n').slice(0, -1).map((text) => JSON.parse(text));
  }

  async end() {
    this.host?.close();
    this.host?.closeAllConnections();
    await Promise.all(this.children.map(async (child) => {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => { child.on('exit', resolve); });
      child.kill('SIGTERM');
      if (await Promise.race([ended, sleep(5_000, 'late')]) === 'late') child.kill('SIGKILL');
    }));
  }
}
