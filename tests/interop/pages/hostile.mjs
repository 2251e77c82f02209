// Pages of another site that frame our pages, or send forms to them.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { SITE, browser, check } from './browser.mjs';

const allowed = async () => Number(await (await fetch(`${SITE}/test/allowed`)).text());

export async function hostile(context) {
  console.log('another site');
  const page = `<!doctype html><title>other</title>
    <iframe id="frame" src="${SITE}/connections"></iframe>
    <form id="consent" method="post" action="${SITE}/oauth/consent"><input name="decision" value="allow"><input name="csrf" value="x"></form>
    <form id="end" method="post" action="${SITE}/connections"><input name="action" value="end-all"></form>
    <form id="sign" method="post" action="${SITE}/sign-in"><input name="user" value="mallory"><input name="password" value="x"></form>
    <form id="plain" method="post" enctype="text/plain" action="${SITE}/connections"><input name="action" value="end-all"></form>`;
  const server = createServer((request, response) => {
    // A page that hides its origin.
    if (request.url === '/hidden') response.setHeader('referrer-policy', 'no-referrer');
    response.setHeader('content-type', 'text/html').end(page);
  });
  const port = await new Promise((resolve) => { server.listen(0, '127.0.0.1', () => resolve(server.address().port)); });
  const scripts = await browser.newContext({ storageState: await context.storageState() });
  const before = await allowed();
  // `localhost` is another site; another port of 127.0.0.1 is another origin of the same site.
  for (const host of ['localhost', '127.0.0.1']) {
    for (const path of ['/', '/hidden']) {
      for (const form of ['consent', 'end', 'sign', 'plain']) {
        const other = await scripts.newPage();
        await other.goto(`http://${host}:${port}${path}`, { waitUntil: 'domcontentloaded' });
        const response = other.waitForResponse((found) => found.request().method() === 'POST', { timeout: 10_000 });
        await other.evaluate((id) => { document.getElementById(id).submit(); }, form);
        const status = (await response).status();
        // A page that is closed while it navigates may never close.
        await other.waitForURL(`${SITE}/**`);
        check(`${host}${path}: the form ${form} is refused`, [303, 400, 403].includes(status), status);
        await other.close();
      }
    }
    const framed = await scripts.newPage();
    await framed.goto(`http://${host}:${port}/`);
    const frame = framed.frames().find((found) => found !== framed.mainFrame());
    // Chromium shows an error of its own in place of a page that may not be framed.
    for (let wait = 0; wait < 50 && !frame.url(); wait += 1) await sleep(100);
    check(`${host}: no page is framed`, frame.url().startsWith('chrome-error:'), frame.url());
    await framed.close();
  }
  check('no consent was given', (await allowed()) === before);
  const own = await scripts.newPage();
  await own.goto(`${SITE}/connections`);
  check('the user is signed in, and all access remains', (await own.getByRole('button', { name: /^End access/ }).count()) === 3, own.url());
  await scripts.close();
  server.close();
  server.closeAllConnections();
}
