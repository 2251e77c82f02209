// The suite's client mode: `through_connect.mjs REVISION FOLDER`. The client is `token-broker serve`, as
// client_driver.mjs uses it. The results are in FOLDER/results, and what the broker did in FOLDER/brokers.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepare } from './client_broker.mjs';

const { SUITE } = process.env;
const [revision, folder] = process.argv.slice(2);
const brokers = join(folder, 'brokers');
const password = `${randomBytes(9).toString('hex')} of a test`;
mkdirSync(join(brokers, 'prepared'), { recursive: true });
await prepare(join(brokers, 'prepared'), password);

const driver = `${process.execPath} ${fileURLToPath(new URL('client_driver.mjs', import.meta.url))}`;
const args = ['client', '--command', driver, '--requirements', revision, '--timeout', '120000', '--output-dir', join(folder, 'results')];
const env = { ...process.env, BROKERS: brokers, PASSWORD: password };
const child = spawn(process.execPath, [SUITE, ...args], { env, stdio: ['ignore', 'inherit', 'inherit'] });
const limit = setTimeout(() => child.kill(), 240_000);
child.on('close', (code) => {
  clearTimeout(limit);
  // 1 is a failed scenario, which judge.py looks at.
  process.exit(code === 0 || code === 1 ? 0 : 2);
});
