//! Settings of the log.

use std::time::Duration;

use crate::clock::Clock;

/// Settings of an [`AuditLog`](super::AuditLog), with defaults.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a log is started with them"]
pub struct AuditOptions {
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) capacity: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { clock: Clock::system(), timeout: Duration::from_millis(1500), capacity: 65_536 }
    }
}

impl AuditOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock for the times in the records. Default: the system clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long a request waits for its intent to become durable. After that time it is
    /// refused, and the log is closed. Default: 1.5 s.
    pub const fn write_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many records may be queued or reserved. Each open request reserves one; one request
    /// more is refused. Default: 65 536. Minimum: 2, because a request needs a place for its intent
    /// and one for its result.
    pub const fn queue_capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }
}
