//! Request and response bodies of the layers: the untouched stream, or a few bytes.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a request inside the layers: the untouched stream, or the bytes that were read
    /// to decide.
    ///
    /// Where a layer read the body, the inner service receives exactly the judged bytes. A stream
    /// is watched: it ends with an error when its caller is revoked, and a stream of gRPC messages
    /// also when a message exceeds its limit. Trailers are dropped, because no layer judged them.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
        watch: Option<Box<dyn Watch>>,
    }
}

/// Watches each frame of a streamed request before it passes.
pub(crate) trait Watch: Send + Sync + fmt::Debug {
    /// Returns an error if the stream must end before these bytes.
    fn pass(&mut self, data: &Bytes) -> Result<(), Ended>;

    /// Returns the reason to end the stream, independent of its frames. Otherwise wakes the task
    /// when there is one.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended>;

    /// Notes that the client broke off the stream.
    fn broke_off(&mut self) {}
}

/// The reasons why a watched stream is ended.
#[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "only messages of gRPC are limited"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The request is no longer valid.
    Cut,
    /// The request is over, or its body took too long.
    Over,
    Limit,
}

impl<E> From<Ended> for BodyError<E> {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Cut => Self::Cut,
            Ended::Over => Self::Ended,
            Ended::Limit => Self::Limit,
        }
    }
}

pin_project! {
    /// The body of a response: the inner service's, or the few bytes of a refusal.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Stream { #[pin] body: B },
        Bytes { bytes: Option<Bytes> },
    }
}

impl<B> RequestBody<B> {
    /// Wraps a stream. Only the layers may create one, because it must be watched.
    pub(crate) fn stream(body: B, watch: Box<dyn Watch>) -> Self {
        Self { kind: Kind::Stream { body }, watch: Some(watch) }
    }

    /// Wraps bytes that were read.
    pub fn bytes(bytes: Bytes) -> Self {
        Self { kind: Kind::bytes(bytes), watch: None }
    }

    /// Adds a watch, which comes before the others.
    pub(crate) fn watched(mut self, watch: Box<dyn Watch>) -> Self {
        self.watch = both(Some(watch), self.watch.take());
        self
    }
}

impl<B> RequestBody<RequestBody<B>> {
    /// Flattens two wrappers into one.
    pub fn flatten(self) -> RequestBody<B> {
        match self.kind {
            Kind::Stream { body } => {
                RequestBody { watch: both(body.watch, self.watch), kind: body.kind }
            }
            Kind::Bytes { bytes } => RequestBody { kind: Kind::Bytes { bytes }, watch: self.watch },
        }
    }
}

/// Two watches of one body. The first one to end it counts.
#[derive(Debug)]
struct Both(Box<dyn Watch>, Box<dyn Watch>);

impl Watch for Both {
    fn pass(&mut self, data: &Bytes) -> Result<(), Ended> {
        self.0.pass(data)?;
        self.1.pass(data)
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Poll::Ready(ended) = self.0.poll_ended(cx) {
            return Poll::Ready(ended);
        }
        self.1.poll_ended(cx)
    }

    fn broke_off(&mut self) {
        self.0.broke_off();
        self.1.broke_off();
    }
}

fn both(one: Option<Box<dyn Watch>>, other: Option<Box<dyn Watch>>) -> Option<Box<dyn Watch>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::new(Both(one, other))),
        (one, other) => one.or(other),
    }
}

impl<B> ResponseBody<B> {
    /// Wraps the inner service's body.
    pub const fn inner(body: B) -> Self {
        Self { kind: Kind::Stream { body } }
    }

    /// Wraps our own few bytes.
    pub fn bytes(bytes: Bytes) -> Self {
        Self { kind: Kind::bytes(bytes) }
    }
}

impl<B> Kind<B> {
    fn bytes(bytes: Bytes) -> Self {
        Self::Bytes { bytes: (!bytes.is_empty()).then_some(bytes) }
    }
}

/// Returns an empty body.
impl<B> Default for RequestBody<B> {
    fn default() -> Self {
        Self::bytes(Bytes::new())
    }
}

// tower-http's timeout responds with a default body: where the inner one has a default, so has
// ours.
impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        // A client that is always ready must not outrun a revocation.
        if let Some(Poll::Ready(ended)) = this.watch.as_mut().map(|watch| watch.poll_ended(cx)) {
            return Poll::Ready(Some(Err(ended.into())));
        }
        let frame = match ready!(this.kind.as_mut().poll_frame(cx)) {
            // H168: no layer judged a client's trailers.
            Some(Ok(frame)) if frame.is_trailers() => None,
            frame => frame,
        };
        let result = match (frame, this.watch.as_mut()) {
            (Some(Ok(frame)), Some(watch)) => {
                match frame.data_ref().map_or(Ok(()), |data| watch.pass(data)) {
                    Ok(()) => return Poll::Ready(Some(Ok(frame))),
                    Err(ended) => Some(Err(ended.into())),
                }
            }
            (Some(Ok(frame)), None) => return Poll::Ready(Some(Ok(frame))),
            (Some(Err(error)), watch) => {
                if let Some(watch) = watch {
                    watch.broke_off();
                }
                Some(Err(BodyError::Inner(error)))
            }
            // N468: hyper ends a body that was reset with NO_ERROR like a complete one.
            (None, watch) if this.kind.size_hint().lower() > 0 => {
                if let Some(watch) = watch {
                    watch.broke_off();
                }
                Some(Err(BodyError::Incomplete))
            }
            (None, _) => None,
        };
        // Nothing follows.
        *this.watch = None;
        Poll::Ready(result)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.kind.size_hint()
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.project().kind.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.kind.size_hint()
    }
}

