//! Media types and content codings of requests and responses.
//!
//! Sources: RFC 9110 §8.3.1 and §8.4; gRPC over HTTP/2, "Requests".

use http::{HeaderMap, HeaderValue, header};

pub(crate) const JSON: &str = "application/json";
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
#[cfg(feature = "grpc")]
pub(crate) const GRPC: &str = "application/grpc";

/// The name of "no coding", in `Accept-Encoding` and in gRPC.
pub(crate) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// A media type with its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaType<'a>(&'a [u8]);

impl<'a> MediaType<'a> {
    /// Returns the media type of a message that has exactly one `Content-Type`.
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        match (types.next(), types.next()) {
            (Some(value), None) => Some(Self(value.as_bytes())),
            _ => None,
        }
    }

    /// Returns the media type in the first `Content-Type`.
    pub(crate) fn first_of(headers: &'a HeaderMap) -> Option<Self> {
        headers.get(header::CONTENT_TYPE).map(|value| Self(value.as_bytes()))
    }

    /// Returns the media types that the client accepts, whatever their weights.
    pub(crate) fn accepted(headers: &'a HeaderMap) -> impl Iterator<Item = Self> {
        let values = headers.get_all(header::ACCEPT).iter();
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(Self)
    }

    /// Whether type and subtype are these, in any case and with any parameters.
    pub(crate) fn is(self, essence: &str) -> bool {
        let own = self.0.split(|byte| *byte == b';').next().unwrap_or_default();
        own.trim_ascii().eq_ignore_ascii_case(essence.as_bytes())
    }

    /// Whether this is `application/json` without a `charset` other than UTF-8.
    pub(crate) fn is_utf8_json(self) -> bool {
        let is_visible = self.0.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let Some(text) = std::str::from_utf8(self.0).ok().filter(|_| is_visible) else {
            return false;
        };
        let is_utf8 = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            !name.trim().eq_ignore_ascii_case("charset")
                || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        };
        self.is(JSON) && text.split(';').skip(1).all(is_utf8)
    }
}

/// Whether the body has a content coding other than `identity`.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| *coding != IDENTITY)
}

/// Whether the request or response is gRPC, with any message format.
#[cfg(feature = "grpc")]
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(GRPC.as_bytes());
        matches!(rest, Some([] | [b'+' | b';', ..]))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_media_type_is_compared_without_case_and_parameters() {
        for (value, is_json) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/jsonx", false),
            ("application/json-seq", false),
            ("", false),
        ] {
            let headers = headers(&header::CONTENT_TYPE, &[value]);
            assert_eq!(MediaType::of(&headers).unwrap().is(JSON), is_json, "{value}");
        }
        let two = headers(&header::CONTENT_TYPE, &["application/json", "text/html"]);
        assert!(MediaType::of(&two).is_none());
        assert!(MediaType::first_of(&two).unwrap().is(JSON));
        assert!(MediaType::first_of(&HeaderMap::new()).is_none());
    }

    #[test]
    fn only_json_in_utf8_is_utf8_json() {
        for (value, expected) in [
            ("application/json", true),
            ("application/json;", true),
            ("application/json; charset=UTF-8; x=y", true),
            ("application/json; Charset = \"utf-8\"", true),
            ("application/json; charset=utf-16", false),
            ("application/json; charset", false),
            ("application/json; charset=utf-8; charset=latin1", false),
            ("application/json; x=\u{e9}", false),
            ("text/json", false),
        ] {
            let headers = headers(&header::CONTENT_TYPE, &[value]);
            assert_eq!(MediaType::of(&headers).unwrap().is_utf8_json(), expected, "{value}");
        }
    }

    #[test]
    fn accepted_types_are_found_in_all_fields() {
        let accepts = |values: &[&str]| {
            let headers = headers(&header::ACCEPT, values);
            MediaType::accepted(&headers).any(|accepted| accepted.is(EVENT_STREAM))
        };
        assert!(accepts(&["application/json, Text/Event-Stream;q=0.5"]));
        assert!(accepts(&["application/json", "text/event-stream"]));
        assert!(!accepts(&["application/json", "*/*"]));
        assert!(!accepts(&[]));
    }

    #[test]
    fn any_coding_but_identity_is_one() {
        let coded = |values: &[&str]| is_coded(&headers(&header::CONTENT_ENCODING, values));
        assert!(!coded(&[]) && !coded(&["identity"]) && !coded(&["identity", "identity"]));
        assert!(coded(&["gzip"]) && coded(&["identity", "br"]) && coded(&["identity, gzip"]));
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_web_is_not_grpc() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
        ] {
            assert_eq!(is_grpc(&headers(&header::CONTENT_TYPE, &[value])), expected, "{value}");
        }
    }
}
