//! The `Service`: judges a request before calling the inner service, and filters its response.

use std::{
    fmt,
    future::ready,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{
    body::FilterBody,
    judged::Judged,
    layer::Shared,
    policy::Policy,
    request::{self, Content, Decider},
    response::{Filter, Judging},
};
use crate::{
    alarm::Alarm,
    audit::Trail,
    body::{RequestBody, ResponseBody},
    cause::Cause,
    dialect::Dialect,
    inbound,
    limits::{Limits, Protocol},
    principal::Principal,
    refusal::{Reason, Refusal, Refused},
    revocation::Standing,
    upload::Upload,
};

/// The service created by [`super::ScopeFilterLayer`].
pub struct ScopeFilter<S, P> {
    inner: S,
    shared: Arc<Shared<P>>,
}

impl<S, P> ScopeFilter<S, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<P>>) -> Self {
        Self { inner, shared }
    }
}

/// The future of [`ScopeFilter`]. One box, because the request waits for its body anyway.
pub type ResponseFuture<R, P, E> = Pin<Box<dyn Future<Output = Result<Filtered<R, P>, E>> + Send>>;

/// The response of [`ScopeFilter`].
pub type Filtered<R, P> = Response<ResponseBody<FilterBody<R, P>>>;

impl<S, P, B, R> Service<Request<B>> for ScopeFilter<S, P>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    P: Policy,
    B: Body<Data = Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Filtered<R, P>;
    type Error = S::Error;
    type Future = ResponseFuture<R, P, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The future takes the service that was polled ready. The clone stays here.
        let unready = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, unready);
        let shared = Arc::clone(&self.shared);
        let dialect = Dialect::of(&request);
        // Remove any forged extension; only this layer may insert it.
        request.extensions_mut().remove::<Judged>();
        request.extensions_mut().remove::<Upload>();
        let principal = request.extensions().get::<Principal>().cloned();
        let trail = request.extensions().get::<Trail>().cloned();
        let (Some(trail), Some(principal)) = (trail, principal) else {
            tracing::error!(
                alarm = Alarm::LayerMissing.code(),
                missing = "audit or authenticate",
                "the audit or the authenticate layer is missing: \
                 put both outside of ScopeFilterLayer"
            );
            let refused = render(&dialect, &Refusal::new(Reason::MissingLayer));
            return Box::pin(ready(Ok(refused)));
        };
        #[cfg(feature = "grpc")]
        if matches!(shared.protocol, Protocol::Grpc(_)) {
            let call = super::grpc::GrpcCall { shared, principal, trail, dialect };
            return Box::pin(call.serve(inner, request));
        }
        let target = inbound::original_uri(&request).clone();
        let (mut parts, stream) = request.into_parts();
        Box::pin(async move {
            let refuse = |dialect: &Dialect, refusal: Refusal| {
                trail.refused(refusal.reason());
                render(dialect, &refusal)
            };
            let decider = Decider { shared: &shared, principal: &principal, trail: &trail };
            let judged = if shared.protocol == Protocol::Http {
                match decider.plain_http(dialect, &mut parts, target) {
                    Ok((judged, Content::Streamed)) => {
                        Ok((judged, streamed(&shared.limits, &trail, &mut parts, stream)))
                    }
                    Ok((judged, Content::Refused)) => {
                        match request::no_content(&shared.limits, stream).await {
                            Ok(()) => Ok((judged, RequestBody::bytes(Bytes::new()))),
                            Err(reason) => Err(Box::new((judged.dialect().clone(), reason.into()))),
                        }
                    }
                    Err(refused) => Err(refused),
                }
            } else {
                let message = request::read(&shared.limits, &parts, stream).await;
                decider.mcp(dialect, &mut parts, message)
            };
            let (judged, body) = match judged {
                Ok(judged) => judged,
                Err(refused) => return Ok(refuse(&refused.0, refused.1)),
            };
            judged.mark_idle_stream(&parts.extensions);
            parts.extensions.insert(judged.clone());
            let response = inner.call(Request::from_parts(parts, body)).await?;
            // A refusal of an inner layer contains no list.
            if shared.protocol == Protocol::Http || Refused::of(&response).is_some() {
                return Ok(response.map(|body| ResponseBody::inner(FilterBody::untouched(body))));
            }
            let status = response.status();
            let unreadable = Cause::of_unreadable(status, response.headers());
            let filter =
                Filter { shared: &shared, principal: &principal, trail: &trail, judged: &judged };
            let filtered = match filter.filter(response) {
                Ok(Judging::Passes(response)) => Ok(response),
                Ok(Judging::Reads(read)) => read.await,
                Err(refusal) => Err(refusal),
            };
            Ok(filtered.unwrap_or_else(|refusal| {
                let reason = refusal.reason();
                let id = trail.request_id();
                if reason == Reason::ResponseUnreadable {
                    unreadable.report(reason, id, None, status);
                } else if reason == Reason::UpstreamFailed {
                    Cause::BrokenOff.report(reason, id, None, status);
                }
                refuse(judged.dialect(), refusal)
            }))
        })
    }
}

/// Returns the watched stream of a client. The upload in the extensions is that of the request that
/// is sent upstream.
pub(super) fn streamed<B: Body<Data = Bytes>>(
    limits: &Limits,
    trail: &Trail,
    parts: &mut Parts,
    stream: B,
) -> RequestBody<B> {
    if stream.is_end_stream() {
        return RequestBody::bytes(Bytes::new());
    }
    let upload = trail.upload(parts.extensions.get::<Standing>(), limits, true);
    parts.extensions.insert(upload.clone());
    RequestBody::stream(stream, upload.watch())
}

pub(super) fn render<R, P>(dialect: &Dialect, refusal: &Refusal) -> Filtered<R, P> {
    dialect.render(refusal).map(ResponseBody::bytes)
}

impl<S: Clone, P> Clone for ScopeFilter<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, P> fmt::Debug for ScopeFilter<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeFilter")
            .field("protocol", &self.shared.protocol)
            .finish_non_exhaustive()
    }
}
