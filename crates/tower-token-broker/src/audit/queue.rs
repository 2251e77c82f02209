//! The way from the requests to the one writer: a buffer that callers write into.
//!
//! A request holds the buffer's lock for the copy of one record, and never while anything is
//! formatted, hashed or written. A record that nobody waits for wakes nobody, unless the writer
//! would else sleep on; those who wait wake it together (see `waiting`).

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

use super::{log::AuditError, record::Event, waiting::Group};
use crate::clock::Timestamp;

/// How long results wait for company before the writer writes them: nobody waits for them.
const LINGER: Duration = Duration::from_millis(20);

/// Between the requests and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// Places that are kept, and records that have come and that the writer has not taken.
    taken: AtomicUsize,
    limit: usize,
    /// No new request is let in.
    ending: AtomicBool,
}

#[derive(Default)]
struct State {
    pending: Batch,
    writer: Sleeps,
    /// Who waits for the end of the log.
    closing: Vec<oneshot::Sender<()>>,
    /// The writer is gone: nobody would take what comes now.
    has_ended: bool,
}

/// What the writer does meanwhile.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleeps {
    /// It looks again by itself.
    #[default]
    No,
    /// Until somebody waits, or a moment has passed.
    Lightly,
    /// Until it is woken.
    Deeply,
}

/// What came together.
#[derive(Default)]
pub(super) struct Batch {
    /// The members of all records, one behind the other.
    members: Vec<u8>,
    /// Of each: its kind, and where its members end.
    ends: Vec<(&'static str, usize)>,
    waiting: Option<Arc<Group>>,
    /// Who waits for all that came before, whatever it was.
    pub(super) flushed: Vec<oneshot::Sender<()>>,
    urgent: bool,
}

/// A place in the queue that was kept for a record that must be written. It is given back by
/// writing.
#[derive(Debug)]
#[must_use = "a place that is not written to is never free again"]
pub(super) struct Place(());

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

    /// Keeps a place; none if the queue is full or the log ends.
    pub(super) fn place(&self) -> Result<Place, AuditError> {
        self.take_place()?;
        // Looked at behind the place: either the writer sees this place before it ends, or its end
        // is seen here.
        if self.ending.load(Ordering::SeqCst) {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditError);
        }
        Ok(Place(()))
    }

    /// How many places are taken: records that wait, and those that are owed.
    pub(super) fn owed(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    fn take_place(&self) -> Result<(), AuditError> {
        if self.taken.fetch_add(1, Ordering::SeqCst) >= self.limit {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditError);
        }
        Ok(())
    }

    /// Writes into a kept place; nobody waits.
    pub(super) fn settle(&self, Place(()): Place, at: Timestamp, event: &Event<'_>) {
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            state.pending.append(event.kind(), members);
            self.wake_writer(&mut state, Sleeps::Deeply);
        });
    }

    /// Writes; what is given back waits until it is durable, and wakes the writer.
    pub(super) fn enqueue(
        &self,
        at: Timestamp,
        event: &Event<'_>,
    ) -> Result<Arc<Group>, AuditError> {
        self.take_place()?;
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            if state.has_ended {
                return Err(AuditError);
            }
            state.pending.append(event.kind(), members);
            let group = state.pending.waiting.get_or_insert_default();
            group.joined();
            let group = Arc::clone(group);
            // Should nobody who waits be run again, the writer looks by itself in a moment.
            self.wake_writer(&mut state, Sleeps::Deeply);
            Ok(group)
        })
    }

    /// Has the writer write this group now, if it has not begun to.
    pub(super) fn commit(&self, group: &Arc<Group>) {
        let mut state = self.state.lock();
        if state.pending.waiting.as_ref().is_some_and(|pending| Arc::ptr_eq(pending, group)) {
            state.pending.urgent = true;
            self.wake_writer(&mut state, Sleeps::Lightly);
        }
    }

    /// Tells when all that came before is durable. Dropped unsaid, it will never be.
    pub(super) fn flush(&self, done: oneshot::Sender<()>) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        state.pending.flushed.push(done);
        state.pending.urgent = true;
        self.wake_writer(&mut state, Sleeps::Lightly);
    }

    /// Has the writer look at what else there is to do.
    pub(super) fn nudge(&self) {
        let mut state = self.state.lock();
        state.pending.urgent = true;
        self.wake_writer(&mut state, Sleeps::Lightly);
    }

    /// Lets no new request in; the writer ends behind the last open one.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.nudge();
    }

    /// As [`Queue::end`], and tells when the last record is durable; dropped unsaid if the log was
    /// ended before.
    pub(super) fn close(&self, done: oneshot::Sender<()>) {
        let mut state = self.state.lock();
        // Under the lock, in which the writer looks for the end: when it sees it, it finds who
        // waits for it, too.
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

    /// The writer is gone: who waits is told that nothing will become durable any more; who waited
    /// for the end is given back.
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

    /// Wakes the writer if it sleeps at least so deeply.
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

    /// What has come, as soon as there is something to do; `spare` is filled next. The writer alone
    /// calls it, and blocks. `None` when the log has ended and all places were written to.
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
                // Results alone; or open requests that are waited for, one of which may give its
                // place back unsaid.
                state.writer = Sleeps::Lightly;
                lingered = self.wake.wait_for(&mut state, LINGER).timed_out();
            }
            state.writer = Sleeps::No;
        }
    }
}

thread_local! {
    /// Where a record is formatted before it is copied into the queue.
    static MEMBERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Formats the event's members, on this thread and without the lock.
fn formatted<T>(at: Timestamp, event: &Event<'_>, then: impl FnOnce(&[u8]) -> T) -> T {
    MEMBERS.with(|members| {
        // Nothing that runs in between comes back here; if it did, it would have a buffer of its
        // own.
        let mut own = Vec::new();
        let mut shared = members.try_borrow_mut();
        let members = shared.as_deref_mut().unwrap_or(&mut own);
        members.clear();
        event.write(at, members);
        then(members)
    })
}

impl Batch {
    fn append(&mut self, kind: &'static str, members: &[u8]) {
        self.members.extend_from_slice(members);
        self.ends.push((kind, self.members.len()));
    }

    pub(super) fn push(&mut self, at: Timestamp, event: &Event<'_>) {
        event.write(at, &mut self.members);
        self.ends.push((event.kind(), self.members.len()));
    }

    /// Kind and members of each record.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let mut from = 0;
        self.ends.iter().map(move |(kind, end)| {
            let members = self.members.get(from..*end).unwrap_or_default();
            from = *end;
            (*kind, members)
        })
    }

    /// Who waits for these records.
    pub(super) fn take_waiting(&mut self) -> Option<Arc<Group>> {
        self.waiting.take()
    }

    /// Empty again, with its buffers, unless a rush has blown them up.
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
    fn a_queue_takes_so_many_and_no_more_until_the_writer_has_taken_them() {
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
    fn who_closes_the_log_is_told_however_the_writer_is_busy_in_that_moment() {
        for round in 0..5000 {
            let queue = Queue::new(3);
            let (done, mut wait) = oneshot::channel();
            thread::scope(|threads| {
                threads.spawn(|| {
                    while queue.next(Batch::default()).is_some() {}
                    queue.has_ended().into_iter().for_each(|done| done.send(()).unwrap());
                });
                // The writer is awake, and may see the end as soon as it is there.
                queue.nudge();
                queue.close(done);
            });
            assert_eq!(wait.try_recv(), Ok(()), "round {round}");
        }
    }
}
