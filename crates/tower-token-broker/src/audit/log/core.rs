//! State shared by the callers and the writer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    flood::{Count, Counted, Flood, Take},
    options::Capacity,
    queue::Queue,
};
use crate::{
    alarm::Alarm,
    audit::record::Event,
    clock::{Moment, Reading},
};

/// State shared by the callers and the writer.
pub(super) struct Core {
    pub(super) queue: Queue,
    pub(super) timeout: Duration,
    /// Whether records can be made durable. The log starts open: a credential is used only after
    /// its own intent is durable, whatever this flag holds.
    open: AtomicBool,
    /// Refusals that have no record of their own.
    pub(super) flood: Flood,
}

impl Core {
    pub(super) fn new(capacity: Capacity, timeout: Duration) -> Self {
        Self {
            queue: Queue::new(capacity),
            timeout,
            open: AtomicBool::new(true),
            flood: Flood::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Closes the log. The writer opens it again when it has written everything.
    pub(super) fn close(&self, cause: &'static str) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::error!(
                alarm = Alarm::AuditClosed.code(),
                cause,
                "the audit log is closed: no request passes until it can write again"
            );
        }
        // The log may be closed at the moment when the writer has nothing left to write; nothing
        // else would wake it.
        self.queue.nudge();
    }

    pub(super) fn open(&self) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::info!("the audit log is open");
        }
    }

    /// Counts a refusal that has no record of its own.
    pub(super) fn count(&self, counted: Counted, now: Reading) {
        match self.flood.count(counted, now) {
            Count::First => self.queue.has_counts(),
            // The writer knows of the first one.
            Count::Further => {}
        }
    }

    /// Takes the counted refusals, as the content of their records.
    pub(super) fn take_counted(
        &self,
        take: Take,
        now: Moment,
    ) -> impl Iterator<Item = Event<'static>> {
        let is_due = self.flood.is_due(take, now);
        if is_due {
            // Before they are taken: a refusal that is counted afterwards is a first one again.
            self.queue.has_no_counts();
        }
        is_due.then(|| self.flood.take()).into_iter().flatten()
    }
}
