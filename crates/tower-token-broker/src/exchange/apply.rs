//! Applies the credential in front of your own client.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::outgoing::OutgoingCredential;
use crate::{
    alarm::Alarm,
    body::ResponseBody,
    dialect::Dialect,
    refusal::{Reason, Refusal},
};

/// Applies the credential just before your own client sends the request: hyper's client, a tonic
/// channel, a server in the same process.
///
/// **Everything inside this layer sees the real credential.** Put it directly around a client that
/// neither retries nor follows redirects: it would send the credential again without a record, or
/// to another server.
///
/// ```
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Empty;
/// use tower::{ServiceExt, service_fn};
/// use tower_token_broker::exchange::ApplyCredentialLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // In the stack: `crm.layer(ApplyCredentialLayer::new().layer(client))`.
/// let client = service_fn(async |_: Request<Empty<Bytes>>| {
///     Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let client = ApplyCredentialLayer::new().layer(client);
///
/// // A request that bypassed the exchange layer is not sent.
/// let response = client.oneshot(Request::new(Empty::new())).await.unwrap();
/// assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct ApplyCredentialLayer(());

impl ApplyCredentialLayer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self(())
    }

    /// Wraps a client. The same as [`Layer::layer`], without an import.
    pub const fn layer<S>(&self, inner: S) -> ApplyCredential<S> {
        ApplyCredential { inner }
    }
}

impl<S> Layer<S> for ApplyCredentialLayer {
    type Service = ApplyCredential<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ApplyCredential { inner }
    }
}

/// The service that [`ApplyCredentialLayer`] creates.
#[derive(Clone, Debug)]
pub struct ApplyCredential<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for ApplyCredential<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ApplyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let reason = match request.extensions_mut().remove::<OutgoingCredential>() {
            Some(outgoing) => match outgoing.apply(&mut request) {
                Ok(()) => {
                    return ApplyFuture {
                        state: State::Inner { future: self.inner.call(request) },
                    };
                }
                Err(error) => error.reason(),
            },
            None => {
                tracing::error!(
                    alarm = Alarm::LayerMissing.code(),
                    missing = "exchange",
                    "a request bypassed the exchange layer, and was not sent"
                );
                Reason::MissingLayer
            }
        };
        let response = Dialect::of(&request).render(&Refusal::new(reason));
        ApplyFuture { state: State::Refused { response: Some(response) } }
    }
}

pin_project! {
    /// The future of [`ApplyCredential`].
    #[derive(Debug)]
    #[must_use = "nothing is sent until it is polled"]
    pub struct ApplyFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Refused { response: Option<Response<Bytes>> },
        Inner { #[pin] future: F },
    }
}

impl<F, R, E> Future for ApplyFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { response } => {
                let response = response.take().expect("polled after completion");
                Poll::Ready(Ok(response.map(ResponseBody::bytes)))
            }
            StateProjection::Inner { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::inner)))
            }
        }
    }
}
