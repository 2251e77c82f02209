//! Drops a future after n polls, for all n, to test cancellation at every await.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
};

/// Polls `work` at most `polls` times, whenever it is woken. Returns `None` and drops it if it is
/// not ready by then.
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
            // X25: dropped right after the last poll: once a client has disconnected, nothing wakes
            // the future.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls `work` once. Returns `None` if it is pending; the caller may poll it again.
pub async fn once<F: Future>(mut work: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(move |cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Returns the output of `work`, or its panic, as for a server's task.
///
/// # Errors
/// Returns the panic.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, Box<dyn Any + Send>> {
    // X26: a server's task ends the same way.
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
