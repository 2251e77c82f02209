// The servers at which users have accounts: `oidc-provider`, and MCP servers of FastMCP that take only
// its tokens.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, until } from './server.mjs';

const { FASTMCP, HERE, PROVIDER } = process.env;
// What the authorization server offers, and the MCP servers request.
export const OFFERED = ['items:read', 'items:write', 'items:admin', 'mail:read', 'mail:send', 'files:read', 'files:write', 'billing'];

const lines = (file) => readFileSync(file, 'utf8').split('\n').slice(0, -1).map((text) => JSON.parse(text));
export const digest = (token) => createHash('sha256').update(token).digest('hex');

export class Accounts {
  children = [];
  logs = {};
  // By name: { url, host, seen }.
  servers = {};

  // `servers` are the scopes that each MCP server requires, by name. `lifetime` is that of access
  // tokens, in seconds.
  static async start(folder, { lifetime, servers }) {
    const accounts = new Accounts();
    Object.assign(accounts, { folder, log: join(folder, 'provider.jsonl') });
    mkdirSync(folder, { recursive: true });
    writeFileSync(accounts.log, '');
    try {
      const port = await freePort();
      accounts.origin = `http://127.0.0.1:${port}`;
      accounts.#spawn('provider', process.execPath, [PROVIDER, String(port), accounts.log, String(lifetime), ...OFFERED]);
      await accounts.#responds('provider', `${accounts.origin}/.well-known/openid-configuration`);
      for (const [name, scope] of Object.entries(servers)) await accounts.#serve(name, scope);
      return accounts;
    } catch (error) {
      await accounts.end();
      throw error;
    }
  }

  async #serve(name, scope) {
    const port = await freePort();
    const seen = join(this.folder, `${name}.jsonl`);
    writeFileSync(seen, '');
    this.#spawn(name, FASTMCP, [join(HERE, 'upstream.py'), String(port), seen, `${this.origin}/`, scope, ...OFFERED]);
    const host = `127.0.0.1:${port}`;
    await this.#responds(name, `http://${host}/mcp`);
    writeFileSync(seen, '');
    this.servers[name] = { url: `http://${host}/mcp`, host, seen };
  }

  #spawn(name, command, args) {
    const child = spawn(command, args, { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    this.logs[name] = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { this.logs[name] += text; });
    child.on('error', (error) => { this.logs[name] += error; });
    this.children.push(child);
  }

  async #responds(name, url) {
    await until(name, async () => {
      const child = this.children.at(-1);
      if (child.exitCode !== null) throw new Error(`${name} ended: ${this.logs[name]}`);
      return fetch(url).then(() => true, () => false);
    });
  }

  // The log of the authorization server, of all requests or those of a kind.
  requests(what) {
    const all = lines(this.log);
    return what ? all.filter((entry) => entry.what === what) : all;
  }

  grants(kind) {
    return this.requests('token').filter(({ grant }) => grant === kind);
  }

  errors() {
    return this.requests().filter(({ what, error }) => what.endsWith('error') || error);
  }

  // All tokens that it has issued.
  tokens() {
    return this.requests('token').flatMap(({ tokens }) => tokens);
  }

  // Requests that a MCP server received with a token.
  seen(name = 'items') {
    return lines(this.servers[name].seen).filter(({ token }) => token !== null);
  }

  // As the broker: whether the authorization server considers a token active.
  async isActive(token) {
    const { client, secret } = this.requests('register').find(({ status }) => status === 201);
    const authorization = `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}`;
    const headers = { 'content-type': 'application/x-www-form-urlencoded', ...(secret && { authorization }) };
    const body = new URLSearchParams({ token, ...(!secret && { client_id: client }) });
    const response = await fetch(`${this.origin}/token/introspection`, { method: 'POST', headers, body });
    const text = await response.text();
    if (!response.ok) throw new Error(`introspection: ${response.status} ${text}`);
    return JSON.parse(text).active;
  }

  async end() {
    await Promise.all(this.children.map(async (child) => {
      if (child.exitCode !== null) return;
      const ended = new Promise((resolve) => { child.on('exit', resolve); });
      child.kill('SIGTERM');
      if (await Promise.race([ended, sleep(5_000, 'late')]) === 'late') child.kill('SIGKILL');
    }));
  }
}
