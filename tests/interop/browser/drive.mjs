// Opens the page in Chromium, from the allowed origin and from another one, and checks what it could do.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const { PAGE, OTHER_PAGE, GATEWAY, AUDIT, TOKEN, CHROMIUM } = process.env;
let [passed, failed] = [0, 0];

function check(what, holds, found) {
  holds ? (passed += 1) : (failed += 1);
  console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : ` ${JSON.stringify(found)}`}`);
}

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

async function run(origin) {
  const page = await browser.newPage();
  const errors = [];
  page.on('console', (message) => errors.push(message.text()));
  await page.goto(`${origin}/`);
  await page.waitForFunction(() => typeof window.run === 'function');
  const result = await page.evaluate(([gateway, token]) => window.run(gateway, token), [GATEWAY, TOKEN]);
  await page.close();
  return { ...result, errors };
}

// Reads the audit file once no record is added any more: results follow their responses by up to 20 ms. A
// record that is being written has no line break yet.
async function settled() {
  for (let before = null; ; await sleep(200)) {
    const text = readFileSync(AUDIT, 'utf8');
    if (text === before) return text.split('\n').slice(0, -1).map((line) => JSON.parse(line));
    before = text;
  }
}

const intents = (records) => records.filter((record) => record.kind === 'intent').length;
// Playwright does not show preflights; a preflight is the only request that ends with 204 and without an intent.
const preflights = (records) => records.filter((record) => record.status === 204 && record.intents === 0).length;

console.log('a page of the allowed origin');
const allowed = await run(PAGE);
check('initializes, lists, calls and ends a session', allowed.session.value?.tools.includes('list_items') && !allowed.session.value.isError, allowed);
check('sees no denied tool', !allowed.session.value?.tools.some((tool) => tool.startsWith('delete_')), allowed.session);
check('reads the challenge of a 401', allowed.refused.value?.status === 401 && allowed.refused.value.challenge?.includes('resource_metadata='), allowed.refused);
check('reads the request ID of a refusal', /^[0-9a-f]{32}$/.test(allowed.refused.value?.id ?? ''), allowed.refused);
check('reads the metadata', allowed.metadata.value?.resource === GATEWAY, allowed.metadata);
const before = await settled();
check('its preflights got 204', preflights(before) > 0, before);
check('it used the credential', intents(before) > 0, before);

console.log('a page of another origin');
const other = await run(OTHER_PAGE);
check('has no session', other.session.error !== undefined, other.session);
check('reads no refusal', other.refused.error !== undefined, other.refused);
check('reads the metadata, which is public', other.metadata.value?.resource === GATEWAY, other.metadata);
await browser.close();
const after = await settled();
const reasons = new Set(after.map((record) => record.reason).filter(Boolean));
check('is recorded', reasons.has('req.origin_not_allowed'), [...reasons]);
check('got 204 for no preflight', preflights(after) === preflights(before), after);
check('did not use the credential', intents(after) === intents(before), after);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
