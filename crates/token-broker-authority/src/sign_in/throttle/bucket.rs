//! A number of attempts that refills evenly.

use std::time::Duration;

use tower_token_broker::clock::Moment;

/// A number of attempts that refills evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In milliseconds of refilling.
    used: u64,
    at: Moment,
}

impl Bucket {
    /// Creates one with all attempts left.
    pub(super) const fn full(now: Moment) -> Self {
        Self { used: 0, at: now }
    }

    /// Takes an attempt.
    ///
    /// # Errors
    /// The time after which there is one.
    pub(super) fn take(&mut self, per_minute: u32, now: Moment) -> Result<(), Duration> {
        let each = each(per_minute);
        let used = self.used_at(now);
        if used + each > 60_000 {
            return Err(Duration::from_millis((used + each).saturating_sub(60_000)));
        }
        *self = Self { used: used + each, at: now };
        Ok(())
    }

    /// Gives an attempt back that was taken.
    pub(super) fn give_back(&mut self, per_minute: u32) {
        self.used = self.used.saturating_sub(each(per_minute));
    }

    fn used_at(&self, now: Moment) -> u64 {
        let passed = u64::try_from(self.at.until(now).as_millis()).unwrap_or(u64::MAX);
        self.used.saturating_sub(passed)
    }

    /// Returns whether some attempts were taken and are not refilled yet.
    pub(super) fn is_in_use(&self, now: Moment) -> bool {
        self.used_at(now) > 0
    }
}

/// Returns the part of a minute that one attempt takes.
fn each(per_minute: u32) -> u64 {
    60_000 / u64::from(per_minute.max(1))
}
