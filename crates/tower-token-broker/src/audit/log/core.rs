//! State shared by the callers and the writer.

use std::{
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::{options::Capacity, queue::Queue};
use crate::{alarm::Alarm, clock::Timestamp, refusal::Reason};

/// State shared by the callers and the writer.
pub(super) struct Core {
    pub(super) queue: Queue,
    pub(super) timeout: Duration,
    /// Whether records can be made durable. The log starts open: a credential is used only after
    /// its own intent is durable, whatever this flag holds.
    open: AtomicBool,
    /// Refusals while nothing could be written, with the time of the first one.
    counted: Mutex<BTreeMap<Reason, (u64, Timestamp)>>,
}

impl Core {
    pub(super) fn new(capacity: Capacity, timeout: Duration) -> Self {
        Self {
            queue: Queue::new(capacity),
            timeout,
            open: AtomicBool::new(true),
            counted: Mutex::default(),
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

    /// Counts a refusal that cannot be written now.
    pub(super) fn count(&self, reason: Reason, now: Timestamp) {
        self.counted.lock().entry(reason).or_insert((0, now)).0 += 1;
        self.queue.nudge();
    }

    pub(super) fn take_counted(&self) -> BTreeMap<Reason, (u64, Timestamp)> {
        mem::take(&mut *self.counted.lock())
    }
}
