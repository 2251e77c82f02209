//! When an access token is used, when the next one is got, and when what failed is tried again.

use std::time::Duration;

use aws_lc_rs::digest;
use tower_token_broker::clock::Timestamp;

/// Longest time a caller waits for a token; getting it goes on without the caller.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// How many tokens may be refused by the upstream while they are on their way to one caller.
pub(crate) const MOST_REFUSED: usize = 4;
/// A token that was got because the upstream refused the one before is not replaced for the same reason sooner.
pub(crate) const BETWEEN_FORCED: Duration = Duration::from_secs(30);
/// X03: how many requests may be under way at one token endpoint.
pub(crate) const MOST_AT_ONCE: usize = 64;
/// How many credentials one provider keeps in memory.
pub(crate) const MOST_ENTRIES: u64 = 100_000;

const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A moment before its end: what is sent now must still be good when it arrives.
pub(crate) fn usable_until(obtained_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let lifetime = obtained_at.until(expires_at);
    expires_at.minus((lifetime / 10).min(Duration::from_secs(10)))
}

/// At 78 to 82 % of its lifetime, spread over the grants, so that what was got together is not refreshed together.
pub(crate) fn refresh_at(obtained_at: Timestamp, expires_at: Timestamp, version: u64, grant: &str) -> Timestamp {
    let lifetime = obtained_at.until(expires_at);
    let hash = digest::digest(&digest::SHA256, format!("{version} {grant}").as_bytes());
    let jitter = u32::from(hash.as_ref().first().copied().unwrap_or(0)) * 4 / 256;
    obtained_at.plus(lifetime.saturating_mul(78 + jitter) / 100)
}

/// 5 s, 20 s, then 60 s: twelve tries in ten minutes; longer if the server says so.
pub(crate) fn retry_at(failures: u32, now: Timestamp, retry_after: Option<Duration>) -> Timestamp {
    let step = match failures {
        0 => Duration::from_secs(5),
        1 => Duration::from_secs(20),
        _ => Duration::from_secs(60),
    };
    now.plus(step.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)))
}
