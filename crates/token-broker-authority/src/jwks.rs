//! Key set of the issuer (RFC 7517 §5).

use bytes::Bytes;
use http::{HeaderValue, Response, header};

/// Returns the response of the JWKS endpoint. It is cached for five minutes: less than the time for
/// which a key is published before it signs.
pub(crate) fn response(jwks: Bytes) -> Response<Bytes> {
    let mut response = Response::new(jwks);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
