// The token store of a client of the TypeScript SDK, version 1 or 2, in a file that processes share.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DOCUMENT, browse } from './trial_client.mjs';

const folder = process.env.STORE;
mkdirSync(folder, { recursive: true });

const read = (name) => {
  try { return JSON.parse(readFileSync(join(folder, name), 'utf8')); } catch { return undefined; }
};

function write(name, value) {
  const temporary = join(folder, `${name}.${process.pid}`);
  writeFileSync(temporary, JSON.stringify(value ?? null));
  renameSync(temporary, join(folder, name));
}

export class Provider {
  redirectUrl = 'http://127.0.0.1:3030/callback';
  clientMetadataUrl = DOCUMENT;
  // The parameters at the redirect URI.
  ended = null;

  constructor(name) {
    this.clientMetadata = {
      client_name: name, redirect_uris: [this.redirectUrl], grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'], token_endpoint_auth_method: 'none',
    };
  }

  clientInformation() { return read('client') ?? undefined; }
  saveClientInformation(information) { write('client', information); }
  tokens() { return read('tokens') ?? undefined; }
  saveTokens(tokens) { write('tokens', tokens); }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  // The issuer that the response must name.
  discoveryState() { return this.discovered; }
  saveDiscoveryState(state) { this.discovered = state; }
  state() { return (this.sentState = crypto.randomUUID()); }

  async redirectToAuthorization(url) {
    this.ended = await browse(url);
    if (this.ended.get('state') !== this.sentState) throw new Error('another state');
  }

  invalidateCredentials(what) {
    if (what === 'all' || what === 'client') write('client', null);
    if (what === 'all' || what === 'tokens') write('tokens', null);
    if (what === 'all' || what === 'discovery') this.discovered = undefined;
  }
}
