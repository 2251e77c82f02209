//! A request gets its trail, or is not let in.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{body::TrailBody, future::ResponseFuture, log::AuditLog, trail::Trail};
use crate::{
    body::ResponseBody,
    dialect::Dialect,
    principal::Resource,
    refusal::{Reason, Refusal},
    request_id::RequestId,
};

/// The service that [`super::AuditLayer`] makes.
#[derive(Clone, Debug)]
pub struct Audit<S> {
    inner: S,
    log: AuditLog,
    resource: Option<Resource>,
}

impl<S> Audit<S> {
    pub(super) const fn new(inner: S, log: AuditLog, resource: Option<Resource>) -> Self {
        Self { inner, log, resource }
    }
}

impl<S, B, R> Service<Request<B>> for Audit<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Response<TrailBody<ResponseBody<R>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // What only this layer may put there was put there by somebody else: it goes.
        request.extensions_mut().remove::<Trail>();
        request.extensions_mut().remove::<RequestId>();
        let peer = request.extensions().get::<SocketAddr>().copied();
        match Trail::begin(&self.log, self.resource.clone(), peer) {
            Ok((trail, terminal)) => {
                request.extensions_mut().insert(trail.request_id());
                request.extensions_mut().insert(trail.clone());
                ResponseFuture::inner(self.inner.call(request), trail.request_id(), terminal)
            }
            // P288: no place for its record, so no request; counted, and written when the log is open again.
            Err(_) => {
                self.log.0.count(Reason::AuditUnavailable);
                ResponseFuture::refused(Dialect::of(&request).say(&Refusal::new(Reason::AuditUnavailable)))
            }
        }
    }
}
