//! The filtered body of a response: unchanged, or filtered event by event.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    events::{EventFilter, Step},
    policy::Policy,
};
use crate::{body::BodyError, refusal::Reason};

pin_project! {
    /// The body of a response, without what its caller may not see.
    pub struct FilterBody<R, P> {
        #[pin]
        inner: Inner<R>,
        filter: Option<Filter<P>>,
    }
}

pin_project! {
    /// The body of the server. It is boxed if a part of it was read before the response began.
    #[project = InnerProjection]
    #[derive(Debug)]
    enum Inner<R> {
        Unread { #[pin] body: R },
        Begun { body: Pin<Box<R>> },
    }
}

enum Filter<P> {
    Events(Box<EventFilter<P>>),
    #[cfg(feature = "grpc")]
    Grpc(Box<super::grpc::GrpcFilter<P>>),
}

impl<R, P> FilterBody<R, P> {
    pub(super) const fn untouched(inner: R) -> Self {
        Self { inner: Inner::Unread { body: inner }, filter: None }
    }

    pub(super) fn events(inner: R, filter: EventFilter<P>) -> Self {
        let filter = Some(Filter::Events(Box::new(filter)));
        Self { inner: Inner::Unread { body: inner }, filter }
    }

    #[cfg(feature = "grpc")]
    pub(super) fn grpc(inner: R, filter: super::grpc::GrpcFilter<P>) -> Self {
        let filter = Some(Filter::Grpc(Box::new(filter)));
        Self { inner: Inner::Unread { body: inner }, filter }
    }
}

impl<R: Body<Data = Bytes>, P: Policy> FilterBody<R, P> {
    /// Reads a stream until the response to its request has passed, and keeps what was read.
    /// Returns the revision that the response agrees on.
    pub(super) async fn begun(
        inner: R,
        mut filter: EventFilter<P>,
        limit: usize,
    ) -> Result<(Self, Option<String>), Reason> {
        let mut inner = Box::pin(inner);
        let (mut count, mut bytes) = (0, 0_usize);
        while !filter.has_responded() && !filter.has_ended() {
            match poll_fn(|cx| filter.step(inner.as_mut(), cx)).await {
                Step::Read => {
                    bytes = bytes.saturating_add(filter.ready_bytes_after(count));
                    count = filter.ready_count();
                    if bytes > limit {
                        return Err(Reason::ResponseUnreadable);
                    }
                }
                Step::Trailers(_) => break,
                Step::Failed(_) => return Err(Reason::UpstreamFailed),
            }
        }
        let agreed = filter.agreed().map(str::to_owned);
        let filter = Some(Filter::Events(Box::new(filter)));
        Ok((Self { inner: Inner::Begun { body: inner }, filter }, agreed))
    }
}

impl<R: Default, P> Default for FilterBody<R, P> {
    fn default() -> Self {
        Self::untouched(R::default())
    }
}

impl<R: Body<Data = Bytes>, P: Policy> Body for FilterBody<R, P> {
    type Data = Bytes;
    type Error = BodyError<R::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let filter = match this.filter {
            None => return this.inner.poll_frame(cx).map_err(BodyError::Inner),
            #[cfg(feature = "grpc")]
            Some(Filter::Grpc(filter)) => return filter.poll_frame(this.inner, cx),
            Some(Filter::Events(filter)) => filter,
        };
        loop {
            filter.check_permission();
            if let Some(event) = filter.next_ready() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            if filter.has_ended() {
                return Poll::Ready(None);
            }
            match ready!(filter.step(this.inner.as_mut(), cx)) {
                Step::Read => {}
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(trailers))),
                Step::Failed(error) => return Poll::Ready(Some(Err(BodyError::Inner(error)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.filter {
            #[cfg(feature = "grpc")]
            Some(Filter::Grpc(filter)) => filter.is_end_stream(&self.inner),
            Some(Filter::Events(filter)) => {
                // An error for the client may follow the last frame.
                filter.is_empty() && filter.has_ended()
            }
            None => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.filter.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

impl<R: fmt::Debug, P> fmt::Debug for FilterBody<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_filtered = self.filter.is_some();
        f.debug_struct("FilterBody")
            .field("inner", &self.inner)
            .field("filtered", &is_filtered)
            .finish_non_exhaustive()
    }
}

impl<R: Body> Body for Inner<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        match self.project() {
            InnerProjection::Unread { body } => body.poll_frame(cx),
            InnerProjection::Begun { body } => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unread { body } => body.is_end_stream(),
            Self::Begun { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unread { body } => body.size_hint(),
            Self::Begun { body } => body.size_hint(),
        }
    }
}
