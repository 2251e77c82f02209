// The command line of MCP Inspector: `inspector.mjs ERA`. Each step is a process of its own, on the
// files in its home folder. It opens the browser itself.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { DOCUMENT, LEEWAY, MCP_URL, expect, signalled, whole } from './trial_client.mjs';

const [era] = process.argv.slice(2);
const program = join(dirname(process.execPath), '../../.bin/mcp-inspector');

function run(...method) {
  const args = ['--cli', '--server-url', MCP_URL, '--transport', 'http', '--protocol-era', era, '--format', 'json', ...method];
  if (DOCUMENT) args.push('--client-metadata-url', DOCUMENT);
  const child = spawn(process.env.INSPECTOR ?? program, args, {
    env: { ...process.env, MCP_AUTO_OPEN_ENABLED: 'true', MCP_INSPECTOR_SECRET_STORE: 'file' }, stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (text) => { output += text; });
  child.stderr.on('data', (text) => { errors += text; });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => {
      if (process.env.STORY === 'later' && code !== 0) return reject(new Error(`${output} ${errors}`));
      expect(`inspector ${method.join(' ')}`, code === 0, { code, output, errors });
      return resolve(JSON.parse(output));
    });
  });
}

async function call() {
  const listed = JSON.stringify(await run('--method', 'tools/list'));
  expect('the list', listed.includes('"get_item"') && !listed.includes('"delete_item"'), listed);
  const called = await signalled(() => run('--method', 'tools/call', '--tool-name', 'get_item', '--tool-arg', 'number=7'));
  return JSON.stringify(called).includes('"item 7"') ? 'item 7' : JSON.stringify(called);
}

await whole(call, LEEWAY);
process.exit(0);
