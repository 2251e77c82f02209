//! The queue between the requests and the writer.
//!
//! A caller holds the lock while it copies one record, and never while it formats, hashes or
//! writes. A record without waiters does not wake the writer, unless it sleeps until it is woken.
//! Waiters wake it after others have joined (see [`durable`](super::durable)). Each record has a
//! [place](super::places) before it is queued.

use std::{
    cell::RefCell,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    error::AuditError,
    flood::LONGEST_COUNT,
    group_commit::{Group, Member},
    options::Capacity,
    places::{Place, Places},
};
use crate::{
    audit::record::{Event, RecordKind},
    clock::Timestamp,
};

/// Maximum delay before records without waiters are written.
const LINGER: Duration = Duration::from_millis(20);

/// The queue between the requests and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// Of reserved records, and of queued ones that the writer has not taken.
    pub(super) places: Arc<Places>,
    /// No new work begins.
    ending: AtomicBool,
}

#[derive(Default)]
struct State {
    pending: Batch,
    writer: Sleeps,
    /// Whether refusals are counted whose record must be written.
    has_counts: bool,
    /// The callers that wait for the end of the log.
    closing: Vec<oneshot::Sender<()>>,
    /// The writer has ended: no one would take another record.
    has_ended: bool,
}

/// How the writer sleeps.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleeps {
    /// Not at all: it looks again by itself.
    #[default]
    No,
    /// Until a caller waits, or [`LINGER`] has passed.
    Lightly,
    /// Until it is woken.
    Deeply,
}

/// Records that are written together.
#[derive(Default)]
pub(super) struct Batch {
    /// The members of all records, concatenated.
    members: Vec<u8>,
    /// The kind of each record, and where its members end.
    ends: Vec<(RecordKind, usize)>,
    /// Released when the writer takes the records.
    places: Vec<Place>,
    waiting: Option<Arc<Group>>,
    /// The callers that wait for everything before.
    pub(super) flushed: Vec<oneshot::Sender<()>>,
    /// The counted refusals have waited for so long that they are recorded with this batch.
    pub(super) counts_are_due: bool,
    urgent: bool,
}

