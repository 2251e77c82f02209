//! The audit log behind all trails: one queue, one owned writer, and the door that a failing sink
//! closes.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    open::OpenRequests,
    queue::{Place, Queue},
    record::Event,
    sink::AuditSink,
    waiting::{Durable, Group},
    writer,
};
use crate::{
    clock::{Clock, Timestamp},
    principal::Initiator,
    refusal::Reason,
    revocation::RevocationTarget,
};

/// The audit log. Cheap to clone. That of a process belongs to its [`Broker`](crate::Broker).
///
/// It has a thread of its own, `token-broker-audit`, which ends, after the last record, when the
/// last clone is gone or at [`AuditLog::close`]. Requests wait with tokio's timer: the runtime they
/// run on must have one.
#[derive(Clone)]
pub struct AuditLog(pub(super) Arc<Shared>);

/// What all who write share; with the last of them the log ends.
pub(super) struct Shared {
    pub(super) clock: Clock,
    core: Arc<Core>,
    refreshes: AtomicU64,
    pub(super) open_requests: OpenRequests,
}

/// What the writer shares with them.
pub(super) struct Core {
    pub(super) queue: Queue,
    pub(super) deadline: Duration,
    /// Whether anything may be used at the moment. It begins open: nothing is used before its own
    /// intent is durable, whatever the door says.
    open: AtomicBool,
    /// The refusals that were made while nothing could be written.
    counted: Mutex<BTreeMap<Reason, (u64, Timestamp)>>,
}

/// The log can't make a record durable at the moment: nothing may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't make the record durable")]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever is told this must do the same, whatever the cause: nothing"
)]
pub struct AuditError;

/// What has a default in an [`AuditLog`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a log is started with them"]
pub struct AuditOptions {
    clock: Clock,
    deadline: Duration,
    queue: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { clock: Clock::system(), deadline: Duration::from_millis(1500), queue: 65_536 }
    }
}

impl AuditOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another clock than the system's, for the times in the records.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a request waits for its intent to be durable; 1.5 s by default. Then it is refused,
    /// and the door is closed.
    pub const fn timeout(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many records may wait or be owed: each open request owes one. 65 536 by default; one
    /// more request is refused. At least 2: a request needs a place for its intent and one for its
    /// result.
    pub const fn queue(mut self, records: usize) -> Self {
        self.queue = records;
        self
    }
}

impl<S: AuditSink> From<S> for AuditLog {
    fn from(sink: S) -> Self {
        Self::start(sink, AuditOptions::default())
    }
}

impl AuditLog {
    /// Starts the log with these options. If the system gives it no thread, it is never open: each
    /// request is refused.
    pub fn start<S: AuditSink>(sink: S, options: AuditOptions) -> Self {
        let AuditOptions { clock, deadline, queue } = options;
        let core = Arc::new(Core::new(queue, deadline));
        writer::start(sink, &core, clock.clone());
        Self(Arc::new(Shared {
            clock,
            core,
            refreshes: AtomicU64::new(0),
            open_requests: OpenRequests::default(),
        }))
    }

    /// Whether the last records could be written.
    pub fn is_open(&self) -> bool {
        self.0.core.is_open() && !self.0.core.queue.is_ending()
    }

    /// Waits until all that was recorded before is durable.
    ///
    /// # Errors
    /// The sink does not take it within the deadline.
    ///
    /// # Cancellation
    /// Dropped, the records are written all the same.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        self.0.core.queue.flush(done);
        said_within(self.0.core.deadline, wait).await
    }

    /// Ends the log: lets no new request in, waits for the result of each open one, writes `close`,
    /// and returns when that is durable. To be called once, when the server has stopped to take
    /// requests.
    ///
    /// # Errors
    /// A request was still open after `within`, the sink failed until then, or the log was closed
    /// before. The log goes on to wait, but the process need not: what is open when it ends is
    /// recorded as `unknown` by the next one.
    ///
    /// # Cancellation
    /// Dropped, the log ends all the same.
    pub async fn close(&self, within: Duration) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        self.0.core.queue.close(done);
        said_within(within, wait).await
    }

    /// Records that something was revoked, blocked, unblocked or restored, and waits until that is
    /// durable.
    ///
    /// # Errors
    /// The record could not be made durable in time; what it says holds all the same.
    ///
    /// # Cancellation
    /// Dropped, the record is written all the same.
    pub(crate) async fn note_revocation(
        &self,
        kind: &'static str,
        target: &RevocationTarget,
        initiator: &Initiator,
    ) -> Result<(), AuditError> {
        let (what, id) = target.in_words();
        let event = Event::Revocation { kind, what, id: &id, initiator };
        // Also while the door is closed: it holds already, so its record must come.
        let written = self.0.core.queue.enqueue(self.0.clock.now(), &event)?;
        self.0.durable(written).await
    }

    /// Writes the records of all requests that are still open: they are cut.
    pub(crate) fn settle_open(&self, reason: Reason) {
        for trail in self.0.open_requests.all() {
            trail.settle_as_cut(reason);
        }
    }

    /// How many records are owed to requests and refreshes that are under way.
    pub(crate) fn owed(&self) -> usize {
        self.0.core.queue.owed()
    }
}

