//! A layer that wraps service, future and body, and does nothing: the cost of a layer as such.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

#[derive(Clone, Copy, Debug)]
pub(crate) struct NoopLayer;

impl<S> Layer<S> for NoopLayer {
    type Service = Noop<S>;

    fn layer(&self, inner: S) -> Noop<S> {
        Noop { inner }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Noop<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Noop<S>
where
    S: Service<Request<NoopBody<B>>, Response = Response<R>>,
{
    type Response = Response<NoopBody<R>>;
    type Error = S::Error;
    type Future = NoopFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        NoopFuture { inner: self.inner.call(request.map(|inner| NoopBody { inner })) }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct NoopFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, R, E> Future for NoopFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<NoopBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx))?;
        Poll::Ready(Ok(response.map(|inner| NoopBody { inner })))
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct NoopBody<B> {
        #[pin]
        inner: B,
    }
}

impl<B: Body> Body for NoopBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