impl Queue {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            places: Places::new(capacity),
            ending: AtomicBool::new(false),
        }
    }

    /// Reserves the place of a request without a verified user. Fails if the log ends.
    pub(super) fn request(&self) -> Result<Place, AuditError> {
        self.unless_ending(self.places.for_request())
    }

    /// Reserves the place of a job. Fails if there is none, or the log ends.
    pub(super) fn job(&self) -> Result<Place, AuditError> {
        self.unless_ending(self.places.for_background()?)
    }

    fn unless_ending(&self, place: Place) -> Result<Place, AuditError> {
        // Read after the place is taken: either the writer sees this place before it ends, or its
        // end is seen here.
        if self.ending.load(Ordering::SeqCst) { Err(AuditError) } else { Ok(place) }
    }

    /// Writes into a reserved place, without waiting.
    pub(super) fn settle(&self, place: Place, at: Timestamp, event: &Event<'_>) {
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            if !state.has_ended {
                state.pending.append(place, event.kind(), members);
                self.wake_writer(&mut state, Sleeps::Deeply);
            }
        });
    }

    /// Queues a record. The group is settled when it is durable. Fails if the log has ended.
    pub(super) fn enqueue(
        &self,
        place: Place,
        at: Timestamp,
        event: &Event<'_>,
    ) -> Result<Member, AuditError> {
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            if state.has_ended {
                return Err(AuditError);
            }
            state.pending.append(place, event.kind(), members);
            let member = state.pending.waiting.get_or_insert_default().join();
            // If no waiter is polled again, the writer looks by itself after `LINGER`.
            self.wake_writer(&mut state, Sleeps::Deeply);
            Ok(member)
        })
    }

    /// Makes the writer write this group now, unless it has started.
    pub(super) fn commit(&self, group: &Arc<Group>) {
        let mut state = self.state.lock();
        if state.pending.waiting.as_ref().is_some_and(|pending| Arc::ptr_eq(pending, group)) {
            state.pending.urgent = true;
            group.commit();
            self.wake_writer(&mut state, Sleeps::Lightly);
        }
    }

    /// Signals when everything before is durable. The sender is dropped if it never will be.
    pub(super) fn flush(&self, done: oneshot::Sender<()>) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        state.pending.flushed.push(done);
        state.pending.urgent = true;
        self.wake_writer(&mut state, Sleeps::Lightly);
    }

    /// Has the writer look for counted refusals after [`LONGEST_COUNT`].
    pub(super) fn has_counts(&self) {
        let mut state = self.state.lock();
        state.has_counts = true;
        self.wake_writer(&mut state, Sleeps::Deeply);
    }

    /// The counted refusals are about to be taken.
    pub(super) fn has_no_counts(&self) {
        self.state.lock().has_counts = false;
    }

    /// Wakes the writer.
    pub(super) fn nudge(&self) {
        let mut state = self.state.lock();
        state.pending.urgent = true;
        self.wake_writer(&mut state, Sleeps::Lightly);
    }

    /// Refuses new requests. The writer ends after the last open one.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.nudge();
    }

    /// As [`Queue::end`], and signals when the last record is durable. The sender is dropped if the
    /// log was ended before.
    pub(super) fn close(&self, done: oneshot::Sender<()>) {
        let mut state = self.state.lock();
        // Under the lock under which the writer looks for the end: when it sees the end, it finds
        // the caller that waits for it, too.
        if self.ending.swap(true, Ordering::SeqCst) {
            return;
        }
        state.closing.push(done);
        state.pending.urgent = true;
        self.wake_writer(&mut state, Sleeps::Lightly);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Marks the writer as ended, refuses the callers that wait for a record, and returns those
    /// that wait for the end.
    pub(super) fn has_ended(&self) -> Vec<oneshot::Sender<()>> {
        self.ending.store(true, Ordering::SeqCst);
        let (unwritten, closing) = {
            let mut state = self.state.lock();
            state.has_ended = true;
            (mem::take(&mut state.pending), mem::take(&mut state.closing))
        };
        if let Some(group) = unwritten.waiting {
            group.settle(Err(AuditError));
        }
        closing
    }

    #[cfg(test)]
    pub(super) fn is_urgent(&self) -> bool {
        self.state.lock().pending.urgent
    }

    /// Wakes the writer if its sleep is at least as deep as `depth`.
    fn wake_writer(&self, state: &mut State, depth: Sleeps) {
        let sleeps = match state.writer {
            Sleeps::No => false,
            Sleeps::Lightly => depth == Sleeps::Lightly,
            Sleeps::Deeply => true,
        };
        if sleeps {
            state.writer = Sleeps::No;
            self.wake.notify_one();
        }
    }

    /// Blocks until there is something to write, and returns it. `spare` becomes the next buffer.
    /// Called only by the writer. Returns `None` when the log has ended and all places were written
    /// to.
    pub(super) fn next(&self, spare: Batch) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut lingered = false;
        loop {
            let pending = &state.pending;
            let has_ended = self.is_ending() && self.places.taken() == pending.places.len();
            if pending.urgent || (lingered && !pending.ends.is_empty()) || has_ended {
                if has_ended && pending.ends.is_empty() && pending.flushed.is_empty() {
                    return None;
                }
                let mut batch = mem::replace(&mut state.pending, spare);
                drop(state);
                if let Some(group) = &batch.waiting {
                    group.commit();
                }
                batch.places.clear();
                return Some(batch);
            }
            if pending.ends.is_empty() && !self.is_ending() {
                state.writer = Sleeps::Deeply;
                if !state.has_counts {
                    self.wake.wait(&mut state);
                } else if self.wake.wait_for(&mut state, LONGEST_COUNT).timed_out() {
                    state.pending.counts_are_due = true;
                    state.pending.urgent = true;
                }
            } else {
                // Only records without waiters; or the log ends, and an open request may release
                // its place without waking the writer.
                state.writer = Sleeps::Lightly;
                lingered = self.wake.wait_for(&mut state, LINGER).timed_out();
            }
            state.writer = Sleeps::No;
        }
    }
}

