//! Lets a handler call a gRPC upstream for its caller, with a client that tonic generated.
//!
//! A generated client accepts `ExchangeLayer::for_handler(&broker, grants).layer(proxy)` as its
//! channel, without any adapter. But the client returns a [`Status`], and drops the marker by which
//! a handler recognizes a refusal of the broker. [`GrpcAdapter`] keeps the marker, and
//! [`refusal_of`] finds it.
//!
//! # Example
//! ```
//! use http::Uri;
//! use token_broker_grpc::{
//!     handler::{GrpcAdapter, refusal_of},
//!     mcp::v1::{Frame, mcp_client::McpClient},
//! };
//! use token_broker_outbound::{Guard, Proxy};
//! use tonic::Request;
//! use tower_token_broker::{
//!     exchange::ExchangeLayer,
//!     refusal::{Reason, Refused},
//! };
//!
//! # use tower_token_broker::{Broker, Secret, exchange::*};
//! # struct NoGrants(Upstream);
//! # impl ProvideCredential for NoGrants {
//! #     fn upstream(&self) -> &Upstream { &self.0 }
//! #     async fn credential(
//! #         &self, _: &CredentialRequest<'_>,
//! #     ) -> Result<Credential, CredentialError> {
//! #         Err(CredentialError::ConnectRequired)
//! #     }
//! #     async fn refused(&self, _: &UpstreamRefusal<'_>) {}
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let sink = tower_token_broker::audit::TracingSink::new();
//! # let broker = Broker::builder().audit(sink).build()?;
//! # let grants = NoGrants(Upstream::parse("items", "https://items.example.com")?);
//! let channel = ExchangeLayer::for_handler(&broker, grants).layer(Proxy::grpc(&Guard::new())?);
//! let uri = Uri::from_static("https://items.example.com");
//! // Any generated client, in the place of `McpClient`.
//! let mut client = McpClient::with_origin(GrpcAdapter::new(channel), uri);
//!
//! // In the handler, which finds its `CallerHandle` in the extensions of its own request:
//! # let caller: Option<CallerHandle> = None;
//! # if let Some(caller) = caller {
//! let mut request = Request::new(Frame { json: "{}".into() });
//! caller.stamp_extensions(request.extensions_mut());
//! if let Err(status) = client.call(request).await {
//!     match refusal_of(&status).and_then(|refusal| caller.refused_call(refusal)) {
//!         // For the handler's own client: for example where its user connects an account.
//!         Some(error) => println!("JSON-RPC error {}: {}", error.code, error.message),
//!         None => println!("the upstream failed: {}", status.code()),
//!     }
//! }
//! # }
//!
//! // A request that was stamped for no caller is not sent.
//! let status = client.call(Frame { json: "{}".into() }).await.unwrap_err();
//! let refused = Refused::of(refusal_of(&status).unwrap()).unwrap();
//! assert_eq!(refused.reason(), Reason::MissingLayer);
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//! Client, `GrpcAdapter`, `ExchangeLayer::for_handler`, `Proxy::grpc`. A client or server of your
//! own can replace the proxy, inside
//! [`ApplyCredentialLayer`](tower_token_broker::exchange::ApplyCredentialLayer).
//!
//! # Reads, writes
//! Reads the marker [`Refused`] in the extensions of a response. Requests, and responses without
//! the marker, pass unchanged.
//!
//! # Cancellation
//! As for the channel: dropping the call may leave the upstream with a request that it received.
//!
//! # Refusals
//! A refusal becomes an error of the call: a [`Status`] with the code, message and details
//! (`google.rpc.ErrorInfo`, `Help`, `RetryInfo`) that a gRPC client of the broker would receive.
//! Its source is the refusal.
//!
//! A status 16 of the upstream, before its first message, means that the upstream refused the
//! credential. The provider is notified, and the call fails with
//! [`Reason::CredentialRefused`](tower_token_broker::refusal::Reason::CredentialRefused). The call
//! is not sent again, because its body is a stream of the handler. The handler judges any other
//! status of the upstream.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::Status;
use tower_service::Service;
use tower_token_broker::refusal::Refused;

/// A channel for generated clients whose errors keep the broker's refusals. See the
/// [module](self).
#[derive(Clone, Copy, Debug)]
pub struct GrpcAdapter<S> {
    channel: S,
}

impl<S> GrpcAdapter<S> {
    /// Adapts a channel: the exchange layer around a proxy or a client.
    pub const fn new(channel: S) -> Self {
        Self { channel }
    }
}

impl<S, B, R> Service<Request<B>> for GrpcAdapter<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<R>;
    type Error = Status;
    type Future = AdapterFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx).map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        AdapterFuture { response: self.channel.call(request) }
    }
}

pin_project! {
    /// The future of [`GrpcAdapter`].
    #[derive(Debug)]
    #[must_use = "nothing is sent until it is polled"]
    pub struct AdapterFuture<F> {
        #[pin]
        response: F,
    }
}

impl<F, R, E> Future for AdapterFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<R>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().response.poll(cx));
        let response = response.map_err(|error| Status::from_error(error.into()))?;
        Poll::Ready(match Refused::of(&response) {
            Some(refused) => Err(status(&response, refused)),
            None => Ok(response),
        })
    }
}

/// Returns the broker's refusal that ended a call, if one did: a response without a body, for
/// [`Refused::of`] and for
/// [`CallerHandle::refused_call`](tower_token_broker::exchange::CallerHandle::refused_call).
pub fn refusal_of(status: &Status) -> Option<&Response<()>> {
    let refusal: &Refusal = status.source()?.downcast_ref()?;
    Some(&refusal.0)
}

fn status<R>(response: &Response<R>, refused: &Refused) -> Status {
    let status = Status::from_header_map(response.headers());
    // Without gRPC's content type, a refusal is plain HTTP. Every generated client sends it.
    let mut status = status.unwrap_or_else(|| Status::internal("the broker refused the request"));
    let mut refusal = Response::new(());
    *refusal.status_mut() = response.status();
    *refusal.headers_mut() = response.headers().clone();
    refusal.extensions_mut().insert(refused.clone());
    status.set_source(Arc::new(Refusal(refusal)));
    status
}

/// The source of a [`Status`].
#[derive(Debug)]
struct Refusal(Response<()>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker refused the request")?;
        match Refused::of(&self.0) {
            Some(refused) => write!(f, ": {}", refused.reason().code()),
            None => Ok(()),
        }
    }
}

impl Error for Refusal {}
