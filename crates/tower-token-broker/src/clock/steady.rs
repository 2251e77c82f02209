//! The system's time, and no step of it backwards.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Timestamp;

/// Sees steps of the wall clock by the time that has passed meanwhile (X23).
///
/// Forward it is followed at once: tokens end too early, never too late. Backward it is not: time
/// goes on as before, so that no token, verdict or grant lives longer by it.
#[derive(Debug)]
pub(super) struct Steady {
    /// The wall clock, without the time that has passed since the process began, in milliseconds.
    /// Moved by a step forward that lasts.
    base: AtomicU64,
    /// Since when the wall clock is ahead, in the time that has passed; [`NEVER`] if it is not.
    ahead_since: AtomicU64,
    /// When the last alarm was given, in the time that has passed; [`NEVER`] if all is well.
    told: AtomicU64,
}

/// What an operator must know of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It stands behind the time that has passed, by this long.
    Back(Duration),
    /// It stands ahead of it.
    Forward(Duration),
    /// It agrees again.
    Mended,
}

impl Steady {
    /// Less is an adjustment, or a leap second, and followed both ways: it stays within the leeway
    /// of a token.
    pub(super) const TOLERANCE: Duration = Duration::from_secs(5);
    /// After this long, a step forward is believed: going back from there is a step back.
    pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(60);
    /// As long as it lasts, an alarm is repeated.
    pub(super) const TELL_EVERY: Duration = Duration::from_secs(60);

    pub(super) const fn new(wall: Timestamp) -> Self {
        Self {
            base: AtomicU64::new(wall.unix_millis()),
            ahead_since: AtomicU64::new(NEVER),
            told: AtomicU64::new(NEVER),
        }
    }

    /// The time now, by what the wall clock says and what has passed since the process began. Where
    /// they agree, nothing is written: cores do not meet here. Calls may cross each other: each
    /// decides by what it sees, and only alarms are counted.
    pub(super) fn now(&self, wall: Timestamp, passed: Duration) -> (Timestamp, Option<Step>) {
        let (passed, base) = (millis(passed), self.base.load(Ordering::Relaxed));
        let (seen, steady) = (wall.unix_millis(), base.saturating_add(passed));
        let (behind, ahead) = (steady.saturating_sub(seen), seen.saturating_sub(steady));
        let since = self.ahead_since.load(Ordering::Relaxed);
        if behind > millis(Self::TOLERANCE) {
            if since != NEVER {
                // Another step than the one that was told and counted.
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

    /// One of all who see it tells it.
    fn tell(&self, step: Step, passed: u64) -> Option<Step> {
        once_every(&self.told, Self::TELL_EVERY, passed).then_some(step)
    }
}

/// True for one caller in each such time; `last` is where it is kept.
pub(super) fn once_every(last: &AtomicU64, pause: Duration, passed: u64) -> bool {
    let before = last.load(Ordering::Relaxed);
    // Either way: a clock that was ahead for a while silences nothing.
    (before == NEVER || passed.abs_diff(before) >= millis(pause))
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

    /// A clock whose two hands are set apart.
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

        /// The time now less what it was at the start, and what is told.
        fn now(&self) -> (u64, Option<Step>) {
            let (now, step) = self
                .steady
                .now(Timestamp::from_unix_millis(self.wall), Duration::from_millis(self.passed));
            (now.unix_millis() - START, step)
        }
    }

    #[test]
    fn x23_a_step_back_is_not_followed_and_is_told_at_once_and_each_minute() {
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
    fn x23_a_step_forward_is_followed_and_taken_back_within_a_minute_only() {
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
    fn x23_each_step_is_told_at_once_whatever_was_told_before() {
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
    fn x24_a_leap_second_and_small_adjustments_are_followed_in_silence() {
        let mut hands = Hands::new();
        for adjustment in [-1000_i64, 1000, -4000, 4000] {
            hands.pass(60_000);
            hands.wall = hands.wall.wrapping_add_signed(adjustment);
            assert_eq!(hands.now(), (hands.wall - START, None), "X24 {adjustment}");
        }
    }

    proptest! {
        // X23: whatever is done to the clock, time never runs behind what has passed by more than
        // is tolerated.
        #[test]
        fn time_is_never_late(steps in prop::collection::vec((0..100_000_u64, -4_000_000..4_000_000_i64), 1..50)) {
            let mut hands = Hands::new();
            for (passes, step) in steps {
                hands.pass(passes);
                hands.wall = hands.wall.saturating_add_signed(step);
                // Not `Hands::now`: a small step back may be followed to before the start.
                let wall = Timestamp::from_unix_millis(hands.wall);
                let (now, _) = hands.steady.now(wall, Duration::from_millis(hands.passed));
                prop_assert!(now.unix_millis() + 5000 >= START + hands.passed);
            }
        }
    }
}
