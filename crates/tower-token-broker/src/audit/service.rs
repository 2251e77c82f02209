//! The `Service`: opens the trail of a request before it calls the inner service.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    body::TrailBody,
    future::ResponseFuture,
    log::{AuditLog, Counted},
    mount::MountPath,
    trail::{RequestFacts, Trail},
};
use crate::{
    body::ResponseBody,
    dialect::Dialect,
    inbound,
    principal::Resource,
    refusal::{Reason, Refusal},
    request_id::{OuterRequestId, RequestId},
};

/// The configuration of the layer.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) log: AuditLog,
    pub(crate) resource: Option<Resource>,
    /// The path at which the resource is served; `None`: any path.
    pub(crate) mount_path: Option<MountPath>,
    pub(crate) trusts_request_id: bool,
}

/// The service of [`AuditLayer`](super::AuditLayer).
#[derive(Clone, Debug)]
pub struct Audit<S> {
    inner: S,
    config: Config,
}

impl<S> Audit<S> {
    pub(super) const fn new(inner: S, config: Config) -> Self {
        Self { inner, config }
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
        // Remove any forged extension; only this layer may insert it.
        let extensions = request.extensions_mut();
        extensions.remove::<Trail>();
        extensions.remove::<RequestId>();
        extensions.remove::<Dialect>();
        let Config { log, resource, mount_path, trusts_request_id } = &self.config;
        let peer = inbound::peer(request.extensions());
        let outer = request.extensions().get::<OuterRequestId>().cloned();
        let from_header = || OuterRequestId::from_header(request.headers());
        let outer = outer.or_else(|| trusts_request_id.then(from_header).flatten());
        let facts = RequestFacts { resource: resource.clone(), peer, outer_request: outer };
        let Ok((trail, terminal)) = Trail::begin(log, facts) else {
            // P288: no place for its record, so the request is refused. Refusals are counted, and
            // recorded when the log is open again.
            let is_over = log.0.is_ending();
            let reason = if is_over { Reason::ShuttingDown } else { Reason::AuditUnavailable };
            log.0.count(Counted::Refused(reason));
            let id = Trail::unrecorded_id();
            request.extensions_mut().insert(id);
            return ResponseFuture::not_recorded(&Dialect::of(&request), id, reason);
        };
        let id = trail.request_id();
        request.extensions_mut().insert(id);
        let unrecorded = terminal.is_passing().then(|| Dialect::of(&request));
        // Determined once; the inner layers read it.
        let dialect = Dialect::of(&request);
        let is_served =
            |mount_path: &MountPath| mount_path.serves(inbound::original_uri(&request).path());
        if let Some(mount_path) = mount_path.as_ref().filter(|mount_path| !is_served(mount_path)) {
            // Before the token is read, and without a challenge: that would name another resource.
            mount_path.report(resource.as_ref());
            trail.refused(Reason::PathNotServed);
            let response = dialect.render(&Refusal::new(Reason::PathNotServed));
            return ResponseFuture::refused(response, id, terminal);
        }
        request.extensions_mut().insert(dialect);
        request.extensions_mut().insert(trail);
        let future = self.inner.call(request);
        // P383: while requests without a verified user have no place left, only those pass whose
        // user is known at once: they have a place of their own now.
        match unrecorded.filter(|_| terminal.is_passing()) {
            None => ResponseFuture::inner(future, id, terminal),
            Some(dialect) => ResponseFuture::not_recorded(&dialect, id, Reason::AuditUnavailable),
        }
    }
}
