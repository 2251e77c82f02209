//! The future that waits for a durable write.
//!
//! Waking another thread costs more than writing a record, so a group does it once in each
//! direction. The first caller yields as long as other callers join, then wakes the writer. A
//! single caller does not wait for others. When the records are durable, the writer wakes one
//! caller, and that one wakes the others.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Sleep;

use super::{
    core::Core,
    error::AuditError,
    group_commit::{Group, Left},
};

/// Waits until one record is durable, at most for the timeout of the log.
#[must_use = "nothing may be used before the record is durable"]
pub(in crate::audit) struct Durable<'c> {
    core: &'c Core,
    group: Arc<Group>,
    slot: Option<usize>,
    acting: Option<Acting>,
}

type Yielded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// State of the caller that acts for its group.
struct Acting {
    /// While it lets other tasks run: the number of callers before, and the yield.
    joining: Option<(usize, Yielded)>,
    timer: Pin<Box<Sleep>>,
}

impl<'c> Durable<'c> {
    pub(super) const fn new(core: &'c Core, group: Arc<Group>) -> Self {
        Self { core, group, slot: None, acting: None }
    }

    /// Waits as long as other callers join, then wakes the writer. Ready when the timeout of the
    /// group has elapsed.
    fn act(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let acting = self.acting.get_or_insert_with(|| Acting {
            joining: Some((1, Box::pin(tokio::task::yield_now()))),
            timer: Box::pin(tokio::time::sleep(self.core.timeout)),
        });
        while let Some((before, yielded)) = &mut acting.joining {
            if yielded.as_mut().poll(cx).is_pending() {
                break;
            }
            let members = self.group.members();
            acting.joining = if members > *before {
                Some((members, Box::pin(tokio::task::yield_now())))
            } else {
                self.core.queue.commit(&self.group);
                None
            };
        }
        acting.timer.as_mut().poll(cx)
    }

    fn outcome(&mut self) -> Option<Result<(), AuditError>> {
        let outcome = self.group.outcome()?;
        // Its waker was removed with those of the others.
        self.slot = None;
        Some(outcome)
    }
}

impl Future for Durable<'_> {
    type Output = Result<(), AuditError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(outcome) = this.outcome() {
            return Poll::Ready(outcome);
        }
        if this.group.register(&mut this.slot, cx.waker()) && this.act(cx).is_ready() {
            // P288: a writer that does not finish in time closes the log, and opens it again when
            // it has finished.
            this.core.close("the sink did not finish in time");
            this.group.settle(Err(AuditError));
        }
        // Settled in the meantime: nothing would wake this task again.
        match this.outcome() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // Woken for all and dropped instead: `outcome` wakes the others.
        if self.group.outcome().is_some() {
            return;
        }
        match self.group.leave(slot) {
            Left::Others => {}
            Left::First(successor) => successor.wake(),
            // No caller waits; the record is written all the same.
            Left::Alone => self.core.queue.commit(&self.group),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Wake, Waker},
        time::Duration,
    };

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

    /// Wake-ups of the second and third waiter. `yield_now` wakes the first.
    fn others_woken(waiters: &[Waiter<'_>; 3]) -> [usize; 2] {
        [waiters[1].woken(), waiters[2].woken()]
    }

    #[tokio::test]
    async fn one_waiter_is_woken_and_wakes_the_others() {
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
    async fn a_woken_waiter_that_is_dropped_wakes_the_others() {
        let core = core();
        let (group, mut waiters) = three(&core);
        group.settle(Ok(()));
        drop(waiters[0].durable.take());
        assert_eq!(others_woken(&waiters), [1, 1]);
    }

    #[tokio::test]
    async fn a_dropped_waiter_has_a_successor() {
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
    async fn one_timeout_ends_the_group_and_closes_the_log() {
        let core = core();
        let (_group, mut waiters) = three(&core);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(waiters[0].poll(), Poll::Ready(Err(AuditError)));
        assert!(!core.is_open());
        assert!(waiters[1].woken() == 1 && waiters[1].poll() == Poll::Ready(Err(AuditError)));
    }

    #[tokio::test]
    async fn the_first_wakes_the_writer_when_no_one_joins() {
        let core = core();
        let mut first = Waiter::of(&core);
        let has_committed = || core.queue.is_urgent();
        assert!(first.poll().is_pending() && !has_committed());
        let others: Vec<_> = (0..3).map(|_| Waiter::of(&core)).collect();
        // Others joined during the yield, so it yields again.
        assert!(first.poll().is_pending() && !has_committed());
        assert!(first.poll().is_pending() && has_committed());
        drop(others);
    }
}
