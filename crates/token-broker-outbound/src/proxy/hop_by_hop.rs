//! Removes header fields that belong to one connection (RFC 9110 §7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes them from a request: those of RFC 9110, those that `Connection` names, and those that
/// frame the body.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    let trailers =
        headers.get(header::TE).is_some_and(|value| value == "trailers") && is_grpc(headers);
    strip_named(headers);
    // The length of the body and the authority of the URI decide. A second value of either would
    // allow request smuggling.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::HOST);
    headers.remove(header::EXPECT);
    if trailers {
        // RFC 9113 §8.2.2 allows this one value, and gRPC requires it.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes them from a response.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip_named(headers);
}

fn strip_named(headers: &mut HeaderMap) {
    // H167: `Connection` can neither hide a field from us, nor remove a credential.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| {
            *name != header::AUTHORIZATION
                && !headers.get(name).is_some_and(HeaderValue::is_sensitive)
        })
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_fields_are_removed_except_the_credential() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-User ,authorization, x-api-key"),
            ("connection", "x-second"),
            ("x-user", "root"),
            ("x-second", "1"),
            ("authorization", "Bearer t"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("content-length", "5"),
            ("host", "other.example"),
            ("expect", "100-continue"),
            ("accept", "application/json"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut key = HeaderValue::from_static("marker");
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
        strip_request(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization", "x-api-key"], "H167");
    }

    #[test]
    fn grpc_keeps_te_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        strip_request(&mut headers);
        assert_eq!(headers[header::TE], "trailers");
    }
}
