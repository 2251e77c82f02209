//! Checks the upstream's response and removes what clients must not receive.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;

use super::{
    context::RequestContext,
    credential::Credential,
    headers::Returned,
    leak_guard::{Framing, LeakGuardBody},
};
#[cfg(feature = "grpc")]
use crate::grpc::metadata as grpc;
use crate::{
    body::ResponseBody,
    cause::Cause,
    header_rules, media_type,
    refusal::{Reason, Refusal, Refused},
    scope_filter::Awaits,
};

/// The refusal where connecting an account does not help: the broker has no other credential now.
pub(super) fn credential_refused() -> Refusal {
    let reason = Reason::CredentialRefused;
    let refusal = Refusal::new(reason);
    match reason.response_kind().default_wait() {
        Some(wait) => refusal.retry_after(wait),
        None => refusal,
    }
}

/// Checks the upstream's response and removes what clients must not receive.
#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's 401 was handled before")
)]
pub(super) fn guard<R: Body<Data = Bytes>>(
    context: &RequestContext,
    (server, returned): (&str, &Arc<Returned>),
    credential: &Credential,
    response: Response<R>,
    was_applied: bool,
) -> Result<Response<ResponseBody<LeakGuardBody<R>>>, Refusal> {
    // A refusal of the proxy, rendered again for this message.
    if let Some(refused) = Refused::of(&response) {
        let refusal = Refusal::new(refused.reason()).at(context.principal.resource());
        return Err(match refused.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        });
    }
    let status = response.status();
    let is_mcp = context.dialect.is_mcp() && !context.by_handler;
    let refuse = |reason, cause: Cause| {
        let id = context.trail.request_id();
        Err(Refusal::new(cause.report(reason, id, Some(server), status)))
    };
    // I186: the body of a failing upstream may reveal its internals. H172: a redirect is not
    // followed, and MCP has none.
    let failed = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(Cause::ProxyAuthentication),
        _ if status.is_server_error() => Some(Cause::ServerError),
        _ if status.is_informational() => Some(Cause::Informational),
        _ if status.is_redirection() && is_mcp => Some(Cause::Redirect),
        _ => None,
    };
    if let Some(cause) = failed {
        return refuse(Reason::UpstreamFailed, cause);
    }
    // Its status is all that the client receives, and the filter drops the body.
    let is_dropped = is_mcp && context.judged.awaits() == Awaits::Status;
    // I181: a part may contain half an echo, and the next part the other half. A handler assembles
    // its parts itself.
    if status == StatusCode::PARTIAL_CONTENT && !context.by_handler && !is_dropped {
        return refuse(Reason::ResponseUnreadable, Cause::Partial);
    }
    // The upstream's challenge for more scopes is for the broker, not for the client. I535: a user
    // who cannot obtain more is not sent to connect, again and again.
    if status == StatusCode::FORBIDDEN && is_insufficient_scope(response.headers()) {
        return Err(match credential.may_gain_scopes() {
            true => Refusal::new(Reason::UpstreamScopeRequired),
            false => credential_refused(),
        });
    }
    #[cfg(feature = "grpc")]
    let is_grpc = context.dialect.is_grpc() && !context.by_handler;
    #[cfg(feature = "grpc")]
    if is_grpc && (status != StatusCode::OK || !grpc::is_grpc(response.headers())) {
        return refuse(Reason::UpstreamFailed, Cause::NotGrpc);
    }
    // I191: a coded body can be neither guarded nor filtered.
    let is_coded = media_type::is_coded(response.headers());
    let is_dropped = is_dropped || (is_mcp && is_coded && status.is_client_error());
    if is_coded && !is_dropped {
        return refuse(Reason::ResponseUnreadable, Cause::ContentCoding);
    }
    let (mut parts, body) = response.into_parts();
    // I181: an HTTP client may store text of the upstream here (hyper: the reason phrase).
    parts.extensions.clear();
    let fields = context.returned_fields(returned);
    // Masked first: an echo in a field that does not pass is an incident, too.
    context.watched.mask_fields(&mut parts.headers, &context.trail);
    fields.retain_in(&mut parts.headers);
    if !context.by_handler {
        // I187: a reference of the upstream may contain a token.
        header_rules::remove_references(&mut parts.headers);
        // I188: the response is for this user only.
        header_rules::set_in_response(&mut parts.headers);
    }
    if is_coded {
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Ok(Response::from_parts(parts, ResponseBody::bytes(Bytes::new())));
    }
    let framing = Framing::of(&parts.headers);
    let (watched, trail) = (context.watched.clone(), context.trail.clone());
    let body = LeakGuardBody::new(body, framing, watched, trail).returning(fields);
    #[cfg(feature = "grpc")]
    let body = if is_grpc {
        let end = super::grpc::End { dialect: context.dialect.clone(), was_applied };
        end.rewrite(&context.trail, &mut parts.headers);
        body.of_grpc(end)
    } else {
        body
    };
    Ok(Response::from_parts(parts, ResponseBody::inner(body)))
}

fn is_insufficient_scope(headers: &HeaderMap) -> bool {
    let needle = b"insufficient_scope";
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .any(|challenge| challenge.as_bytes().windows(needle.len()).any(|window| window == needle))
}
