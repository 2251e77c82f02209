//! The two ends of a bench: a service that responds at once, and a sink that discards records.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use tower_service::Service;
use tower_token_broker::audit::{AuditSink, Records, Resumed, SinkError};

/// A service that responds to every request at once.
#[derive(Clone, Debug)]
pub(crate) struct Instant {
    media_type: &'static str,
    response: Bytes,
}

impl Instant {
    pub(crate) fn new(media_type: &'static str, response: String) -> Self {
        Self { media_type, response: response.into() }
    }
}

impl<B> Service<Request<B>> for Instant {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(Full::new(self.response.clone()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        ready(Ok(response))
    }
}

/// A sink that discards records: the difference is the cost of the disk. It exists only in the
/// benches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dropped;

impl Dropped {
    /// Creates the sink.
    pub const fn new() -> Self {
        Self
    }
}

impl Default for Dropped {
    fn default() -> Self {
        Self::new()
    }
}

impl AuditSink for Dropped {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(Resumed::nothing_kept())
    }

    async fn write(&self, _: &Records) -> Result<(), SinkError> {
        Ok(())
    }
}
