//! The handle of the log.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    core::Core, durable::durable, error::AuditError, flood::Counted, group_commit::Member,
    open_requests::OpenRequests, options::AuditOptions, places::Place, writer,
};
#[cfg(any(test, feature = "test-util"))]
use crate::audit::sink::InMemory;
use crate::{
    audit::{
        record::{Event, Note},
        sink::AuditSink,
    },
    clock::Clock,
    principal::{Initiator, Principal},
    refusal::Reason,
};

/// The audit log of a process, owned by its [`Broker`](crate::Broker). Cheap to clone.
///
/// It has its own thread, `token-broker-audit`. The thread ends after the last record, when the
/// last clone is dropped or at [`AuditLog::close`]. Requests wait with tokio's timer, so the
/// runtime that they run on needs one.
#[derive(Clone)]
pub struct AuditLog(pub(in crate::audit) Arc<Shared>);

/// State of all clones. The log ends when it is dropped.
pub(in crate::audit) struct Shared {
    pub(in crate::audit) clock: Clock,
    core: Arc<Core>,
    token_requests: AtomicU64,
    pub(in crate::audit) open_requests: OpenRequests,
}

impl<S: AuditSink> From<S> for AuditLog {
    fn from(sink: S) -> Self {
        Self::start(sink, AuditOptions::default())
    }
}

impl AuditLog {
    /// Starts the log with these options. If the system cannot start its thread, the log never
    /// opens: each request is refused.
    pub fn start<S: AuditSink>(sink: S, options: AuditOptions) -> Self {
        let AuditOptions { clock, timeout, capacity } = options;
        let core = Arc::new(Core::new(capacity, timeout));
        writer::start(sink, &core, clock.clone());
        Self(Arc::new(Shared {
            clock,
            core,
            token_requests: AtomicU64::new(0),
            open_requests: OpenRequests::default(),
        }))
    }

    /// Starts a log that keeps its records in memory, for tests.
    #[cfg(any(test, feature = "test-util"))]
    pub fn in_memory() -> (Self, InMemory) {
        let sink = InMemory::new();
        (Self::from(sink.clone()), sink)
    }

    /// Returns whether the last records could be written.
    pub fn is_open(&self) -> bool {
        self.0.core.is_open() && !self.0.core.queue.is_ending()
    }

    /// Records what happened outside of requests, with the one who did it, and waits until the
    /// record is durable.
    ///
    /// Record what is about to happen (a token that is about to be issued) before it happens, and
    /// do nothing if this fails.
    ///
    /// # Errors
    /// The log is closed, or the record did not become durable in time. In the second case it may
    /// still be written.
    ///
    /// # Cancellation
    /// If dropped after it was polled, the record is written all the same.
    pub async fn note(&self, initiator: &Initiator, note: Note<'_>) -> Result<(), AuditError> {
        let event = Event::Note { note: &note, initiator };
        let places = &self.0.core.queue.places;
        // A revocation is recorded even while the log is closed: the record waits.
        let written = if note.must_be_written() {
            let place = places.for_revocation()?;
            self.0.core.queue.enqueue(place, self.0.clock.now(), &event)?
        } else {
            self.0.enqueue(places.for_background()?, &event)?
        };
        self.0.durable(written).await
    }

    /// Waits until everything recorded before is durable.
    ///
    /// # Errors
    /// The sink did not write it within the timeout.
    ///
    /// # Cancellation
    /// If dropped, the records are written all the same.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        self.0.core.queue.flush(done);
        done_within(self.0.core.timeout, wait).await
    }

    /// Ends the log: refuses new requests, waits for the result of each open one, writes `close`,
    /// and returns when that is durable. Call it once, after the server has stopped accepting
    /// requests.
    ///
    /// # Errors
    /// A request was still open after `within`, the sink failed until then, or the log was closed
    /// before. The log continues to wait, but the process need not: the next one records what was
    /// open as `unknown`.
    ///
    /// # Cancellation
    /// If dropped, the log ends all the same.
    pub async fn close(&self, within: Duration) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        self.0.core.queue.close(done);
        done_within(within, wait).await
    }

    /// Writes the records of all requests and jobs that are still open, as cut.
    pub(crate) fn settle_open(&self, reason: Reason) {
        for open in self.0.open_requests.all() {
            open.cut_at_shutdown(reason);
        }
    }

    /// Returns whether no place is taken, and no user is listed.
    #[cfg(test)]
    pub(in crate::audit) fn has_all_places(&self) -> bool {
        self.0.core.queue.places.are_all_free()
    }

    /// Returns how many records are reserved by requests and token requests in flight.
    pub(crate) fn owed(&self) -> usize {
        self.0.core.queue.places.taken()
    }
}

