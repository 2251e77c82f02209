//! Whether a connection has a request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// The requests of a connection. Counted without locks, because each request is.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// A request, until its response is over.
#[derive(Debug)]
pub(super) struct Active(Arc<Counts>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Counts a request.
    pub(super) fn begin(&self) -> Active {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(&self.0))
    }

    /// Whether there was a request.
    pub(super) fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed) > 0
    }

    /// Waits until there was no request for this time, or up to twice as long.
    pub(super) async fn idle_for(&self, time: Duration) {
        loop {
            // In this order: a request that begins in between is not taken for one that has ended.
            let ended = self.0.ended.load(Ordering::Acquire);
            let begun = self.0.begun.load(Ordering::Acquire);
            tokio::time::sleep(time).await;
            if begun == ended && begun == self.0.begun.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

pin_project! {
    /// The body of a response, which keeps its request active.
    pub(super) struct ActiveBody<B> {
        #[pin]
        body: B,
        active: Option<Active>,
    }
}

impl<B> ActiveBody<B> {
    pub(super) const fn new(body: B, active: Active) -> Self {
        Self { body, active: Some(active) }
    }
}

impl<B: Body> Body for ActiveBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            *this.active = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_a_time_without_a_request() {
        let (activity, idle) = (Activity::new(), Duration::from_secs(300));
        let began = tokio::time::Instant::now();
        activity.idle_for(idle).await;
        assert_eq!(began.elapsed(), idle);
        assert!(!activity.has_begun());
        let active = activity.begin();
        assert!(activity.has_begun());
        let waiting = activity.idle_for(idle);
        let end = async {
            // A long response.
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(active);
            // Another request shortly before the connection would be idle.
            tokio::time::sleep(Duration::from_secs(299)).await;
            drop(activity.begin());
        };
        let began = tokio::time::Instant::now();
        tokio::join!(waiting, end);
        let waited = began.elapsed() - Duration::from_secs(1299);
        assert!(waited >= idle && waited <= idle * 2, "{waited:?}");
    }
}
