//! Refusals in gRPC: HTTP 200 with the status in the headers and no body ("Trailers-Only").

use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::Bytes;

use super::{http, json_rpc, render::Wire};
use crate::{
    grpc::{
        FRAMED_MCP, TYPED_MCP, metadata,
        status::{self, Code, Status},
    },
    media_type,
    refusal::{Refusal, ResponseKind},
    request_id::RequestId,
};

/// Returns the wire format if the request is gRPC, and whether its service carries MCP.
pub(super) fn wire<B>(request: &Request<B>) -> Option<Wire> {
    media_type::is_grpc(request.headers()).then(|| {
        let service = request.uri().path().split('/').nth(1);
        Wire::Grpc {
            is_mcp: service.is_some_and(|service| service == FRAMED_MCP || service == TYPED_MCP),
        }
    })
}

pub(super) fn render(
    refusal: &Refusal,
    request_id: Option<RequestId>,
    is_mcp: bool,
) -> Response<Bytes> {
    let (status, answer) = (status(refusal, request_id), refusal.reason().response_kind());
    let mut response = Response::new(Bytes::new());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::GRPC));
    fields.insert(metadata::STATUS, HeaderValue::from(u16::from(status.code.number())));
    fields.insert(metadata::MESSAGE, status::message(status.message));
    fields.insert(metadata::DETAILS, status.details());
    if is_mcp {
        // Google's transport finds the JSON-RPC code here.
        fields.insert(metadata::MCP_ERROR_CODE, HeaderValue::from(json_rpc::code(answer)));
    }
    if answer == ResponseKind::UnsupportedMedia {
        fields.insert(metadata::ACCEPT_ENCODING, metadata::CODINGS);
    }
    response
}

/// Returns the fields of a refusal that are valid in trailers.
pub(super) fn status_fields(said: &Response<Bytes>) -> HeaderMap {
    let names = [metadata::STATUS, metadata::MESSAGE, metadata::DETAILS, metadata::MCP_ERROR_CODE];
    let of = |name| Some((said.headers().get(&name)?.clone(), name));
    names.into_iter().filter_map(of).map(|(value, name)| (name, value)).collect()
}

/// Builds the status. It has one reason and one text for all causes of a kind, as in plain HTTP.
fn status(refusal: &Refusal, request_id: Option<RequestId>) -> Status<'_> {
    let answer = refusal.reason().response_kind();
    let (_, reason, text) = http::outside(refusal);
    let mut metadata = Vec::new();
    if let Some(id) = request_id {
        metadata.push(("request_id", id.to_string()));
    }
    if let Some(scopes) = refusal.scopes() {
        metadata.push(("scope", scopes.to_string()));
    }
    let is_about_token = matches!(
        answer,
        ResponseKind::NoToken
            | ResponseKind::InvalidToken
            | ResponseKind::InvalidRequest
            | ResponseKind::TwoMethods
            | ResponseKind::InsufficientScope
    );
    if let Some(resource) = refusal.resource().filter(|_| is_about_token) {
        // Names the authorization server's metadata. gRPC lacks the header of RFC 9728 §5.1.
        metadata.push(("resource_metadata", resource.metadata_url().to_owned()));
    }
    let link = refusal.connect_url().filter(|_| answer == ResponseKind::Connect);
    let code = code(answer);
    // Only a condition that passes by itself has a delay: a message that is too large stays too
    // large.
    let unavailable = (code == Code::Unavailable).then_some(Duration::from_secs(1));
    let default = answer.default_wait().or(unavailable);
    let may_pass = matches!(code, Code::Unavailable | Code::ResourceExhausted)
        || answer == ResponseKind::CredentialRefused;
    let wait = refusal.wait().or(default).filter(|_| may_pass);
    Status {
        code,
        message: if answer == ResponseKind::UnsupportedMedia {
            "send application/grpc with protobuf, uncompressed or with gzip"
        } else {
            text
        },
        reason,
        metadata,
        link: link.map(|url| (url, "connect an account for this server")),
        retry_after: wait.map(|wait| wait.as_secs().max(1)),
    }
}

const fn code(answer: ResponseKind) -> Code {
    match answer {
        ResponseKind::NoToken
        | ResponseKind::InvalidToken
        | ResponseKind::InvalidRequest
        | ResponseKind::TwoMethods => Code::Unauthenticated,
        ResponseKind::InsufficientScope
        | ResponseKind::UnknownItem
        | ResponseKind::Forbidden
        | ResponseKind::Misdirected
        | ResponseKind::OriginNotAllowed => Code::PermissionDenied,
        ResponseKind::NotFound
        | ResponseKind::UnknownMethod
        | ResponseKind::MethodNotAllowed
        | ResponseKind::UnsupportedMedia => Code::Unimplemented,
        ResponseKind::ParseError
        | ResponseKind::InvalidMessage
        | ResponseKind::HeaderMismatch
        | ResponseKind::InvalidParams
        | ResponseKind::UnsupportedVersion
        | ResponseKind::InvalidState
        | ResponseKind::BodyIncomplete
        | ResponseKind::UnexpectedContent => Code::InvalidArgument,
        ResponseKind::BodyTooLarge | ResponseKind::HeadersTooLarge => Code::ResourceExhausted,
        ResponseKind::DeadlineExceeded => Code::DeadlineExceeded,
        ResponseKind::UnknownSession => Code::NotFound,
        // Not 14, which clients retry by themselves: the upstream may have acted.
        ResponseKind::Connect | ResponseKind::CredentialRefused => Code::FailedPrecondition,
        ResponseKind::BadGateway | ResponseKind::UnreadableResponse | ResponseKind::Unavailable => {
            Code::Unavailable
        }
        ResponseKind::Internal => Code::Internal,
    }
}
