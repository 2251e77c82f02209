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
use crate::{
    body::ResponseBody,
    dialect::Dialect,
    refusal::{Reason, Refusal, Refused},
    request_id::RequestId,
};

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
        // Recorded or counted before.
        Refused { response: Option<Response<Bytes>> },
        Inner { #[pin] inner: F, request: RequestId, terminal: Option<Terminal> },
    }
}

impl<F> ResponseFuture<F> {
    /// Refuses a request that has no place for a record. Only the log has its ID: the record counts
    /// such requests.
    // P498: users can send the ID in this case, too.
    pub(super) fn not_recorded(dialect: &Dialect, id: RequestId, reason: Reason) -> Self {
        tracing::info!(
            request.id = %id,
            refusal.reason = reason.code(),
            "refused; the record counts it without the ID"
        );
        let response = dialect.render(&Refusal::new(reason));
        Self { state: State::Refused { response: Some(response) } }
    }

    pub(super) fn refused(
        mut response: Response<Bytes>,
        request: RequestId,
        mut terminal: Terminal,
    ) -> Self {
        terminal.responded(response.status(), Refused::of(&response).map(Refused::reason));
        terminal.refused(response.body().len() as u64);
        response.headers_mut().insert(X_REQUEST_ID, request.header_value());
        Self { state: State::Refused { response: Some(response) } }
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
            StateProjection::Refused { response } => {
                let response = response.take().expect("polled after it was ready");
                Poll::Ready(Ok(
                    response.map(|bytes| TrailBody::without_record(ResponseBody::bytes(bytes)))
                ))
            }
            StateProjection::Inner { inner, request, terminal } => {
                let polled = ready!(inner.poll(cx));
                let mut terminal = terminal.take().expect("polled after it was ready");
                match polled {
                    Ok(mut response) => {
                        let refused = Refused::of(&response).map(Refused::reason);
                        terminal.responded(response.status(), refused);
                        #[cfg(feature = "grpc")]
                        if crate::grpc::metadata::is_grpc(response.headers()) {
                            terminal.grpc_fields(response.headers());
                        }
                        response.headers_mut().insert(X_REQUEST_ID, request.header_value());
                        Poll::Ready(Ok(response.map(|body| {
                            let body = ResponseBody::inner(body);
                            if refused.is_none() {
                                return TrailBody::new(body, terminal);
                            }
                            // M380: the record does not wait for the client to read the refusal.
                            terminal.refused(body.size_hint().exact().unwrap_or_default());
                            TrailBody::without_record(body)
                        })))
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
