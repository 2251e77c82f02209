// Checks on connects, the same for each client.
import { digest } from './accounts.mjs';

// No token of the authorization server left the broker for a client, and the MCP servers saw only those.
export function judgeTokens(trial, accounts) {
  const tokens = accounts.tokens();
  const left = trial.wire.entries.map((entry) => JSON.stringify(entry.responseHeaders) + entry.responseBody).join('\n');
  const own = trial.tokenRequests().flatMap(({ entry }) => JSON.parse(entry.responseBody).access_token ?? []);
  trial.check('what left the broker is searched', own.length > 0 && own.every((token) => left.includes(token)), own.length);
  trial.check(`none of ${tokens.length} upstream tokens left it`, tokens.length > 0 && !tokens.some((token) => left.includes(token)), left.length);
  const known = new Set(tokens.map(digest));
  const seen = Object.keys(accounts.servers).flatMap((name) => accounts.seen(name));
  trial.check('the servers saw these, and no other', seen.length > 0 && seen.every(({ token }) => known.has(token)), seen.length);
}
