//! Cancellation at every await: a future is polled n times and dropped, for all n (X25).

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
};

/// Polls `work` at most `polls` times, each time it asks to be woken; `None` if it was not done by
/// then and was dropped.
pub async fn at_most<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // Dropped as soon as the last poll is spent: nothing wakes a caller that hung up.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls `work` once; `None` if it waits for something. The caller keeps it, and may go on with it.
pub async fn once<F: Future>(mut work: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(move |cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What `work` gives, or what it panicked with, as a server's task ends by it (X26).
///
/// # Errors
/// The panic.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut work = Box::pin(work);
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_is_dropped_after_its_last_poll() {
        let yields_twice = || async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(at_most(0, yields_twice()).await, None);
        assert_eq!(at_most(2, yields_twice()).await, None);
        assert_eq!(at_most(3, yields_twice()).await, Some(7));
    }
}
