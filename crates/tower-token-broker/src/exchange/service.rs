//! The `Service`: sends a request with the caller's credential and guards the response.

use std::{
    future, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    context::RequestContext,
    layer::{Requests, Shared},
    leak_guard::LeakGuardBody,
    provide::ProvideCredential,
    send::send,
};
use crate::{
    alarm::Alarm,
    body::{RequestBody, ResponseBody},
    dialect::Dialect,
    refusal::{Reason, Refusal, ResponseKind},
};

/// The service that [`ExchangeLayer`](super::ExchangeLayer) creates.
#[derive(Debug)]
pub struct Exchange<S, P> {
    inner: S,
    shared: Arc<Shared<P>>,
}

impl<S, P> Exchange<S, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<P>>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone, P> Clone for Exchange<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// The future of [`Exchange`]. It is boxed, because the request waits for the audit's disk anyway.
pub type ResponseFuture<R, E> =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody<LeakGuardBody<R>>>, E>> + Send>>;

impl<S, P, B, R> Service<Request<B>> for Exchange<S, P>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    P: ProvideCredential,
    B: Body<Data = Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody<LeakGuardBody<R>>>;
    type Error = S::Error;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The future takes the service that was polled ready; its clone stays.
        let unready = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, unready);
        let shared = Arc::clone(&self.shared);
        let dialect = match shared.requests {
            Requests::OfAHandler => {
                // The extensions of a handler's own request may be copied from its client's.
                let dialect = Dialect::determine(&request);
                request.extensions_mut().insert(dialect.clone());
                dialect
            }
            Requests::OfClients => Dialect::of(&request),
        };
        let (mut parts, body) = request.into_parts();
        // H169: without the proofs of the outer layers, nothing is sent.
        let context = match RequestContext::take(
            &mut parts.extensions,
            shared.requests,
            &dialect,
            &shared.registry,
        ) {
            Ok(context) => context,
            Err(missing) => {
                tracing::error!(
                    alarm = Alarm::LayerMissing.code(),
                    missing,
                    "the exchange layer found no proof of the {missing} layer outside it"
                );
                let refused = refuse(&dialect, &Refusal::new(Reason::MissingLayer));
                return Box::pin(future::ready(Ok(refused)));
            }
        };
        Box::pin(async move {
            match send(&mut ready, &shared, &context, &parts, body).await {
                Ok(response) => response,
                Err(refusal) => {
                    context.note(refusal.reason());
                    let refusal = with_connect_url(refusal, &shared.provider, &context);
                    Ok(refuse(&context.dialect, &refusal))
                }
            }
        })
    }
}

/// Adds the connect page to a refusal that sends the user there.
fn with_connect_url<P: ProvideCredential>(
    refusal: Refusal,
    provider: &P,
    context: &RequestContext,
) -> Refusal {
    if refusal.reason().response_kind() != ResponseKind::Connect || refusal.connect_url().is_some()
    {
        return refusal;
    }
    let caller = &context.principal;
    let url = if refusal.reason() == Reason::UpstreamScopeRequired {
        provider.step_up_url(caller, context.judged.upstream_scopes())
    } else {
        provider.connect_url(caller)
    };
    match url {
        Some(url) => refusal.connect_at(&url),
        None => refusal,
    }
}

fn refuse<R>(dialect: &Dialect, refusal: &Refusal) -> Response<ResponseBody<LeakGuardBody<R>>> {
    dialect.render(refusal).map(ResponseBody::bytes)
}
