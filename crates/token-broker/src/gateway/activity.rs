//! Whether a connection has a request.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::watch;

/// The number of requests of a connection whose responses are not over.
#[derive(Clone, Debug)]
pub(super) struct Activity(watch::Sender<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    requests: usize,
    has_begun: bool,
}

/// A request, until its response is over.
#[derive(Debug)]
pub(super) struct Active(watch::Sender<State>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State { requests: 0, has_begun: false }))
    }

    /// Counts a request.
    pub(super) fn begin(&self) -> Active {
        self.0.send_modify(|state| {
            state.requests += 1;
            state.has_begun = true;
        });
        Active(self.0.clone())
    }

    /// Whether there was a request.
    pub(super) fn has_begun(&self) -> bool {
        self.0.borrow().has_begun
    }

    /// Waits until there was no request for this time.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut state = self.0.subscribe();
        loop {
            // This value is a sender: it does not close.
            drop(state.wait_for(|state| state.requests == 0).await);
            // Also a request that is over already.
            if tokio::time::timeout(time, state.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.requests -= 1);
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
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(active);
            // Another one begins shortly before the end.
            tokio::time::sleep(Duration::from_secs(299)).await;
            drop(activity.begin());
        };
        let began = tokio::time::Instant::now();
        tokio::join!(waiting, end);
        assert_eq!(began.elapsed(), Duration::from_secs(1000 + 299 + 300));
    }
}
