// Opens the page in Chromium, from the allowed origin and from another one, and checks what it could do.
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const { PAGE, OTHER_PAGE, GATEWAY, AUDIT, TOKEN } = process.env;
let [passed, failed] = [0, 0];

function check(what, holds, found) {
  holds ? (passed += 1) : (failed += 1);
  console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what}${holds ? '' : ` ${JSON.stringify(found)}`}`);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

async function run(origin) {
  const page = await browser.newPage();
  const [preflights, errors] = [[], []];
  page.on('console', (message) => errors.push(message.text()));
  page.on('response', (response) => {
    if (response.request().method() === 'OPTIONS') preflights.push(response.status());
  });
  await page.goto(`${origin}/`);
  await page.waitForFunction(() => typeof window.run === 'function');
  const result = await page.evaluate(([gateway, token]) => window.run(gateway, token), [GATEWAY, TOKEN]);
  await page.close();
  return { ...result, errors };
}

console.log('a page of the allowed origin');
const allowed = await run(PAGE);
check('initializes, lists, calls and ends a session', allowed.session.value?.tools.includes('list_items') && !allowed.session.value.isError, allowed);
check('sees no denied tool', !allowed.session.value?.tools.some((tool) => tool.startsWith('delete_')), allowed.session);
check('reads the challenge of a 401', allowed.refused.value?.status === 401 && allowed.refused.value.challenge?.includes('resource_metadata='), allowed.refused);
check('reads the request ID of a refusal', /^[0-9a-f]{32}$/.test(allowed.refused.value?.id ?? ''), allowed.refused);
check('reads the metadata', allowed.metadata.value?.resource === GATEWAY, allowed.metadata);

console.log('a page of another origin');
const other = await run(OTHER_PAGE);
check('has no session', other.session.error !== undefined, other.session);
check('reads no refusal', other.refused.error !== undefined, other.refused);
check('reads the metadata, which is public', other.metadata.value?.resource === GATEWAY, other.metadata);
await browser.close();

const records = readFileSync(AUDIT, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
const reasons = new Set(records.map((record) => record.reason).filter(Boolean));
check('the other origin is recorded', reasons.has('req.origin_not_allowed'), [...reasons]);
const uses = records.filter((record) => record.kind === 'intent');
check('only the allowed page used the credential', uses.length > 0, uses.length);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
