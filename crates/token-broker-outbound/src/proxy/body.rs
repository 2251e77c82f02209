//! Body of an upstream's response, streamed, with a timeout between two frames.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{carrier::Carrier, shared_connections::Occupied};

/// Body of a response: the upstream's, as it arrives, or the few bytes of a refusal.
#[derive(Default)]
pub struct ProxyBody(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Ours(Bytes),
    Upstream(Streamed),
}

struct Streamed {
    source: Source,
    idle: Duration,
    /// Timeout for the next frame, while a caller waits for it. Time without a waiting caller does
    /// not count.
    silence: Option<Pin<Box<Sleep>>>,
    /// The place of a request without a body.
    _place: Option<Occupied>,
}

enum Source {
    Direct(Incoming),
    /// The request has a body, and a reset of it drops the response, too.
    Carried(Arc<Carrier>),
}

impl Source {
    fn read<T>(&self, read: impl FnOnce(&Incoming) -> T) -> Option<T> {
        match self {
            Self::Direct(incoming) => Some(read(incoming)),
            Self::Carried(carrier) => carrier.response(read),
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        let polled = match self {
            Self::Direct(incoming) => Some(Pin::new(incoming).poll_frame(cx)),
            Self::Carried(carrier) => carrier.poll_response(cx),
        };
        let Some(polled) = polled else {
            return Poll::Ready(Some(Err(ProxyBodyError(Cause::Reset))));
        };
        polled.map_err(|error| ProxyBodyError(Cause::Upstream(error)))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Carried(carrier) = self {
            carrier.release();
        }
    }
}

/// The reason why the upstream's body is incomplete.
#[derive(Debug)]
pub struct ProxyBodyError(Cause);

#[derive(Debug)]
enum Cause {
    Upstream(hyper::Error),
    Silence,
    Reset,
}

impl ProxyBodyError {
    /// Returns whether no frame arrived in time. Otherwise the body broke off.
    pub const fn is_silence(&self) -> bool {
        matches!(self.0, Cause::Silence)
    }
}

impl ProxyBody {
    pub(super) fn ours(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Ours(bytes) })
    }

    pub(super) fn upstream(
        incoming: Incoming,
        idle: Duration,
        carrier: Option<Arc<Carrier>>,
        place: Option<Occupied>,
    ) -> Self {
        let source = match carrier {
            // An empty body has nothing to be dropped.
            Some(carrier) if !incoming.is_end_stream() => {
                carrier.hold(incoming);
                Source::Carried(carrier)
            }
            Some(_) | None => Source::Direct(incoming),
        };
        Self(Kind::Upstream(Streamed { source, idle, silence: None, _place: place }))
    }
}

impl Streamed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        if let Poll::Ready(frame) = self.source.poll_frame(cx) {
            self.silence = None;
            return Poll::Ready(frame);
        }
        let idle = self.idle;
        let silence =
            self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline(idle))));
        silence.as_mut().poll(cx).map(|()| Some(Err(ProxyBodyError(Cause::Silence))))
    }
}

fn deadline(idle: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(idle).unwrap_or(now)
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ProxyBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Ours(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Upstream(streamed) => {
                let polled = streamed.poll_frame(cx);
                if let Poll::Ready(None | Some(Err(_))) = polled {
                    // The body has ended. Dropping it after an error closes the connection.
                    self.0 = Kind::Empty;
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Ours(_) => false,
            Kind::Upstream(streamed) => streamed.source.read(Body::is_end_stream).unwrap_or(false),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Ours(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(streamed) => streamed.source.read(Body::size_hint).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for ProxyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyBody")
    }
}

impl fmt::Display for ProxyBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Upstream(_) => "the upstream's response broke off",
            Cause::Silence => "the upstream sent no more in time",
            Cause::Reset => "the request was ended",
        })
    }
}

impl std::error::Error for ProxyBodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Cause::Upstream(error) => Some(error),
            Cause::Silence | Cause::Reset => None,
        }
    }
}
