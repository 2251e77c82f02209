//! One gRPC call: judges it, forwards it, and filters its response.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::request::Admitted;
use crate::{
    audit::{Counts, Trail},
    body::{RequestBody, ResponseBody},
    dialect::Dialect,
    grpc::frame::Messages,
    principal::Principal,
    refusal::{Reason, Refusal, Refused},
    scope_filter::{
        body::FilterBody,
        layer::Shared,
        policy::Policy,
        request::RefusedRequest,
        service::{Filtered, render},
    },
};

/// One gRPC call in the scope filter.
pub(in crate::scope_filter) struct GrpcCall<P> {
    pub(in crate::scope_filter) shared: Arc<Shared<P>>,
    pub(in crate::scope_filter) principal: Principal,
    pub(in crate::scope_filter) trail: Trail,
    pub(in crate::scope_filter) dialect: Dialect,
}

impl<P: Policy> GrpcCall<P> {
    pub(in crate::scope_filter) async fn serve<S, B, R>(
        self,
        mut ready: S,
        request: Request<B>,
    ) -> Result<Filtered<R, P>, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        B: Body<Data = Bytes>,
        R: Body<Data = Bytes>,
    {
        let Admitted { request, judged, form, tripped, counts, deadline } =
            match self.judge(request).await {
                Ok(admitted) => admitted,
                Err(refused) => return Ok(self.refuse(*refused)),
            };
        let outcome = within(deadline, ready.call(request)).await;
        if let Some(reason) = tripped.reason() {
            return Ok(self.refuse((self.dialect.clone(), reason.into())));
        }
        let Some(outcome) = outcome else {
            return Ok(self.refuse((self.dialect.clone(), Reason::DeadlineExceeded.into())));
        };
        let response = outcome?;
        // A refusal of an inner layer is complete.
        if Refused::of(&response).is_some() {
            return Ok(response.map(|body| ResponseBody::inner(FilterBody::untouched(body))));
        }
        match self.filter(response, &judged, form, tripped, counts) {
            Ok(filtered) => Ok(filtered),
            Err(reason) => Ok(self.refuse((self.dialect.clone(), reason.into()))),
        }
    }

    fn refuse<R>(&self, (dialect, refusal): (Dialect, Refusal)) -> Filtered<R, P> {
        self.trail.refused(refusal.reason());
        render(&dialect, &refusal)
    }

    pub(super) fn wrong(&self, refusal: impl Into<Refusal>) -> RefusedRequest {
        Box::new((self.dialect.clone(), refusal.into()))
    }
}

/// Runs the work until the client's deadline. Returns `None` if the deadline comes first.
pub(super) async fn within<F: Future>(deadline: Option<Instant>, work: F) -> Option<F::Output> {
    match deadline {
        Some(at) => timeout_at(at, work).await.ok(),
        None => Some(work.await),
    }
}

/// Reads the only message of a request, and the end of the stream.
// L239: a second message, or none, is refused.
pub(super) async fn one_message<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    counts: &Counts,
) -> Result<crate::grpc::frame::Message, Reason> {
    let mut body = pin!(body);
    let (mut messages, mut found) = (Messages::new(limit), None);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Reason::BodyIncomplete)?.into_data() else { continue };
        messages.push(&data);
        while let Some(message) = messages.next_message()? {
            if found.replace(message).is_some() {
                counts.came_in(2);
                return Err(Reason::NotOneMessage);
            }
            counts.came_in(1);
        }
    }
    match found {
        _ if messages.is_inside() => Err(Reason::BodyIncomplete),
        Some(message) => Ok(message),
        None => Err(Reason::NotOneMessage),
    }
}
