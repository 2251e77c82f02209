//! Guarded connector: checks the URI here, its addresses in the resolver, and certificates by the
//! same roots as the client.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    closable_stream::ClosableStream,
    error::{FetchError, OutboundError, Sent},
    guard::Guard,
    resolve::GuardedResolver,
    tls,
};

/// Connector for hyper-util's client that obeys a guard. It uses HTTP/2 where the peer offers it by
/// ALPN.
///
/// # Limits
/// [`Guard::connect_timeout`] for name resolution, connection and TLS together.
///
/// # Cancellation
/// The half-open connection is closed.
#[derive(Clone)]
pub struct GuardedConnector {
    guard: Guard,
    https: HttpsConnector<HttpConnector<GuardedResolver>>,
}

impl GuardedConnector {
    /// Creates a connector that obeys this guard.
    ///
    /// # Errors
    /// TLS cannot be configured, for example because of an invalid root certificate.
    pub fn new(guard: &Guard) -> Result<Self, OutboundError> {
        let mut http = HttpConnector::new_with_resolver(GuardedResolver(guard.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        let mut config = tls::client_config(guard)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // The guard allows `http` for the hosts that the operator named.
        let https = HttpsConnector::new(
            http,
            config,
            false,
            Arc::new(DefaultServerNameResolver::default()),
        );
        Ok(Self { guard: guard.clone(), https })
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Stream = ClosableStream<MaybeHttpsStream<TokioIo<TcpStream>>>;

impl Service<Uri> for GuardedConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        // C062, H178: address literals are checked here, names in the resolver.
        if let Err(error) = self.guard.check_uri(&uri) {
            return Connecting(Box::pin(async move { Err(error.into()) }));
        }
        let (connecting, bound) = (self.https.call(uri), self.guard.connect_bound());
        Connecting(Box::pin(async move {
            match tokio::time::timeout(bound, connecting).await {
                Ok(connected) => connected.map(ClosableStream::new),
                Err(_) => Err(FetchError::Timeout(Sent::No).into()),
            }
        }))
    }
}

impl fmt::Debug for GuardedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedConnector").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// The future of [`GuardedConnector`].
#[must_use = "nothing is connected until it is polled"]
pub struct Connecting(Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>);

impl Future for Connecting {
    type Output = Result<Stream, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connecting")
    }
}
