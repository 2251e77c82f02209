//! The states of a request under audit.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, Response};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{body::TrailBody, record::Outcome, trail::Terminal};
use crate::{body::ResponseBody, refusal::Refused, request_id::RequestId};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pin_project! {
    /// The future of [`super::Audit`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        // Without a terminal record where the log is closed.
        Refused { said: Option<Response<Bytes>>, terminal: Option<Terminal> },
        Inner { #[pin] inner: F, request: RequestId, terminal: Option<Terminal> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn not_recorded(said: Response<Bytes>) -> Self {
        Self { state: State::Refused { said: Some(said), terminal: None } }
    }

    pub(super) fn refused(
        mut said: Response<Bytes>,
        request: RequestId,
        mut terminal: Terminal,
    ) -> Self {
        terminal.answered(said.status(), Refused::of(&said).map(Refused::reason));
        said.headers_mut().insert(X_REQUEST_ID, request.header_value());
        Self { state: State::Refused { said: Some(said), terminal: Some(terminal) } }
    }

    pub(super) const fn inner(inner: F, request: RequestId, terminal: Terminal) -> Self {
        Self { state: State::Inner { inner, request, terminal: Some(terminal) } }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<TrailBody<ResponseBody<R>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused { said, terminal } => {
                let said = said.take().expect("polled after it was ready");
                let terminal = terminal.take();
                Poll::Ready(Ok(said.map(|bytes| {
                    let body = ResponseBody::bytes(bytes);
                    match terminal {
                        Some(terminal) => TrailBody::new(body, terminal),
                        None => TrailBody::untold(body),
                    }
                })))
            }
            StateProjection::Inner { inner, request, terminal } => {
                let answered = ready!(inner.poll(cx));
                let mut terminal = terminal.take().expect("polled after it was ready");
                match answered {
                    Ok(mut answer) => {
                        terminal
                            .answered(answer.status(), Refused::of(&answer).map(Refused::reason));
                        #[cfg(feature = "grpc")]
                        if crate::grpc::metadata::is_grpc(answer.headers()) {
                            terminal.grpc_fields(answer.headers());
                        }
                        answer.headers_mut().insert(X_REQUEST_ID, request.header_value());
                        Poll::Ready(Ok(
                            answer.map(|body| TrailBody::new(ResponseBody::inner(body), terminal))
                        ))
                    }
                    Err(error) => {
                        terminal.settle(Outcome::Failed);
                        Poll::Ready(Err(error))
                    }
                }
            }
        }
    }
}
