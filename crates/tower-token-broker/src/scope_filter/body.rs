//! The filtered body of a response: unchanged, or filtered event by event.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{judged::Judged, layer::Shared, policy::Policy, response::OwnPermission};
use crate::{
    alarm::Alarm,
    audit::Trail,
    body::BodyError,
    mcp::{
        response::Found,
        sse::{self, EventTooLong, Events},
    },
    principal::Principal,
    refusal::Reason,
    sealing::RequestStates,
};

/// The event that replaces one that is too long to be judged.
// K228: an event over the limit ends the stream.
const TOO_LONG: &[u8] = b"data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\
      \"message\":\"an event of the server was too long\"}}\n\n";

pin_project! {
    /// The body of a response, without what its caller may not see.
    pub struct FilterBody<R, P> {
        #[pin]
        inner: R,
        filter: Option<Filter<P>>,
    }
}

enum Filter<P> {
    Events(EventFilter<P>),
    #[cfg(feature = "grpc")]
    Grpc(Box<super::grpc::GrpcFilter<P>>),
}

struct EventFilter<P> {
    shared: Arc<Shared<P>>,
    principal: Principal,
    states: Option<RequestStates>,
    permission: Option<OwnPermission>,
    trail: Trail,
    events: Events,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl<R, P> FilterBody<R, P> {
    pub(super) const fn untouched(inner: R) -> Self {
        Self { inner, filter: None }
    }

    pub(super) fn events(
        inner: R,
        shared: Arc<Shared<P>>,
        principal: Principal,
        judged: &Judged,
        trail: Trail,
    ) -> Self {
        let events = Events::new(shared.limits.max_response);
        let filter = EventFilter {
            shared,
            principal,
            states: judged.states().cloned(),
            permission: OwnPermission::of(judged),
            trail,
            events,
            ready: VecDeque::new(),
            ended: false,
        };
        Self { inner, filter: Some(Filter::Events(filter)) }
    }

    #[cfg(feature = "grpc")]
    pub(super) fn grpc(inner: R, filter: super::grpc::GrpcFilter<P>) -> Self {
        Self { inner, filter: Some(Filter::Grpc(Box::new(filter))) }
    }
}

impl<R: Default, P> Default for FilterBody<R, P> {
    fn default() -> Self {
        Self::untouched(R::default())
    }
}

impl<P: Policy> EventFilter<P> {
    fn take(&mut self, chunk: Bytes) {
        self.events.push(chunk);
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => {
                    if let Some(event) = self.filtered(event) {
                        self.ready.push_back(event);
                    }
                }
                Ok(None) => return,
                Err(EventTooLong) => {
                    tracing::error!(
                        alarm = Alarm::ResponseWithheld.code(),
                        request.id = %self.trail.request_id(),
                        "an event exceeds the limit; the stream ends"
                    );
                    self.trail.cut(Reason::ResponseUnreadable);
                    self.ready.push_back(Bytes::from_static(TOO_LONG));
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Ends a stream that the policy no longer allows.
    fn check_permission(&mut self) {
        let Some(permission) = &mut self.permission else { return };
        if let Err(reason) = permission.check(&self.shared, &self.principal, &self.trail)
            && !self.ended
        {
            self.trail.cut(reason);
            self.ready.clear();
            self.ended = true;
        }
    }

    fn filtered(&self, event: Bytes) -> Option<Bytes> {
        // An event without data is a comment, a retry time, or an id to resume from.
        let Some(data) = sse::data(&event).filter(|data| !data.is_empty()) else {
            return Some(event);
        };
        match self.shared.filtered(&self.principal, self.states.as_ref(), &data) {
            Ok(Found::Nothing) => Some(event),
            Ok(Found::Changed(changed)) => Some(sse::with_data(&event, changed)),
            Ok(Found::NotForThisCaller) => None,
            // K230: an unreadable event cannot be judged and is left out. Later ones can.
            Err(error) => {
                tracing::warn!(
                    alarm = Alarm::ResponseWithheld.code(),
                    request.id = %self.trail.request_id(),
                    %error,
                    "an event cannot be read and was left out"
                );
                None
            }
        }
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
            if let Some(event) = filter.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            if filter.ended {
                return Poll::Ready(None);
            }
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => filter.take(data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    filter.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Inner(error))));
                }
                // An unfinished event was not judged, and every reader discards it.
                None => filter.ended = true,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.filter {
            #[cfg(feature = "grpc")]
            Some(Filter::Grpc(filter)) => filter.is_end_stream(&self.inner),
            Some(Filter::Events(filter)) => {
                filter.ready.is_empty() && (filter.ended || self.inner.is_end_stream())
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
