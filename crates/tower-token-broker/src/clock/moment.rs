//! Moments that measure durations, and deadlines by both clocks.

use std::time::Duration;

use super::Timestamp;

/// A moment on the monotonic clock of this process: for everything that measures a duration.
///
/// Setting the system's clock does not change it. It has no date, and no other process knows it:
/// what is stored, sent or compared with a token is a [`Timestamp`]. The two types do not convert
/// into each other. Only moments of the same [`Clock`](super::Clock) can be compared.
///
/// A system that sleeps may stop this clock (`CLOCK_MONOTONIC` on Linux). Where a duration that
/// ends too late would be unsafe, use a [`Deadline`].
///
/// ```
/// # #[cfg(feature = "test-util")]
/// # fn main() {
/// use std::time::Duration;
/// use tower_token_broker::clock::{Clock, Timestamp};
///
/// let start = Timestamp::from_unix_seconds(1_800_000_000);
/// let clock = Clock::manual(start);
/// let begun = clock.moment();
/// clock.advance(Duration::from_secs(20));
/// // The system's clock is set a day ahead.
/// clock.set_wall_clock(start.plus(Duration::from_secs(24 * 3600)));
/// assert_eq!(begun.until(clock.moment()), Duration::from_secs(20));
/// # }
/// # #[cfg(not(feature = "test-util"))]
/// # fn main() {}
/// ```
///
/// A moment cannot be compared with a timestamp:
/// ```compile_fail,E0308
/// # use tower_token_broker::clock::{Clock, Timestamp};
/// let is_over = |clock: Clock, end: Timestamp| clock.moment() >= end;
/// ```
///
/// Nor converted into one, or from one:
/// ```compile_fail,E0277
/// # use tower_token_broker::clock::{Moment, Timestamp};
/// let store = |moment: Moment| Timestamp::from(moment);
/// ```
/// ```compile_fail,E0277
/// # use tower_token_broker::clock::{Moment, Timestamp};
/// let measure = |timestamp: Timestamp| Moment::from(timestamp);
/// ```
///
/// A duration is not measured between a timestamp and a moment:
/// ```compile_fail,E0308
/// # use tower_token_broker::clock::{Moment, Timestamp};
/// let elapsed = |begun: Moment, now: Timestamp| begun.until(now);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    pub(super) const fn after_start(passed: Duration) -> Self {
        Self(passed)
    }

    /// Returns the moment this much later; saturates at the end of time.
    #[must_use = "returns the new value"]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// Returns the time from this moment until `later`; zero if `later` has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }

    /// Returns the time since the clock's first use.
    pub(crate) const fn since_start(self) -> Duration {
        self.0
    }
}

/// One reading of both clocks, from [`Clock::read`](super::Clock::read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// The current time: for dates in tokens, rows and records.
    pub wall: Timestamp,
    /// The current moment: for durations.
    pub moment: Moment,
}

/// The end of a duration by both clocks: it has passed as soon as it has passed by one of them.
///
/// For what must not last longer than this: cached results, the silence of a feed, tokens in
/// memory. A system clock that was ahead for a while does not extend it, and neither does a system
/// that slept.
///
/// ```
/// # #[cfg(feature = "test-util")]
/// # fn main() {
/// use std::time::Duration;
/// use tower_token_broker::clock::{Clock, Deadline, Timestamp};
///
/// let start = Timestamp::from_unix_seconds(1_800_000_000);
/// let clock = Clock::manual(start);
/// // The system's clock is a day ahead when the duration begins.
/// clock.set_wall_clock(start.plus(Duration::from_secs(24 * 3600)));
/// let deadline = Deadline::after(clock.read(), Duration::from_secs(60));
/// clock.set_wall_clock(start);
/// clock.advance(Duration::from_secs(59));
/// assert!(!deadline.has_passed(clock.read()));
/// clock.advance(Duration::from_secs(1));
/// assert!(deadline.has_passed(clock.read()));
/// # }
/// # #[cfg(not(feature = "test-util"))]
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    wall: Timestamp,
    moment: Moment,
}

