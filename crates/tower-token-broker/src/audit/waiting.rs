//! Those who wait for one write, and how they go the way from thread to thread together.
//!
//! That way costs more than a record, so a group goes it once in each direction. The first of those
//! who wait lets all others run that are ready to, and once more as long as that brings company;
//! then it wakes the writer. Alone, it waits for nobody. When the records are durable the writer
//! wakes one of them, and that one wakes the others.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::time::Sleep;

use super::log::{AuditError, Core};

/// Those who wait for one write.
#[derive(Debug, Default)]
pub(super) struct Group {
    waiters: Mutex<Waiters>,
    /// How many have come.
    members: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiters {
    outcome: Option<Result<(), AuditError>>,
    wakers: Vec<Option<Waker>>,
    /// The one that acts for all.
    first: Option<usize>,
}

impl Group {
    pub(super) fn joined(&self) {
        self.members.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how it came out, once, and wakes one of those who wait.
    pub(super) fn settle(&self, outcome: Result<(), AuditError>) {
        let one = {
            let mut waiters = self.waiters.lock();
            waiters.outcome.get_or_insert(outcome);
            waiters.wakers.iter_mut().find_map(Option::take)
        };
        if let Some(waker) = one {
            waker.wake();
        }
    }

    /// How it came out, if that is known; whoever finds out wakes the others.
    fn found(&self) -> Option<Result<(), AuditError>> {
        let (outcome, others) = {
            let mut waiters = self.waiters.lock();
            (waiters.outcome?, mem::take(&mut waiters.wakers))
        };
        others.into_iter().flatten().for_each(Waker::wake);
        Some(outcome)
    }
}

/// Waits until one record is durable, but not longer than the log's deadline.
#[must_use = "nothing may be used before the record is durable"]
pub(super) struct Durable<'c> {
    core: &'c Core,
    group: Arc<Group>,
    slot: Option<usize>,
    acting: Option<Acting>,
}

type Yielded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the first of those who wait does for all.
struct Acting {
    /// While it lets others run: how many there were before, and when they have run.
    company: Option<(usize, Yielded)>,
    timer: Pin<Box<Sleep>>,
}

impl<'c> Durable<'c> {
    pub(super) const fn new(core: &'c Core, group: Arc<Group>) -> Self {
        Self { core, group, slot: None, acting: None }
    }

    /// Waits, and says whether this one acts for all.
    fn register(&mut self, waker: &Waker) -> bool {
        let mut waiters = self.group.waiters.lock();
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
        *waiters.first.get_or_insert(slot) == slot
    }

    /// Waits for company as long as any comes, then wakes the writer. Ready when the group's
    /// patience has ended.
    fn act(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let acting = self.acting.get_or_insert_with(|| Acting {
            company: Some((1, Box::pin(tokio::task::yield_now()))),
            timer: Box::pin(tokio::time::sleep(self.core.deadline)),
        });
        while let Some((before, others_run)) = &mut acting.company {
            if others_run.as_mut().poll(cx).is_pending() {
                break;
            }
            let members = self.group.members.load(Ordering::Relaxed);
            acting.company = if members > *before {
                Some((members, Box::pin(tokio::task::yield_now())))
            } else {
                self.core.queue.commit(&self.group);
                None
            };
        }
        acting.timer.as_mut().poll(cx)
    }

    fn found(&mut self) -> Option<Result<(), AuditError>> {
        let outcome = self.group.found()?;
        // Its waker is gone with those of the others.
        self.slot = None;
        Some(outcome)
    }
}

impl Future for Durable<'_> {
    type Output = Result<(), AuditError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(outcome) = this.found() {
            return Poll::Ready(outcome);
        }
        if this.register(cx.waker()) && this.act(cx).is_ready() {
            // P288: a writer that does not answer in time closes the door; it opens it when it is
            // through.
            this.core.close("the sink does not answer in time");
            this.group.settle(Err(AuditError));
        }
        // Settled in the meantime: nobody would wake this one again.
        match this.found() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // Woken for all and dropped instead: the others are told here.
        if self.group.found().is_some() {
            return;
        }
        let successor = {
            let mut waiters = self.group.waiters.lock();
            if let Some(place) = waiters.wakers.get_mut(slot) {
                *place = None;
            }
            if waiters.first != Some(slot) {
                return;
            }
            waiters.first = None;
            waiters.wakers.iter().flatten().next().cloned()
        };
        match successor {
            Some(waker) => waker.wake(),
            // Nobody waits; what was asked for is written all the same.
            None => self.core.queue.commit(&self.group),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Wake, time::Duration};

