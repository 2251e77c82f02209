//! Rules for headers between clients and upstreams: stripped, forwarded, replaced.
//!
//! The layers and the proxy of `token-broker-outbound` look up one table of rules. A request header
//! without a rule is not forwarded, unless the operator adds it
//! ([`forward_header`](crate::stack::BrokerStack::forward_header)). In gRPC, binary metadata
//! (`-bin`) is forwarded unless a rule of its base name forbids it. A response header without a
//! rule does not reach the client, unless the operator adds it
//! ([`forward_response_header`](crate::stack::BrokerStack::forward_response_header)); a handler's
//! own requests receive all but a few. In every header and trailer of a response, the leak guard
//! masks an echo of the credential.
//!
//! A proxy of your own calls [`remove_hop_by_hop_from_request`] before it sends a request, and
//! [`remove_hop_by_hop_from_response`] before it returns the response.
//!
//! ```
//! use http::{HeaderMap, HeaderValue, header};
//! use tower_token_broker::header_rules;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, x-one-hop"));
//! headers.insert("x-one-hop", HeaderValue::from_static("1"));
//! headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
//! header_rules::remove_hop_by_hop_from_request(&mut headers);
//! assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
//! ```

use std::{collections::HashMap, sync::LazyLock};

use foldhash::fast::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue, header};

