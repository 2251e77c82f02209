//! The states of a request in the audit layer.

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
        // Without a terminal record if the log is closed.
        Refused { response: Option<Response<Bytes>>, terminal: Option<Terminal> },
        Inner { #[pin] inner: F, request: RequestId, terminal: Option<Terminal> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn not_recorded(response: Response<Bytes>) -> Self {
        Self { state: State::Refused { response: Some(response), terminal: None } }
    }

    pub(super) fn refused(
        mut response: Response<Bytes>,
        request: RequestId,
        mut terminal: Terminal,
    ) -> Self {
        terminal.responded(response.status(), Refused::of(&response).map(Refused::reason));
        response.headers_mut().insert(X_REQUEST_ID, request.header_value());
        Self { state: State::Refused { response: Some(response), terminal: Some(terminal) } }
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
            StateProjection::Refused { response, terminal } => {
                let response = response.take().expect("polled after it was ready");
                let terminal = terminal.take();
                Poll::Ready(Ok(response.map(|bytes| {
                    let body = ResponseBody::bytes(bytes);
                    match terminal {
                        Some(terminal) => TrailBody::new(body, terminal),
                        None => TrailBody::without_record(body),
                    }
                })))
            }
            StateProjection::Inner { inner, request, terminal } => {
                let polled = ready!(inner.poll(cx));
                let mut terminal = terminal.take().expect("polled after it was ready");
                match polled {
                    Ok(mut response) => {
                        terminal.responded(
                            response.status(),
                            Refused::of(&response).map(Refused::reason),
                        );
                        #[cfg(feature = "grpc")]
                        if crate::grpc::metadata::is_grpc(response.headers()) {
                            terminal.grpc_fields(response.headers());
                        }
                        response.headers_mut().insert(X_REQUEST_ID, request.header_value());
                        Poll::Ready(Ok(response
                            .map(|body| TrailBody::new(ResponseBody::inner(body), terminal))))
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
