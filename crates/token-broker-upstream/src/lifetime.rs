//! Times: until when an access token is used, when it is refreshed, and when a failure is retried.

use std::time::Duration;

use aws_lc_rs::digest;
use tower_token_broker::clock::Timestamp;

/// Longest time that a caller waits for a token. The request for it continues without the caller.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// Number of tokens that the upstream may refuse while one caller waits for a good one.
pub(crate) const MOST_REFUSED: usize = 4;
/// Shortest time between two tokens that are requested because the upstream refused the last one.
pub(crate) const BETWEEN_FORCED: Duration = Duration::from_secs(30);
/// Number of concurrent requests at one token endpoint.
// X03: many grants expire at once.
pub(crate) const MOST_AT_ONCE: usize = 64;
/// Number of credentials that one provider keeps in memory.
pub(crate) const MOST_ENTRIES: u64 = 100_000;

const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Returns the time until which a token is used: a moment before its end, because a token that is
/// sent must still be valid when it arrives.
pub(crate) fn usable_until(obtained_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let lifetime = obtained_at.until(expires_at);
    expires_at.minus((lifetime / 10).min(Duration::from_secs(10)))
}

/// Returns when a token is refreshed: at 78 to 82 % of its lifetime. The jitter depends on the
/// grant, so that tokens of the same age are not all refreshed at the same time.
pub(crate) fn refresh_at(
    obtained_at: Timestamp,
    expires_at: Timestamp,
    version: u64,
    grant: &str,
) -> Timestamp {
    let lifetime = obtained_at.until(expires_at);
    let hash = digest::digest(&digest::SHA256, format!("{version} {grant}").as_bytes());
    let jitter = u32::from(hash.as_ref().first().copied().unwrap_or(0)) * 4 / 256;
    obtained_at.plus(lifetime.saturating_mul(78 + jitter) / 100)
}

/// Returns when a failed request is retried: after 5 s, 20 s, then every 60 s (twelve times in ten
/// minutes), or later if the server names a longer time.
pub(crate) fn retry_at(failures: u32, now: Timestamp, retry_after: Option<Duration>) -> Timestamp {
    let step = match failures {
        0 => Duration::from_secs(5),
        1 => Duration::from_secs(20),
        _ => Duration::from_secs(60),
    };
    now.plus(step.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)))
}
