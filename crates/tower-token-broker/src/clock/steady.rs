//! The system's time without backward steps.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Timestamp;

/// Detects steps of the wall clock by comparing it with the time that has passed.
///
/// A forward step is followed at once, so that tokens expire too early rather than too late. A
/// backward step is not followed: time continues, so that no token, verdict or grant lives longer.
// X23.
#[derive(Debug)]
pub(super) struct Steady {
    /// The wall clock minus the time that has passed since the process began, in milliseconds. A
    /// lasting forward step changes it.
    base: AtomicU64,
    /// Passed time since which the wall clock is ahead; [`NEVER`] if it is not.
    ahead_since: AtomicU64,
    /// Passed time of the last alarm; [`NEVER`] if there is none.
    told: AtomicU64,
}

/// A change of the clock that operators must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The wall clock shows less than the time that has passed, by this much.
    Back(Duration),
    /// The wall clock is ahead of it, by this much.
    Forward(Duration),
    /// Both agree again.
    Mended,
}

impl Steady {
    /// Smaller steps are adjustments or leap seconds, and are followed both ways: they are within
    /// the leeway of tokens.
    pub(super) const TOLERANCE: Duration = Duration::from_secs(5);
    /// A forward step that lasts this long is accepted: a return from it is a backward step.
    pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(60);
    /// Interval at which a lasting alarm is repeated.
    pub(super) const TELL_EVERY: Duration = Duration::from_secs(60);

    pub(super) const fn new(wall: Timestamp) -> Self {
        Self {
            base: AtomicU64::new(wall.unix_millis()),
            ahead_since: AtomicU64::new(NEVER),
            told: AtomicU64::new(NEVER),
        }
    }

    /// Returns the current time from the wall clock and the time that has passed since the process
    /// began. Where they agree, nothing is written, so cores do not contend. Concurrent calls
    /// decide separately; only alarms are counted.
    pub(super) fn now(&self, wall: Timestamp, passed: Duration) -> (Timestamp, Option<Step>) {
        let (passed, base) = (millis(passed), self.base.load(Ordering::Relaxed));
        let (seen, steady) = (wall.unix_millis(), base.saturating_add(passed));
        let (behind, ahead) = (steady.saturating_sub(seen), seen.saturating_sub(steady));
        let since = self.ahead_since.load(Ordering::Relaxed);
        if behind > millis(Self::TOLERANCE) {
            if since != NEVER {
                // Another step than the one that was reported and counted.
                self.ahead_since.store(NEVER, Ordering::Relaxed);
                self.told.store(NEVER, Ordering::Relaxed);
            }
            let step = Step::Back(Duration::from_millis(behind));
            return (Timestamp::from_unix_millis(steady), self.tell(step, passed));
        }
        if ahead <= millis(Self::TOLERANCE) {
            if since != NEVER {
                self.ahead_since.store(NEVER, Ordering::Relaxed);
            }
            let told = self.told.load(Ordering::Relaxed) != NEVER;
            let mended = told && self.told.swap(NEVER, Ordering::Relaxed) != NEVER;
            return (wall, mended.then_some(Step::Mended));
        }
        if since == NEVER {
            self.ahead_since.store(passed, Ordering::Relaxed);
            self.told.store(NEVER, Ordering::Relaxed);
        } else if passed.saturating_sub(since) >= millis(Self::BELIEVED_AFTER) {
            self.base.store(base.saturating_add(ahead), Ordering::Relaxed);
            self.ahead_since.store(NEVER, Ordering::Relaxed);
            self.told.store(NEVER, Ordering::Relaxed);
            return (wall, None);
        }
        (wall, self.tell(Step::Forward(Duration::from_millis(ahead)), passed))
    }

    /// Returns the time by the last wall clock that was accepted and the time that has passed
    /// since then: without forward steps that are not accepted yet.
    pub(super) fn without_steps(&self, passed: Duration) -> Timestamp {
        let base = self.base.load(Ordering::Relaxed);
        Timestamp::from_unix_millis(base.saturating_add(millis(passed)))
    }

    /// Reports a step from one of all concurrent calls.
    fn tell(&self, step: Step, passed: u64) -> Option<Step> {
        once_every(&self.told, Self::TELL_EVERY, passed).then_some(step)
    }
}

