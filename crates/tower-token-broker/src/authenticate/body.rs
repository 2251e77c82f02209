//! The response body that ends when the token is revoked or expires.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    audit::Trail,
    body::BodyError,
    mcp::sse::EventBorder,
    media_type::{EVENT_STREAM, MediaType},
    refusal::Reason,
    revocation::{Standing, StandingWatch},
};

/// Longest unfinished event that is held back, in bytes. A longer event passes as it arrives.
const MAX_HELD: usize = 64 * 1024;

pin_project! {
    /// The inner body, while the token is valid. When it is cut, an event stream ends after its
    /// last whole event, and any other body ends with [`BodyError::Cut`]. A gRPC response that is
    /// cut between two messages ends with the status of the refusal.
    pub struct CutBody<B> {
        // `None` once the stream was cut, so that its source is dropped.
        #[pin]
        inner: Option<B>,
        guarded: Option<Guarded>,
        events: Option<Events>,
        ending: Ending,
        // The trailers after the bytes that were held back.
        next: Option<Frame<Bytes>>,
        ended: bool,
    }
}

/// The watch over an admitted request, and the trail that records its end.
pub(super) struct Guarded {
    watch: StandingWatch,
    trail: Trail,
}

impl Guarded {
    pub(super) const fn new(standing: Standing, trail: Trail) -> Self {
        Self { watch: StandingWatch::new(standing), trail }
    }

    /// The reason why the request has ended, if it has.
    pub(super) fn ended(&self) -> Option<Reason> {
        self.watch.standing().check().err()
    }

    /// Waits until the request has ended.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.watch.poll_ended(cx)
    }
}

/// How a response that is no event stream ends when it is cut.
#[derive(Default)]
pub(super) enum Ending {
    #[default]
    Error,
    #[cfg(feature = "grpc")]
    Status(Box<super::grpc_end::GrpcEnd>),
}

impl Ending {
    #[cfg(feature = "grpc")]
    fn passed(&mut self, frame: &Frame<Bytes>) {
        match self {
            Self::Error => {}
            Self::Status(end) => end.passed(frame),
        }
    }

    #[cfg_attr(
        not(feature = "grpc"),
        expect(unused_variables, reason = "an error gives no reason")
    )]
    fn trailers(&self, reason: Reason) -> Option<HeaderMap> {
        match self {
            Self::Error => None,
            #[cfg(feature = "grpc")]
            Self::Status(end) => end.trailers(reason),
        }
    }
}

struct Events {
    border: EventBorder,
    held: Bytes,
}

impl<B> CutBody<B> {
    pub(super) fn around(
        response: Response<B>,
        guarded: Guarded,
        ending: Ending,
    ) -> Response<Self> {
        let events = is_plain_event_stream(response.headers()).then(Events::new);
        let (guarded, next, ended) = (Some(guarded), None, false);
        response.map(|inner| Self { inner: Some(inner), guarded, events, ending, next, ended })
    }
}

impl<B> CutBody<B> {
    const fn empty() -> Self {
        Self {
            inner: None,
            guarded: None,
            events: None,
            ending: Ending::Error,
            next: None,
            ended: false,
        }
    }

    /// Returns a body that is never cut.
    pub(super) fn untouched(response: Response<B>) -> Response<Self> {
        response.map(|inner| Self { inner: Some(inner), ..Self::empty() })
    }
}