// To strip, forward or replace another header, add a row. `Never` forbids a request header for
// good, also for the operator; `Credential` hides it from inner services, too. An exact name takes
// precedence over a prefix, so such a row repeats what it keeps of the prefix's rules. The snapshot
// of `tests` shows what each row does at each step.
#[rustfmt::skip]
const TABLE: &[Row] = {
    use Rule::*;
    &[
    //  name                           request to the upstream               response to the client
    // Credentials, and what gRPC's metadata and grpc-gateway make of them.
        ("authorization",              &[Credential, Never],                 &[Removed]),
        ("authorization-bin",          &[Credential],                        &[]),
        ("grpc-metadata-authorization", &[Credential, NeverInBinary],        &[]),
        ("cookie",                     &[Credential, Never],                 &[Removed]),
        ("cookie-bin",                 &[Credential],                        &[]),
        ("cookie2",                    &[Never],                             &[]),
        ("proxy-authorization",        &[Credential, Never, HopByHop],       &[Removed, HopByHop]),
        ("proxy-authorization-bin",    &[Credential],                        &[]),
    // Challenges, cookies and other headers about the upstream itself.
        ("authentication-info",        &[],                                  &[Removed]),
        ("proxy-authenticate",         &[HopByHop],                          &[Removed, HopByHop]),
        ("proxy-authentication-info",  &[HopByHop],                          &[Removed, HopByHop]),
        ("www-authenticate",           &[],                                  &[Removed]),
        ("set-cookie",                 &[],                                  &[Removed]),
        ("set-cookie2",                &[],                                  &[Removed]),
        ("alt-svc",                    &[],                                  &[Removed]),
        ("clear-site-data",            &[],                                  &[Removed]),
        ("refresh",                    &[],                                  &[Removed]),
        ("server",                     &[],                                  &[Removed]),
        ("strict-transport-security",  &[],                                  &[Removed]),
        ("x-powered-by",               &[],                                  &[Removed]),
    // References to other resources, which may contain a token.
        ("content-location",           &[],                                  &[Reference]),
        ("link",                       &[],                                  &[Reference]),
        ("location",                   &[],                                  &[Reference]),
    // Connections and framing (RFC 9110 §7.6.1, RFC 9112).
        ("connection",                 &[Never, HopByHop],                   &[Removed, HopByHop]),
        ("content-length",             &[Never, WrittenBySender],            &[Returned]),
        ("expect",                     &[Never, WrittenBySender],            &[]),
        ("host",                       &[Never, WrittenBySender],            &[]),
        ("http2-settings",             &[Never, HopByHop],                   &[HopByHop]),
        ("keep-alive",                 &[Never, HopByHop],                   &[Removed, HopByHop]),
        ("proxy-connection",           &[Never, HopByHop],                   &[Removed, HopByHop]),
        ("te",                         &[Never, HopByHop, SetInGrpc("trailers")], &[HopByHop]),
        ("trailer",                    &[Never, HopByHop],                   &[HopByHop]),
        ("transfer-encoding",          &[Never, HopByHop],                   &[HopByHop]),
        ("upgrade",                    &[Never, HopByHop],                   &[Removed, HopByHop]),
    // Identity and routing as proxies report it.
        ("forwarded",                  &[Never],                             &[]),
        ("grpc-metadata-*",            &[NeverInBinary],                     &[]),
        ("via",                        &[Never],                             &[Removed]),
        ("x-forwarded-*",              &[Never],                             &[]),
        ("x-http-method-override",     &[Never],                             &[]),
        ("x-real-ip",                  &[Never],                             &[]),
    // Content and its negotiation.
        ("accept",                     &[Forwarded],                         &[]),
        ("accept-encoding",            &[Set("identity")],                   &[]),
        ("accept-language",            &[Forwarded],                         &[]),
        ("content-encoding",           &[Never, ForwardedInHttp],            &[]),
        ("content-language",           &[Forwarded],                         &[ReturnedInHttp]),
        ("content-type",               &[Forwarded, EndToEnd],               &[Returned]),
        ("range",                      &[Never],                             &[]),
        ("user-agent",                 &[Forwarded],                         &[]),
    // What clients may know of a response, and how browsers treat it.
        ("accept-patch",               &[],                                  &[ReturnedInHttp]),
        ("accept-post",                &[],                                  &[ReturnedInHttp]),
        ("allow",                      &[],                                  &[ReturnedInHttp]),
        ("content-disposition",        &[],                                  &[ReturnedInHttp]),
        ("content-security-policy",    &[],                                  &[ReturnedInHttp]),
        ("cross-origin-opener-policy", &[],                                  &[ReturnedInHttp]),
        ("cross-origin-resource-policy", &[],                                &[ReturnedInHttp]),
        ("date",                       &[],                                  &[Returned]),
        ("deprecation",                &[],                                  &[ReturnedInHttp]),
        ("permissions-policy",         &[],                                  &[ReturnedInHttp]),
        ("preference-applied",         &[],                                  &[ReturnedInHttp]),
        ("ratelimit",                  &[],                                  &[ReturnedInHttp]),
        ("ratelimit-*",                &[],                                  &[ReturnedInHttp]),
        ("referrer-policy",            &[],                                  &[ReturnedInHttp]),
        ("retry-after",                &[],                                  &[Returned]),
        ("sunset",                     &[],                                  &[ReturnedInHttp]),
        ("vary",                       &[],                                  &[ReturnedInHttp]),
        ("x-content-type-options",     &[],                                  &[Returned]),
        ("x-frame-options",            &[],                                  &[ReturnedInHttp]),
        ("x-ratelimit-*",              &[],                                  &[ReturnedInHttp]),
        ("x-total-count",              &[],                                  &[ReturnedInHttp]),
    // Instructions to the servers in front, and permissions of another origin's pages.
        ("access-control-*",           &[],                                  &[Removed]),
        ("timing-allow-origin",        &[],                                  &[Removed]),
        ("x-accel-*",                  &[],                                  &[Removed]),
        ("x-lighttpd-send-file",       &[],                                  &[Removed]),
        ("x-reproxy-*",                &[],                                  &[Removed]),
        ("x-sendfile",                 &[],                                  &[Removed]),
    // Caches and validators.
        ("accept-ranges",              &[],                           &[Validator, ReturnedInHttp]),
        ("cache-control",              &[],                            &[Set("private, no-store")]),
        ("content-digest",             &[],                                  &[Removed, Validator]),
        ("content-md5",                &[],                                  &[Removed, Validator]),
        ("digest",                     &[],                                  &[Removed, Validator]),
        ("etag",                       &[],                           &[Validator, ReturnedInHttp]),
        ("if-match",                   &[Forwarded],                         &[]),
        ("if-modified-since",          &[Forwarded],                         &[]),
        ("if-none-match",              &[Forwarded],                         &[]),
        ("if-unmodified-since",        &[Forwarded],                         &[]),
        ("last-modified",              &[],                           &[Validator, ReturnedInHttp]),
        ("repr-digest",                &[],                                  &[Removed, Validator]),
    // MCP. The scope filter replaces the session and event IDs, which clients hold sealed.
        ("last-event-id",              &[Forwarded, EndToEnd],               &[]),
        ("mcp-method",                 &[Forwarded, Compared, EndToEnd],     &[]),
        ("mcp-name",                   &[Forwarded, Compared, EndToEnd],     &[]),
        ("mcp-param-*",                &[Forwarded, Compared, EndToEnd],     &[]),
        ("mcp-protocol-version",       &[Forwarded, EndToEnd],               &[Returned]),
        ("mcp-session-id",             &[Forwarded, EndToEnd],               &[Returned]),
    // gRPC's own response headers and trailers.
        ("grpc-message",               &[],                                  &[ReturnedInGrpc]),
        ("grpc-retry-pushback-ms",     &[],                                  &[ReturnedInGrpc]),
        ("grpc-status",                &[],                                  &[ReturnedInGrpc]),
        ("grpc-status-details-bin",    &[],                                  &[ReturnedInGrpc]),
    // gRPC. The exchange layer writes `grpc-timeout` from the time that is left.
        ("grpc-accept-encoding",       &[SetInGrpc("identity")],             &[]),
        ("grpc-encoding",              &[ForwardedInGrpc, EndToEnd],         &[ReturnedInGrpc]),
        ("mcp_prompt",                 &[ForwardedInGrpc, EndToEnd],         &[]),
        ("mcp_resource",               &[ForwardedInGrpc, EndToEnd],         &[]),
        ("mcp_tool",                   &[ForwardedInGrpc, EndToEnd],         &[]),
    // Traces (W3C Trace Context).
        ("traceparent",                &[TraceParent],                       &[]),
        ("tracestate",                 &[TraceState],                        &[]),
    ]
};

