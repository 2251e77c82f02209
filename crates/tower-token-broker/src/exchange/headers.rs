//! The headers that are forwarded to the upstream, and those that are returned to the client.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::header_rules::{self, Forwarding, ReturnedTo};

/// Most requests have as many headers when they are sent. A larger map would be cleared for
/// nothing.
const ROOM: usize = 12;

/// The headers that an operator forwards in addition to ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded(Vec<HeaderName>);

impl Forwarded {
    /// Adds a header; returns whether it may be forwarded at all.
    pub(crate) fn add(&mut self, name: HeaderName) -> bool {
        let is_allowed = header_rules::may_be_forwarded(&name);
        if is_allowed {
            self.0.push(name);
        }
        is_allowed
    }

    /// Returns the headers that are forwarded to the upstream.
    // H167, H168, H170: built header by header, out of those that may be forwarded.
    pub(crate) fn of_request(&self, from: &HeaderMap) -> HeaderMap {
        self.copy(from, |_| false)
    }

    /// Returns the metadata that is forwarded to a gRPC upstream. Binary metadata passes, except
    /// what a server may read as a credential, framing, or a proxy's report.
    #[cfg(feature = "grpc")]
    pub(crate) fn of_grpc_request(&self, from: &HeaderMap) -> HeaderMap {
        let mut to = self.copy(from, header_rules::is_forwarded_in_grpc);
        header_rules::set_in_grpc_request(&mut to);
        to
    }

    fn adds(&self, name: &HeaderName) -> bool {
        self.0.contains(name) && !header_rules::limits_value(name)
    }

    fn copy(&self, from: &HeaderMap, also: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let for_one_hop = header_rules::connection_options(from);
        let mut to = HeaderMap::with_capacity(ROOM);
        for (name, value) in from {
            let is_for_one_hop = || for_one_hop.contains(name);
            let passes = match header_rules::forwarding(name, value) {
                // H420: `Connection` cannot remove what was judged.
                Forwarding::EndToEnd => true,
                // H177: two values are two traces.
                Forwarding::Once => from.get_all(name).iter().nth(1).is_none(),
                Forwarding::Ordinary => !is_for_one_hop(),
                Forwarding::No if also(name) => {
                    header_rules::is_end_to_end(name) || !is_for_one_hop()
                }
                Forwarding::No => self.adds(name) && !is_for_one_hop(),
            };
            if passes {
                to.append(name.clone(), value.clone());
            }
        }
        to
    }
}

/// The response headers that an operator passes to clients in addition to ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returned(Vec<HeaderName>);

impl Returned {
    /// Adds a header; returns whether it may be passed at all.
    pub(crate) fn add(&mut self, name: HeaderName) -> bool {
        let is_allowed = header_rules::may_be_returned(&name);
        if is_allowed {
            self.0.push(name);
        }
        is_allowed
    }
}

/// The headers and trailers of one response that pass.
#[derive(Clone, Debug)]
pub(crate) enum ReturnedFields {
    /// A client receives what is listed.
    // I460: a server in front would obey the others, or a client take them for the broker's.
    ToClient(Arc<Returned>, ReturnedTo),
    /// A handler receives all, except what is about the upstream itself.
    ToHandler,
}

impl ReturnedFields {
    /// Removes the fields that do not pass.
    pub(crate) fn retain_in(&self, fields: &mut HeaderMap) {
        header_rules::remove_from_response(fields);
        let Self::ToClient(returned, to) = self else { return };
        let passes =
            |name: &HeaderName| header_rules::is_returned(name, *to) || returned.0.contains(name);
        let removed: Vec<HeaderName> =
            fields.keys().filter(|name| !passes(name)).cloned().collect();
        for name in removed {
            fields.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_listed_headers_are_forwarded() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/json"),
            ("authorization", "Bearer stolen"),
            ("cookie", "access_token=x"),
            ("connection", "keep-alive, X-User, accept-language, mcp-param-region"),
            ("accept-language", "de"),
            ("mcp-param-region", "eu"),
            ("traceparent", "short"),
            ("x-user", "root"),
            ("x-api-key", "attacker"),
            ("baggage", "user=alice"),
        ] {
            from.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        // An operator's list does not lift the limits of a value.
        let mut forwarded = Forwarded::default();
        assert!(forwarded.add(HeaderName::from_static("traceparent")));
        let to = forwarded.of_request(&from);
        let mut names: Vec<_> = to.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "mcp-param-region"]);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn l235_binary_metadata_passes_except_credentials() {
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
    fn operators_may_forward_headers_but_no_credentials() {
        let mut forwarded = Forwarded::default();
        assert!(forwarded.add(HeaderName::from_static("x-tenant-region")));
        for never in ["authorization", "cookie", "x-forwarded-user", "host", "transfer-encoding"] {
            assert!(!forwarded.add(HeaderName::from_static(never)), "{never}");
        }
    }
}
