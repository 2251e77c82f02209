//! The `Service`: a pooled client whose failures are responses.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::capture_connection},
    rt::TokioTimer,
};
use tower_service::Service;
use tower_token_broker::{
    alarm::Alarm,
    dialect::Dialect,
    exchange::OutgoingCredential,
    header_rules,
    refusal::{Reason, Refusal},
    request_id::RequestId,
    upload::Upload,
};

use super::{
    body::ProxyBody,
    carrier::{CarriedBody, Carrier, StreamExecutor},
    peer::Peer,
    shared_connections::{CONNECTION_WINDOW, Occupied, STREAM_WINDOW, SharedConnections},
};
use crate::{
    connector::GuardedConnector,
    error::{FetchError, OutboundError, Sent},
    guard::Guard,
    user_agent,
};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Forwards requests to their upstream and streams the responses. See the [module](super). Cheap to
/// clone; clones share one connection pool.
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct Proxy {
    connections: SharedConnections,
    header_timeout: Duration,
    idle_timeout: Duration,
    version: Version,
    senders: Senders,
}

/// Requests that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Senders {
    /// Those that carry a credential of the exchange layer.
    Exchange,
    /// All.
    Anyone,
}

impl Proxy {
    /// Creates a proxy that obeys this guard.
    ///
    /// # Errors
    /// TLS cannot be configured, for example because of an invalid root certificate.
    pub fn new(guard: &Guard) -> Result<Self, OutboundError> {
        Self::over(guard, Version::HTTP_11)
    }

    /// Creates a proxy for gRPC. It uses only HTTP/2: over TLS, or with prior knowledge where the
    /// guard allows `http`.
    ///
    /// # Errors
    /// As [`Proxy::new`].
    pub fn grpc(guard: &Guard) -> Result<Self, OutboundError> {
        Self::over(guard, Version::HTTP_2)
    }

    fn over(guard: &Guard, version: Version) -> Result<Self, OutboundError> {
        let connector = GuardedConnector::new(guard)?;
        #[expect(clippy::disallowed_methods, reason = "the outbound client")]
        let new_pool = move || {
            Client::builder(StreamExecutor)
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .http2_only(version == Version::HTTP_2)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_max_header_list_size(64 * 1024)
                .build(connector.clone())
        };
        let connections = SharedConnections::new(new_pool);
        let (header_timeout, idle_timeout) = (Duration::from_secs(60), Duration::from_secs(300));
        Ok(Self { connections, header_timeout, idle_timeout, version, senders: Senders::Exchange })
    }

    /// Forwards also requests without a credential of an exchange layer: any caller chooses the
    /// destination, as far as the guard allows. For a proxy without a broker.
    pub const fn dangerous_without_exchange(mut self) -> Self {
        self.senders = Senders::Anyone;
        self
    }

    /// Sets the timeout for the headers of the response; 60 s by default. It counts from the start
    /// of the request, so it also limits an upload to which the upstream responds at its end.
    pub const fn header_timeout(mut self, bound: Duration) -> Self {
        self.header_timeout = bound;
        self
    }

    /// Sets the longest time between two frames of the response body; 5 min by default.
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
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        header_rules::remove_hop_by_hop_from_request(request.headers_mut());
        user_agent::set_if_absent(request.headers_mut());
        // The last step before the request is sent. No await follows.
        let outgoing = request.extensions_mut().remove::<OutgoingCredential>();
        match (&outgoing, self.senders) {
            (Some(outgoing), Senders::Exchange | Senders::Anyone) => {
                if let Err(error) = outgoing.apply(&mut request) {
                    return ProxyFuture::refused(&dialect, error.reason());
                }
            }
            // A route outside the stack would let any caller send requests.
            (None, Senders::Exchange) => {
                tracing::error!(
                    alarm = Alarm::LayerMissing.code(),
                    refusal.reason = Reason::MissingLayer.code(),
                    missing = "exchange",
                    "a request bypassed the exchange layer, and was not sent: \
                     put the stack around the proxy (`stack.layer(proxy)`)"
                );
                return ProxyFuture::refused(&dialect, Reason::MissingLayer);
            }
            (None, Senders::Anyone) => {}
        }
        // M390: no user can fill the connection of the others.
        let (client, place) = self.connections.enter(self.connections.sharing(&request));
        // The extensions are for the layers only. The version is that of the connection.
        let upload = request.extensions_mut().remove::<Upload>();
        let peer = Peer {
            uri: request.uri().clone(),
            request: request.extensions().get::<RequestId>().copied(),
            outgoing,
        };
        *request.extensions_mut() = Extensions::new();
        *request.version_mut() = self.version;
        let (carrier, place) = if request.body().is_end_stream() {
            (None, Some(place))
        } else {
            let captured = capture_connection(&mut request);
            (Some(Carrier::new(captured, self.version == Version::HTTP_2, place)), None)
        };
        if let (Some(upload), Some(carrier)) = (upload, &carrier) {
            upload.carried_by(carrier);
        }
        // H462: an upstream may take the content of such a request for the next request.
        let is_unusual = carrier.is_some() && !has_usual_content(request.method());
        if is_unusual && self.version != Version::HTTP_2 {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let request = request.map(|body| CarriedBody::new(body, carrier.clone()));
        let (version, bound, idle) = (self.version, self.header_timeout, self.idle_timeout);
        let sent = client.request(request);
        ProxyFuture(Box::pin(async move {
            let sent = async {
                match carrier.as_ref() {
                    Some(carrier) => carrier.response_to(sent).await,
                    None => Some(sent.await),
                }
            };
            let reason = match tokio::time::timeout(bound, sent).await {
                Ok(Some(Ok(response))) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                    if let Some(carrier) = carrier.as_ref().filter(|_| is_unusual) {
                        carrier.poison();
                    }
                    return Ok(passed(response, version, idle, carrier, place));
                }
                Ok(Some(Ok(response))) => {
                    peer.switches_protocols(response.status());
                    Reason::UpstreamFailed
                }
                // Ended from outside: the exchange layer knows why.
                Ok(None) => Reason::UpstreamFailed,
                Ok(Some(Err(error))) => {
                    peer.failed(FetchError::of_client(&error, error.is_connect()))
                }
                Err(_) => peer.failed(FetchError::Timeout(Sent::Maybe)),
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

/// The future of [`Proxy`].
#[must_use = "nothing is sent until it is polled"]
pub struct ProxyFuture(
    Pin<Box<dyn Future<Output = Result<Response<ProxyBody>, Infallible>> + Send>>,
);

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

fn passed(
    response: Response<hyper::body::Incoming>,
    version: Version,
    idle: Duration,
    carrier: Option<Arc<Carrier>>,
    place: Option<Occupied>,
) -> Response<ProxyBody> {
    let (mut parts, incoming) = response.into_parts();
    if let Some(carrier) = &carrier {
        carrier.arrived_on(&parts.extensions);
    }
    header_rules::remove_hop_by_hop_from_response(&mut parts.headers);
    // Remove the reason phrase and the addresses of the connection.
    parts.extensions = Extensions::new();
    parts.version = version;
    Response::from_parts(parts, ProxyBody::upstream(incoming, idle, carrier, place))
}

/// Returns whether every server reads the content of a request with this method.
fn has_usual_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn refused(dialect: &Dialect, reason: Reason) -> Response<ProxyBody> {
    dialect.render(&Refusal::new(reason)).map(ProxyBody::ours)
}
