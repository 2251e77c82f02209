// The whole way of a new broker: first account, sign-in, consent, connections, and what must fail.
import { LINK, PASSWORD, SITE, check, end, profile, signIn } from './browser.mjs';
import { redirects } from './redirects.mjs';
import { hostile } from './hostile.mjs';
import { look } from './looks.mjs';

const fill = async (page, fields) => {
  for (const [label, text] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(text);
};

console.log('the first account');
const admin = await profile();
await look(admin, 'first-account', (page) => page.goto(LINK));
await look(admin, 'first-account-short', async (page) => {
  await page.goto(LINK);
  await fill(page, { 'User name': 'olga', Password: '123456789012345' });
  await page.getByRole('button', { name: 'Create account' }).click();
});
let page = await admin.newPage();
await page.goto(LINK);
// Waits, because a browser sets the focus only when it has drawn the page.
const focus = (on, name) => on.locator(`[name=${name}]:focus`).waitFor({ timeout: 5_000 }).then(() => true, () => false);
check('the user name has the focus', await focus(page, 'user'));
await page.keyboard.type('olga');
await page.keyboard.press('Tab');
await page.keyboard.type('five random words of olga');
await Promise.all([page.waitForURL('**/connections'), page.keyboard.press('Enter')]);
check('it signs its user in', page.url() === `${SITE}/connections`, page.url());
const stranger = await profile();
await look(stranger, 'first-account-used', (other) => other.goto(LINK));
await (await fetch(`${SITE}/test/accounts`, { method: 'POST' })).text();

console.log('sign-in');
await look(stranger, 'sign-in', (other) => other.goto(`${SITE}/test/start?client=loopback`));
await look(stranger, 'sign-in-wrong', async (other) => {
  await other.goto(`${SITE}/test/start?client=loopback`);
  await signIn(other, 'zoe', 'wrong');
});
await look(stranger, 'sign-in-throttled', async (other) => {
  await other.goto(`${SITE}/sign-in`);
  for (let attempt = 0; attempt < 6; attempt += 1) await signIn(other, 'yves', 'wrong');
});
await look(stranger, 'new-password', async (other) => {
  await other.goto(`${SITE}/sign-in`);
  await signIn(other, 'temporary');
});
await look(stranger, 'error', (other) => other.goto(`${SITE}/test/error`));
await look(stranger, 'sign-in-expired', (other) => other.goto(`${SITE}/sign-in?continue=expired`));

console.log('from the application to the consent, by keyboard');
const alice = await profile();
page = await alice.newPage();
await page.goto(`${SITE}/test/start?client=loopback`);
check('the user name has the focus', await focus(page, 'user'));
await page.keyboard.type('alice');
await page.keyboard.press('Tab');
await page.keyboard.type(PASSWORD);
await Promise.all([page.waitForURL('**/oauth/continue?**'), page.keyboard.press('Enter')]);
check('the title asks', (await page.title()).startsWith('Allow Claude Code to use CRM?'), await page.title());
check('nothing is focused', (await page.locator(':focus').count()) === 0);
const focused = [];
for (let step = 0; step < 4; step += 1) {
  await page.keyboard.press('Tab');
  focused.push(await page.locator(':focus').innerText());
}
check('Tab goes in reading order', focused.join() === 'Not you?,Connections,Deny,Allow', focused);

console.log('consent');
for (const kind of ['loopback', 'document', 'configured', 'several', 'hostile', 'nameless']) {
  const redirect = { document: 'https://claude.ai/api/mcp/auth_callback', configured: 'cursor://anysphere.cursor-mcp/oauth/callback' }[kind];
  const query = new URLSearchParams({ client: kind, ...(redirect && { redirect }) });
  await look(alice, `consent-${kind}`, (other) => other.goto(`${SITE}/test/start?${query}`));
}
await redirects(alice);
await hostile(alice);

console.log('connections');
await look(alice, 'connections', (other) => other.goto(`${SITE}/connections`));
page = await alice.newPage();
await page.goto(`${SITE}/connections`);
await page.getByRole('button', { name: 'End access of Claude Code to CRM' }).click();
check('one access is ended', await page.getByRole('status').isVisible());
check('the others are not', (await page.getByRole('button', { name: /^End access/ }).count()) === 2);
await look(alice, 'password', (other) => other.goto(`${SITE}/password`));
const second = await (await profile({ storageState: await alice.storageState() })).newPage();
await page.getByRole('button', { name: 'Sign out everywhere' }).click();
check('signed out everywhere', await page.getByText('signed out in every browser').isVisible());
await second.goto(`${SITE}/connections`);
check('also in the other browser', second.url() === `${SITE}/sign-in`, second.url());
await look(admin, 'connections-empty', (other) => other.goto(`${SITE}/connections`));
await look(admin, 'signed-out', async (other) => {
  const copy = await profile();
  await copy.close();
  await other.goto(`${SITE}/sign-in`);
  if (other.url().endsWith('/sign-in')) await signIn(other, 'alice');
  await other.getByRole('button', { name: 'Sign out', exact: true }).click();
});
await end();
