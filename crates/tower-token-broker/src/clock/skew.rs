//! Comparison of our clock with those of other parties.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header};

use super::{
    Moment, Timestamp,
    steady::{NEVER, millis, once_every},
};

/// Largest difference without an alarm: the leeway for tokens (RFC 7519 §4.1.4).
pub(super) const TOLERATED: Duration = Duration::from_secs(30);

/// Moment of the last alarm, for at most one per minute.
#[derive(Debug)]
pub(super) struct Skew(AtomicU64);

impl Skew {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(NEVER))
    }

    /// Returns the difference of the clocks, if an alarm is due.
    pub(super) fn seen(
        &self,
        ours: Timestamp,
        theirs: Timestamp,
        moment: Moment,
    ) -> Option<Duration> {
        let apart = ours.until(theirs).max(theirs.until(ours));
        let passed = millis(moment.since_start());
        let tell = apart > TOLERATED && once_every(&self.0, Duration::from_secs(60), passed);
        tell.then_some(apart)
    }
}

/// Returns the time at which a response was made or last confirmed: `Date`, plus the `Age` that
/// caches add (RFC 9110 §6.6.1, RFC 9111 §5.1).
pub(super) fn stamped(answer: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(answer.get(header::DATE)?.to_str().ok()?).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let age = match answer.get(header::AGE) {
        None => 0,
        // Ignored if it is unreadable.
        Some(age) => age.to_str().ok()?.parse::<u32>().ok()?,
    };
    Some(Timestamp::from_unix_seconds(since.as_secs()).plus(Duration::from_secs(age.into())))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn x23_a_difference_over_30_seconds_is_reported() {
        let skew = Skew::new();
        let ours = Timestamp::from_unix_seconds(1_800_000_000);
        let start = Moment::after_start(Duration::ZERO);
        let (minute, half) = (Duration::from_secs(60), Duration::from_secs(31));
        assert_eq!(skew.seen(ours, ours.plus(TOLERATED), start), None);
        assert_eq!(skew.seen(ours, ours.minus(TOLERATED), start), None);
        assert_eq!(skew.seen(ours, ours.plus(half), start), Some(half), "X23");
        assert_eq!(skew.seen(ours, ours.plus(half), start), None);
        let slipped = ours.plus(Duration::from_secs(3600));
        assert_eq!(skew.seen(slipped, ours, start), None, "X23: the same minute");
        let later = start.plus(minute);
        assert_eq!(skew.seen(ours, ours.minus(minute), later), Some(minute), "X23: the other way");
        let latest = later.plus(minute);
        assert_eq!(
            skew.seen(ours.minus(minute), ours, latest),
            Some(minute),
            "X23: a clock that slipped ahead silences nothing afterwards"
        );
    }

    #[test]
    fn an_answer_is_dated_by_date_and_age() {
        let answer = |date: &'static str, age: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, HeaderValue::from_static(date));
            headers.extend(age.map(|age| (header::AGE, HeaderValue::from_static(age))));
            stamped(&headers).map(Timestamp::unix_seconds)
        };
        assert_eq!(answer("Sun, 06 Nov 1994 08:49:37 GMT", None), Some(784_111_777));
        assert_eq!(answer("Sun, 06 Nov 1994 08:49:37 GMT", Some("60")), Some(784_111_837));
        assert_eq!(answer("Sun, 06 Nov 1994 08:49:37 GMT", Some("-1")), None);
        assert_eq!(answer("yesterday", None), None);
        assert_eq!(stamped(&HeaderMap::new()), None);
    }
}
