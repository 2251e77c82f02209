//! The way from the requests to the one writer: a buffer that callers write into, and those who wait until it is durable.
//!
//! A request holds the buffer's lock for the copy of one record, and never while anything is formatted, hashed or written. A
//! record that somebody waits for wakes the writer; one that nobody waits for does so only where the writer would else sleep
//! on. Of those who wait for one write, the writer wakes one, and that one wakes the others: a group costs one way from thread to thread.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::{sync::oneshot, time::Sleep};

use super::{log::AuditUnavailable, record::Event};
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

/// A place in the queue that was kept for a record that must be written. It is given back by writing.
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
    pub(super) fn place(&self) -> Result<Place, AuditUnavailable> {
        self.take_place()?;
        // Looked at behind the place: either the writer sees this place before it ends, or its end is seen here.
        if self.ending.load(Ordering::SeqCst) {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditUnavailable);
        }
        Ok(Place(()))
    }

    fn take_place(&self) -> Result<(), AuditUnavailable> {
        if self.taken.fetch_add(1, Ordering::SeqCst) >= self.limit {
            self.taken.fetch_sub(1, Ordering::SeqCst);
            return Err(AuditUnavailable);
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

    /// Writes; what is given back waits until it is durable.
    pub(super) fn enqueue(&self, at: Timestamp, event: &Event<'_>) -> Result<Arc<Group>, AuditUnavailable> {
        self.take_place()?;
        formatted(at, event, |members| {
            let mut state = self.state.lock();
            if state.has_ended {
                return Err(AuditUnavailable);
            }
            state.pending.append(event.kind(), members);
            let group = Arc::clone(state.pending.waiting.get_or_insert_default());
            self.wake_writer(&mut state, Sleeps::Lightly);
            Ok(group)
        })
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

    /// As [`Queue::end`], and tells when the last record is durable; dropped unsaid if the log was ended before.
    pub(super) fn close(&self, done: oneshot::Sender<()>) {
        if self.ending.swap(true, Ordering::SeqCst) {
            return;
        }
        self.state.lock().closing.push(done);
        self.nudge();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// The writer is gone: who waits is told that nothing will become durable any more; who waited for the end is given back.
    pub(super) fn has_ended(&self) -> Vec<oneshot::Sender<()>> {
        self.ending.store(true, Ordering::SeqCst);
        let (unwritten, closing) = {
            let mut state = self.state.lock();
            state.has_ended = true;
            (mem::take(&mut state.pending), mem::take(&mut state.closing))
        };
        if let Some(group) = unwritten.waiting {
            group.settle(Err(AuditUnavailable));
        }
        closing
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

    /// What has come, as soon as there is something to do; `spare` is filled next. The writer alone calls it, and blocks.
    /// `None` when the log has ended and all places were written to.
    pub(super) fn next(&self, spare: Batch) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut lingered = false;
        loop {
            let pending = &state.pending;
            let has_ended = self.is_ending() && self.taken.load(Ordering::SeqCst) == pending.ends.len();
            if pending.urgent || pending.waiting.is_some() || (lingered && !pending.ends.is_empty()) || has_ended {
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
                // Results alone; or open requests that are waited for, one of which may give its place back unsaid.
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
        // Nothing that runs in between comes back here; if it did, it would have a buffer of its own.
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

/// Those who wait for one write.
#[derive(Debug, Default)]
pub(super) struct Group(Mutex<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    outcome: Option<Result<(), AuditUnavailable>>,
    wakers: Vec<Option<Waker>>,
    /// The one that looks at the clock for all.
    timekeeper: Option<usize>,
}

impl Group {
    /// Says how it came out, once, and wakes one of those who wait.
    pub(super) fn settle(&self, outcome: Result<(), AuditUnavailable>) {
        let first = {
            let mut waiters = self.0.lock();
            waiters.outcome.get_or_insert(outcome);
            waiters.wakers.iter_mut().find_map(Option::take)
        };
        if let Some(waker) = first {
            waker.wake();
        }
    }

    /// How it came out, if that is known; whoever finds out wakes the others.
    fn found(&self) -> Option<Result<(), AuditUnavailable>> {
        let (outcome, others) = {
            let mut waiters = self.0.lock();
            (waiters.outcome?, mem::take(&mut waiters.wakers))
        };
        others.into_iter().flatten().for_each(Waker::wake);
        Some(outcome)
    }
}

/// Waits until one record is durable, but not longer than its group's patience.
#[must_use = "nothing may be used before the record is durable"]
pub(super) struct Durable<F: FnMut()> {
    group: Arc<Group>,
    slot: Option<usize>,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Told when the patience has ended.
    impatient: F,
}

impl<F: FnMut()> Durable<F> {
    pub(super) const fn new(group: Arc<Group>, patience: Duration, impatient: F) -> Self {
        Self { group, slot: None, patience, timer: None, impatient }
    }

    /// Waits, and says whether this one keeps the time for all.
    fn register(&mut self, waker: &Waker) -> bool {
        let mut waiters = self.group.0.lock();
        let slot = *self.slot.get_or_insert_with(|| {
            waiters.wakers.push(None);
            waiters.wakers.len() - 1
        });
        if let Some(place) = waiters.wakers.get_mut(slot) {
            match place {
                Some(known) => known.clone_from(waker),
                None => *place = Some(waker.clone()),
            }
        }
        *waiters.timekeeper.get_or_insert(slot) == slot
    }
}

impl<F: FnMut() + Unpin> Future for Durable<F> {
    type Output = Result<(), AuditUnavailable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(outcome) = this.group.found() {
            this.slot = None;
            return Poll::Ready(outcome);
        }
        if this.register(cx.waker()) {
            let patience = this.patience;
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            if timer.as_mut().poll(cx).is_ready() {
                (this.impatient)();
                this.group.settle(Err(AuditUnavailable));
            }
        }
        // Settled in the meantime: nobody would wake this one again.
        match this.group.found() {
            Some(outcome) => {
                this.slot = None;
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl<F: FnMut()> Drop for Durable<F> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // Woken for all and dropped instead: the others are told here.
        if self.group.found().is_some() {
            return;
        }
        let successor = {
            let mut waiters = self.group.0.lock();
            if let Some(place) = waiters.wakers.get_mut(slot) {
                *place = None;
            }
            match waiters.timekeeper {
                Some(timekeeper) if timekeeper == slot => {
                    waiters.timekeeper = None;
                    waiters.wakers.iter().flatten().next().cloned()
                }
                _ => None,
            }
        };
        if let Some(waker) = successor {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Waiter {
        woken: Arc<Woken>,
        durable: Option<Durable<fn()>>,
    }

    impl Waiter {
        fn of(group: &Arc<Group>, patience: Duration) -> Self {
            let impatient: fn() = || {};
            Self { woken: Arc::default(), durable: Some(Durable::new(Arc::clone(group), patience, impatient)) }
        }

        fn poll(&mut self) -> Poll<Result<(), AuditUnavailable>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            Pin::new(self.durable.as_mut().unwrap()).poll(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn three(patience: Duration) -> (Arc<Group>, [Waiter; 3]) {
        let group = Arc::new(Group::default());
        let mut waiters = [(); 3].map(|()| Waiter::of(&group, patience));
        assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_pending()));
        (group, waiters)
    }

    #[tokio::test]
    async fn one_is_woken_and_wakes_the_others() {
        let (group, mut waiters) = three(Duration::from_secs(60));
        group.settle(Ok(()));
        assert_eq!(waiters.each_ref().map(Waiter::woken), [1, 0, 0]);
        assert_eq!(waiters[0].poll(), Poll::Ready(Ok(())));
        assert_eq!(waiters.each_ref().map(Waiter::woken), [1, 1, 1]);
        assert_eq!((waiters[1].poll(), waiters[2].poll()), (Poll::Ready(Ok(())), Poll::Ready(Ok(()))));
    }

    #[tokio::test]
    async fn the_one_that_was_woken_may_be_dropped_instead() {
        let (group, mut waiters) = three(Duration::from_secs(60));
        group.settle(Ok(()));
        drop(waiters[0].durable.take());
        assert_eq!(waiters.each_ref().map(Waiter::woken), [1, 1, 1]);
    }

    #[tokio::test]
    async fn whoever_is_dropped_before_is_woken_no_more() {
        let (group, mut waiters) = three(Duration::from_secs(60));
        drop(waiters[1].durable.take());
        assert_eq!(waiters.each_ref().map(Waiter::woken), [0, 0, 0]);
        // The timekeeper's watch goes to another.
        drop(waiters[0].durable.take());
        assert_eq!(waiters.each_ref().map(Waiter::woken), [0, 0, 1]);
        assert!(waiters[2].poll().is_pending() && waiters[2].durable.as_ref().unwrap().timer.is_some());
        group.settle(Err(AuditUnavailable));
        assert_eq!(waiters[2].poll(), Poll::Ready(Err(AuditUnavailable)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_clock_ends_the_patience_of_all() {
        let (_group, mut waiters) = three(Duration::from_secs(1));
        assert_eq!(
            waiters.each_ref().map(|waiter| waiter.durable.as_ref().unwrap().timer.is_some()),
            [true, false, false]
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(waiters[0].poll(), Poll::Ready(Err(AuditUnavailable)));
        assert!(waiters[1].woken() == 1 && waiters[1].poll() == Poll::Ready(Err(AuditUnavailable)));
    }

    #[test]
    fn a_queue_takes_so_many_and_no_more_until_the_writer_has_taken_them() {
        let queue = Queue::new(3);
        let at = Timestamp::from_unix_seconds(0);
        let (one, _two) = (queue.place().unwrap(), queue.place().unwrap());
        queue.enqueue(at, &Event::Close).unwrap();
        assert_eq!(queue.place().unwrap_err(), AuditUnavailable);
        assert!(queue.enqueue(at, &Event::Close).is_err());
        queue.settle(one, at, &Event::Close);
        let batch = queue.next(Batch::default()).unwrap();
        assert_eq!(batch.iter().count(), 2);
        let (_three, _four) = (queue.place().unwrap(), queue.place().unwrap());
        assert!(queue.place().is_err());
    }
}