/// Returns true for one caller per `pause`; `last` holds the time.
pub(super) fn once_every(last: &AtomicU64, pause: Duration, passed: u64) -> bool {
    let before = last.load(Ordering::Relaxed);
    (before == NEVER || passed.saturating_sub(before) >= millis(pause))
        && last.compare_exchange(before, passed, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) const NEVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;

    /// A wall clock and a passed time that are set separately.
    struct Hands {
        steady: Steady,
        wall: u64,
        passed: u64,
    }

    impl Hands {
        const fn new() -> Self {
            Self { steady: Steady::new(Timestamp::from_unix_millis(START)), wall: START, passed: 0 }
        }

        const fn pass(&mut self, millis: u64) {
            self.wall += millis;
            self.passed += millis;
        }

        /// Returns the current time relative to the start, and the report.
        fn now(&self) -> (u64, Option<Step>) {
            let (now, step) = self
                .steady
                .now(Timestamp::from_unix_millis(self.wall), Duration::from_millis(self.passed));
            (now.unix_millis() - START, step)
        }
    }

    #[test]
    fn x23_a_backward_step_is_reported_but_not_followed() {
        for back in [2 * 60_000, HOUR] {
            let mut hands = Hands::new();
            hands.pass(10_000);
            assert_eq!(hands.now(), (10_000, None));
            hands.wall -= back;
            assert_eq!(hands.now(), (10_000, Some(Step::Back(Duration::from_millis(back)))), "X23");
            hands.pass(59_000);
            assert_eq!(hands.now(), (69_000, None), "time goes on");
            hands.pass(1000);
            assert_eq!(
                hands.now(),
                (70_000, Some(Step::Back(Duration::from_millis(back)))),
                "X23: repeated"
            );
            hands.wall += back;
            assert_eq!(hands.now(), (70_000, Some(Step::Mended)));
            hands.pass(5000);
            assert_eq!(hands.now(), (75_000, None));
        }
    }

    #[test]
    fn x23_a_forward_step_is_reversible_for_a_minute() {
        let mut hands = Hands::new();
        hands.wall += HOUR;
        assert_eq!(hands.now(), (HOUR, Some(Step::Forward(Duration::from_millis(HOUR)))), "X23");
        hands.pass(30_000);
        assert_eq!(hands.now(), (HOUR + 30_000, None));
        hands.wall -= HOUR;
        assert_eq!(
            hands.now(),
            (30_000, Some(Step::Mended)),
            "a slip of half a minute costs nothing"
        );
        hands.wall += HOUR;
        assert!(hands.now().1.is_some());
        hands.pass(60_000);
        assert_eq!(hands.now(), (HOUR + 90_000, None), "believed");
        hands.wall -= HOUR;
        assert_eq!(
            hands.now(),
            (HOUR + 90_000, Some(Step::Back(Duration::from_millis(HOUR)))),
            "X23"
        );
    }

    #[test]
    fn x23_each_step_is_reported_at_once() {
        let mut hands = Hands::new();
        let told = |hands: &Hands| hands.now().1;
        hands.wall += HOUR;
        assert_eq!(told(&hands), Some(Step::Forward(Duration::from_millis(HOUR))));
        hands.pass(10_000);
        hands.wall -= 2 * HOUR;
        assert_eq!(told(&hands), Some(Step::Back(Duration::from_millis(HOUR))), "X23");
        hands.pass(10_000);
        hands.wall += 2 * HOUR;
        assert_eq!(told(&hands), Some(Step::Forward(Duration::from_millis(HOUR))), "X23");
        hands.pass(10_000);
        hands.wall -= 2 * HOUR;
        assert_eq!(told(&hands), Some(Step::Back(Duration::from_millis(HOUR))), "X23");
        hands.pass(600_000);
        hands.wall += 2 * HOUR;
        assert_eq!(
            told(&hands),
            Some(Step::Forward(Duration::from_millis(HOUR))),
            "X23: not believed by an older one"
        );
        hands.pass(10_000);
        hands.wall -= HOUR;
        assert_eq!(hands.now(), (640_000, Some(Step::Mended)));
    }

    #[test]
    fn a_small_step_back_at_the_start_is_followed() {
        let mut hands = Hands::new();
        hands.wall -= 1;
        let (now, step) = hands.steady.now(Timestamp::from_unix_millis(hands.wall), Duration::ZERO);
        assert_eq!((now.unix_millis(), step), (START - 1, None));
    }

    #[test]
    fn x24_leap_seconds_and_small_adjustments_raise_no_alarm() {
        let mut hands = Hands::new();
        for adjustment in [-1000_i64, 1000, -4000, 4000] {
            hands.pass(60_000);
            hands.wall = hands.wall.wrapping_add_signed(adjustment);
            assert_eq!(hands.now(), (hands.wall - START, None), "X24 {adjustment}");
        }
    }

    proptest! {
        // X23: time never lags the time that has passed by more than the tolerance, whatever
        // happens to the wall clock.
        #[test]
        fn time_is_never_late(
            steps in prop::collection::vec((0..100_000_u64, -4_000_000..4_000_000_i64), 1..50),
        ) {
            let mut hands = Hands::new();
            for (passes, step) in steps {
                hands.pass(passes);
                hands.wall = hands.wall.saturating_add_signed(step);
                // Not `Hands::now`: a small backward step may lead to a time before the start.
                let wall = Timestamp::from_unix_millis(hands.wall);
                let (now, _) = hands.steady.now(wall, Duration::from_millis(hands.passed));
                prop_assert!(now.unix_millis() + 5000 >= START + hands.passed);
            }
        }
    }
}
