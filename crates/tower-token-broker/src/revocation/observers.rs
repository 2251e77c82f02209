//! Work in progress that a revocation ends at once, whether or not anyone polls it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::alarm::Alarm;

const SHARDS: usize = 16;
/// Interval of the looks that no revocation causes: for expiry and timeouts.
const INTERVAL: Duration = Duration::from_millis(250);

/// Work in progress.
pub(crate) trait Observer: Send + Sync {
    /// Checks whether the work may continue, and ends it otherwise. Called after each revocation,
    /// before it returns, and a few times a second.
    fn look(&self);
}

/// The observers of one process.
#[derive(Default)]
pub(super) struct Observers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicUsize,
    is_running: Arc<AtomicBool>,
    clock: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<Weak<dyn Observer>>>,
    free: Vec<usize>,
}

/// The registration of one observer, which ends when it is dropped.
pub(crate) struct Registered {
    shared: Weak<Shared>,
    shard: usize,
    slot: usize,
}

impl Observers {
    /// Registers an observer.
    pub(super) fn register(&self, observer: Weak<dyn Observer>) -> Registered {
        let shard = self.0.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let slot = self.0.shards.get(shard).map_or(0, |slots| slots.lock().enter(observer));
        if !self.0.is_running.load(Ordering::Acquire) {
            self.start();
        }
        Registered { shared: Arc::downgrade(&self.0), shard, slot }
    }

    /// Lets all observers look.
    pub(super) fn look(&self) {
        self.0.look();
    }

    /// Starts the task that looks between revocations, unless it runs. Outside of a runtime there
    /// are no timeouts.
    fn start(&self) {
        let mut running = self.0.clock.lock();
        if running.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let shared = Arc::downgrade(&self.0);
        self.0.is_running.store(true, Ordering::Release);
        // Also dropped with its runtime, which may end before the broker does.
        let is_running = Running(Arc::clone(&self.0.is_running));
        let task = runtime.spawn(async move {
            let _is_running = is_running;
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(shared) = shared.upgrade() else { return };
                shared.look();
            }
        });
        *running = Some(task.abort_handle());
    }
}

/// Held by the task while it runs.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Shared {
    fn look(&self) {
        for shard in &self.shards {
            let observers: Vec<Arc<dyn Observer>> =
                shard.lock().slots.iter().flatten().filter_map(Weak::upgrade).collect();
            for observer in observers {
                // A panic of one transport does not keep the others from their end.
                let looked = catch_unwind(AssertUnwindSafe(|| observer.look()));
                if looked.is_err() {
                    tracing::error!(
                        alarm = Alarm::TransportPanicked.code(),
                        "the transport of an upload panicked; fix its implementation"
                    );
                }
            }
        }
    }
}

impl Shard {
    fn enter(&mut self, observer: Weak<dyn Observer>) -> usize {
        let Some(slot) = self.free.pop() else {
            self.slots.push(Some(observer));
            return self.slots.len().saturating_sub(1);
        };
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(observer);
        }
        slot
    }

    fn leave(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = None;
            self.free.push(slot);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(shard) = shared.shards.get(self.shard) {
            shard.lock().leave(self.slot);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let clock = self.clock.get_mut().take();
        if let Some(task) = clock {
            task.abort();
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Observer for Counter {
        fn look(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn registered(observers: &Observers) -> (Arc<Counter>, Registered) {
        let counter = Arc::new(Counter::default());
        let observer: Weak<Counter> = Arc::downgrade(&counter);
        (counter, observers.register(observer))
    }

    #[test]
    fn observers_look_while_they_are_registered() {
        let observers = Observers::default();
        let all: Vec<_> = (0..40).map(|_| registered(&observers)).collect();
        observers.look();
        assert!(all.iter().all(|(counter, _)| counter.0.load(Ordering::Relaxed) == 1));
        let (counters, registrations): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        drop(registrations);
        observers.look();
        assert!(counters.iter().all(|counter| counter.0.load(Ordering::Relaxed) == 1));
        let slots = || observers.0.shards.iter().map(|shard| shard.lock().slots.len());
        let before = slots().sum::<usize>();
        // As many as there are shards, times their slots.
        let again: Vec<_> = (0..32).map(|_| registered(&observers)).collect();
        assert_eq!(slots().sum::<usize>(), before, "slots are used again");
        drop(again);
    }

    struct Panics;

    impl Observer for Panics {
        fn look(&self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_of_one_observer_reaches_no_other() {
        let observers = Observers::default();
        let panics: Vec<_> = (0..16)
            .map(|_| {
                let panics = Arc::new(Panics);
                let observer: Weak<Panics> = Arc::downgrade(&panics);
                (panics, observers.register(observer))
            })
            .collect();
        let (counter, _registered) = registered(&observers);
        observers.look();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        drop(panics);
    }

    #[test]
    fn observers_look_after_their_runtime_has_ended() {
        let observers = Observers::default();
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap()
        };
        let first = runtime().block_on(async { registered(&observers) });
        let second = runtime().block_on(async {
            let second = registered(&observers);
            tokio::time::sleep(INTERVAL * 2 + Duration::from_millis(1)).await;
            second
        });
        for (counter, _registered) in [first, second] {
            assert_eq!(counter.0.load(Ordering::Relaxed), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn observers_look_without_a_revocation() {
        let observers = Observers::default();
        let (counter, _registered) = registered(&observers);
        tokio::time::sleep(INTERVAL * 4 + Duration::from_millis(1)).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 4);
        let task = observers.0.clock.lock().clone().unwrap();
        drop(observers);
        tokio::task::yield_now().await;
        assert!(task.is_finished());
    }
}
