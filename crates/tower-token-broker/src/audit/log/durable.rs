//! Waits for a durable write.
//!
//! Waking another thread costs more than writing a record, so callers that come together wake the
//! writer once: each lets the others join before it does. When the records are durable, the writer
//! wakes each caller. Each caller has its own timeout.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
};

use super::{core::Core, error::AuditError, group_commit::Member};

/// How often a caller lets others join. Then it wakes the writer, even if more are joining.
const MAX_YIELDS: usize = 4;

/// Waits until one record is durable, at most for the timeout of the log.
///
/// # Cancellation
/// The record is written all the same, after at most the writer's delay.
pub(super) async fn durable(core: &Core, mut member: Member) -> Result<(), AuditError> {
    let mut timer = pin!(tokio::time::sleep(core.timeout));
    commit(core, &member).await;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = member.poll(cx) {
            return Poll::Ready(outcome);
        }
        ready!(timer.as_mut().poll(cx));
        // P288: a writer that does not finish in time closes the log, and opens it again when it
        // has finished.
        core.close("the sink did not finish in time");
        Poll::Ready(Err(AuditError))
    })
    .await
}

/// Makes the writer write the group, after others have joined.
async fn commit(core: &Core, member: &Member) {
    let mut before = member.joined_as();
    for _ in 0..MAX_YIELDS {
        if member.is_committed() {
            return;
        }
        tokio::task::yield_now().await;
        let members = member.members();
        if members == before {
            break;
        }
        before = members;
    }
    // P380: each caller does this for itself.
    if !member.is_committed() {
        core.queue.commit(member.group());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Wake, Waker},
        time::Duration,
    };

    use super::*;
    use crate::{
        audit::{
            log::{group_commit::Group, options::Capacity},
            record::Event,
        },
        clock::Timestamp,
    };

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    type Durable<'c> = Pin<Box<dyn Future<Output = Result<(), AuditError>> + 'c>>;

    struct Waiter<'c> {
        woken: Arc<Woken>,
        durable: Option<Durable<'c>>,
        group: Arc<Group>,
    }

    impl<'c> Waiter<'c> {
        fn of(core: &'c Core) -> Self {
            let place = core.queue.places.for_background().unwrap();
            let member =
                core.queue.enqueue(place, Timestamp::from_unix_seconds(0), &Event::Close).unwrap();
            let group = Arc::clone(member.group());
            Self { woken: Arc::default(), durable: Some(Box::pin(durable(core, member))), group }
        }

        fn poll(&mut self) -> Poll<Result<(), AuditError>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.durable.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn core() -> Core {
        Core::new(Capacity { records: 1000, per_user: None }, Duration::from_secs(60))
    }

    /// Three that wait for the writer.
    fn three(core: &Core) -> (Arc<Group>, [Waiter<'_>; 3]) {
        let mut waiters = [(); 3].map(|()| Waiter::of(core));
        for _ in 0..=MAX_YIELDS {
            assert!(waiters.iter_mut().all(|waiter| waiter.poll().is_pending()));
        }
        (Arc::clone(&waiters[0].group), waiters)
    }

    #[tokio::test]
    async fn p380_the_writer_wakes_every_waiter() {
        let core = core();
        let (group, mut waiters) = three(&core);
        let before = waiters.each_ref().map(Waiter::woken);
        group.settle(Ok(()));
        // None was polled in between.
        assert_eq!(waiters.each_ref().map(Waiter::woken), before.map(|woken| woken + 1));
        assert!(waiters.iter_mut().all(|waiter| waiter.poll() == Poll::Ready(Ok(()))));
    }

    #[tokio::test]
    async fn p380_a_waiter_polled_once_delays_no_one() {
        for idle in 0..3 {
            let core = core();
            let mut waiters = [(); 3].map(|()| Waiter::of(&core));
            assert!(waiters[idle].poll().is_pending());
            for _ in 0..=MAX_YIELDS {
                for (number, waiter) in waiters.iter_mut().enumerate() {
                    assert!(number == idle || waiter.poll().is_pending());
                }
            }
            assert!(core.queue.is_urgent(), "the others wake the writer");
            waiters[idle].group.settle(Ok(()));
            for (number, waiter) in waiters.iter_mut().enumerate() {
                assert!(number == idle || waiter.poll() == Poll::Ready(Ok(())));
            }
        }
    }

    #[tokio::test]
    async fn p380_a_waker_that_panics_is_only_its_own() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a defect of an executor");
            }
        }
        let core = core();
        let (group, mut waiters) = three(&core);
        let first = waiters[0].durable.as_mut().unwrap();
        let waker = Waker::from(Arc::new(Panics));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let before = [1, 2].map(|other: usize| waiters[other].woken());
        group.settle(Ok(()));
        let after = [1, 2].map(|other: usize| waiters[other].woken());
        assert_eq!(after, before.map(|woken| woken + 1));
    }

    #[tokio::test]
    async fn a_dropped_waiter_is_not_woken() {
        let core = core();
        let (group, mut waiters) = three(&core);
        drop(waiters[0].durable.take());
        let before = waiters.each_ref().map(Waiter::woken);
        group.settle(Err(AuditError));
        let after = waiters.each_ref().map(Waiter::woken);
        assert_eq!(after, [before[0], before[1] + 1, before[2] + 1]);
        assert_eq!(waiters[1].poll(), Poll::Ready(Err(AuditError)));
    }

    #[tokio::test(start_paused = true)]
    async fn p380_each_waiter_has_its_own_timeout() {
        let core = core();
        let (_group, mut waiters) = three(&core);
        tokio::time::advance(Duration::from_secs(40)).await;
        let mut later = Waiter::of(&core);
        (0..=MAX_YIELDS).for_each(|_| assert!(later.poll().is_pending()));
        tokio::time::advance(Duration::from_secs(21)).await;
        // The first two are never polled again; the third one is refused in time.
        assert_eq!(waiters[2].poll(), Poll::Ready(Err(AuditError)));
        assert!(!core.is_open());
        assert!(later.poll().is_pending(), "its own time has not passed");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(later.poll(), Poll::Ready(Err(AuditError)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_durable_record_is_durable_however_late_it_is_polled() {
        let core = core();
        let (group, mut waiters) = three(&core);
        group.settle(Ok(()));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(waiters[1].poll(), Poll::Ready(Ok(())));
        assert!(core.is_open());
    }

    #[tokio::test]
    async fn the_last_one_that_joins_wakes_the_writer() {
        let core = core();
        let mut waiters = vec![Waiter::of(&core)];
        assert!(waiters[0].poll().is_pending() && !core.queue.is_urgent());
        waiters.extend((0..3).map(|_| Waiter::of(&core)));
        // Others joined during the yield, so it yields again.
        assert!(waiters[0].poll().is_pending() && !core.queue.is_urgent());
        assert!(waiters[3].poll().is_pending() && !core.queue.is_urgent());
        assert!(waiters[3].poll().is_pending() && core.queue.is_urgent());
    }

    #[tokio::test]
    async fn callers_that_keep_joining_delay_no_one_for_long() {
        let core = core();
        let mut first = Waiter::of(&core);
        let mut others = Vec::new();
        for _ in 0..=MAX_YIELDS {
            assert!(!core.queue.is_urgent() && first.poll().is_pending());
            others.push(Waiter::of(&core));
        }
        assert!(core.queue.is_urgent());
    }
}
