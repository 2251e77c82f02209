// The user: a Chromium without scripts, that opens an authorization URL, signs in, decides, and
// follows the redirect to the client.
import { chromium } from 'playwright-core';

let chromiumProcess = null;

export async function startBrowser() {
  chromiumProcess = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

export const endBrowser = () => chromiumProcess?.close();

// Returns where the browser ended: the client's redirect URI with the response, whether or not a
// program listens there.
export async function decide(url, { user, password, button = 'Allow' }) {
  const context = await chromiumProcess.newContext({ javaScriptEnabled: false });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    await page.goto(url);
    const site = new URL(page.url()).origin;
    const failed = async (what) => {
      const text = (await page.locator('body').innerText()).replace(/\s+/g, ' ');
      throw new Error(`${what} at ${page.url()}: ${text.slice(0, 400)}`);
    };
    if (!(await page.getByLabel('User name').isVisible())) await failed('no sign-in page');
    await page.getByLabel('User name').fill(user);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    const decision = page.getByRole('button', { name: button });
    if (!(await decision.isVisible())) await failed('no consent page');
    // The redirect leaves the site: to the client's own server, which may not listen.
    const left = page.waitForRequest((request) => new URL(request.url()).origin !== site, { timeout: 20_000 });
    await decision.click({ noWaitAfter: true });
    const callback = await left.catch(() => failed('no redirect to the client'));
    // Until the client has it; without a listener it fails at once.
    await callback.response();
    return callback.url();
  } finally {
    await context.close();
  }
}
