//! The two ends of a bench: a service that answers at once, and a sink that keeps nothing.

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

/// Answers at once, whatever it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Instant {
    media_type: &'static str,
    answer: Bytes,
}

impl Instant {
    pub(crate) fn new(media_type: &'static str, answer: String) -> Self {
        Self { media_type, answer: answer.into() }
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
        let mut response = Response::new(Full::new(self.answer.clone()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        ready(Ok(response))
    }
}

/// A sink that keeps nothing: what the disk costs is the difference. There is none outside of the
/// benches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dropped;

impl Dropped {
    /// Nothing is to be chosen.
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
