//! The proxy: a pooled client behind a `tower::Service` that never fails.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioExecutor, TokioTimer},
};
use tower_service::Service;
use tower_token_broker::{
    dialect::Dialect,
    exchange::Exchanged,
    refusal::{Reason, Refusal},
};

use super::{body::ProxyBody, hop_by_hop};
use crate::{
    connector::GuardedConnector,
    error::{FetchError, OutboundError},
    guard::Guard,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Sends requests on to their upstream and streams the answers back. See the [module](super). Cheap to clone; clones share
/// one pool of connections.
#[derive(Clone)]
pub struct Proxy {
    client: Client<GuardedConnector, UnsyncBoxBody<Bytes, BoxError>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    version: Version,
    senders: Senders,
}

/// Whose requests are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Senders {
    /// The exchange layer's.
    Exchange,
    /// Whoever reaches it.
    Anyone,
}

impl Proxy {
    /// A proxy that goes where the guard lets it.
    ///
    /// # Errors
    /// TLS can't be set up: a root certificate that can't be read.
    pub fn new(guard: &Guard) -> Result<Self, OutboundError> {
        Self::over(guard, Version::HTTP_11)
    }

    /// A proxy for gRPC: HTTP/2 alone, over TLS, or (where the guard allows `http`) with prior knowledge.
    ///
    /// # Errors
    /// As [`Proxy::new`].
    pub fn grpc(guard: &Guard) -> Result<Self, OutboundError> {
        Self::over(guard, Version::HTTP_2)
    }

    fn over(guard: &Guard, version: Version) -> Result<Self, OutboundError> {
        #[expect(clippy::disallowed_methods, reason = "this is the way out")]
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .http2_only(version == Version::HTTP_2)
            .http2_max_header_list_size(64 * 1024)
            .build(GuardedConnector::new(guard)?);
        let (header_timeout, idle_timeout) = (Duration::from_secs(60), Duration::from_secs(300));
        Ok(Self { client, header_timeout, idle_timeout, version, senders: Senders::Exchange })
    }

    /// Sends on what did not come through the exchange layer, too: whoever reaches this service chooses where it goes, as far as the
    /// guard allows. For a proxy without a broker.
    #[must_use]
    pub const fn dangerous_without_exchange(mut self) -> Self {
        self.senders = Senders::Anyone;
        self
    }

    /// How long the header of the answer may take; 60 s by default.
    #[must_use]
    pub const fn header_timeout(mut self, bound: Duration) -> Self {
        self.header_timeout = bound;
        self
    }

    /// How long the body of the answer may be silent; 5 min by default.
    #[must_use]
    pub const fn idle_timeout(mut self, bound: Duration) -> Self {
        self.idle_timeout = bound;
        self
    }
}

impl<B> Service<Request<B>> for Proxy
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = ProxyFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ProxyFuture {
        let dialect = Dialect::of(&request);
        if request.method() == Method::CONNECT {
            return ProxyFuture::refused(&dialect, Reason::HttpMethod);
        }
        // A route that was left outside of the stack would be a way out for everybody.
        if self.senders == Senders::Exchange && request.extensions().get::<Exchanged>().is_none() {
            tracing::error!(
                refusal.reason = Reason::MissingLayer.code(),
                missing = "exchange",
                "a request reached the proxy around the exchange layer; axum's `layer` covers the routes that were added before it"
            );
            return ProxyFuture::refused(&dialect, Reason::MissingLayer);
        }
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        hop_by_hop::strip_request(request.headers_mut());
        // What the layers noted is not for the client below, and the version is the connection's.
        *request.extensions_mut() = Extensions::new();
        *request.version_mut() = self.version;
        let (version, bound, idle) = (self.version, self.header_timeout, self.idle_timeout);
        let sent = self.client.request(request);
        ProxyFuture(Box::pin(async move {
            let reason = match tokio::time::timeout(bound, sent).await {
                Ok(Ok(response)) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok(passed(response, version, idle));
                }
                Ok(Ok(_)) => Reason::UpstreamFailed,
                Ok(Err(error)) => failed(&error),
                Err(_) => {
                    tracing::warn!(
                        refusal.reason = Reason::UpstreamTimeout.code(),
                        "the upstream sent no header in time"
                    );
                    Reason::UpstreamTimeout
                }
            };
            Ok(refused(&dialect, reason))
        }))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("header_timeout", &self.header_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// Waits for the header of the answer.
#[must_use = "nothing is sent until it is polled"]
pub struct ProxyFuture(Pin<Box<dyn Future<Output = Result<Response<ProxyBody>, Infallible>> + Send>>);

impl ProxyFuture {
    fn refused(dialect: &Dialect, reason: Reason) -> Self {
        let response = refused(dialect, reason);
        Self(Box::pin(async move { Ok(response) }))
    }
}

impl Future for ProxyFuture {
    type Output = Result<Response<ProxyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ProxyFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyFuture")
    }
}

fn passed(response: Response<hyper::body::Incoming>, version: Version, idle: Duration) -> Response<ProxyBody> {
    let (mut parts, incoming) = response.into_parts();
    hop_by_hop::strip_response(&mut parts.headers);
    // The reason phrase and the addresses of the connection are nobody's business further out.
    parts.extensions = Extensions::new();
    parts.version = version;
    Response::from_parts(parts, ProxyBody::upstream(incoming, idle))
}

fn failed(error: &ClientError) -> Reason {
    let ours = FetchError::among_sources_of(error);
    let reason = match ours {
        Some(FetchError::Timeout(_)) => Reason::UpstreamTimeout,
        _ => Reason::UpstreamFailed,
    };
    let cause = ours.map_or(if error.is_connect() { "unreachable" } else { "broke off" }, |ours| ours.code());
    // H178: the log names the cause by its code; the outside hears that the upstream failed, and no more.
    tracing::warn!(refusal.reason = reason.code(), cause, "the upstream can't be asked");
    reason
}

fn refused(dialect: &Dialect, reason: Reason) -> Response<ProxyBody> {
    let mut response = dialect.say(&Refusal::new(reason)).map(ProxyBody::ours);
    response.extensions_mut().insert(reason);
    response
}
