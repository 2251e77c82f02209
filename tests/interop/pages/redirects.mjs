// Redirects after a consent: to a program on this computer, on to another site, to a custom scheme,
// and in a popup whose opener waits for it.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { SITE, browser, check } from './browser.mjs';

function listen(respond) {
  const server = createServer(respond);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ server, port: server.address().port }));
  });
}

export async function redirects(context) {
  console.log('redirects after a consent');
  const seen = [];
  const last = await listen((request, response) => {
    seen.push(request.url);
    response.setHeader('content-type', 'text/html').end('<!doctype html><title>done</title>');
  });
  const client = await listen((request, response) => {
    seen.push(request.url);
    const { pathname, search } = new URL(request.url, 'http://c');
    if (pathname === '/chain') response.writeHead(302, { location: `http://localhost:${last.port}/chained${search}` }).end();
    else if (pathname === '/scheme') response.writeHead(302, { location: `cursor://cb${search}` }).end();
    else if (pathname === '/popup') response.setHeader('content-type', 'text/html').end(`<!doctype html><script>window.opener.postMessage(location.search, '*')</script>`);
    else if (pathname === '/opener') response.setHeader('content-type', 'text/html').end('<!doctype html><title>opener</title>');
    else response.setHeader('content-type', 'text/html').end('<!doctype html><title>callback</title>');
  });
  const origin = `http://127.0.0.1:${client.port}`;
  const start = (path) => `${SITE}/test/start?${new URLSearchParams({ client: 'loopback', redirect: origin + path })}`;

  for (const [path, button, expected] of [
    ['/callback', 'Allow', '/callback?code=c'],
    ['/callback', 'Deny', '/callback?error=access_denied'],
    ['/chain', 'Allow', '/chained?code=c'],
    // No program here opens the scheme: the last server before it must be reached.
    ['/scheme', 'Allow', '/scheme?code=c'],
  ]) {
    const page = await context.newPage();
    await page.goto(start(path));
    await page.getByRole('button', { name: button }).click({ noWaitAfter: true });
    for (let wait = 0; wait < 100 && !seen.includes(expected); wait += 1) await sleep(100);
    check(`${button} leads to ${expected}`, seen.includes(expected), seen);
    await page.close();
  }

  // A web client opens the authorization in a popup, and waits for a message of its own callback.
  const scripts = await browser.newContext({ storageState: await context.storageState() });
  const opener = await scripts.newPage();
  await opener.goto(`${origin}/opener`);
  const [popup] = await Promise.all([
    opener.waitForEvent('popup'),
    opener.evaluate((url) => {
      window.received = new Promise((resolve) => { window.onmessage = (event) => resolve(event.data); });
      window.open(url, 'authorize', 'popup');
    }, start('/popup')),
  ]);
  await popup.getByRole('button', { name: 'Allow' }).click({ noWaitAfter: true });
  const received = await Promise.race([
    opener.evaluate(() => window.received),
    sleep(10_000, 'nothing'),
  ]);
  check('a popup reports to its opener', received === '?code=c', received);
  await scripts.close();
  for (const { server } of [client, last]) {
    server.close();
    server.closeAllConnections();
  }
}