impl<B: Body<Data = Bytes>> Body for CutBody<B> {
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        // An inner body that is always ready must not outrun a revocation.
        if let Some(reason) = this.guarded.as_ref().and_then(Guarded::ended) {
            *this.ended = true;
            this.inner.set(None);
            return Poll::Ready(cut(
                this.guarded.as_ref(),
                this.events.as_ref(),
                this.ending,
                reason,
            ));
        }
        if let Some(frame) = this.next.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let Poll::Ready(frame) = inner.poll_frame(cx) else { break };
            let Some(events) = this.events.as_mut() else {
                // After trailers or an error, there is nothing left to cut.
                *this.ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
                #[cfg(feature = "grpc")]
                if let Some(Ok(frame)) = &frame {
                    this.ending.passed(frame);
                }
                return Poll::Ready(frame.map(|result| result.map_err(BodyError::Inner)));
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(whole) = events.pass(data) {
                            return Poll::Ready(Some(Ok(Frame::data(whole))));
                        }
                    }
                    Err(other) => match events.rest() {
                        Some(rest) => {
                            *this.next = Some(other);
                            return Poll::Ready(Some(Ok(Frame::data(rest))));
                        }
                        None => return Poll::Ready(Some(Ok(other))),
                    },
                },
                Some(Err(error)) => {
                    *this.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Inner(error))));
                }
                None => {
                    *this.ended = true;
                    return Poll::Ready(events.rest().map(|rest| Ok(Frame::data(rest))));
                }
            }
        }
        let Some(guarded) = this.guarded.as_mut() else { return Poll::Pending };
        let reason = ready!(guarded.poll_ended(cx));
        *this.ended = true;
        this.inner.set(None);
        Poll::Ready(cut(Some(guarded), this.events.as_ref(), this.ending, reason))
    }

    fn is_end_stream(&self) -> bool {
        let holds_nothing =
            self.next.is_none() && self.events.as_ref().is_none_or(|events| events.held.is_empty());
        self.ended || (holds_nothing && self.inner.as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        let Some(inner) = self.inner.as_ref().filter(|_| !self.ended) else {
            return SizeHint::with_exact(0);
        };
        let held = self
            .events
            .as_ref()
            .map_or(0, |events| u64::try_from(events.held.len()).unwrap_or(u64::MAX));
        let inner = inner.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(inner.lower().saturating_add(held));
        hint
    }
}

/// Ends the stream and records it.
fn cut<E>(
    guarded: Option<&Guarded>,
    events: Option<&Events>,
    ending: &Ending,
    reason: Reason,
) -> Option<Result<Frame<Bytes>, BodyError<E>>> {
    if let Some(guarded) = guarded {
        guarded.trail.cut(reason);
    }
    match events {
        // Only whole events have passed: a clean end.
        Some(events) if events.is_at_border() => None,
        Some(_) => Some(Err(BodyError::Cut)),
        None => Some(ending.trailers(reason).map(Frame::trailers).ok_or(BodyError::Cut)),
    }
}

impl Events {
    const fn new() -> Self {
        Self { border: EventBorder::new(), held: Bytes::new() }
    }

    /// Returns the bytes that may pass, of those held back and these.
    fn pass(&mut self, mut data: Bytes) -> Option<Bytes> {
        let was_passing = self.border.is_inside_event() && self.held.is_empty();
        match self.border.read(&data) {
            Some(whole) => {
                let rest = data.split_off(whole.min(data.len()));
                let held = mem::replace(&mut self.held, rest);
                let passed = join(&held, data);
                (!passed.is_empty()).then_some(passed)
            }
            // The rest of a long event passes, because its beginning has.
            None if was_passing => (!data.is_empty()).then_some(data),
            None => {
                self.held = join(&mem::take(&mut self.held), data);
                (self.held.len() > MAX_HELD).then(|| mem::take(&mut self.held))
            }
        }
    }

    /// Returns the bytes that were held back, at the end of the body.
    fn rest(&mut self) -> Option<Bytes> {
        let rest = mem::take(&mut self.held);
        (!rest.is_empty()).then_some(rest)
    }

    /// Returns whether only whole events have passed.
    fn is_at_border(&self) -> bool {
        !self.border.is_inside_event() || !self.held.is_empty()
    }
}

fn join(first: &Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    let mut joined = BytesMut::with_capacity(first.len().saturating_add(second.len()));
    joined.extend_from_slice(first);
    joined.extend_from_slice(&second);
    joined.freeze()
}

/// Returns whether the body is a readable event stream; with a content coding, event boundaries are
/// not visible.
fn is_plain_event_stream(headers: &HeaderMap) -> bool {
    let is_event_stream =
        MediaType::first_of(headers).is_some_and(|media_type| media_type.is(EVENT_STREAM));
    is_event_stream && !headers.contains_key(header::CONTENT_ENCODING)
}

impl<B: Default> Default for CutBody<B> {
    fn default() -> Self {
        Self { inner: Some(B::default()), ..Self::empty() }
    }
}

impl<B> fmt::Debug for CutBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CutBody").field("ended", &self.ended).finish_non_exhaustive()
    }
}
