// Chromium, and counted checks.
import { chromium } from 'playwright-core';

export const { SITE, LINK, PASSWORD, SCREENSHOTS, CHROMIUM } = process.env;
const results = { passed: 0, failed: 0 };

export function check(what, holds, found) {
  holds ? (results.passed += 1) : (results.failed += 1);
  console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : ` ${JSON.stringify(found)}`}`);
}

export const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

// A browser profile without scripts, as the pages need none.
export const profile = (options = {}) => browser.newContext({ javaScriptEnabled: false, ...options });

export async function signIn(page, user, password = PASSWORD) {
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

export async function end() {
  await browser.close();
  console.log(`${results.passed} passed, ${results.failed} failed`);
  process.exit(results.failed === 0 && results.passed > 0 ? 0 : 1);
}