    use super::*;
    use crate::{audit::record::Event, clock::Timestamp};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Waiter<'c> {
        woken: Arc<Woken>,
        durable: Option<Durable<'c>>,
    }

    impl<'c> Waiter<'c> {
        fn of(core: &'c Core) -> Self {
            let group = core.queue.enqueue(Timestamp::from_unix_seconds(0), &Event::Close).unwrap();
            Self { woken: Arc::default(), durable: Some(Durable::new(core, group)) }
        }

        fn poll(&mut self) -> Poll<Result<(), AuditError>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            Pin::new(self.durable.as_mut().unwrap()).poll(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }

        fn acts(&self) -> bool {
            self.durable.as_ref().unwrap().acting.is_some()
        }

        fn group(&self) -> Arc<Group> {
            Arc::clone(&self.durable.as_ref().unwrap().group)
        }
    }

    fn core() -> Core {
        Core::new(100, Duration::from_secs(60))
    }

    fn three(core: &Core) -> (Arc<Group>, [Waiter<'_>; 3]) {
        let mut waiters = [(); 3].map(|()| Waiter::of(core));
        assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_pending()));
        (waiters[0].group(), waiters)
    }

    /// Whether each was woken since it was asked last; what `yield_now` does counts for the first.
    fn others_woken(waiters: &[Waiter<'_>; 3]) -> [usize; 2] {
        [waiters[1].woken(), waiters[2].woken()]
    }

    #[tokio::test]
    async fn one_is_woken_and_wakes_the_others() {
        let core = core();
        let (group, mut waiters) = three(&core);
        group.settle(Ok(()));
        assert_eq!(others_woken(&waiters), [0, 0]);
        assert_eq!(waiters[0].poll(), Poll::Ready(Ok(())));
        assert_eq!(others_woken(&waiters), [1, 1]);
        assert_eq!(
            (waiters[1].poll(), waiters[2].poll()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(())))
        );
    }

    #[tokio::test]
    async fn the_one_that_was_woken_may_be_dropped_instead() {
        let core = core();
        let (group, mut waiters) = three(&core);
        group.settle(Ok(()));
        drop(waiters[0].durable.take());
        assert_eq!(others_woken(&waiters), [1, 1]);
    }

    #[tokio::test]
    async fn whoever_is_dropped_before_is_woken_no_more_and_who_acted_for_all_has_a_successor() {
        let core = core();
        let (group, mut waiters) = three(&core);
        assert_eq!(waiters.each_ref().map(Waiter::acts), [true, false, false]);
        drop(waiters[1].durable.take());
        drop(waiters[0].durable.take());
        assert_eq!(others_woken(&waiters), [0, 1]);
        assert!(waiters[2].poll().is_pending() && waiters[2].acts());
        group.settle(Err(AuditError));
        assert_eq!(waiters[2].poll(), Poll::Ready(Err(AuditError)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_clock_ends_the_patience_of_all_and_closes_the_door() {
        let core = core();
        let (_group, mut waiters) = three(&core);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(waiters[0].poll(), Poll::Ready(Err(AuditError)));
        assert!(!core.is_open());
        assert!(waiters[1].woken() == 1 && waiters[1].poll() == Poll::Ready(Err(AuditError)));
    }

    #[tokio::test]
    async fn the_first_wakes_the_writer_when_no_more_company_comes() {
        let core = core();
        let mut first = Waiter::of(&core);
        let has_committed = || core.queue.is_urgent();
        assert!(first.poll().is_pending() && !has_committed());
        let others: Vec<_> = (0..3).map(|_| Waiter::of(&core)).collect();
        // Company came while others ran, so they run once more.
        assert!(first.poll().is_pending() && !has_committed());
        assert!(first.poll().is_pending() && has_committed());
        drop(others);
    }
}