impl Deadline {
    /// Creates the deadline this long after a reading.
    pub fn after(now: Reading, duration: Duration) -> Self {
        Self { wall: now.wall.plus(duration), moment: now.moment.plus(duration) }
    }

    /// Creates the deadline at this time, as stored or received, and at the latest this long after
    /// the reading.
    pub fn at(wall: Timestamp, now: Reading, at_most: Duration) -> Self {
        Self { wall, moment: now.moment.plus(at_most) }
    }

    /// Creates the deadline at this date, by the wall clock only: for a date that an operator sets.
    pub const fn on(date: Timestamp) -> Self {
        Self { wall: date, moment: Moment(Duration::MAX) }
    }

    /// Returns its date, by the wall clock as it was when the deadline was set.
    pub const fn date(self) -> Timestamp {
        self.wall
    }

    /// Returns whether it has passed by one of the clocks.
    pub fn has_passed(self, now: Reading) -> bool {
        now.moment >= self.moment || now.wall >= self.wall
    }

    /// Returns the earlier of two deadlines, by each clock.
    #[must_use = "returns the new value"]
    pub fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), moment: self.moment.min(other.moment) }
    }

    /// Returns the deadline this much later.
    #[must_use = "returns the new value"]
    pub fn plus(self, by: Duration) -> Self {
        Self { wall: self.wall.plus(by), moment: self.moment.plus(by) }
    }

    /// Returns the time that is left; zero once it has passed.
    pub fn left(self, now: Reading) -> Duration {
        now.moment.until(self.moment).min(now.wall.until(self.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    #[test]
    fn n401_no_step_of_the_wall_clock_extends_a_deadline() {
        // Each pair of steps: before the deadline is set, and before it is compared.
        let steps = [start(), start().plus(DAY), start().minus(DAY)];
        for (first, second) in
            steps.into_iter().flat_map(|first| steps.map(|second| (first, second)))
        {
            let clock = Clock::manual(start());
            clock.set_wall_clock(first);
            let deadline = Deadline::after(clock.read(), MINUTE);
            clock.set_wall_clock(second);
            clock.advance(MINUTE);
            assert!(deadline.has_passed(clock.read()), "N401 {first} {second}");
            assert_eq!(deadline.left(clock.read()), Duration::ZERO, "N401 {first} {second}");
        }
    }

    #[test]
    fn n401_a_system_that_slept_has_passed_its_deadlines() {
        let clock = Clock::manual(start());
        let deadline = Deadline::after(clock.read(), MINUTE);
        clock.set_wall_clock(start().plus(MINUTE));
        assert!(deadline.has_passed(clock.read()), "N401");
    }

    #[test]
    fn n401_a_stored_time_far_ahead_is_bounded() {
        let clock = Clock::manual(start());
        let deadline = Deadline::at(start().plus(DAY), clock.read(), MINUTE);
        assert_eq!(deadline.left(clock.read()), MINUTE, "N401");
        clock.advance(MINUTE);
        assert!(deadline.has_passed(clock.read()), "N401");
    }

    #[test]
    fn n401_no_step_changes_a_moment() {
        let clock = Clock::manual(start());
        let begun = clock.moment();
        for step in [DAY, MINUTE, Duration::ZERO, DAY * 365] {
            clock.set_wall_clock(start().plus(step));
            assert_eq!(clock.moment(), begun, "N401");
            clock.set_wall_clock(start().minus(step));
            assert_eq!(clock.moment(), begun, "N401");
        }
        clock.advance(MINUTE);
        assert_eq!(begun.until(clock.moment()), MINUTE);
        assert_eq!(clock.moment().until(begun), Duration::ZERO);
        assert_eq!(begun.plus(Duration::MAX).plus(MINUTE).since_start(), Duration::MAX);
    }

    #[test]
    fn the_systems_moments_do_not_decrease() {
        let clock = Clock::system();
        let first = clock.read();
        let second = clock.read();
        assert!(second.moment >= first.moment);
    }
}
