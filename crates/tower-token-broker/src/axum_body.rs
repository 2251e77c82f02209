//! Body conversion for axum's `from_fn` and other middleware inside the stack that requires
//! `axum::body::Body`.
//!
//! Services inside the broker receive `Request<RequestBody<B>>`. An axum `Router` or handler
//! accepts it as it is. Middleware that is written only for `axum::body::Body` does not; this layer
//! converts the body for it.
//!
//! ```
//! use axum::{Router, extract::Request, response::Response, routing::post};
//! use axum::middleware::{Next, from_fn};
//! use tower::ServiceBuilder;
//! use tower_token_broker::axum_body::AxumBodyLayer;
//!
//! async fn inside(request: Request, next: Next) -> Response {
//!     next.run(request).await
//! }
//!
//! # async fn handler() {}
//! // ServiceBuilder runs top to bottom: first the broker, then this layer, then middleware.
//! let router: Router = Router::new().route("/mcp", post(handler)).layer(
//!     ServiceBuilder::new()
//!         // .layer(broker)
//!         .layer(AxumBodyLayer::new())
//!         .layer(from_fn(inside)),
//! );
//! ```

use std::task::{Context, Poll};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

/// Converts the body of a request into `axum::body::Body`.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AxumBodyLayer(());

impl AxumBodyLayer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for AxumBodyLayer {
    type Service = AxumBody<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AxumBody { inner }
    }
}

/// The service that [`AxumBodyLayer`] creates.
#[derive(Clone, Copy, Debug)]
pub struct AxumBody<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for AxumBody<S>
where
    S: Service<Request<Body>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.inner.call(request.map(Body::new))
    }
}