/// A header name, or a prefix and `*`; the rules of requests; the rules of responses.
type Row = (&'static str, &'static [Rule], &'static [Rule]);

/// A rule for one header in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Request: the authenticate layer removes it before it calls the inner service.
    // A014, L235.
    Credential,
    /// Request: the scope filter removes it where it was not compared with the message.
    // J209.
    Compared,
    /// Request: forwarded.
    // H167, H168, H170: the headers of the request to the upstream are built from these.
    Forwarded,
    /// Request: forwarded in gRPC.
    ForwardedInGrpc,
    /// Request: forwarded in plain HTTP, whose content is not read.
    ForwardedInHttp,
    /// Request: forwarded also if `Connection` names it, because it was judged or replaced.
    // H420.
    EndToEnd,
    /// Request: forwarded if it has the length of a `traceparent` and occurs once, also if
    /// `Connection` names it.
    // H177.
    TraceParent,
    /// Request: forwarded up to the length that W3C Trace Context requires, also if `Connection`
    /// names it.
    // H177.
    TraceState,
    /// Request: not forwarded, even if the operator adds it. In gRPC, neither is `<name>-bin`.
    Never,
    /// Request: in gRPC, `<name>-bin` is not forwarded.
    // L235: grpc-gateway removes the prefix, and makes a header of any name out of the rest.
    NeverInBinary,
    /// Request: the proxy removes it, and the HTTP client writes it from URI and body.
    // J213: a second value would allow request smuggling.
    WrittenBySender,
    /// Response: passed to the client.
    Returned,
    /// Response: passed to the client in plain HTTP.
    ReturnedInHttp,
    /// Response: passed to the client in gRPC.
    ReturnedInGrpc,
    /// Response: the exchange layer removes it, also from trailers and for handlers. No operator
    /// can add it.
    // I180, I460.
    Removed,
    /// Response: the exchange layer removes it, except for a handler's own request.
    // I187.
    Reference,
    /// Response: the scope filter removes it where it changed the body.
    Validator,
    /// Both: the proxy removes it, because it belongs to one connection.
    HopByHop,
    /// Both: replaced with this value.
    Set(&'static str),
    /// Request: replaced with this value in gRPC.
    SetInGrpc(&'static str),
}

/// Length of `00-` trace ID `-` parent ID `-` flags (W3C Trace Context §3.2).
const TRACE_PARENT: usize = 55;

/// Longest `tracestate` that every participant must propagate (W3C Trace Context §3.3.1.5).
const LONGEST_TRACE_STATE: usize = 512;

/// The table, indexed by name.
struct Index {
    exact: HashMap<&'static str, &'static Row, RandomState>,
    prefixes: Vec<(&'static str, &'static Row)>,
    set_in_requests: Vec<(HeaderName, HeaderValue)>,
    #[cfg(feature = "grpc")]
    set_in_grpc: Vec<(HeaderName, HeaderValue)>,
    set_in_responses: Vec<(HeaderName, HeaderValue)>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| Index {
    exact: TABLE.iter().map(|row| (row.0, row)).collect(),
    prefixes: TABLE.iter().filter_map(|row| Some((row.0.strip_suffix('*')?, row))).collect(),
    set_in_requests: values(|row| row.1, Rule::set),
    #[cfg(feature = "grpc")]
    set_in_grpc: values(|row| row.1, Rule::set_in_grpc),
    set_in_responses: values(|row| row.2, Rule::set),
});

fn values(
    rules: fn(&Row) -> &'static [Rule],
    value: fn(&Rule) -> Option<&'static str>,
) -> Vec<(HeaderName, HeaderValue)> {
    let values = TABLE.iter().filter_map(|row| Some((row.0, rules(row).iter().find_map(value)?)));
    values
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

impl Rule {
    fn set(&self) -> Option<&'static str> {
        if let Self::Set(value) = self { Some(value) } else { None }
    }

    #[cfg(feature = "grpc")]
    fn set_in_grpc(&self) -> Option<&'static str> {
        if let Self::SetInGrpc(value) = self { Some(value) } else { None }
    }
}

fn row(name: &str) -> &'static Row {
    let index = &*INDEX;
    if let Some(row) = index.exact.get(name) {
        return row;
    }
    let row = index.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix));
    row.map_or(&("", &[], &[]), |(_, row)| row)
}

