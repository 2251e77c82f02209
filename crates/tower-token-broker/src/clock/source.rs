//! The clock: the system's, or a manual one for tests.

#[cfg(any(test, feature = "test-util"))]
use std::sync::Arc;
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;

use super::{
    Moment, Reading, Timestamp,
    skew::{self, Skew},
    steady::{self, Steady, Step},
};
use crate::alarm::Alarm;

/// Largest difference of clocks that is accepted. It is the same for verification, verdicts and
/// open streams. A token is valid until `exp` plus this.
// B044.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// A source of the current time and moment: the system's by default, or a manual one (feature
/// `test-util`).
///
/// If the system's clock is set forward, the new time is used within 10 ms, and tokens expire
/// earlier.
/// If it is set back by more than five seconds, time continues as before, so that no token lives
/// longer. Both raise an alarm in the log with the next request (`clock.set_forward`,
/// `clock.set_back`). All stacks of a process use one clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    #[cfg(any(test, feature = "test-util"))]
    Manual(Arc<Manual>),
}

/// The state of a clock in addition to its time.
#[derive(Debug)]
struct Watch {
    steady: Steady,
    skew: Skew,
}

/// The clock of the process, from its first use on.
struct System {
    began: Instant,
    watch: Watch,
    /// The time minus the time that has passed since the process began, in milliseconds.
    offset: AtomicU64,
    /// Passed time of the last reading of the wall clock, in milliseconds.
    read_at: AtomicU64,
}

impl System {
    #[expect(clippy::disallowed_methods, reason = "the clock that all other code uses")]
    fn new() -> Self {
        Self {
            began: Instant::now(),
            watch: Watch::new(wall()),
            offset: AtomicU64::new(0),
            read_at: AtomicU64::new(steady::NEVER),
        }
    }

    /// Reads the wall clock if the last reading is old: each request needs the time often.
    fn read(&self) -> Reading {
        let passed = self.began.elapsed();
        let (now, read_at) = (steady::millis(passed), self.read_at.load(Ordering::Acquire));
        if now.saturating_sub(read_at) < READ_EVERY && read_at != steady::NEVER {
            let wall = self.offset.load(Ordering::Relaxed).saturating_add(now);
            let wall = Timestamp::from_unix_millis(wall);
            return Reading { wall, moment: Moment::after_start(passed) };
        }
        let reading = self.watch.read(wall(), passed);
        self.offset.store(reading.wall.unix_millis().saturating_sub(now), Ordering::Relaxed);
        self.read_at.store(now, Ordering::Release);
        reading
    }
}

/// Milliseconds after which the wall clock is read again.
const READ_EVERY: u64 = 10;

static SYSTEM: LazyLock<System> = LazyLock::new(System::new);

#[cfg(any(test, feature = "test-util"))]
#[derive(Debug)]
struct Manual {
    hands: tokio::sync::watch::Sender<Hands>,
    watch: Watch,
}

#[cfg(any(test, feature = "test-util"))]
#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    passed: Duration,
}

impl Clock {
    /// Returns the system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Creates a clock that only [`Clock::advance`] moves. Clones move together.
    #[cfg(any(test, feature = "test-util"))]
    pub fn manual(start: Timestamp) -> Self {
        let hands = tokio::sync::watch::Sender::new(Hands { wall: start, passed: Duration::ZERO });
        Self(Source::Manual(Arc::new(Manual { hands, watch: Watch::new(start) })))
    }

