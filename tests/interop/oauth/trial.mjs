// One trial: a server of its own, a proxy that records, and a client program, which calls the trial
// for the user and the operator, and reports its phase.
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Server } from './server.mjs';
import { Wire } from './wire.mjs';
import { Person } from './browser.mjs';

const { WORK } = process.env;

// Wrong responses, by name.
function changedJson(end, change) {
  return (entry) => {
    if (entry.status >= 300 || !entry.url.split('?')[0].endsWith(end)) return;
    const value = JSON.parse(entry.responseBody);
    change(value);
    entry.responseBody = JSON.stringify(value);
  };
}

function changedRedirect(change) {
  return (entry) => {
    if (!entry.url.endsWith('/oauth/consent') || !entry.responseHeaders.location) return;
    const location = new URL(entry.responseHeaders.location);
    change(location.searchParams);
    entry.responseHeaders = { ...entry.responseHeaders, location: location.href };
  };
}

const changes = {
  nothing: null,
  issuer: changedJson('/.well-known/oauth-authorization-server', (value) => { value.issuer = 'https://other.example'; }),
  'another-iss': changedRedirect((query) => query.set('iss', 'https://other.example')),
  'no-iss': changedRedirect((query) => query.delete('iss')),
  'another-state': changedRedirect((query) => query.set('state', 'other')),
  'token-type': changedJson('/oauth/token', (value) => { value.token_type = 'N_A'; }),
  'no-token': changedJson('/oauth/token', (value) => { delete value.access_token; }),
  // The key set is another one: the coordinates of its keys are changed.
  signature: changedJson('/oauth/jwks', (value) => { value.keys = [{ ...OTHER_KEY, kid: value.keys[0].kid, use: 'sig', alg: 'ES256' }]; }),
};
const OTHER_KEY = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });

export class Trial {
  lines = [];
  passed = 0;
  failed = 0;
  // Sign-ins by phase.
  signIns = [];

  // Signals that a client received, in place of a response to its call: the link, and how it came.
  signals = [];

  // `person` is how the user acts; without it, each sign-in has a browser of its own. The rest are
  // options of the server.
  static async start(name, { lifetime = 5, grace = '10m', person = null, ...options } = {}) {
    const trial = new Trial();
    trial.name = name;
    trial.folder = join(WORK, name.replaceAll(' ', '-'));
    trial.wire = new Wire();
    const origin = await trial.wire.listen();
    trial.server = await Server.start(trial.folder, { origin, lifetime, grace, ...options });
    trial.wire.target = trial.server.target;
    if (person) trial.person = await trial.#browser(person);
    await trial.#startControl();
    return trial;
  }

  check(what, holds, found) {
    holds ? (this.passed += 1) : (this.failed += 1);
    const shown = holds ? '' : ` ${(typeof found === 'string' ? found : JSON.stringify(found) ?? '').slice(0, 1500)}`;
    this.lines.push(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${shown}`);
  }

  // The client program obtains these addresses in its environment:
  // POST /phase, /browser and /deny (with an URL; respond where the browser ended), /restart,
  // /revoke, /change; /signal (with how it came, and the link), which the user opens; /disconnect.
  async #startControl() {
    const respond = {
      '/phase': (phase) => { this.wire.phase = phase; return ''; },
      '/browser': (url) => this.browse(url),
      '/deny': (url) => this.browse(url, 'Deny'),
      '/restart': () => this.server.restart().then(() => ''),
      '/revoke': () => this.revoke(),
      '/signal': (text) => this.#connect(JSON.parse(text)),
      '/disconnect': () => this.#disconnect(),
      '/change': (name) => { this.wire.change = changes[name]; return ''; },
    };
    const server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      try {
        response.end(await respond[request.url](Buffer.concat(chunks).toString()));
      } catch (error) {
        this.lines.push(`  FAIL ${request.url}: ${error.message}`);
        this.failed += 1;
        response.writeHead(500).end(String(error.message));
      }
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    this.control = `http://127.0.0.1:${server.address().port}`;
    this.controlServer = server;
    // For clients that start a program to open a browser. It returns at once, as that of a desktop.
    this.opener = join(this.folder, 'open-browser');
    writeFileSync(this.opener, `#!/bin/sh
for url; do :; done
exec '${process.execPath}' -e 'fetch(process.argv[1], { method: "POST", body: process.argv[2] })' '${this.control}/browser' "$url" >/dev/null 2>&1 &
`);
    chmodSync(this.opener, 0o755);
  }

  #browser(person = {}) {
    const { user, password } = this.server;
    return Person.begin({ user, password, ...person });
  }

  async browse(url, button) {
    this.signIns.push(this.wire.phase);
    const person = this.person ?? await this.#browser();
    try {
      return await person.decide(url, button);
    } finally {
      if (person !== this.person) await person.end();
    }
  }

  // By the link of a signal; afterwards the phase is `connected`, or `again`.
  async #connect(signal) {
    this.signals.push({ ...signal, phase: this.wire.phase });
    await this.person.connect(signal.link ?? `${this.server.origin}/connect/items`);
    this.wire.phase = this.wire.phase === 'disconnected' ? 'again' : 'connected';
    return '';
  }

  async #disconnect() {
    this.wire.phase = 'disconnected';
    await this.person.disconnect(this.server.origin, 'Items');
    return '';
  }

  // As the operator: ends what the client may do, which registered itself or has a document.
  async revoke() {
    const { client_id: client } = this.tokenRequests()[0] ?? {};
    if (!client) throw new Error('no client has redeemed a code');
    await this.server.revoke(client);
    return '';
  }

  // Token requests as forms, with phase, status and response.
  tokenRequests(phase) {
    const entries = phase ? this.wire.in(phase) : this.wire.entries;
    const requests = entries.filter(({ method, url }) => method === 'POST' && url.endsWith('/token'));
    return requests.map((entry) => ({ ...Object.fromEntries(new URLSearchParams(entry.body)), entry }));
  }

  run(command, args, env = {}) {
    const child = spawn(command, args, {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group, so that the programs that it started end with it.
      detached: true,
      env: {
        ...process.env, MCP_URL: this.server.url, CONTROL: this.control, BROWSER: this.opener, LIFETIME: String(this.server.lifetime),
        HOME: this.folder, ...env,
      },
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { text += chunk; });
    const end = () => { try { process.kill(-child.pid, 'SIGKILL'); } catch { /* All have ended. */ } };
    const limit = setTimeout(() => { text += '\nended after its time limit'; end(); }, Number(env.LIMIT ?? 200) * 1000);
    return new Promise((resolve) => {
      child.on('error', (error) => { text += error; });
      child.on('exit', end);
      child.on('close', (code) => { clearTimeout(limit); resolve({ code, text }); });
    });
  }

  async end() {
    this.controlServer.close();
    this.controlServer.closeAllConnections();
    this.wire.close();
    await this.person?.end();
    await this.server.end();
    console.log(`${this.name}\n${this.lines.join('\n')}`);
    if (process.env.WIRE) this.#dump();
    return [this.passed, this.failed];
  }

  #dump() {
    const short = ({ phase, method, url, status, headers, body, responseHeaders, responseBody }) => JSON.stringify({
      phase, request: `${method} ${url}`, revision: headers['mcp-protocol-version'], body, status, challenge: responseHeaders['www-authenticate'],
      location: responseHeaders.location, responseBody: responseBody.startsWith('<') ? '(page)' : responseBody.slice(0, 2000),
    });
    writeFileSync(`${process.env.WIRE}/${this.name.replaceAll(' ', '-')}.jsonl`, this.wire.entries.map(short).join('\n'));
  }
}