impl<B: Body<Data = Bytes>> Body for Kind<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project() {
            KindProjection::Stream { body } => body.poll_frame(cx),
            KindProjection::Bytes { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream { body } => body.is_end_stream(),
            Self::Bytes { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream { body } => body.size_hint(),
            Self::Bytes { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
        }
    }
}

/// The reasons why a body was not read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCollected {
    TooLarge,
    Broken,
}

/// Reads a whole body within a limit. A single frame is returned without a copy.
pub(crate) async fn collect<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
) -> Result<Bytes, NotCollected> {
    let mut body = pin!(body);
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(limit);
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| NotCollected::Broken)?.into_data() else { continue };
        let so_far = first.len().max(all.len());
        if data.len() > limit.saturating_sub(so_far) {
            return Err(NotCollected::TooLarge);
        }
        if so_far == 0 {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(expected.max(first.len() + data.len()));
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The reasons why a body did not end regularly: the inner one failed, or a layer ended it.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError<E> {
    /// The inner body failed.
    Inner(E),
    /// The token or the grant of the request was revoked, or has expired.
    Cut,
    /// The request was over before its body was, or its body took too long.
    Ended,
    /// The client sent less than it declared.
    Incomplete,
    /// More bytes, or a longer event, than the limit.
    Limit,
    /// It is unreadable, and so cannot be judged.
    Unreadable,
}

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Cut => {
                f.write_str("the stream was cut: its token or grant was revoked or has expired")
            }
            Self::Ended => f.write_str("the request was over before its body was"),
            Self::Incomplete => f.write_str("the body is shorter than it was declared"),
            Self::Limit => f.write_str("the body is over its limit"),
            Self::Unreadable => f.write_str("the body can't be read, so it can't be judged"),
        }
    }
}

// Without the bound `E: Error`, because boxed errors do not implement it.
impl<E: fmt::Debug + fmt::Display> std::error::Error for BodyError<E> {}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn bytes_come_once_and_their_length_is_known() {
        let body: RequestBody<Empty<Bytes>> = RequestBody::bytes(Bytes::from_static(b"abc"));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(ResponseBody::<Empty<Bytes>>::bytes(Bytes::new()).is_end_stream());
    }

    /// A watch that lets all pass, and counts its frames.
    #[derive(Debug, Default, Clone)]
    struct All(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl Watch for All {
        fn pass(&mut self, _: &Bytes) -> Result<(), Ended> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }

        fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<Ended> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn h168_trailers_of_a_request_are_dropped() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("authorization", http::HeaderValue::from_static("Bearer other"));
        let body = Full::<Bytes>::from("abc").with_trailers(async move { Some(Ok(trailers)) });
        let all = RequestBody::stream(body, Box::new(All::default())).collect().await.unwrap();
        assert!(all.trailers().is_none());
        assert_eq!(all.to_bytes(), "abc");
    }

    #[tokio::test]
    async fn n468_a_body_shorter_than_declared_is_no_whole_body() {
        /// A body that ends after three of its ten bytes, as hyper's does after NO_ERROR.
        struct Short(Option<Bytes>);

        impl Body for Short {
            type Data = Bytes;
            type Error = std::convert::Infallible;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
            }

            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(if self.0.is_some() { 10 } else { 7 })
            }
        }

        let short = Short(Some(Bytes::from_static(b"abc")));
        let mut body = RequestBody::stream(short, Box::new(All::default()));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(matches!(body.frame().await, Some(Err(BodyError::Incomplete))));
    }

    #[tokio::test]
    async fn two_wrappers_become_one() {
        let (outer, inner) = (All::default(), All::default());
        let stream = RequestBody::stream(Full::from("abc"), Box::new(inner.clone()));
        let twice = RequestBody::stream(stream, Box::new(outer.clone()));
        assert_eq!(twice.flatten().collect().await.unwrap().to_bytes(), "abc");
        let counts = [outer, inner].map(|all| all.0.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(counts, [1, 1], "both watch");
        let bytes = RequestBody::<RequestBody<Full<Bytes>>>::bytes(Bytes::from_static(b"x"));
        assert_eq!(bytes.flatten().collect().await.unwrap().to_bytes(), "x");
    }
}
