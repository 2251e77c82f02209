//! Redirects to clients: only to a verified URI, always with `iss`.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{client::VerifiedRedirect, oauth_error::ErrorCode, params::push_param};

/// The result that a redirect carries.
pub(crate) enum Answer<'a> {
    Code(&'a str),
    Error(ErrorCode),
}

/// Returns the URI with the result, which is all printable ASCII.
pub(super) fn location(
    to: &VerifiedRedirect,
    answer: &Answer<'_>,
    state: Option<&str>,
    issuer: &str,
) -> String {
    let mut location = String::from(to.as_str());
    match answer {
        Answer::Code(code) => push_param(&mut location, "code", code),
        Answer::Error(code) => push_param(&mut location, "error", code.as_str()),
    }
    if let Some(state) = state {
        push_param(&mut location, "state", state);
    }
    push_param(&mut location, "iss", issuer);
    location
}

/// Returns the redirect to a client (RFC 6749 §4.1.2, RFC 9207). `status` is 302 after `GET`, and
/// 303 after `POST`, so that no form is sent on.
// D107
pub(crate) fn redirect(
    to: &VerifiedRedirect,
    answer: &Answer<'_>,
    state: Option<&str>,
    issuer: &str,
    status: StatusCode,
) -> Response<Bytes> {
    let location = location(to, answer, state, issuer);
    let mut response = Response::new(Bytes::new());
    // A verified URI and escaped values are visible ASCII.
    match HeaderValue::try_from(location) {
        Ok(mut location) => {
            *response.status_mut() = status;
            location.set_sensitive(true);
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let no_frames = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, no_frames);
    response
}