async fn done_within(timeout: Duration, done: oneshot::Receiver<()>) -> Result<(), AuditError> {
    match tokio::time::timeout(timeout, done).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_dropped)) => Err(AuditError),
        Err(_elapsed) => Err(AuditError),
    }
}

impl Shared {
    /// Reserves the place of a request's result. Fails if the log is closed.
    pub(in crate::audit) fn place_of_request(&self) -> Result<Place, AuditError> {
        if self.core.is_open() { self.core.queue.request() } else { Err(AuditError) }
    }

    /// Reserves the place of a job's result. Fails if the log is closed, or there is none.
    pub(in crate::audit) fn place_of_job(&self) -> Result<Place, AuditError> {
        if self.core.is_open() { self.core.queue.job() } else { Err(AuditError) }
    }

    /// Returns the place of a record about a token endpoint. The request may serve other callers
    /// than the one that began it, so it does not depend on a user's quota.
    pub(in crate::audit) fn place_of_token_request(&self) -> Result<Place, AuditError> {
        self.core.queue.places.for_background()
    }

    /// Returns the place of an intent whose request has ended.
    pub(in crate::audit) fn late_place(
        &self,
        principal: Option<&Principal>,
    ) -> Result<Place, AuditError> {
        let places = &self.core.queue.places;
        match principal {
            Some(principal) => Ok(places.for_user(principal.user())?),
            None => places.for_background(),
        }
    }

    /// Returns whether the log was closed, or is being closed.
    pub(in crate::audit) fn is_ending(&self) -> bool {
        self.core.queue.is_ending()
    }

    /// Writes a record into its reserved place, without waiting for it.
    pub(in crate::audit) fn settle(&self, place: Place, event: &Event<'_>) {
        self.core.queue.settle(place, self.clock.now(), event);
    }

    /// Queues a record. The group is settled when it is durable.
    pub(in crate::audit) fn enqueue(
        &self,
        place: Place,
        event: &Event<'_>,
    ) -> Result<Member, AuditError> {
        if !self.core.is_open() {
            return Err(AuditError);
        }
        self.core.queue.enqueue(place, self.clock.now(), event)
    }

    /// Waits for a queued record.
    pub(in crate::audit) async fn durable(&self, member: Member) -> Result<(), AuditError> {
        durable(&self.core, member).await
    }

    /// Returns whether the end of a request without a verified user may have its own record.
    pub(in crate::audit) fn may_record(&self, peer: Option<SocketAddr>) -> bool {
        self.core.flood.may_record(peer, self.clock.moment())
    }

    /// Counts the end of a request that has no record of its own.
    pub(in crate::audit) fn count(&self, counted: Counted) {
        self.core.count(counted, self.clock.read());
    }

    /// As [`Shared::count`], because too many requests have one.
    pub(in crate::audit) fn count_in_flood(&self, counted: Counted) {
        self.count(counted);
        self.core.flood.alarm(self.clock.moment());
    }

    pub(in crate::audit) fn next_token_request(&self) -> u64 {
        self.token_requests.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.queue.end();
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
    async fn a_log_closed_while_idle_opens_again() {
        let (log, _sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        // A request does this if it times out at the moment when its record becomes durable.
        log.0.core.close("too late");
        let open = async {
            while !log.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), open).await.expect("the log opens by itself");
    }

    #[tokio::test]
    async fn counted_refusals_are_written_without_another_record() {
        let (log, sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        let calls = sink.calls();
        log.0.count(Counted::Refused(Reason::AuditUnavailable));
        tokio::time::timeout(Duration::from_secs(20), sink.called(calls + 1))
            .await
            .expect("nothing else has to be recorded");
        log.flush().await.unwrap();
        assert_eq!(
            sink.records().iter().map(|record| record.kind()).collect::<Vec<_>>(),
            ["start", "result"]
        );
    }
}