fn in_requests(name: &str) -> &'static [Rule] {
    row(name).1
}

fn in_responses(name: &str) -> &'static [Rule] {
    row(name).2
}

/// Returns whether a field of a response defines where its body ends, and has a value that can
/// contain no credential: a length, or `chunked`, or the number of a gRPC status.
pub(crate) fn is_framing(name: &HeaderName, value: &HeaderValue) -> bool {
    // One digit less than the shortest secret has octets.
    const LONGEST_LENGTH: usize = 11;
    let value = value.as_bytes();
    let is_number =
        |longest| (1..=longest).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    match name.as_str() {
        "content-length" => is_number(LONGEST_LENGTH),
        "transfer-encoding" => value.eq_ignore_ascii_case(b"chunked"),
        "grpc-status" => is_number(2),
        _ => false,
    }
}

/// Returns whether a request header holds a credential of the client, by its name.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    in_requests(name.as_str()).contains(&Rule::Credential)
}

/// Removes the headers that are forwarded only where they were compared with the message.
pub(crate) fn remove_uncompared(headers: &mut HeaderMap) {
    remove_where(headers, |name| in_requests(name.as_str()).contains(&Rule::Compared));
}

/// How a request header is forwarded to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// Only if the operator adds it.
    No,
    /// Unless `Connection` names it.
    Ordinary,
    /// In any case.
    EndToEnd,
    /// If it occurs once.
    Once,
}

