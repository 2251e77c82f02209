//! Which header fields go to the upstream, and which of its own come back.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::media_type::IDENTITY;

/// The fields that go on. Everything else stays here: whatever a client puts into a field of its
/// own (`X-Forwarded-User`, `Cookie`, `Authorization`, `X-Api-Key`) reaches no upstream.
const FORWARDED: [&str; 16] = [
    "accept",
    "accept-language",
    "content-language",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "traceparent",
    "tracestate",
    "user-agent",
];

/// Arguments that MCP 2026-07-28 mirrors into fields.
const FORWARDED_PREFIX: &str = "mcp-param-";

/// Beside those, in gRPC: the coding of messages that are streamed, and the routing metadata of
/// Google's mapping, which was compared.
#[cfg(feature = "grpc")]
const FORWARDED_IN_GRPC: [&str; 4] = ["grpc-encoding", "mcp_prompt", "mcp_resource", "mcp_tool"];

/// Never forwarded, whatever an operator adds: credentials, hop-by-hop (RFC 9110 §7.6.1), framing,
/// who a proxy says it is, and what asks for a part: two halves of an echo are none to the guard.
const NEVER_FORWARDED: [&str; 21] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-http-method-override",
    "x-real-ip",
];

/// Fields of an upstream's answer that are about its own door, not about the answer.
const REMOVED_FROM_ANSWER: [&str; 24] = [
    "alt-svc",
    "authentication-info",
    "authorization",
    "clear-site-data",
    "connection",
    "content-digest",
    "content-md5",
    "cookie",
    "digest",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "refresh",
    "repr-digest",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "upgrade",
    "via",
    "www-authenticate",
    "x-powered-by",
];

/// H177: a trace state is passed on only within the limit of W3C Trace Context §3.3.1.5.
const LONGEST_TRACE_STATE: usize = 512;
/// `00-` trace id `-` parent id `-` flags (W3C Trace Context §3.2).
const TRACE_PARENT: usize = 55;

/// As many fields as most requests have when they go out; more are room that is cleared for
/// nothing.
const ROOM: usize = 12;

/// The fields that an operator lets through beside ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded(Vec<HeaderName>);

impl Forwarded {
    /// Adds a field; says whether it may be forwarded at all.
    pub(crate) fn add(&mut self, name: HeaderName) -> bool {
        let never =
            NEVER_FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-");
        if !never {
            self.0.push(name);
        }
        !never
    }

    /// H167, H168, H170: what goes to the upstream is built anew, field by field, out of those that
    /// may.
    pub(crate) fn of_request(&self, from: &HeaderMap) -> HeaderMap {
        let mut to = HeaderMap::with_capacity(ROOM);
        for (name, value) in from {
            // A field that `Connection` names is for one hop: ours (RFC 9110 §7.6.1).
            if self.may_pass(name, value) && !is_named_by_connection(from, name) {
                to.append(name.clone(), value.clone());
            }
        }
        // I191: the guard and the filter must be able to read the answer.
        to.insert(header::ACCEPT_ENCODING, IDENTITY);
        to
    }

    /// The same for gRPC, whose metadata are header fields. Binary metadata goes on untouched, but
    /// for what would be a credential, framing or a proxy's word without its `-bin`.
    #[cfg(feature = "grpc")]
    pub(crate) fn of_grpc_request(&self, from: &HeaderMap) -> HeaderMap {
        let mut to = HeaderMap::with_capacity(ROOM);
        for (name, value) in from {
            let passes = self.may_pass(name, value)
                || FORWARDED_IN_GRPC.contains(&name.as_str())
                || is_free_binary(name.as_str());
            if passes && !is_named_by_connection(from, name) {
                to.append(name.clone(), value.clone());
            }
        }
        to.insert(header::TE, HeaderValue::from_static("trailers"));
        to.insert(crate::grpc::metadata::ACCEPT_ENCODING, IDENTITY);
        to
    }

    fn may_pass(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        match name.as_str() {
            "traceparent" => value.len() == TRACE_PARENT,
            "tracestate" => value.len() <= LONGEST_TRACE_STATE,
            text => {
                FORWARDED.binary_search(&text).is_ok()
                    || text.starts_with(FORWARDED_PREFIX)
                    || self.0.contains(name)
            }
        }
    }
}

/// L235: `authorization-bin` and its like are nobody's metadata.
#[cfg(feature = "grpc")]
fn is_free_binary(name: &str) -> bool {
    name.strip_suffix("-bin").is_some_and(|base| {
        // grpc-gateway takes the prefix off, and makes a field of any name out of it.
        NEVER_FORWARDED.binary_search(&base).is_err()
            && !base.starts_with("x-forwarded-")
            && !base.starts_with("grpc-metadata-")
    })
}

fn is_named_by_connection(fields: &HeaderMap, name: &HeaderName) -> bool {
    fields.get_all(header::CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// I180: no cookie, challenge or hop-by-hop field of the upstream's reaches a client.
pub(crate) fn remove_from_answer(fields: &mut HeaderMap) {
    let is_removed = |name: &HeaderName| {
        REMOVED_FROM_ANSWER.binary_search(&name.as_str()).is_ok()
            || is_named_by_connection(fields, name)
    };
    let removed: Vec<HeaderName> = fields.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in removed {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order() {
        assert!(
            FORWARDED.is_sorted() && NEVER_FORWARDED.is_sorted() && REMOVED_FROM_ANSWER.is_sorted()
        );
    }

    #[test]
    fn only_what_is_on_the_list_goes_on() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/json"),
            ("authorization", "Bearer stolen"),
            ("cookie", "access_token=x"),
            ("connection", "keep-alive, X-User, accept-language"),
            ("accept-language", "de"),
            ("mcp-param-region", "eu"),
            ("traceparent", "short"),
            ("x-user", "root"),
            ("x-api-key", "attacker"),
            ("baggage", "user=alice"),
        ] {
            from.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let to = Forwarded::default().of_request(&from);
        let mut names: Vec<_> = to.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "mcp-param-region"]);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn l235_binary_metadata_goes_on_but_for_what_would_be_a_credential() {
        let mut from = HeaderMap::new();
        for name in [
            "trace-context-bin",
            "authorization-bin",
            "proxy-authorization-bin",
            "cookie-bin",
            "x-forwarded-user-bin",
            "grpc-metadata-authorization-bin",
            "grpc-metadata-authorization",
            "grpc-encoding",
            "grpc-timeout",
            "x-user",
            "mcp_tool",
            "user-agent",
        ] {
            from.append(HeaderName::from_static(name), HeaderValue::from_static("AAEC"));
        }
        let to = Forwarded::default().of_grpc_request(&from);
        let mut names: Vec<_> = to.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "grpc-accept-encoding",
            "grpc-encoding",
            "mcp_tool",
            "te",
            "trace-context-bin",
            "user-agent",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_operator_adds_fields_but_no_credentials() {
        let mut forwarded = Forwarded::default();
        assert!(forwarded.add(HeaderName::from_static("x-tenant-region")));
        for never in ["authorization", "cookie", "x-forwarded-user", "host", "transfer-encoding"] {
            assert!(!forwarded.add(HeaderName::from_static(never)), "{never}");
        }
    }
}
