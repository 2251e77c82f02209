//! Sends a request with the credential, and retries once with another if the upstream refused it.

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request, response};
use http_body::Body;
use tower_service::Service;

use super::{
    context::{OutgoingBody, RequestContext},
    credential::Credential,
    layer::Shared,
    leak_guard::LeakGuardBody,
    outgoing::{OutgoingCredential, Withdraw},
    provide::{CredentialRequest, ProvideCredential, UpstreamRefusal},
    upstream_request::Outgoing,
    upstream_response::{credential_refused, guard},
};
use crate::{
    alarm::Alarm,
    audit::Intent,
    body::{RequestBody, ResponseBody},
    refusal::{Reason, Refusal, Refused},
    upload::Upload,
};

type Passed<R, E> = Result<Response<ResponseBody<LeakGuardBody<R>>>, E>;

pub(super) async fn send<S, P, B, R>(
    ready: &mut S,
    shared: &Shared<P>,
    context: &RequestContext,
    parts: &request::Parts,
    body: B,
) -> Result<Passed<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send,
    S::Future: Send,
    P: ProvideCredential,
    B: Body<Data = Bytes> + Send,
    R: Body<Data = Bytes>,
{
    let body = context.body(body);
    let replay = body.replay();
    let outgoing = Outgoing::build(shared, context, parts)?;
    let credential = credential(shared, context).await?;
    let (response, was_applied) = match attempt(ready, &outgoing, &credential, body).await? {
        Ok(attempt) => attempt,
        Err(error) => return Ok(Err(error)),
    };
    // A 401 to a request that carried no credential is not about the credential.
    if !was_applied || !refuses_the_credential(context, &response) {
        note_accepted(context, &credential, &response, was_applied);
        return Ok(Ok(guarded((shared, context), &credential, response, was_applied)?));
    }
    // Boxed, because few requests come here and all others stay small.
    Box::pin(retry(ready, &outgoing, &credential, response.into_parts().0, replay)).await
}

/// Replays the judged bytes once, with a refreshed credential, after the upstream refused the first
/// one. A request that cannot be sent again is refused.
// I183: the upstream refused before it acted. The refusal does not blame the broker token.
async fn retry<S, P, B, R>(
    ready: &mut S,
    outgoing: &Outgoing<'_, P>,
    refused: &Credential,
    response: response::Parts,
    replay: Option<Bytes>,
) -> Result<Passed<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    P: ProvideCredential,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes>,
{
    let Outgoing { shared, context, .. } = *outgoing;
    report_refused(shared, context, refused, &response).await;
    let Some(replay) = replay.filter(|_| may_be_replayed(context, &outgoing.parts.method)) else {
        return Err(credential_refused());
    };
    let fresh = credential(shared, context).await?;
    if fresh.is_same_secret(refused) {
        return Err(credential_refused());
    }
    if let Err(error) = poll_fn(|cx| ready.poll_ready(cx)).await {
        return Ok(Err(error));
    }
    let second = attempt(ready, outgoing, &fresh, OutgoingBody::Bytes(replay)).await?;
    let (response, was_applied) = match second {
        Ok(attempt) => attempt,
        Err(error) => return Ok(Err(error)),
    };
    if was_applied && refuses_the_credential(context, &response) {
        report_refused(shared, context, &fresh, &response.into_parts().0).await;
        return Err(credential_refused());
    }
    note_accepted(context, &fresh, &response, was_applied);
    Ok(Ok(guarded((shared, context), &fresh, response, was_applied)?))
}

fn guarded<P: ProvideCredential, R: Body<Data = Bytes>>(
    (shared, context): (&Shared<P>, &RequestContext),
    credential: &Credential,
    response: Response<R>,
    was_applied: bool,
) -> Result<Response<ResponseBody<LeakGuardBody<R>>>, Refusal> {
    let server = shared.provider.upstream().name();
    guard(context, (server, &shared.returned), credential, response, was_applied)
}

/// Notes on a credential that the upstream accepted it. A failing upstream may not have looked at
/// it, and gRPC may refuse it in the trailers.
#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's status is enough, in every protocol")
)]
fn note_accepted<R>(
    context: &RequestContext,
    credential: &Credential,
    response: &Response<R>,
    was_applied: bool,
) {
    let status = response.status();
    let is_the_upstreams = was_applied && Refused::of(response).is_none();
    let is_known = !status.is_server_error()
        && !status.is_informational()
        && status != StatusCode::UNAUTHORIZED
        && status != StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    #[cfg(feature = "grpc")]
    let is_known = is_known && !context.dialect.is_grpc();
    if is_the_upstreams && is_known {
        credential.note_accepted();
    }
}

#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's status is enough, in every protocol")
)]
fn refuses_the_credential<R>(context: &RequestContext, response: &Response<R>) -> bool {
    // Our own refusals, from further in, are not about the upstream's credential.
    #[cfg(feature = "grpc")]
    if context.dialect.is_grpc()
        && Refused::of(response).is_none()
        && super::grpc::refuses_the_credential(response.headers())
    {
        return true;
    }
    response.status() == StatusCode::UNAUTHORIZED
}

/// Returns whether the refused request may be sent again. An MCP message was refused as a whole; a
/// plain HTTP request only if its method is safe.
fn may_be_replayed(context: &RequestContext, method: &Method) -> bool {
    // Of a client's gRPC request, only judged messages can be sent again.
    #[cfg(feature = "grpc")]
    if context.dialect.is_grpc() && !context.by_handler {
        return true;
    }
    (context.dialect.is_mcp() && !context.by_handler) || method.is_safe()
}

