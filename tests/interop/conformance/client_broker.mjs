// `token-broker serve` with one protected server, in a folder of its own.
import { execFile, spawn } from 'node:child_process';
import { cpSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CLIENT } from './client_caller.mjs';
import { freePort } from './server.mjs';

const { INTEROP_BROKER } = process.env;
export const USER = 'alice';

function configuration({ origin, port, upstream, credential, rules }) {
  return `
public_url = "${origin}"
listen = "127.0.0.1:${port}"

[store]
url = "sqlite://token-broker.db"
key_file = "token-broker.key"

[audit]
folder = "audit"

[login]
kind = "local"

[[client]]
id = "${CLIENT}"
redirect_uris = ["http://127.0.0.1/callback"]

[[server]]
name = "mail"
title = "Mail"
upstream = "${upstream}"
loopback_hosts = ["localhost"]

[server.credential]
${credential}
${rules}`;
}

// Prepares a folder with a store and a user, of which each scenario has a copy.
export async function prepare(folder, password) {
  const run = promisify(execFile);
  await run(INTEROP_BROKER, ['init', '.'], { cwd: folder });
  const settings = { origin: 'http://127.0.0.1:1', port: 1, upstream: 'http://localhost:1/mcp', credential: 'kind = "oauth"' };
  const rules = '[[server.allow]]\ntools = ["*"]\nscope = "mail:use"';
  writeFileSync(join(folder, 'token-broker.toml'), configuration({ ...settings, rules }));
  const adding = run(INTEROP_BROKER, ['users', 'add', USER, '--password-file', '-'], { cwd: folder });
  adding.child.stdin.end(`${password}\n`);
  await adding;
}

export class Broker {
  log = '';

  // `origin` is the public one; by default where it listens. `secret` is that of the client at the
  // authorization server, in a file for the configuration.
  static async start(prepared, folder, { origin, secret, ...settings }) {
    cpSync(prepared, folder, { recursive: true });
    const broker = new Broker();
    const port = await freePort();
    broker.folder = folder;
    broker.target = `http://127.0.0.1:${port}`;
    broker.origin = origin ?? broker.target;
    broker.url = `${broker.origin}/mail/mcp`;
    if (secret) writeFileSync(join(folder, 'client.secret'), `${secret}\n`, { mode: 0o600 });
    writeFileSync(join(folder, 'token-broker.toml'), configuration({ origin: broker.origin, port, ...settings }));
    await broker.#serve();
    return broker;
  }

  async #serve() {
    this.child = spawn(INTEROP_BROKER, ['serve'], { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (text) => { this.log += text; });
    // Whatever ends this program ends the broker.
    process.on('exit', () => this.child.kill('SIGKILL'));
    for (let attempt = 0; attempt < 600; attempt += 1) {
      if (this.child.exitCode !== null) throw new Error(`the broker ended: ${this.log}`);
      if (await fetch(`${this.target}/readyz`).then((response) => response.ok, () => false)) return;
      await sleep(50);
    }
    throw new Error(`the broker is not ready: ${this.log}`);
  }

  records() {
    const audit = join(this.folder, 'audit');
    const files = readdirSync(audit).filter((file) => file.endsWith('.jsonl'));
    return files.flatMap((file) => readFileSync(join(audit, file), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)));
  }

  async end() {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((resolve) => { this.child.on('exit', resolve); });
    this.child.kill('SIGTERM');
    if (await Promise.race([ended, sleep(5_000, 'late', { ref: false })]) === 'late') this.child.kill('SIGKILL');
  }
}
