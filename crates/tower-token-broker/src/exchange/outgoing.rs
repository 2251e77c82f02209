//! The credential on its way to whoever sends the request: placed by one function, once.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    credential::Credential,
    leak_guard::{Sought, Watched},
};
use crate::{
    audit::Receipt,
    body::ResponseBody,
    dialect::Dialect,
    refusal::{Reason, Refusal},
    revocation::Standing,
};

/// The caller's credential for one upstream request, found in the extensions of the request that
/// the exchange layer passes inward. It shows nothing, and nothing but [`apply`] places it.
///
/// Whoever sends the request applies it just before: the proxy of `token-broker-outbound`, or
/// [`ApplyCredentialLayer`] around a client of your own. A handler, a middleware or a fallback that
/// does not apply it never sees the credential. Extensions are cloned with a request; the
/// credential is not: of all clones, one can place it, once.
///
/// It cannot be opened:
///
/// ```compile_fail,E0532
/// # use tower_token_broker::exchange::OutgoingCredential;
/// fn open(outgoing: OutgoingCredential) {
///     let OutgoingCredential(cell) = outgoing;
/// }
/// ```
///
/// It can be applied, and nothing else:
///
/// ```
/// # use tower_token_broker::exchange::{ApplyError, OutgoingCredential};
/// fn send(outgoing: &OutgoingCredential, mut request: http::Request<()>) -> Result<(), ApplyError> {
///     outgoing.apply(&mut request)
/// }
/// ```
///
/// [`apply`]: OutgoingCredential::apply
#[derive(Clone)]
pub struct OutgoingCredential(Arc<Cell>);

struct Cell {
    held: Mutex<Option<Held>>,
    was_applied: AtomicBool,
}

struct Held {
    credential: Credential,
    receipt: Receipt,
    standing: Standing,
    sought: Arc<Sought>,
    watched: Watched,
}

impl OutgoingCredential {
    pub(super) fn holding(
        credential: &Credential,
        receipt: Receipt,
        standing: &Standing,
        sought: Arc<Sought>,
        watched: &Watched,
    ) -> Self {
        let held = Held {
            credential: credential.clone(),
            receipt,
            standing: standing.clone(),
            sought,
            watched: watched.clone(),
        };
        Self(Arc::new(Cell { held: Mutex::new(Some(held)), was_applied: AtomicBool::new(false) }))
    }

    /// Sets the credential on this request, synchronously: send it at once. The URI must be of the
    /// credential's origin, the caller's token and grant must still stand, and the credential must
    /// not have been taken before.
    ///
    /// # Errors
    /// The request must not be sent; the error says why. Nothing was set, and the credential is
    /// gone.
    pub fn apply<B>(&self, request: &mut Request<B>) -> Result<(), ApplyError> {
        // Locked to the end: whoever withdraws it finds it placed, or gone.
        let mut place = self.0.held.lock();
        let Some(held) = place.take() else { return Err(ApplyError(Reason::CredentialTaken)) };
        let grant = held.credential.grant().map(|(id, _)| id);
        held.standing.ask_again(grant).map_err(ApplyError)?;
        held.watched.add(held.sought);
        held.credential.put_on(held.receipt, request).map_err(ApplyError)?;
        self.0.was_applied.store(true, Ordering::Release);
        drop(place);
        Ok(())
    }

    fn was_applied(&self) -> bool {
        self.0.was_applied.load(Ordering::Acquire)
    }
}

/// Takes the credential back when the request is over, however it ends: whoever still holds a clone
/// of its extensions cannot use it any more.
#[derive(Debug)]
pub(super) struct Withdraw(pub(super) OutgoingCredential);

impl Withdraw {
    /// The request is over. Whether the credential was placed on it.
    pub(super) fn was_applied(self) -> bool {
        drop(self.0.0.held.lock().take());
        self.0.was_applied()
    }
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        drop(self.0.0.held.lock().take());
    }
}

impl fmt::Debug for OutgoingCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was_applied = self.was_applied();
        f.debug_struct("OutgoingCredential")
            .field("was_applied", &was_applied)
            .finish_non_exhaustive()
    }
}

/// A credential was not placed, so the request must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential was not placed on the request: {}", .0.code())]
pub struct ApplyError(Reason);

impl ApplyError {
    /// The reason: of another origin, taken before, revoked since, or not a header value.
    pub const fn reason(self) -> Reason {
        self.0
    }
}

/// Applies the credential just before a client of your own sends the request: hyper's client, a
/// tonic channel, a server in the same process.
///
/// **Everything inside this layer sees the real credential.** Put it directly around the client,
/// and let that client neither retry nor follow redirects: the credential would be sent again
/// without a record, or to somebody else.
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
/// // In the place of a client. In the stack: `crm.layer(ApplyCredentialLayer::new().layer(client))`.
/// let client = service_fn(async |_: Request<Empty<Bytes>>| {
///     Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
/// });
/// let client = ApplyCredentialLayer::new().layer(client);
///
/// // A request that did not come through the exchange layer is not sent.
/// let response = client.oneshot(Request::new(Empty::new())).await.unwrap();
/// assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct ApplyCredentialLayer(());

impl ApplyCredentialLayer {
    /// There is nothing to choose.
    pub const fn new() -> Self {
        Self(())
    }

    /// Puts the layer around a client. The same as [`Layer::layer`], without an import.
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

/// The service that [`ApplyCredentialLayer`] makes.
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
                    missing = "exchange",
                    "a request reached the client around the exchange layer, and was not sent"
                );
                Reason::MissingLayer
            }
        };
        let response = Dialect::of(&request).say(&Refusal::new(reason));
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
                let response = response.take().expect("polled after it was ready");
                Poll::Ready(Ok(response.map(ResponseBody::bytes)))
            }
            StateProjection::Inner { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::inner)))
            }
        }
    }
}
