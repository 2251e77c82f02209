//! Credentials for handlers that send requests of their own instead of a proxy.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    context::RequestContext,
    leak_guard::{Framing, LeakGuardBody, Registry, Watched},
};
use crate::{
    alarm::Alarm,
    audit::Trail,
    body::{RequestBody, ResponseBody},
    dialect::{Dialect, RefusedCall},
    principal::Principal,
    refusal::{Reason, Refusal, Refused},
    revocation::Standing,
    scope_filter::{Judged, JudgedBody},
    upload::Upload,
};

/// The caller for whom a handler works. Only [`CallerLayer`] creates it, and inserts it into the
/// extensions of the request. Cheap to clone.
///
/// A handler stamps each of its own requests ([`CallerHandle::stamp`]) and sends it through a
/// client that is wrapped in an [`ExchangeLayer`](super::ExchangeLayer), which adds the caller's
/// credential and records an intent for each use. The handler never sees the credential.
#[derive(Clone, Debug)]
pub struct CallerHandle(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    trail: Trail,
    principal: Principal,
    standing: Standing,
    judged: Judged,
    watched: Watched,
}

/// The mark of [`CallerHandle::stamp`] in the extensions of a handler's request.
#[derive(Clone, Debug)]
pub(crate) struct Stamped(pub(crate) CallerHandle);

impl CallerHandle {
    /// Marks one of the handler's own requests as sent for this caller.
    pub fn stamp<B>(&self, request: &mut Request<B>) {
        self.stamp_extensions(request.extensions_mut());
    }

    /// Marks a request of another type by its extensions, such as a `tonic::Request` of a generated
    /// client. See [`stamp`](Self::stamp).
    pub fn stamp_extensions(&self, extensions: &mut Extensions) {
        // A handler may build its request from the client's. Its own dialect is another one.
        extensions.remove::<Dialect>();
        extensions.insert(Stamped(self.clone()));
    }

    /// Returns the JSON-RPC error (code, message, data) with which a handler can respond to its
    /// client after the broker refused the handler's request. `None` if the response is no refusal.
    ///
    /// A client that can send its user to a URL (MCP 2025-11-25, URL elicitation) receives code
    /// −32042 and the connect page, any other −32001 and the page in `data`.
    pub fn refused_call<B>(&self, response: &Response<B>) -> Option<RefusedCall> {
        let refused = Refused::of(response)?;
        Some(self.0.judged.dialect().refused_call(refused.refusal()))
    }

    /// Returns the caller.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Returns the context of a handler's own request, whose dialect is `own`.
    pub(crate) fn context(&self, own: &Dialect) -> RequestContext {
        RequestContext {
            trail: self.0.trail.clone(),
            principal: self.0.principal.clone(),
            standing: self.0.standing.clone(),
            judged: self.0.judged.clone(),
            dialect: self.0.judged.dialect().clone().of_handler(own),
            watched: self.0.watched.clone(),
            by_handler: true,
        }
    }
}

/// Takes the place of [`ExchangeLayer`](super::ExchangeLayer) around a service that responds
/// itself. It inserts a [`CallerHandle`] into the extensions, passes the judged bytes on, and masks
/// echoes of the used credentials in the response.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct CallerLayer(Arc<Registry>);

impl CallerLayer {
    pub(crate) const fn build(registry: Arc<Registry>) -> Self {
        Self(registry)
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { inner, registry: Arc::clone(&self.0) }
    }
}

/// The service that [`CallerLayer`] creates.
#[derive(Clone, Debug)]
pub struct CallerService<S> {
    inner: S,
    registry: Arc<Registry>,
}

impl<S, B, R> Service<Request<B>> for CallerService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<LeakGuardBody<R>>>;
    type Error = S::Error;
    type Future = CallerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let dialect = Dialect::of(&request);
        let extensions = request.extensions();
        let found = (|| {
            let trail = extensions.get::<Trail>().ok_or("audit")?.clone();
            let principal = extensions.get::<Principal>().ok_or("authenticate")?.clone();
            let watched = Watched::new(&self.registry, principal.user());
            Ok(Parts {
                trail,
                principal,
                standing: extensions.get::<Standing>().ok_or("authenticate")?.clone(),
                judged: extensions.get::<Judged>().ok_or("scope filter")?.clone(),
                watched,
            })
        })();
        let caller = match found {
            Ok(parts) => CallerHandle(Arc::new(parts)),
            Err(missing) => {
                let missing: &str = missing;
                tracing::error!(
                    alarm = Alarm::LayerMissing.code(),
                    missing,
                    "the caller layer found no proof of the {missing} layer outside it"
                );
                let refusal = Some(dialect.render(&Refusal::new(Reason::MissingLayer)));
                return CallerFuture { state: State::Refused { refusal } };
            }
        };
        // J207: the handler receives the judged body, even if a layer in between changed it.
        let judged = match caller.0.judged.body() {
            JudgedBody::Bytes(bytes) => Some(bytes.clone()),
            JudgedBody::Nothing => Some(Bytes::new()),
            JudgedBody::Http(..) => None,
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => rpc.message.clone(),
        };
        // The scope filter opened it for a stream.
        let upload = request.extensions().get::<Upload>().cloned();
        request.extensions_mut().insert(caller.clone());
        let request = request.map(|stream| match (judged, upload) {
            (Some(bytes), _) => RequestBody::bytes(bytes),
            (None, Some(upload)) => RequestBody::stream(stream, upload.watch()),
            (None, None) => RequestBody::bytes(Bytes::new()),
        });
        let unready = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, unready);
        CallerFuture { state: State::Inner { response: ready.call(request), caller } }
    }
}

pin_project! {
    /// The future of [`CallerService`].
    #[derive(Debug)]
    pub struct CallerFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Refused { refusal: Option<Response<Bytes>> },
        Inner { #[pin] response: F, caller: CallerHandle },
    }
}

impl<F, R, E> Future for CallerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<LeakGuardBody<R>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { refusal } => {
                let response = refusal.take().expect("polled after completion");
                Poll::Ready(Ok(response.map(ResponseBody::bytes)))
            }
            StateProjection::Inner { response, caller } => {
                let mut response = ready!(response.poll(cx))?;
                // A handler may respond with the headers of its own refused request. That is a
                // response like any other, which is filtered and cut.
                response.extensions_mut().remove::<Refused>();
                let (trail, watched) = (caller.0.trail.clone(), caller.0.watched.clone());
                watched.mask_fields(response.headers_mut(), &trail);
                let framing = Framing::of(response.headers());
                Poll::Ready(Ok(response.map(|body| {
                    ResponseBody::inner(LeakGuardBody::new(body, framing, watched, trail))
                })))
            }
        }
    }
}
