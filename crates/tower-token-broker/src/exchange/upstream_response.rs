//! What of the upstream's answer may go back.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;

use super::{context::Asked, leak_guard::LeakGuardBody};
#[cfg(feature = "grpc")]
use crate::grpc::metadata as grpc;
use crate::{
    body::ResponseBody,
    header_rules, media_type,
    refusal::{Reason, Refusal, Refused},
};

/// What of the upstream's answer may go back.
#[cfg_attr(
    not(feature = "grpc"),
    expect(unused_variables, reason = "HTTP's 401 was handled before")
)]
pub(super) fn guard<R: Body<Data = Bytes>>(
    asked: &Asked,
    answer: Response<R>,
    was_applied: bool,
) -> Result<Response<ResponseBody<LeakGuardBody<R>>>, Refusal> {
    // The proxy's own word on why it got no answer: said again, to this message.
    if let Some(refused) = Refused::of(&answer) {
        let refusal = Refusal::new(refused.reason()).at(asked.principal.resource());
        return Err(match refused.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        });
    }
    let status = answer.status();
    let is_mcp = asked.dialect.is_mcp() && !asked.by_handler;
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
    if status == StatusCode::PARTIAL_CONTENT && !asked.by_handler {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    // An upstream that wants more scope says so to us: its challenge is not the client's.
    if status == StatusCode::FORBIDDEN && is_insufficient_scope(answer.headers()) {
        return Err(Refusal::new(Reason::UpstreamScopeRequired));
    }
    #[cfg(feature = "grpc")]
    let is_grpc = asked.dialect.is_grpc() && !asked.by_handler;
    #[cfg(feature = "grpc")]
    if is_grpc && (status != StatusCode::OK || !grpc::is_grpc(answer.headers())) {
        return Err(Refusal::new(Reason::UpstreamFailed));
    }
    // I191: what is coded can be neither guarded nor filtered.
    if media_type::is_coded(answer.headers()) {
        return Err(Refusal::new(Reason::AnswerUnreadable));
    }
    let (mut parts, body) = answer.into_parts();
    header_rules::remove_from_response(&mut parts.headers);
    if !asked.by_handler {
        // I181: a client of one's own may put there what the upstream said (hyper: the reason
        // phrase).
        parts.extensions.clear();
        // I187: where the upstream would send a client is its own business, and may carry a token.
        header_rules::remove_references(&mut parts.headers);
        // I188: one user's answer is no other's.
        header_rules::set_in_response(&mut parts.headers);
    }
    let masked = asked.watched.mask_fields(&mut parts.headers);
    if masked > 0 {
        tracing::error!(
            alarm = Reason::UpstreamEcho.code(),
            request.id = %asked.trail.request_id(),
            "the upstream echoed a credential in a header field"
        );
        asked.trail.echo_masked(masked);
    }
    let body = LeakGuardBody::new(body, asked.watched.clone(), asked.trail.clone());
    #[cfg(feature = "grpc")]
    let body = if is_grpc {
        let end = super::grpc::End { dialect: asked.dialect.clone(), was_applied };
        end.rewrite(&asked.trail, &mut parts.headers);
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
