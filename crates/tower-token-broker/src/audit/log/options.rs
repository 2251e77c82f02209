//! Settings of the log.

use std::time::Duration;

use crate::clock::Clock;

/// Settings of an [`AuditLog`](super::AuditLog), with defaults.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a log is started with them"]
pub struct AuditOptions {
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    pub(super) capacity: Capacity,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            timeout: Duration::from_millis(1500),
            capacity: Capacity { records: 65_536, per_user: None },
        }
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

    /// Sets how many records of requests may be queued or reserved. Each open request reserves one.
    /// Half of them are for requests without a verified user, the other half for those of users, of
    /// which a quarter is kept for intents; one request more is refused (`audit.unavailable`).
    /// Default: 65 536. Minimum: 8.
    ///
    /// Jobs, token requests and notes have a sixteenth in addition, and so have revocations.
    pub const fn queue_capacity(mut self, records: usize) -> Self {
        self.capacity.records = records;
        self
    }

    /// Sets how many of these records one user may have. Three quarters are for open requests,
    /// streams included: one request more is refused (`audit.user_quota`). The rest is for intents
    /// that are being written.
    /// Default: a sixteenth of the [queue's capacity](Self::queue_capacity), so 4096. Minimum: 4;
    /// maximum: half of the capacity.
    ///
    /// Users that together have half of the capacity keep other users out: a larger quota lets
    /// fewer users do so.
    pub const fn queue_capacity_per_user(mut self, records: usize) -> Self {
        self.capacity.per_user = Some(records);
        self
    }
}

/// How many records may be queued or reserved, by share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) records: usize,
    pub(super) per_user: Option<usize>,
}

/// A request needs a place for its result and one for its intent, and a handler may wait for two.
const MIN_PER_USER: usize = 4;
/// Revocations that may be written at one time with the smallest capacity.
const MIN_REVOCATIONS: usize = 256;

impl Capacity {
    const fn all(self) -> usize {
        at_least(self.records, 2 * MIN_PER_USER)
    }

    pub(super) const fn unidentified(self) -> usize {
        self.all() / 2
    }

    pub(super) const fn users(self) -> usize {
        self.all() - self.unidentified()
    }

    pub(super) const fn per_user(self) -> usize {
        let quota = match self.per_user {
            Some(quota) => quota,
            None => self.all() / 16,
        };
        let quota = at_least(quota, MIN_PER_USER);
        if quota > self.users() { self.users() } else { quota }
    }

    pub(super) const fn background(self) -> usize {
        at_least(self.all() / 16, MIN_PER_USER)
    }

    pub(super) const fn revocations(self) -> usize {
        at_least(self.all() / 16, MIN_REVOCATIONS)
    }
}

const fn at_least(value: usize, minimum: usize) -> usize {
    if value < minimum { minimum } else { value }
}