async fn said_within(patience: Duration, said: oneshot::Receiver<()>) -> Result<(), AuditError> {
    match tokio::time::timeout(patience, said).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_unsaid)) => Err(AuditError),
        Err(_elapsed) => Err(AuditError),
    }
}

impl Shared {
    /// Keeps the place of a record that must be written; none if the door is closed or the queue is
    /// full.
    pub(super) fn place(&self) -> Result<Place, AuditError> {
        if !self.core.is_open() {
            return Err(AuditError);
        }
        self.core.queue.place()
    }

    /// Whether the log was closed, or is about to be.
    pub(super) fn is_ending(&self) -> bool {
        self.core.queue.is_ending()
    }

    /// Writes into a kept place; nobody waits.
    pub(super) fn settle(&self, place: Place, event: &Event<'_>) {
        self.core.queue.settle(place, self.clock.now(), event);
    }

    /// Puts a record onto its way.
    pub(super) fn enqueue(&self, event: &Event<'_>) -> Result<Arc<Group>, AuditError> {
        if !self.core.is_open() {
            return Err(AuditError);
        }
        self.core.queue.enqueue(self.clock.now(), event)
    }

    /// Waits for a record that is on its way.
    pub(super) fn durable(&self, group: Arc<Group>) -> Durable<'_> {
        Durable::new(&self.core, group)
    }

    /// Counts a refusal that can't be written now.
    pub(super) fn count(&self, reason: Reason) {
        let now = self.clock.now();
        self.core.counted.lock().entry(reason).or_insert((0, now)).0 += 1;
        self.core.queue.nudge();
    }

    pub(super) fn next_refresh(&self) -> u64 {
        self.refreshes.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.queue.end();
    }
}

impl Core {
    pub(super) fn new(limit: usize, deadline: Duration) -> Self {
        Self {
            queue: Queue::new(limit),
            deadline,
            open: AtomicBool::new(true),
            counted: Mutex::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The writer opens it again when it is through.
    pub(super) fn close(&self, why: &str) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::error!(
                why,
                "the audit log is closed: no request is let through until it can write again"
            );
        }
        // It may be closed in the moment in which the writer is through: nothing else would wake
        // it.
        self.queue.nudge();
    }

    pub(super) fn open(&self) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::info!("the audit log is open");
        }
    }

    pub(super) fn take_counted(&self) -> BTreeMap<Reason, (u64, Timestamp)> {
        mem::take(&mut *self.counted.lock())
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_door_that_is_closed_while_nothing_is_under_way_opens_again() {
        let (log, _sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        // What a request does whose patience ends in the moment in which its record has become
        // durable.
        log.0.core.close("too late");
        let open = async {
            while !log.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), open)
            .await
            .expect("the door opens by itself");
    }

    #[tokio::test]
    async fn what_is_counted_while_nothing_is_under_way_is_written_at_once() {
        let (log, sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        let calls = sink.calls();
        log.0.count(Reason::AuditUnavailable);
        tokio::time::timeout(Duration::from_secs(20), sink.called(calls + 1))
            .await
            .expect("nothing else has to come");
        log.flush().await.unwrap();
        assert_eq!(
            sink.records().iter().map(|record| record.kind()).collect::<Vec<_>>(),
            ["start", "result"]
        );
    }
}
