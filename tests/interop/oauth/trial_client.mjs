// For the clients on Node: the user, the operator and the phases of a trial.
import { setTimeout as sleep } from 'node:timers/promises';

export const { MCP_URL, CONTROL, DOCUMENT } = process.env;
const lifetime = Number(process.env.LIFETIME);

async function post(path, body = '') {
  const response = await fetch(CONTROL + path, { method: 'POST', body });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${text}`);
  return text;
}

export const phase = (name) => post('/phase', name);
const restart = () => post('/restart');
const revoke = () => post('/revoke');
// Lets the user allow; returns the parameters that reach the redirect URI.
export const browse = async (url) => new URL(await post('/browser', String(url))).searchParams;
export const deny = async (url) => new URL(await post('/deny', String(url))).searchParams;

export function expect(what, holds, found) {
  if (holds) return;
  console.error(`${what}:`, found);
  process.exit(1);
}

// A server accepts a token for 30 s after its end, because clocks differ. A client that refreshes
// only after a 401 must wait for that.
export const LEEWAY = 30;
export const untilExpired = (leeway = 0) => sleep((lifetime + leeway + 1) * 1000);

// Whether the client declares that it can open a link for the user (elicitation in URL mode).
export const ELICITS = Boolean(process.env.ELICITS);

const isLater = process.env.STORY === 'later';
// Whether the user ends the account before the next call.
let disconnects = false;

// Lets the user connect the account by the link of a signal, which came as `form`.
async function connect(form, link) {
  await post('/signal', JSON.stringify({ form, link }));
}

async function followLink(error) {
  const shown = [error, error.cause].map((one) => `${one?.message} ${JSON.stringify(one?.data ?? null)}`).join(' ');
  const [link] = shown.match(/http[^\s"'\\]+\/connect\/[^\s"'\\]+/) ?? [];
  // A client that shows no link: its user finds the page.
  if (process.env.HIDES_LINK && !link) return connect('hidden', null);
  expect('a link', link, `${error.stack} ${shown}`);
  return connect(error.code ?? error.cause?.code ?? 'text', link);
}

// For clients that elicit: the handler of `elicitation/create`.
export async function elicited({ params }) {
  expect('an elicitation with a link', params.mode === 'url' && params.url && params.message, params);
  await connect('elicitation', params.url);
  return { action: 'accept' };
}

// Calls a tool; again, if the user had to connect an account first.
export async function signalled(call) {
  if (!isLater) return call();
  if (disconnects) {
    disconnects = false;
    await post('/disconnect');
  }
  return call().catch(async (error) => {
    await followLink(error);
    return call();
  });
}

// The user continued without an account, and ends it later.
async function later(call) {
  await phase('sign-in');
  const text = await call().catch(async (error) => {
    await followLink(error);
    return call();
  });
  expect('the call after the account was connected', text === 'item 7', text);
  disconnects = true;
  const again = await call();
  expect('the call after it was connected again', again === 'item 7', again);
}

export async function whole(call, leeway) {
  if (isLater) return later(call);
  await phase('sign-in');
  expect('the call', await call() === 'item 7');
  await phase('expired');
  await untilExpired(leeway);
  expect('the call after expiry', await call() === 'item 7');
  await phase('restarted');
  await restart();
  expect('the call after a restart of the gateway', await call() === 'item 7');
  await phase('revoked');
  await revoke();
  expect('the call after a new sign-in', await call() === 'item 7');
}
