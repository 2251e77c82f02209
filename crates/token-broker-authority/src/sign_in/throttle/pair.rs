//! The failures of one account, from one browser or address.

use tower_token_broker::clock::Moment;

use super::{Limit, ThrottleOptions, Throttled};

/// The failures of one account, from one browser or address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    failures: u32,
    /// From then on, an attempt is allowed.
    open_at: Moment,
    last: Moment,
    /// Whether a refusal since the last attempt was reported.
    is_reported: bool,
}

impl Pair {
    pub(super) const fn new(now: Moment) -> Self {
        Self { failures: 0, open_at: now, last: now, is_reported: false }
    }

    /// Returns when the last attempt began.
    pub(super) const fn last(&self) -> Moment {
        self.last
    }

    pub(super) fn refusal(&mut self, now: Moment) -> Result<(), Throttled> {
        let wait = now.until(self.open_at);
        if wait.is_zero() {
            return Ok(());
        }
        let is_first = !self.is_reported;
        self.is_reported = true;
        Err(Throttled { wait, limit: Limit::Pair, is_first })
    }

    /// Counts an attempt as a failure, before it is known: attempts at the same time count.
    pub(super) fn fail(&mut self, options: &ThrottleOptions, now: Moment) {
        if !self.is_recent(options, now) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        self.is_reported = false;
        if let Some(over) = self.failures.checked_sub(options.free_attempts.max(1)) {
            let pause = options.first_pause.saturating_mul(1 << over.min(16));
            self.open_at = now.plus(pause.min(options.longest_pause));
        }
    }

    /// Takes back an attempt that was counted.
    pub(super) fn withdraw(&mut self, options: &ThrottleOptions, (begun, now): (Moment, Moment)) {
        self.failures = self.failures.saturating_sub(1);
        // The pause of a later attempt stays, unless there are free attempts again.
        if self.last == begun || self.failures < options.free_attempts.max(1) {
            self.open_at = now;
        }
    }

    /// Whether failures still count.
    pub(super) const fn is_recent(&self, options: &ThrottleOptions, now: Moment) -> bool {
        let kept = options.longest_pause.saturating_mul(4);
        self.last.until(now).as_millis() < kept.as_millis()
    }
}
