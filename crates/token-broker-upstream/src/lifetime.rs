//! Durations: for how long an access token is used, when it is refreshed, and when a failure is
//! retried.

use std::time::Duration;

use aws_lc_rs::digest;

/// Longest time that a caller waits for a token. The request for it continues without the caller.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// Number of tokens that the upstream may refuse while one caller waits for a good one.
pub(crate) const MOST_REFUSED: usize = 4;
/// Period in which [`most_forced`] tokens are requested because the upstream refused the last one.
pub(crate) const BETWEEN_FORCED: Duration = Duration::from_secs(30);
/// Number of credentials that one provider keeps in memory.
pub(crate) const MOST_ENTRIES: u64 = 100_000;
/// Longest pause after a failure.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Returns how many refused tokens of one grant are replaced in [`BETWEEN_FORCED`], if the upstream
/// had accepted the last of them before it refused it, or never did.
pub(crate) const fn most_forced(was_accepted: bool) -> u32 {
    if was_accepted { 2 } else { 1 }
}

/// Returns for how long a token of this lifetime is used: not to its end, because a token that is
/// sent must still be valid when it arrives.
pub(crate) fn usable_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)))
}

/// Returns after which time a token is refreshed: 78 to 82 % of its lifetime. The jitter depends on
/// the grant, so that tokens of the same age are not all refreshed at the same time.
pub(crate) fn refresh_after(lifetime: Duration, version: u64, grant: &str) -> Duration {
    let hash = digest::digest(&digest::SHA256, format!("{version} {grant}").as_bytes());
    let jitter = u32::from(hash.as_ref().first().copied().unwrap_or(0)) * 4 / 256;
    lifetime.saturating_mul(78 + jitter) / 100
}

/// Returns the pause after this many failures in a row: 5 s, 20 s, then 60 s (twelve tries in ten
/// minutes), or longer if the server names a longer time.
pub(crate) fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let step = match failures {
        0 => Duration::from_secs(5),
        1 => Duration::from_secs(20),
        _ => Duration::from_secs(60),
    };
    step.max(retry_after.unwrap_or_default().min(LONGEST_PAUSE))
}