/// Returns how a request header is forwarded to the upstream.
pub(crate) fn forwarding(name: &HeaderName, value: &HeaderValue) -> Forwarding {
    let rules = in_requests(name.as_str());
    match rules {
        [Rule::TraceParent] if value.len() == TRACE_PARENT => Forwarding::Once,
        [Rule::TraceState] if value.len() <= LONGEST_TRACE_STATE => Forwarding::EndToEnd,
        _ if !rules.contains(&Rule::Forwarded) => Forwarding::No,
        _ if rules.contains(&Rule::EndToEnd) => Forwarding::EndToEnd,
        _ => Forwarding::Ordinary,
    }
}

/// Returns whether a request header belongs to no connection, whatever `Connection` names.
// H420: a client cannot take away what was compared with the message.
pub(crate) fn is_end_to_end(name: &HeaderName) -> bool {
    let is_kept =
        |rule: &Rule| matches!(rule, Rule::EndToEnd | Rule::TraceParent | Rule::TraceState);
    in_requests(name.as_str()).iter().any(is_kept)
}

/// Returns whether a request header is forwarded only with certain values, also if an operator adds
/// it.
pub(crate) fn limits_value(name: &HeaderName) -> bool {
    let limits = |rule: &Rule| matches!(rule, Rule::TraceParent | Rule::TraceState);
    in_requests(name.as_str()).iter().any(limits)
}

/// Returns whether a metadata entry is forwarded only because the request is gRPC.
#[cfg(feature = "grpc")]
pub(crate) fn is_forwarded_in_grpc(name: &HeaderName) -> bool {
    let name = name.as_str();
    in_requests(name).contains(&Rule::ForwardedInGrpc)
        || name.strip_suffix("-bin").is_some_and(|base| {
            // L235: binary metadata that some servers read as the header `base`.
            let is_never = |rule: &Rule| matches!(rule, Rule::Never | Rule::NeverInBinary);
            !in_requests(base).iter().any(is_never)
        })
}

/// Returns whether an operator may have this request header forwarded.
pub(crate) fn may_be_forwarded(name: &HeaderName) -> bool {
    !in_requests(name.as_str()).contains(&Rule::Never)
}

/// Sets the request headers that the upstream receives from the broker.
pub(crate) fn set_in_request(headers: &mut HeaderMap) {
    set(headers, &INDEX.set_in_requests);
}

/// Sets the metadata that a gRPC upstream receives from the broker.
#[cfg(feature = "grpc")]
pub(crate) fn set_in_grpc_request(headers: &mut HeaderMap) {
    set(headers, &INDEX.set_in_grpc);
}

/// Removes the response headers and trailers that are about the upstream itself, and those that
/// `Connection` names.
pub(crate) fn remove_from_response(fields: &mut HeaderMap) {
    let connection = connection_options(fields);
    remove_where(fields, |name| {
        in_responses(name.as_str()).contains(&Rule::Removed) || connection.contains(name)
    });
}

/// The protocol in which a client receives a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnedTo {
    Mcp,
    Http,
    #[cfg(feature = "grpc")]
    Grpc,
}

/// Returns whether a response header is passed to the client.
pub(crate) fn is_returned(name: &HeaderName, to: ReturnedTo) -> bool {
    in_responses(name.as_str()).iter().any(|rule| match rule {
        Rule::Returned | Rule::Set(_) => true,
        Rule::ReturnedInHttp => to == ReturnedTo::Http,
        #[cfg(feature = "grpc")]
        Rule::ReturnedInGrpc => to == ReturnedTo::Grpc,
        _ => false,
    })
}

/// Returns whether an operator may have this response header passed to clients.
pub(crate) fn may_be_returned(name: &HeaderName) -> bool {
    let forbids = |rule: &Rule| {
        matches!(rule, Rule::Removed | Rule::HopByHop | Rule::Reference | Rule::Set(_))
    };
    !in_responses(name.as_str()).iter().any(forbids)
}