async fn credential<P: ProvideCredential>(
    shared: &Shared<P>,
    context: &RequestContext,
) -> Result<Credential, Refusal> {
    let RequestContext { principal, judged, trail, .. } = context;
    let request =
        CredentialRequest::new(principal, judged.upstream_scopes(), judged.operation(), trail);
    if let Some(known) = shared.provider.recall(&request) {
        return Ok(known);
    }
    let provided = Box::pin(shared.provider.credential(&request));
    match tokio::time::timeout(shared.limits.credential_timeout, provided).await {
        Ok(Ok(credential)) => Ok(credential),
        Ok(Err(none)) => Err(none.to_refusal().at(context.principal.resource())),
        Err(_elapsed) => Err(Refusal::new(Reason::CredentialUnavailable)),
    }
}

/// Reports a refused credential to the provider, and waits at most as long as for a credential: a
/// provider that hangs does not hold the request.
async fn report_refused<P: ProvideCredential>(
    shared: &Shared<P>,
    context: &RequestContext,
    credential: &Credential,
    response: &response::Parts,
) {
    let challenge = response.headers.get(header::WWW_AUTHENTICATE);
    let refusal = UpstreamRefusal::new(credential)
        .response(response.status, challenge)
        .request(&context.principal, &context.trail);
    let reported = shared.provider.refused(&refusal);
    if tokio::time::timeout(shared.limits.credential_timeout, reported).await.is_err() {
        let server = shared.provider.upstream().name();
        tracing::warn!(
            alarm = Alarm::SourceTimeout.code(),
            server.name = server,
            "the provider did not handle the refusal of its credential in time"
        );
    }
}

/// An upstream's response, and whether the request carried the credential.
type Attempt<R, E> = Result<(Response<R>, bool), E>;

/// Makes the intent durable and passes the credential inward. The sender applies it, and sends the
/// request without another await.
async fn attempt<S, P, B, R>(
    ready: &mut S,
    outgoing: &Outgoing<'_, P>,
    credential: &Credential,
    body: OutgoingBody<B>,
) -> Result<Attempt<R, S::Error>, Refusal>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    P: ProvideCredential,
    B: Body<Data = Bytes>,
{
    let Outgoing { shared, context, .. } = *outgoing;
    let upstream = shared.provider.upstream();
    // The guard could not mask an echo of it.
    let Some(tails) = credential.tails() else {
        tracing::error!(
            alarm = Alarm::CredentialUnusable.code(),
            server.name = upstream.name(),
            "a credential is empty or can't be guarded, and was not sent"
        );
        return Err(Refusal::new(Reason::CredentialUnavailable));
    };
    let grant = credential.grant();
    let intent =
        Intent::new(upstream.name(), upstream.origin().as_str(), credential.scopes(), grant);
    let receipt =
        context.trail.intent(intent).await.map_err(|_| Refusal::new(Reason::AuditUnavailable))?;
    let upload = context.upload(&body, &outgoing.parts.extensions, &shared.limits);
    let mut request = outgoing.request(body.watched(&upload));
    if let Some(grant) = credential.grant_seen_first() {
        context.standing.note_seen_grant(grant);
    }
    context.standing.check_before_send(grant.map(|(id, _)| id)).map_err(|reason| {
        let refusal = Refusal::new(reason);
        refusal.at(context.principal.resource())
    })?;
    let outgoing = OutgoingCredential::holding(
        credential,
        receipt,
        &context.standing,
        tails,
        &context.watched,
        upstream,
    );
    request.extensions_mut().insert(outgoing.clone());
    request.extensions_mut().insert(upload.clone());
    // Withdrawn also if this future is dropped or the inner service panics.
    let outgoing = Withdraw(outgoing);
    // Only the future of the call holds the request, not this one.
    let response = ready.call(request);
    let response = unless_ended(upload, response).await.map_err(|reason| {
        let refusal = Refusal::new(reason);
        refusal.at(context.principal.resource())
    })?;
    let was_applied = outgoing.was_applied();
    if !was_applied && response.as_ref().is_ok_and(|response| Refused::of(response).is_none()) {
        tracing::error!(
            alarm = Alarm::CredentialUnused.code(),
            request.id = %context.trail.request_id(),
            server.name = upstream.name(),
            "a service inside the exchange layer responded without applying the credential: \
             put the proxy or `ApplyCredentialLayer` there, or use `credential_for_handler`"
        );
    }
    Ok(response.map(|response| (response, was_applied)))
}

/// Waits for the response. A request that is revoked before is dropped, also if a handler sends it
/// from a task of its own, which no other layer ends.
async fn unless_ended<F: Future>(upload: Upload, response: F) -> Result<F::Output, Reason> {
    /// Ends the upload if the response is not awaited any more.
    struct Awaited(Option<Upload>);

    impl Drop for Awaited {
        fn drop(&mut self) {
            if let Some(upload) = &self.0 {
                upload.abandon();
            }
        }
    }

    let mut response = pin!(response);
    let mut awaited = Awaited(Some(upload.clone()));
    let response = poll_fn(|cx| match upload.poll_ended(cx) {
        Poll::Ready(reason) => Poll::Ready(Err(reason)),
        Poll::Pending => response.as_mut().poll(cx).map(Ok),
    })
    .await?;
    awaited.0 = None;
    Ok(response)
}
