// Each page in light and dark at 360 and 1440 px: a picture, axe-core, and no horizontal scrolling.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { SCREENSHOTS, SITE, browser, check } from './browser.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const views = ['light', 'dark'].flatMap((scheme) => [360, 1440].map((width) => ({ scheme, width })));

// The cookies of a profile are copied into one that may run scripts, which axe-core needs.
async function open(context, view, prepare) {
  const other = await browser.newContext({
    colorScheme: view.scheme,
    viewport: { width: view.width, height: view.width === 360 ? 740 : 900 },
    storageState: await context.storageState(),
  });
  const page = await other.newPage();
  const problems = [];
  page.on('console', (message) => problems.push(message.text()));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== SITE) problems.push(request.url());
  });
  await prepare(page);
  return { other, page, problems };
}

export async function look(context, name, prepare) {
  for (const view of views) {
    const { other, page, problems } = await open(context, view, prepare);
    const label = `${name}, ${view.scheme}, ${view.width} px`;
    await page.screenshot({ path: `${SCREENSHOTS}/${name}-${view.scheme}-${view.width}.png`, fullPage: true });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const found = violations.map((one) => [one.id, one.nodes.map((node) => node.html)]);
    check(`${label}: axe-core finds nothing`, found.length === 0, found);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    check(`${label}: no horizontal scrolling`, !wide);
    const load = problems.filter((text) => !/status of 4\d\d|status of 503|^Autofocus/.test(text));
    check(`${label}: nothing else is loaded`, load.length === 0, load);
    if (view.width === 360) {
      await page.setViewportSize({ width: 320, height: 600 });
      const narrow = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      check(`${label}: nor at 320 px`, !narrow);
      const small = await page.evaluate(() =>
        [...document.querySelectorAll('button:not(.link), .button, input:not([type=hidden]):not([type=radio])')]
          .filter((one) => one.getBoundingClientRect().height < 44).map((one) => one.outerHTML));
      check(`${label}: buttons and fields are 44 px high`, small.length === 0, small);
    }
    await other.close();
  }
}