    /// Advances a manual clock, and wakes all tasks that sleep on it. The system's clock is not
    /// changed.
    #[cfg(any(test, feature = "test-util"))]
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(clock) = &self.0 {
            clock.hands.send_modify(|hands| {
                hands.wall = hands.wall.plus(by);
                hands.passed = hands.passed.saturating_add(by);
            });
        }
    }

    /// Sets a manual clock to another time, as an operator or a time server may set the system's.
    /// No time passes. The system's clock is not changed.
    #[cfg(any(test, feature = "test-util"))]
    pub fn set_wall_clock(&self, wall: Timestamp) {
        if let Source::Manual(clock) = &self.0 {
            clock.hands.send_modify(|hands| hands.wall = wall);
        }
    }

    /// Returns the current time, for dates. Durations are measured with [`Clock::moment`].
    pub fn now(&self) -> Timestamp {
        self.read().wall
    }

    /// Returns the current moment, for durations.
    pub fn moment(&self) -> Moment {
        Moment::after_start(match &self.0 {
            Source::System => SYSTEM.began.elapsed(),
            #[cfg(any(test, feature = "test-util"))]
            Source::Manual(clock) => clock.hands.borrow().passed,
        })
    }

    /// Returns the current time and moment, from one reading.
    pub fn read(&self) -> Reading {
        match &self.0 {
            Source::System => SYSTEM.read(),
            #[cfg(any(test, feature = "test-util"))]
            Source::Manual(clock) => {
                let hands = *clock.hands.borrow();
                clock.watch.read(hands.wall, hands.passed)
            }
        }
    }

    /// Returns the current time without a forward step of the system's clock that is less than a
    /// minute old. For the ends of what others hold, which must not seem to have passed because
    /// this clock is wrong for a moment. After a system slept, it is late for a minute.
    pub fn cautious_now(&self) -> Timestamp {
        let now = self.read();
        let watch = self.watch();
        now.wall.min(watch.steady.without_steps(now.moment.since_start()))
    }

    /// Raises an alarm (`clock.skewed`, at most once a minute) if this clock and another party's
    /// differ by more than 30 seconds. It has no other effect, because one clock cannot know which
    /// of the two is wrong.
    ///
    /// `whose` is logged: a name or address from your configuration, never text of that party.
    pub fn compare(&self, theirs: Timestamp, whose: &str) {
        let Reading { wall: ours, moment } = self.read();
        if let Some(apart) = self.watch().skew.seen(ours, theirs, moment) {
            let side = if ours < theirs { "behind" } else { "ahead of" };
            tracing::error!(
                alarm = Alarm::ClockSkewed.code(),
                seconds = apart.as_secs(),
                whose,
                "the clock of this process is {side} that of another party; correct the wrong one"
            );
        }
    }

    /// Compares this clock with the time at which a response was made ([`Clock::compare`], by
    /// `Date` and `Age`, RFC 9110 §6.6.1, RFC 9111 §5.1). Only for parties whose clocks you trust,
    /// and over TLS.
    pub fn compare_with_response(&self, response: &HeaderMap, whose: &str) {
        if let Some(theirs) = skew::stamped(response) {
            self.compare(theirs, whose);
        }
    }

    fn watch(&self) -> &Watch {
        match &self.0 {
            Source::System => &SYSTEM.watch,
            #[cfg(any(test, feature = "test-util"))]
            Source::Manual(clock) => &clock.watch,
        }
    }

    /// Waits until `instant`.
    ///
    /// # Cancellation
    /// Safe: dropping it has no effect.
    pub async fn sleep_until(&self, instant: Timestamp) {
        loop {
            let left = self.now().until(instant);
            if left.is_zero() {
                return;
            }
            match &self.0 {
                // Checked twice a minute, because the wall clock may be set during the sleep.
                Source::System => tokio::time::sleep(left.min(Duration::from_secs(30))).await,
                #[cfg(any(test, feature = "test-util"))]
                Source::Manual(clock) => {
                    let mut moved = clock.hands.subscribe();
                    if self.now() < instant {
                        let still_held = moved.changed().await.is_ok();
                        debug_assert!(still_held, "the sender is held by this clock");
                    }
                }
            }
        }
    }
}

impl Watch {
    const fn new(wall: Timestamp) -> Self {
        Self { steady: Steady::new(wall), skew: Skew::new() }
    }

    fn read(&self, wall: Timestamp, passed: Duration) -> Reading {
        let (wall, step) = self.steady.now(wall, passed);
        if let Some(step) = step {
            tell(step);
        }
        Reading { wall, moment: Moment::after_start(passed) }
    }
}

#[cold]
fn tell(step: Step) {
    match step {
        Step::Back(by) => tracing::error!(
            alarm = Alarm::ClockSetBack.code(),
            seconds = by.as_secs(),
            "the system's clock was set back; time continues as before. \
             If it was wrong before, restart the broker"
        ),
        Step::Forward(by) => tracing::error!(
            alarm = Alarm::ClockSetForward.code(),
            seconds = by.as_secs(),
            "the system's clock was set forward, or the system slept; \
             the new time is used, and tokens expire by it"
        ),
        Step::Mended => {
            tracing::info!("the system's clock agrees again with the time that has passed")
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock that all other code uses")]
fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_at_its_instant() {
        let clock = Clock::manual(Timestamp::from_unix_millis(0));
        let mut sleeper = std::pin::pin!(clock.sleep_until(Timestamp::from_unix_millis(2000)));
        assert!(futures_poll(sleeper.as_mut()).await.is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures_poll(sleeper.as_mut()).await.is_pending());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
    }

    async fn futures_poll<F: Future>(
        mut future: std::pin::Pin<&mut F>,
    ) -> std::task::Poll<F::Output> {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
    }

    #[test]
    fn g405_cautious_time_follows_no_sudden_step() {
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let clock = Clock::manual(start);
        assert_eq!(clock.cautious_now(), start);
        clock.set_wall_clock(start.plus(day));
        assert_eq!((clock.now(), clock.cautious_now()), (start.plus(day), start), "G405");
        clock.advance(second * 59);
        assert_eq!(clock.cautious_now(), start.plus(second * 59), "G405");
        clock.advance(second);
        let believed = start.plus(day).plus(second * 60);
        assert_eq!((clock.now(), clock.cautious_now()), (believed, believed));
        clock.set_wall_clock(start);
        assert_eq!(clock.cautious_now(), believed, "a step back is not followed");
    }

    #[tokio::test]
    async fn x23_a_clock_set_back_delays_no_sleeper() {
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let clock = Clock::manual(start);
        let mut sleeper = std::pin::pin!(clock.sleep_until(start.plus(Duration::from_secs(60))));
        assert!(futures_poll(sleeper.as_mut()).await.is_pending());
        clock.set_wall_clock(start.minus(Duration::from_secs(3600)));
        assert!(futures_poll(sleeper.as_mut()).await.is_pending());
        clock.advance(Duration::from_secs(60));
        assert!(futures_poll(sleeper.as_mut()).await.is_ready(), "X23");
        let mut ahead = std::pin::pin!(clock.sleep_until(start.plus(Duration::from_secs(600))));
        assert!(futures_poll(ahead.as_mut()).await.is_pending());
        clock.set_wall_clock(start.plus(Duration::from_secs(600)));
        assert!(futures_poll(ahead.as_mut()).await.is_ready(), "X23: a step forward is followed");
    }
}
