// The user: a Chromium without scripts, that opens an authorization URL, signs in, decides, and
// follows the redirect to the client; and that connects accounts at servers.
import { chromium } from 'playwright-core';

let chromiumProcess = null;

export async function startBrowser() {
  chromiumProcess = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

export const endBrowser = () => chromiumProcess?.close();

async function failed(page, what) {
  const text = (await page.locator('body').innerText()).replace(/\s+/g, ' ');
  throw new Error(`${what} at ${page.url()}: ${text.slice(0, 400)}`);
}

// A user with a browser, which remains signed in.
export class Person {
  #signedIn = false;
  // The first sentences of the connect pages that were shown.
  connectPages = [];

  // `connects` is what the user does on a connect page: `now` or `later`. `via` are the origins
  // between the gateway and the client: those of authorization servers.
  static async begin({ user, password, connects = 'now', via = [] }) {
    const person = new Person();
    const context = await chromiumProcess.newContext({ javaScriptEnabled: false });
    context.setDefaultTimeout(20_000);
    return Object.assign(person, { user, password, connects, via, context });
  }

  end() {
    return this.context.close();
  }

  async #on(url, act) {
    const page = await this.context.newPage();
    try {
      await page.goto(url);
      return await act(page);
    } finally {
      await page.close();
    }
  }

  async #signIn(page) {
    if (!(await page.getByLabel('User name').isVisible())) await failed(page, 'no sign-in page');
    await page.getByLabel('User name').fill(this.user);
    await page.getByLabel('Password').fill(this.password);
    await page.getByRole('button', { name: 'Sign in' }).click();
    this.#signedIn = true;
  }

  // Returns where the browser ended: the client's redirect URI with the response, whether or not a
  // program listens there.
  decide(url, button = 'Allow') {
    return this.#on(url, async (page) => {
      const site = new URL(page.url()).origin;
      if (!this.#signedIn) await this.#signIn(page);
      const decision = page.getByRole('button', { name: button });
      if (!(await decision.isVisible())) await failed(page, 'no consent page');
      // The redirect leaves the site: to the client's own server, which may not listen.
      const isClient = (request) => ![site, ...this.via].includes(new URL(request.url()).origin);
      const left = page.waitForRequest(isClient, { timeout: 40_000 }).catch(() => null);
      await decision.click({ noWaitAfter: true });
      if (this.via.length > 0) await this.#connectBetween(page, left);
      const callback = await left ?? await failed(page, 'no redirect to the client');
      // Until the client has it; without a listener it fails at once.
      await callback.response();
      return callback.url();
    });
  }

  // Acts on the connect page, unless the browser has left already.
  async #connectBetween(page, left) {
    const shown = this.#connectPage(page).waitFor().then(() => true, () => false);
    if (!(await Promise.race([shown, left.then(() => false)]))) return;
    this.connectPages.push(await page.locator('.lead').first().innerText());
    const onward = { now: page.getByRole('button', { name: /^Continue to/ }), later: page.getByRole('link', { name: 'Continue without connecting' }) };
    await onward[this.connects].click({ noWaitAfter: true });
  }

  #connectPage(page) {
    return page.getByRole('heading', { name: /^Connect your .* account$/ });
  }

  async #connectOn(page) {
    this.connectPages.push(await page.locator('.lead').first().innerText());
    await page.getByRole('button', { name: /^(Continue to .*|Connect .* again)$/ }).click();
    await page.getByText('Your account is connected. You can go back').waitFor().catch(() => failed(page, 'not connected'));
  }

  // Connects an account by a link, without an application that waits. The user is signed in here.
  connect(link) {
    return this.#on(link, async (page) => {
      if (!(await page.getByRole('heading', { name: /^(Connect your .* account|Your .* account is connected)$/ }).isVisible())) await failed(page, 'no connect page');
      await this.#connectOn(page);
    });
  }

  // Connects an account again, from the list of accounts.
  reconnect(origin, title) {
    return this.#on(`${origin}/connections`, async (page) => {
      await page.getByRole('link', { name: `Connect your ${title} account again` }).click();
      await this.#connectOn(page);
    });
  }

  // Returns the text of the list of accounts.
  connections(origin) {
    return this.#on(`${origin}/connections`, (page) => page.locator('body').innerText());
  }

  // Disconnects the account at a server, by its title.
  disconnect(origin, title) {
    return this.#on(`${origin}/connections`, async (page) => {
      await page.getByRole('button', { name: `Disconnect your ${title} account` }).click();
      await page.getByText('Your account is disconnected here').waitFor().catch(() => failed(page, 'not disconnected'));
    });
  }
}

// The same in a browser of its own, for one decision.
export async function decide(url, { user, password, button }) {
  const person = await Person.begin({ user, password });
  try {
    return await person.decide(url, button);
  } finally {
    await person.end();
  }
}