/// Copies the headers that describe the content of a plain HTTP request.
pub(crate) fn forward_in_http(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if in_requests(name.as_str()).contains(&Rule::ForwardedInHttp) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Removes the response headers that refer to other resources.
pub(crate) fn remove_references(headers: &mut HeaderMap) {
    remove_where(headers, |name| in_responses(name.as_str()).contains(&Rule::Reference));
}

/// Removes the response headers that describe bytes which were changed.
pub(crate) fn remove_validators(headers: &mut HeaderMap) {
    remove_where(headers, |name| in_responses(name.as_str()).contains(&Rule::Validator));
}

/// Sets the response headers that the client receives from the broker.
// I188: one user's response is not stored for another.
pub(crate) fn set_in_response(headers: &mut HeaderMap) {
    set(headers, &INDEX.set_in_responses);
}

/// Removes the request headers that belong to one connection, those that `Connection` names, and
/// those that an HTTP client writes from the URI and the body (`Host`, `Content-Length`, `Expect`).
///
/// A credential stays: `Authorization`, and values that are marked sensitive. So do `TE: trailers`
/// of a gRPC request, and the headers that the layers compared or replaced: `Content-Type`,
/// `Last-Event-ID`, `Mcp-*` and the trace context.
pub fn remove_hop_by_hop_from_request(headers: &mut HeaderMap) {
    // RFC 9113 §8.2.2 allows this one value, and gRPC requires it.
    let trailers =
        headers.get(header::TE).is_some_and(|value| value == "trailers") && is_grpc(headers);
    let mut connection = removable_connection_options(headers);
    connection.retain(|name| !is_end_to_end(name));
    remove_where(headers, |name| {
        let is_removed = |rule: &Rule| matches!(rule, Rule::HopByHop | Rule::WrittenBySender);
        in_requests(name.as_str()).iter().any(is_removed) || connection.contains(name)
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the response headers that belong to one connection, and those that `Connection` names.
pub fn remove_hop_by_hop_from_response(headers: &mut HeaderMap) {
    let connection = removable_connection_options(headers);
    remove_where(headers, |name| {
        in_responses(name.as_str()).contains(&Rule::HopByHop) || connection.contains(name)
    });
}

/// Returns the headers that `Connection` names, which belong to one connection (RFC 9110 §7.6.1).
pub(crate) fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

// H167: `Connection` can neither hide a header from us, nor remove a credential.
fn removable_connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_sensitive = |name: &HeaderName| headers.get(name).is_some_and(HeaderValue::is_sensitive);
    let mut options = connection_options(headers);
    options.retain(|name| *name != header::AUTHORIZATION && !is_sensitive(name));
    options
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

fn set(headers: &mut HeaderMap, values: &[(HeaderName, HeaderValue)]) {
    for (name, value) in values {
        headers.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "grpc")]
    use std::sync::Arc;

    #[cfg(feature = "grpc")]
    use http::Request;

    use super::*;
    #[cfg(feature = "grpc")]
    use crate::{
        authenticate::PresentedToken,
        exchange::headers::{Forwarded, Returned, ReturnedFields},
    };

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let mut names: Vec<_> = TABLE.iter().map(|row| row.0).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for name in names {
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }

    /// Headers without a row of their own.
    #[cfg(feature = "grpc")]
    const OTHERS: [&str; 16] = [
        "age",
        "baggage",
        "content-range",
        "cookie2-bin",
        "grpc-metadata-authorization-bin",
        "grpc-metadata-x-bin",
        "grpc-status-details-bin",
        "grpc-timeout",
        "host-bin",
        "if-range",
        "origin",
        "trace-context-bin",
        "x-api-key",
        "x-forwarded-user-bin",
        "x-request-id",
        "vary",
    ];

    /// The steps that treat a header of this name other than one without a rule, and the result:
    /// removed, passed on, or replaced with a value.
    #[cfg(feature = "grpc")]
    fn steps(name: &HeaderName) -> Vec<String> {
        let value = HeaderValue::from_static(if name == "traceparent" {
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        } else {
            "value"
        });
        let after = |step: &dyn Fn(&mut HeaderMap)| {
            let mut headers = HeaderMap::from_iter([(name.clone(), value.clone())]);
            step(&mut headers);
            match headers.get(name) {
                None => "removed".to_owned(),
                Some(found) if *found == value => "passes".to_owned(),
                Some(found) => found.to_str().unwrap().to_owned(),
            }
        };
        let arrives = |headers: &mut HeaderMap| {
            let mut request = Request::get("/").body(()).unwrap();
            *request.headers_mut() = headers.clone();
            drop(PresentedToken::take(&mut request));
            *headers = request.headers().clone();
        };
        let sent = |headers: &mut HeaderMap| {
            *headers = Forwarded::default().of_request(headers);
            set_in_request(headers);
        };
        let sent_in_grpc = |headers: &mut HeaderMap| {
            *headers = Forwarded::default().of_grpc_request(headers);
            set_in_request(headers);
        };
        let returned = |headers: &mut HeaderMap| {
            remove_references(headers);
            set_in_response(headers);
        };
        let returned_to = |to: ReturnedTo| {
            move |headers: &mut HeaderMap| {
                ReturnedFields::ToClient(Arc::default(), to).retain_in(headers);
                remove_references(headers);
                set_in_response(headers);
            }
        };
        let may_be_added =
            if Forwarded::default().add(name.clone()) { "passes" } else { "refused" };
        let may_be_returned =
            if Returned::default().add(name.clone()) { "passes" } else { "refused" };
        [
            ("arrival", after(&arrives), "passes"),
            ("uncompared", after(&remove_uncompared), "passes"),
            ("HTTP", after(&sent), "removed"),
            ("gRPC", after(&sent_in_grpc), "removed"),
            ("operator", may_be_added.to_owned(), "passes"),
            ("to the upstream", after(&remove_hop_by_hop_from_request), "passes"),
            ("from the upstream", after(&remove_hop_by_hop_from_response), "passes"),
            ("response", after(&remove_from_response), "passes"),
            ("to a handler", after(&returned), "passes"),
            ("to MCP", after(&returned_to(ReturnedTo::Mcp)), "removed"),
            ("to HTTP", after(&returned_to(ReturnedTo::Http)), "removed"),
            ("to gRPC", after(&returned_to(ReturnedTo::Grpc)), "removed"),
            ("response operator", may_be_returned.to_owned(), "passes"),
            ("changed", after(&remove_validators), "passes"),
        ]
        .into_iter()
        .filter(|(_, result, default)| result != default)
        .map(|(step, result, _)| format!("{step} {result}"))
        .collect()
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn each_row_is_applied_in_both_directions() {
        let rows = TABLE.iter().map(|row| row.0.replace('*', "user"));
        let mut names: Vec<String> = rows.chain(OTHERS.map(str::to_owned)).collect();
        names.sort_unstable();
        let line = |name: &String| format!("{name}: {}", steps(&name.parse().unwrap()).join(", "));
        insta::assert_snapshot!(names.iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn h167_connection_removes_no_credential() {
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
            ("connection", "mcp-name, Mcp-Param-Region, traceparent, content-type"),
            ("mcp-name", "get_item"),
            ("mcp-param-region", "eu"),
            ("content-type", "application/json"),
            ("traceparent", "1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut key = HeaderValue::from_static("marker");
        key.set_sensitive(true);
        headers.insert("x-api-key", key);
        remove_hop_by_hop_from_request(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let judged = ["content-type", "mcp-name", "mcp-param-region", "traceparent"];
        let mut expected = [&["accept", "authorization", "x-api-key"][..], &judged].concat();
        expected.sort_unstable();
        assert_eq!(left, expected, "H167, H420");
    }

    #[test]
    fn grpc_keeps_te_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        remove_hop_by_hop_from_request(&mut headers);
        assert_eq!(headers[header::TE], "trailers");
    }
}
