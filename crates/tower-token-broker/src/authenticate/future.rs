//! The future: the states of a request.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    CutBody,
    body::Guarded,
    cors::Page,
    layer::Shared,
    refuser::Refuser,
    verdict_cache::{Admitted, RefusedToken},
};
use crate::{
    audit::Trail,
    body::ResponseBody,
    refusal::{Reason, Refused},
};

type Verdict = Pin<Box<dyn Future<Output = Result<Admitted, RefusedToken>> + Send>>;

pin_project! {
    /// The future of [`Authenticate`](super::Authenticate). It resolves to a refusal, or to the
    /// inner service's response while the token is valid.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, S::Future>,
        page: Option<Page>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        // A refusal, or another response of ours.
        Refused { response: Option<Response<Bytes>> },
        // Holds the service that was polled ready.
        Verifying { verdict: Verdict, waiting: Option<Waiting<S, B>> },
        Inner { #[pin] future: F, guarded: Option<Guarded>, refuser: Refuser },
    }
}

struct Waiting<S, B> {
    ready: S,
    request: Request<B>,
    shared: Arc<Shared>,
    trail: Trail,
    refuser: Refuser,
}

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    pub(super) const fn refused(response: Response<Bytes>) -> Self {
        Self::ready(response)
    }

    /// Responds without the inner service.
    pub(super) const fn ready(response: Response<Bytes>) -> Self {
        Self { state: State::Refused { response: Some(response) }, page: None }
    }

    /// Lets this page read the response, whichever it is.
    pub(super) fn to(mut self, page: Option<Page>) -> Self {
        self.page = page;
        self
    }

    pub(super) fn inner(future: S::Future, guarded: Guarded, refuser: Refuser) -> Self {
        Self { state: State::Inner { future, guarded: Some(guarded), refuser }, page: None }
    }

    pub(super) fn verifying(
        verdict: Verdict,
        ready: S,
        request: Request<B>,
        shared: Arc<Shared>,
        trail: Trail,
        refuser: Refuser,
    ) -> Self {
        Self {
            state: State::Verifying {
                verdict,
                waiting: Some(Waiting { ready, request, shared, trail, refuser }),
            },
            page: None,
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<CutBody<R>>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(poll_state(this.state, cx))?;
        // A501: also a refusal, so that the page learns where to obtain a token.
        if let Some(page) = this.page {
            page.may_read(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

type Polled<R, E> = Poll<Result<Response<ResponseBody<CutBody<R>>>, E>>;

fn poll_state<S, B, R>(
    mut state: Pin<&mut State<S, B, S::Future>>,
    cx: &mut Context<'_>,
) -> Polled<R, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    loop {
        let next = match state.as_mut().project() {
            StateProjection::Refused { response } => {
                let response = response.take().expect("polled after completion");
                return Poll::Ready(Ok(response.map(ResponseBody::bytes)));
            }
            StateProjection::Verifying { verdict, waiting } => {
                let verdict = ready!(verdict.as_mut().poll(cx));
                let Waiting { mut ready, mut request, shared, trail, refuser } =
                    waiting.take().expect("polled after completion");
                match verdict {
                    Ok(admitted) => match shared.admit(&mut request, &admitted, trail) {
                        Ok(guarded) => State::Inner {
                            future: ready.call(request),
                            guarded: Some(guarded),
                            refuser,
                        },
                        Err(reason) => State::Refused { response: Some(refuser.refuse(reason)) },
                    },
                    Err(refused) => {
                        State::Refused { response: Some(refuser.refuse_token(&refused)) }
                    }
                }
            }
            StateProjection::Inner { future, guarded, refuser } => {
                // N404: looked at first, so that a revoked request does no more work. The inner
                // future is dropped with the state.
                let ended = guarded.as_ref().expect("polled after completion").ended();
                if let Some(reason) = ended {
                    let response = Some(refuser.refuse(reason));
                    state.set(State::Refused { response });
                    continue;
                }
                if let Poll::Ready(result) = future.poll(cx) {
                    let guarded = guarded.take().expect("polled after completion");
                    let response = match result {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    // A refusal of an inner layer contains nothing of the upstream's, so it is
                    // not cut.
                    if Refused::of(&response).is_some() {
                        return Poll::Ready(Ok(
                            CutBody::untouched(response).map(ResponseBody::inner)
                        ));
                    }
                    // N467: no revocation ends a connection that speaks another protocol.
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        let response = Some(refuser.refuse(Reason::UpstreamFailed));
                        state.set(State::Refused { response });
                        continue;
                    }
                    // A revocation before the headers were sent becomes a refusal instead of a
                    // broken body.
                    let Some(reason) = guarded.ended() else {
                        let cut = CutBody::around(response, guarded, refuser.ending());
                        return Poll::Ready(Ok(cut.map(ResponseBody::inner)));
                    };
                    let response = Some(refuser.refuse(reason));
                    state.set(State::Refused { response });
                    continue;
                }
                // A revocation ends the wait for the headers.
                let waiting = guarded.as_mut().expect("polled after completion");
                let reason = ready!(waiting.poll_ended(cx));
                State::Refused { response: Some(refuser.refuse(reason)) }
            }
        };
        state.set(next);
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Refused { .. } => "refused",
            State::Verifying { .. } => "verifying",
            State::Inner { .. } => "inner",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
