//! Which header fields go to the upstream, and which of its own come back.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The fields that go on. Everything else stays here: whatever a client puts into a field of its own (`X-Forwarded-User`,
/// `Cookie`, `Authorization`, `X-Api-Key`) reaches no upstream.
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

/// Never forwarded, whatever an operator adds: credentials, hop-by-hop (RFC 9110 §7.6.1), framing, who a proxy says it is,
/// and what asks for a part: two halves of an echo are none to the guard.
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

/// The fields that an operator lets through beside ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded(Vec<HeaderName>);

impl Forwarded {
    /// Adds a field; says whether it may be forwarded at all.
    pub(crate) fn add(&mut self, name: HeaderName) -> bool {
        let never = NEVER_FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-");
        if !never {
            self.0.push(name);
        }
        !never
    }

    /// H167, H168, H170: what goes to the upstream is built anew, field by field, out of those that may.
    pub(crate) fn of_request(&self, from: &HeaderMap) -> HeaderMap {
        let mut to = HeaderMap::with_capacity(16);
        for (name, value) in from {
            // A field that `Connection` names is for one hop: ours (RFC 9110 §7.6.1).
            if self.may_pass(name, value) && !is_named_by_connection(from, name) {
                to.append(name.clone(), value.clone());
            }
        }
        // I191: the guard and the filter must be able to read the answer.
        to.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        to
    }

    fn may_pass(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        match name.as_str() {
            "traceparent" => value.len() == TRACE_PARENT,
            "tracestate" => value.len() <= LONGEST_TRACE_STATE,
            text => {
                FORWARDED.binary_search(&text).is_ok() || text.starts_with(FORWARDED_PREFIX) || self.0.contains(name)
            }
        }
    }
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
    let named_by_connection: Vec<HeaderName> =
        fields.keys().filter(|name| is_named_by_connection(fields, name)).cloned().collect();
    for name in named_by_connection {
        fields.remove(name);
    }
    for name in REMOVED_FROM_ANSWER {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order() {
        assert!(FORWARDED.is_sorted() && NEVER_FORWARDED.is_sorted() && REMOVED_FROM_ANSWER.is_sorted());
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

    #[test]
    fn an_operator_adds_fields_but_no_credentials() {
        let mut forwarded = Forwarded::default();
        assert!(forwarded.add(HeaderName::from_static("x-tenant-region")));
        for never in ["authorization", "cookie", "x-forwarded-user", "host", "transfer-encoding"] {
            assert!(!forwarded.add(HeaderName::from_static(never)), "{never}");
        }
    }
}
