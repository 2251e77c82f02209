//! The response body. Its end is the end of the request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{record::Outcome, trail::Terminal};

pin_project! {
    /// Passes the response body on unchanged, counts its bytes, and writes the request's record
    /// when it ends.
    ///
    /// A body has ended on `None`, on an error, or when it reports its end after a frame. If it is
    /// dropped before, the request was dropped.
    #[derive(Debug)]
    pub struct TrailBody<R> {
        #[pin]
        inner: R,
        terminal: Option<Terminal>,
    }
}

impl<R: Body> TrailBody<R> {
    pub(super) fn new(inner: R, mut terminal: Terminal) -> Self {
        if inner.is_end_stream() {
            terminal.settle(Outcome::Completed);
        }
        Self { inner, terminal: Some(terminal) }
    }

    /// Wraps a body whose request has its record already, or has none of its own.
    pub(super) const fn without_record(inner: R) -> Self {
        Self { inner, terminal: None }
    }
}

// The default body of tower-http's timeout belongs to no recorded request.
impl<R: Default> Default for TrailBody<R> {
    fn default() -> Self {
        Self { inner: R::default(), terminal: None }
    }
}

impl<R: Body<Data = Bytes>> Body for TrailBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let mut this = self.project();
        let polled = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(terminal) = this.terminal {
            match &polled {
                Some(Ok(frame)) => {
                    #[cfg(feature = "grpc")]
                    if let Some(trailers) = frame.trailers_ref() {
                        terminal.grpc_fields(trailers);
                    }
                    terminal.passed(frame.data_ref().map_or(0, Bytes::len));
                    if this.inner.is_end_stream() {
                        terminal.settle(Outcome::Completed);
                    }
                }
                Some(Err(_)) => terminal.settle(Outcome::Failed),
                None => terminal.settle(Outcome::Completed),
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
