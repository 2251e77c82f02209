//! `User-Agent` of requests that have none: common firewalls refuse a request without one (403).

use http::{HeaderMap, HeaderValue, header};

/// Name and version of the broker (RFC 9110 §10.1.5).
const OURS: HeaderValue =
    HeaderValue::from_static(concat!("token-broker/", env!("CARGO_PKG_VERSION")));

// H484
/// Keeps the field of a request, and adds ours if it has none, or an empty one.
pub(crate) fn set_if_absent(headers: &mut HeaderMap) {
    let is_there =
        |value: &HeaderValue| value.as_bytes().iter().any(|byte| !byte.is_ascii_whitespace());
    if !headers.get_all(header::USER_AGENT).iter().any(is_there) {
        headers.insert(header::USER_AGENT, OURS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_the_field_has_ours() {
        let ours = concat!("token-broker/", env!("CARGO_PKG_VERSION"));
        for (sent, expected) in [
            (&[][..], &[ours][..]),
            (&[""], &[ours]),
            (&[" \t"], &[ours]),
            (&["curl/8"], &["curl/8"]),
            (&["token-broker"], &["token-broker"]),
            (&["", "curl/8"], &["", "curl/8"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(header::USER_AGENT, HeaderValue::from_static(value));
            }
            set_if_absent(&mut headers);
            let values: Vec<_> = headers.get_all(header::USER_AGENT).iter().collect();
            assert_eq!(values, expected, "{sent:?}");
        }
    }
}
