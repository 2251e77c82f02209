//! What of the upstream's response may go back.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;

use super::{context::RequestContext, leak_guard::LeakGuardBody};
#[cfg(feature = "grpc")]
use crate::grpc::metadata as grpc;
use crate::{
    body::ResponseBody,
    header_rules, media_type,
    refusal::{Reason, Refusal, Refused},
};

/// What of the upstream's response may go back.
#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's 401 was handled before")
)]
pub(super) fn guard<R: Body<Data = Bytes>>(
    context: &RequestContext,
    response: Response<R>,
    was_applied: bool,
) -> Result<Response<ResponseBody<LeakGuardBody<R>>>, Refusal> {
    // The proxy's own word on why it got no response: said again, to this message.
    if let Some(refused) = Refused::of(&response) {
        let refusal = Refusal::new(refused.reason()).at(context.principal.resource());
        return Err(match refused.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        });
    }
    let status = response.status();
    let is_mcp = context.dialect.is_mcp() && !context.by_handler;
    // I186: a failing upstream says nothing of its inside. H172: a redirect is not followed, and
    // MCP has none.
    if status.is_server_error()
        || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || status.is_informational()
    {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    if status.is_redirection() && is_mcp {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    // I181: a part may hold half an echo, and the next one the other half. A handler puts its parts
    // together itself.
    if status == StatusCode::PARTIAL_CONTENT && !context.by_handler {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    // An upstream that wants more scope says so to us: its challenge is not the client's.
    if status == StatusCode::FORBIDDEN && is_insufficient_scope(response.headers()) {
        return Err(Refusal::new(Reason::UpstreamScopeRequired));
    }
    #[cfg(feature = "grpc")]
    let is_grpc = context.dialect.is_grpc() && !context.by_handler;
    #[cfg(feature = "grpc")]
    if is_grpc && (status != StatusCode::OK || !grpc::is_grpc(response.headers())) {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    // I191: what is coded can be neither guarded nor filtered.
    if media_type::is_coded(response.headers()) {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    let (mut parts, body) = response.into_parts();
    header_rules::remove_from_response(&mut parts.headers);
    if !context.by_handler {
        // I181: a client of one's own may put there what the upstream said (hyper: the reason
        // phrase).
        parts.extensions.clear();
        // I187: where the upstream would send a client is its own business, and may carry a token.
        header_rules::remove_references(&mut parts.headers);
        // I188: one user's response is no other's.
        header_rules::set_in_response(&mut parts.headers);
    }
    let masked = context.watched.mask_fields(&mut parts.headers);
    if masked > 0 {
        tracing::error!(
            alarm = Reason::UpstreamEcho.code(),
            request.id = %context.trail.request_id(),
            "the upstream echoed a credential in a header field"
        );
        context.trail.echo_masked(masked);
    }
    let body = LeakGuardBody::new(body, context.watched.clone(), context.trail.clone());
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
