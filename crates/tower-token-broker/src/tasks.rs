//! Owned background tasks, which run to their end even if the request that began them is dropped.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::Notify;

/// The owner of tasks that must finish: refreshes, revocations, watchers.
///
/// Cheap to clone; clones own the same tasks. On shutdown, [`Tasks::shutdown`] waits for those in
/// progress.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Owned>);

#[derive(Debug, Default)]
struct Owned {
    running: AtomicUsize,
    one_ended: Notify,
}

impl Tasks {
    /// Creates an owner without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` to its end on the current tokio runtime. Dropping the [`Task`] changes nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "the owner that all other code uses")]
    pub fn spawn<F>(&self, name: &'static str, work: F) -> Task<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        let ended = Ended(Arc::clone(&self.0));
        Task {
            name,
            handle: tokio::spawn(async move {
                let _ended = ended;
                work.await
            }),
        }
    }

    /// Returns the number of tasks in progress.
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::Acquire)
    }

    /// Waits, at most `bound`, until no task is in progress; returns whether that was reached.
    ///
    /// # Cancellation
    /// Dropped, the tasks continue.
    pub async fn shutdown(&self, bound: Duration) -> bool {
        let all_ended = async {
            loop {
                let ended = self.0.one_ended.notified();
                if self.running() == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(bound, all_ended).await.is_ok()
    }
}

struct Ended(Arc<Owned>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.one_ended.notify_waiters();
    }
}

/// A handle that waits for the result of an owned task. Dropped, the task continues.
#[derive(Debug)]
#[must_use = "the task continues, but its result is lost"]
pub struct Task<T> {
    name: &'static str,
    handle: tokio::task::JoinHandle<T>,
}

/// The task did not complete: it panicked, or the runtime was shut down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {name} did not complete")]
pub struct TaskError {
    name: &'static str,
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.handle).poll(cx));
        Poll::Ready(ended.map_err(|_| TaskError { name: self.name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_goes_on_when_its_caller_is_gone() {
        let tasks = Tasks::new();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, seen) = tokio::sync::oneshot::channel();
        drop(tasks.spawn("test", async move {
            wait.await.unwrap();
            done.send(7).unwrap();
        }));
        assert_eq!(tasks.running(), 1);
        go.send(()).unwrap();
        assert_eq!(seen.await, Ok(7));
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_panic_is_told_to_the_caller_by_name() {
        let lost = Tasks::new().spawn("doomed", async { panic!("planted") }).await;
        assert_eq!(lost, Err(TaskError { name: "doomed" }));
    }
}
