// Runs trials, several at once: all, or those whose name contains an argument.
import { startBrowser, endBrowser } from './browser.mjs';

const AT_ONCE = Number(process.env.AT_ONCE ?? 3);

// MCP Inspector has one callback port: its trials run one after another.
let inspector = Promise.resolve();
function inTurn(name, run) {
  if (!name.includes('Inspector')) return run();
  const turn = inspector.then(run);
  inspector = turn.catch(() => {});
  return turn;
}

// `trials` are names with functions, which return how many checks passed and failed. Exits.
export async function runTrials(trials) {
  const wanted = process.argv.slice(2);
  const waiting = trials.filter(([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
  let [passed, failed] = [0, 0];
  async function work() {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [name, run] = next;
      try {
        const [good, bad] = await inTurn(name, run);
        passed += good;
        failed += bad;
      } catch (error) {
        failed += 1;
        console.log(`${name}\n  FAIL ${error.stack}`);
      }
    }
  }
  await startBrowser();
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await endBrowser();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}
