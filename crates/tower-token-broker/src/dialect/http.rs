//! Refusals in plain HTTP: a status, a challenge (RFC 6750 §3, RFC 9728 §5.1), and a small JSON
//! object.

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;

use crate::{
    json::push_json_string,
    media_type,
    refusal::{Refusal, ResponseKind},
    request_id::RequestId,
};

pub(super) fn render(refusal: &Refusal, request_id: Option<RequestId>) -> Response<Bytes> {
    let (_, code, text) = outside(refusal);
    let mut body = format!(r#"{{"error":"{code}","error_description":"{text}""#);
    if let Some(url) =
        refusal.connect_url().filter(|_| refusal.reason().response_kind() == ResponseKind::Connect)
    {
        body.push_str(r#","connect_url":"#);
        push_json_string(&mut body, url);
    }
    if let Some(id) = request_id {
        body.push_str(&format!(r#","request_id":"{id}""#));
    }
    body.push('}');
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
    set_status_and_headers(refusal, &mut response);
    response
}

/// Sets the status and headers that plain HTTP and MCP have in common.
pub(super) fn set_status_and_headers(refusal: &Refusal, response: &mut Response<Bytes>) {
    *response.status_mut() = outside(refusal).0;
    if let Some(challenge) = challenge(refusal) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    set_retry_after(refusal, response.headers_mut());
    if refusal.reason().response_kind() == ResponseKind::MethodNotAllowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
    }
}

pub(super) fn set_retry_after(refusal: &Refusal, headers: &mut HeaderMap) {
    if let Some(wait) = refusal.wait().or(refusal.reason().response_kind().default_wait()) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
}

/// Returns what a client may learn: the status, the code, and one fixed text for all causes of that
/// code.
pub(super) const fn outside(refusal: &Refusal) -> (StatusCode, &'static str, &'static str) {
    match refusal.reason().response_kind() {
        ResponseKind::NoToken => {
            (StatusCode::UNAUTHORIZED, "unauthorized", "present a broker token as a Bearer token")
        }
        ResponseKind::InvalidToken => {
            (StatusCode::UNAUTHORIZED, "invalid_token", "the token is not valid for this resource")
        }
        ResponseKind::InvalidRequest => (
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "send one Authorization field with one Bearer token",
        ),
        ResponseKind::TwoMethods => (
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "send the token in the Authorization field only, and none in the query of the URL",
        ),
        ResponseKind::InsufficientScope => (
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "the token lacks a scope that this operation needs",
        ),
        ResponseKind::Misdirected => {
            (StatusCode::MISDIRECTED_REQUEST, "misdirected_request", "this host is not served here")
        }
        ResponseKind::OriginNotAllowed => {
            (StatusCode::FORBIDDEN, "origin_not_allowed", "this origin is not allowed")
        }
        ResponseKind::HeadersTooLarge => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "the headers are too large",
        ),
        ResponseKind::ParseError => {
            (StatusCode::BAD_REQUEST, "invalid_json", "the body is not valid JSON")
        }
        ResponseKind::InvalidMessage => {
            (StatusCode::BAD_REQUEST, "invalid_message", "the body is not a valid message")
        }
        ResponseKind::HeaderMismatch => {
            (StatusCode::BAD_REQUEST, "header_mismatch", "the headers and the body do not agree")
        }
        ResponseKind::InvalidParams => (
            StatusCode::BAD_REQUEST,
            "invalid_params",
            "the message does not state its protocol version",
        ),
        ResponseKind::UnsupportedVersion => {
            (StatusCode::BAD_REQUEST, "unsupported_version", "unsupported protocol version")
        }
        ResponseKind::BodyTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is too large")
        }
        ResponseKind::BodyIncomplete => {
            (StatusCode::BAD_REQUEST, "body_incomplete", "the body was incomplete")
        }
        ResponseKind::UnexpectedContent => {
            (StatusCode::BAD_REQUEST, "unexpected_content", "this request must have no content")
        }
        ResponseKind::UnsupportedMedia => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send uncompressed application/json",
        ),
        ResponseKind::MethodNotAllowed => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this HTTP method is not allowed here",
        ),
        ResponseKind::DeadlineExceeded => (
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "the deadline of the request has passed",
        ),
        ResponseKind::UnknownSession => {
            (StatusCode::NOT_FOUND, "unknown_session", "unknown session: start a new one")
        }
        ResponseKind::InvalidState => (
            StatusCode::BAD_REQUEST,
            "invalid_request_state",
            "invalid requestState: send the request again without it",
        ),
        ResponseKind::NotFound => {
            (StatusCode::NOT_FOUND, "not_found", "nothing is served at this path")
        }
        ResponseKind::UnknownMethod => {
            (StatusCode::NOT_FOUND, "not_found", "there is no such method")
        }
        ResponseKind::UnknownItem | ResponseKind::Forbidden => {
            (StatusCode::FORBIDDEN, "forbidden", "this is not allowed")
        }
        ResponseKind::Connect => (
            StatusCode::FORBIDDEN,
            "connect_required",
            "the user must connect an account for this server first",
        ),
        ResponseKind::CredentialRefused => (
            StatusCode::BAD_GATEWAY,
            "credential_refused",
            "the server refuses the credential that the broker has for it; connecting an account \
             does not help: try again in 30 seconds, then report it to the operator of the broker",
        ),
        ResponseKind::BadGateway | ResponseKind::UnreadableResponse => {
            (StatusCode::BAD_GATEWAY, "upstream_failed", "the upstream server failed")
        }
        ResponseKind::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "not available now; try again later",
        ),
        ResponseKind::Internal => {
            (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the broker failed")
        }
    }
}

fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let answer = refusal.reason().response_kind();
    let has_error = matches!(
        answer,
        ResponseKind::InvalidToken
            | ResponseKind::InvalidRequest
            | ResponseKind::TwoMethods
            | ResponseKind::InsufficientScope
    );
    if !has_error && answer != ResponseKind::NoToken {
        return None;
    }
    // RFC 6750 §3.1: without credentials in the request there is no error code.
    let error = has_error.then(|| outside(refusal));
    let mut text = String::from("Bearer");
    let mut separator = ' ';
    let mut push = |name: &str, value: &str| {
        text.push(separator);
        separator = ',';
        if text.ends_with(',') {
            text.push(' ');
        }
        text.push_str(name);
        text.push_str("=\"");
        text.push_str(value);
        text.push('"');
    };
    if let Some((_, code, description)) = error {
        push("error", code);
        push("error_description", description);
    }
    if let Some(scopes) = refusal.scopes() {
        push("scope", &scopes.to_string());
    }
    if let Some(resource) = refusal.resource() {
        push("resource_metadata", resource.metadata_url());
    }
    // Scopes and resources are parsed, so they contain no quote, backslash or control character.
    HeaderValue::from_str(&text).ok()
}
