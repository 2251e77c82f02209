//! The pause of all requests while an authorization server fails.

use std::time::Duration;

use tower_token_broker::{
    clock::{Moment, Reading},
    principal::User,
};

use crate::lifetime;

/// Pause of all requests: the server does not accept the broker, is unreachable, or fails for
/// several users.
///
/// A failure that may concern one user is remembered for that user only. It pauses the others only
/// if it was seen for [`SEVERAL`] users and no request succeeded in between: otherwise one user, or
/// one user's grant, could lock out all others.
#[derive(Debug, Default)]
pub(super) struct ServerPause {
    failures: u32,
    until: Option<Moment>,
    /// Users whose requests failed lately, at most [`SEVERAL`].
    failing: Vec<(User, Moment)>,
}

/// Number of users for whom a server must fail before all are paused.
const SEVERAL: usize = 3;
/// Time in which these failures must be.
const LATELY: Duration = Duration::from_secs(60);
/// Longest time that the response to one caller delays others.
const LONGEST_FOR_ALL: Duration = Duration::from_secs(60);

impl ServerPause {
    /// Returns the rest of the pause.
    pub(super) fn left(&self, now: Reading) -> Option<Duration> {
        self.until.map(|until| now.moment.until(until)).filter(|left| !left.is_zero())
    }

    /// Notes a failure that concerns all requests.
    pub(super) fn failed(&mut self, now: Reading, retry_after: Option<Duration>) {
        let retry_after = retry_after.map(|after| after.min(LONGEST_FOR_ALL));
        let until = |failures| Some(now.moment.plus(lifetime::pause(failures, retry_after)));
        // Concurrent failures count as one.
        if self.left(now).is_none() {
            self.until = until(self.failures);
            self.failures = self.failures.saturating_add(1);
        } else if retry_after.is_some() {
            self.until = self.until.max(until(0));
        }
    }

    /// Notes a failure that may be the server's, or may concern this user only.
    // G403
    pub(super) fn failed_for(&mut self, user: &User, now: Reading, retry_after: Option<Duration>) {
        self.failing.retain(|(other, at)| other != user && at.plus(LATELY) > now.moment);
        self.failing.push((user.clone(), now.moment));
        if self.failing.len() >= SEVERAL {
            self.failing.remove(0);
            self.failed(now, retry_after);
        }
    }

    /// Notes a success: the server does not fail.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::clock::{Clock, Timestamp};

    use super::*;

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_unix_seconds(1_800_000_000))
    }

    fn user(number: usize) -> User {
        User::new("https://broker.example.com", format!("user-{number}"))
    }

    #[test]
    fn g403_failures_of_one_user_pause_no_other() {
        let (clock, mut pause) = (clock(), ServerPause::default());
        for _ in 0..100 {
            pause.failed_for(&user(1), clock.read(), Some(Duration::from_secs(3600)));
            pause.failed_for(&user(2), clock.read(), None);
            assert_eq!(pause.left(clock.read()), None, "G403");
        }
    }

    #[test]
    fn g403_failures_of_several_users_pause_all() {
        let (clock, mut pause) = (clock(), ServerPause::default());
        for number in 0..SEVERAL {
            assert_eq!(pause.left(clock.read()), None);
            pause.failed_for(&user(number), clock.read(), Some(Duration::from_secs(3600)));
        }
        assert_eq!(pause.left(clock.read()), Some(LONGEST_FOR_ALL), "G403");
        clock.advance(LONGEST_FOR_ALL);
        assert_eq!(pause.left(clock.read()), None);
    }

    #[test]
    fn g403_a_success_in_between_shows_that_the_server_works() {
        let (clock, mut pause) = (clock(), ServerPause::default());
        for number in 0..100 {
            pause.failed_for(&user(number), clock.read(), None);
            if number % 2 == 1 {
                pause.succeeded();
            }
            assert_eq!(pause.left(clock.read()), None, "G403");
        }
    }

    #[test]
    fn g403_failures_that_are_long_ago_do_not_count() {
        let (clock, mut pause) = (clock(), ServerPause::default());
        for number in 0..100 {
            pause.failed_for(&user(number), clock.read(), None);
            clock.advance(LATELY / 2);
            assert_eq!(pause.left(clock.read()), None, "G403");
        }
    }

    #[test]
    fn g401_no_step_of_the_wall_clock_extends_a_pause() {
        let (clock, mut pause) = (clock(), ServerPause::default());
        let right = clock.now();
        clock.set_wall_clock(right.plus(Duration::from_secs(24 * 3600)));
        pause.failed(clock.read(), None);
        clock.set_wall_clock(right);
        assert_eq!(pause.left(clock.read()), Some(Duration::from_secs(5)), "G401");
        clock.advance(Duration::from_secs(5));
        assert_eq!(pause.left(clock.read()), None, "G401");
    }
}
