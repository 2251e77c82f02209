//! The queue between the requests and the writer.
//!
//! A caller holds the lock while it copies one record, and never while it formats, hashes or
//! writes. A record without waiters does not wake the writer, unless it sleeps until it is woken.
//! Waiters wake it together (see [`durable`](super::durable)).

use std::{
    cell::RefCell,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{error::AuditError, group_commit::Group};
use crate::{
    audit::record::{Event, RecordKind},
    clock::Timestamp,
};

/// Maximum delay before records without waiters are written.
const LINGER: Duration = Duration::from_millis(20);

/// Places for records that must be written, in addition to those that requests can reserve.
const RESERVE: usize = 256;

/// The queue between the requests and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// Reserved places, and queued records that the writer has not taken.
    taken: AtomicUsize,
    limit: usize,
    /// No new place is given.
    ending: AtomicBool,
}

#[derive(Default)]
struct State {
    pending: Batch,
    writer: Sleeps,
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
    waiting: Option<Arc<Group>>,
    /// The callers that wait for everything before.
    pub(super) flushed: Vec<oneshot::Sender<()>>,
    urgent: bool,
}

/// A place in the queue, reserved for a record that must be written. Writing releases it.
#[derive(Debug)]
#[must_use = "a place that is not written to is never released"]
pub(in crate::audit) struct Place(());

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            taken: AtomicUsize::new(0),
            limit: limit.max(2),
            ending: AtomicBool::new(false),
        }
    }

    /// Reserves a place. Fails if the queue is full or the log ends.
    pub(super) fn place(&self) -> Result<Place, AuditError> {
        self.take_place(self.limit)?;
        // Read after the place is taken: either the writer sees this place before it ends, or its
        // end is seen here.
        if self.ending.load(Ordering::SeqCst) {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditError);
        }
        Ok(Place(()))
    }

    /// Releases a place without writing to it.
    pub(super) fn release(&self, Place(()): Place) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        if self.is_ending() {
            self.nudge();
        }
    }

    /// Returns the number of taken places: queued records and reserved places.
    pub(super) fn owed(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    fn take_place(&self, limit: usize) -> Result<(), AuditError> {
        if self.taken.fetch_add(1, Ordering::SeqCst) >= limit {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditError);
        }
        Ok(())
    }

    /// Writes into a reserved place, without waiting.
    pub(super) fn settle(&self, Place(()): Place, at: Timestamp, event: &Event<'_>) {
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            state.pending.append(event.kind(), members);
            self.wake_writer(&mut state, Sleeps::Deeply);
        });
    }

    /// Queues a record. The group is settled when it is durable.
    pub(super) fn enqueue(
        &self,
        at: Timestamp,
        event: &Event<'_>,
    ) -> Result<Arc<Group>, AuditError> {
        self.take_place(self.limit)?;
        self.enqueue_in_place(at, event)
    }

    /// As [`Queue::enqueue`], and has places of its own after open requests have reserved all.
    pub(super) fn enqueue_first(
        &self,
        at: Timestamp,
        event: &Event<'_>,
    ) -> Result<Arc<Group>, AuditError> {
        self.take_place(self.limit.saturating_add(RESERVE))?;
        self.enqueue_in_place(at, event)
    }

    fn enqueue_in_place(&self, at: Timestamp, event: &Event<'_>) -> Result<Arc<Group>, AuditError> {
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            if state.has_ended {
                return Err(AuditError);
            }
            state.pending.append(event.kind(), members);
            let group = state.pending.waiting.get_or_insert_default();
            group.join();
            let group = Arc::clone(group);
            // If no waiter is polled again, the writer looks by itself after `LINGER`.
            self.wake_writer(&mut state, Sleeps::Deeply);
            Ok(group)
        })
    }

    /// Makes the writer write this group now, unless it has started.
    pub(super) fn commit(&self, group: &Arc<Group>) {
        let mut state = self.state.lock();
        if state.pending.waiting.as_ref().is_some_and(|pending| Arc::ptr_eq(pending, group)) {
            state.pending.urgent = true;
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
            let has_ended =
                self.is_ending() && self.taken.load(Ordering::SeqCst) == pending.ends.len();
            if pending.urgent || (lingered && !pending.ends.is_empty()) || has_ended {
                if has_ended && pending.ends.is_empty() && pending.flushed.is_empty() {
                    return None;
                }
                let batch = mem::replace(&mut state.pending, spare);
                self.taken.fetch_sub(batch.ends.len(), Ordering::SeqCst);
                return Some(batch);
            }
            if pending.ends.is_empty() && !self.is_ending() {
                state.writer = Sleeps::Deeply;
                self.wake.wait(&mut state);
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
    fn append(&mut self, kind: RecordKind, members: &[u8]) {
        self.members.extend_from_slice(members);
        self.ends.push((kind, self.members.len()));
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
        Self { members: self.members, ends: self.ends, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_full_queue_refuses_until_the_writer_takes_records() {
        let queue = Queue::new(3);
        let at = Timestamp::from_unix_seconds(0);
        let (one, _two) = (queue.place().unwrap(), queue.place().unwrap());
        queue.enqueue(at, &Event::Close).unwrap();
        assert_eq!(queue.place().unwrap_err(), AuditError);
        assert!(queue.enqueue(at, &Event::Close).is_err());
        queue.settle(one, at, &Event::Close);
        let batch = queue.next(Batch::default()).unwrap();
        assert_eq!(batch.iter().count(), 2);
        let (_three, _four) = (queue.place().unwrap(), queue.place().unwrap());
        assert!(queue.place().is_err());
    }

    #[test]
    fn closing_signals_the_end_however_busy_the_writer_is() {
        for round in 0..5000 {
            let queue = Queue::new(3);
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