thread_local! {
    /// The buffer in which a record is formatted before it is copied into the queue.
    static MEMBERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Formats the members of an event on this thread, without the lock.
fn formatted<T>(at: Timestamp, event: &Event<'_>, then: impl FnOnce(&[u8]) -> T) -> T {
    MEMBERS.with(|members| {
        // Formatting does not call this function again; if it did, it would get its own buffer.
        let mut own = Vec::new();
        let mut shared = members.try_borrow_mut();
        let members = shared.as_deref_mut().unwrap_or(&mut own);
        members.clear();
        event.write(at, members);
        then(members)
    })
}

impl Batch {
    fn append(&mut self, place: Place, kind: RecordKind, members: &[u8]) {
        self.members.extend_from_slice(members);
        self.ends.push((kind, self.members.len()));
        self.places.push(place);
    }

    pub(super) fn push(&mut self, at: Timestamp, event: &Event<'_>) {
        event.write(at, &mut self.members);
        self.ends.push((event.kind(), self.members.len()));
    }

    /// Returns kind and members of each record.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RecordKind, &[u8])> {
        let mut from = 0;
        self.ends.iter().map(move |(kind, end)| {
            let members = self.members.get(from..*end).unwrap_or_default();
            from = *end;
            (*kind, members)
        })
    }

    /// Returns the callers that wait for these records.
    pub(super) fn take_waiting(&mut self) -> Option<Arc<Group>> {
        self.waiting.take()
    }

    /// Returns the batch without records, with its buffers unless a burst made them too large.
    pub(super) fn emptied(mut self) -> Self {
        const LARGEST_KEPT: usize = 1 << 20;
        if self.members.capacity() > LARGEST_KEPT {
            return Self::default();
        }
        self.members.clear();
        self.ends.clear();
        self.places.clear();
        let Self { members, ends, places, .. } = self;
        Self { members, ends, places, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn queue() -> Queue {
        Queue::new(Capacity { records: 8, per_user: None })
    }

    #[test]
    fn places_are_released_when_the_writer_takes_records() {
        let queue = queue();
        let at = Timestamp::from_unix_seconds(0);
        let mut reserved: Vec<_> = (0..4).map(|_| queue.request().unwrap()).collect();
        assert!(reserved.iter().all(|place| !place.is_passing()));
        assert!(reserved[0].another().is_err() && queue.request().unwrap().is_passing());
        queue.settle(reserved.remove(0), at, &Event::Close);
        assert!(reserved[0].another().is_err(), "the record is queued");
        assert_eq!(queue.next(Batch::default()).unwrap().iter().count(), 1);
        let another = reserved[0].another().unwrap();
        drop(queue.enqueue(another, at, &Event::Close).unwrap());
        assert!(reserved[0].another().is_err());
        drop(reserved);
        queue.next(Batch::default()).unwrap();
        assert!(queue.places.are_all_free());
    }

    #[test]
    fn an_ended_log_keeps_no_place() {
        let queue = queue();
        let (one, other) = (queue.request().unwrap(), queue.request().unwrap());
        drop(queue.has_ended());
        let at = Timestamp::from_unix_seconds(0);
        assert!(queue.enqueue(one, at, &Event::Close).is_err());
        queue.settle(other, at, &Event::Close);
        assert!(queue.request().is_err() && queue.job().is_err());
        assert!(queue.places.are_all_free());
    }

    #[test]
    fn closing_signals_the_end_however_busy_the_writer_is() {
        for round in 0..5000 {
            let queue = queue();
            let (done, mut wait) = oneshot::channel();
            thread::scope(|threads| {
                threads.spawn(|| {
                    while queue.next(Batch::default()).is_some() {}
                    queue.has_ended().into_iter().for_each(|done| done.send(()).unwrap());
                });
                // The writer is awake, and may see the end at once.
                queue.nudge();
                queue.close(done);
            });
            assert_eq!(wait.try_recv(), Ok(()), "round {round}");
        }
    }
}
