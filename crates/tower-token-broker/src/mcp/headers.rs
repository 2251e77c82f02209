//! MCP request headers, and their comparison with the message.
//!
//! Sources: MCP 2025-06-18 and 2025-11-25 "Transports", "Protocol Version Header"; MCP 2026-07-28
//! "Streamable HTTP", "Request Metadata".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Lifecycle, Revision,
    message::{Message, Text},
    method::{McpMethod, NameHeader},
};
use crate::refusal::{Reason, Refusal};

pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PARAM: &str = "mcp-param-";

/// Returns the revision that the headers state. A request with a handshake may state none: before
/// the response to `initialize`, and always in 2025-03-26.
pub(crate) fn stated_revision(fields: &HeaderMap) -> Result<Option<Revision>, Refusal> {
    let Some(stated) = only(fields, &PROTOCOL_VERSION)?.map(HeaderValue::as_bytes) else {
        return Ok(None);
    };
    let unsupported = || Refusal::new(Reason::UnsupportedVersion).requested(stated);
    Revision::parse(stated).map(Some).ok_or_else(unsupported)
}

/// Compares the headers with the message. The message decides; headers that differ refuse it.
pub(crate) fn agree(
    fields: &HeaderMap,
    stated: Option<Revision>,
    message: &Message<'_>,
) -> Result<(), Reason> {
    let revision = stated.unwrap_or_default();
    match (revision.lifecycle(), &message.params.version) {
        // J209: with a handshake there is no such rule. The headers decide nothing and are not
        // forwarded.
        (Lifecycle::Handshake, Text::Is(said)) => return may_say(stated, said),
        (Lifecycle::Handshake, Text::Absent | Text::NoString) => return Ok(()),
        (Lifecycle::Stateless, Text::Is(version)) if version == revision.as_str() => {}
        // In this revision, notifications carry no metadata (see its note on notifications).
        (Lifecycle::Stateless, Text::Absent) if message.id.is_none() => {}
        (Lifecycle::Stateless, Text::Is(_)) => return Err(Reason::HeaderMismatch),
        (Lifecycle::Stateless, Text::Absent | Text::NoString) => return Err(Reason::NoVersion),
    }
    let Some(method) = &message.method else { return Err(Reason::NotAMessage) };
    match only(fields, &METHOD)? {
        None if message.id.is_none() => {}
        said => is(said, method)?,
    }
    mirrors(fields, method, message)
}

/// Compares the version in `_meta` of a message with a handshake, where it has no meaning: it must
/// not claim another revision than the headers.
fn may_say(stated: Option<Revision>, said: &str) -> Result<(), Reason> {
    let said = Revision::parse(said.as_bytes());
    let agrees = match stated {
        Some(_) => said == stated,
        None => said.is_some_and(|said| said.lifecycle() == Lifecycle::Handshake),
    };
    if agrees { Ok(()) } else { Err(Reason::HeaderMismatch) }
}

/// The headers that repeat a message, as the upstream receives them. They are taken from the
/// message, so that no header of the client decides whether the upstream sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct JudgedHeaders {
    version: Option<HeaderValue>,
    method: Option<HeaderValue>,
    name: Option<HeaderValue>,
}

impl JudgedHeaders {
    /// Returns the headers for a message that agrees with its own.
    // H420: a value that was compared is kept as the client wrote it. One that is missing is
    // written.
    pub(crate) fn of(fields: &HeaderMap, revision: Revision, message: &Message<'_>) -> Self {
        let version = match revision.lifecycle() {
            // Before the response to `initialize` there is none.
            Lifecycle::Handshake => fields.get(PROTOCOL_VERSION).cloned(),
            Lifecycle::Stateless => Some(HeaderValue::from_static(revision.as_str())),
        };
        let method = message.method.as_ref();
        let written = |name, text: &str| match fields.get(name) {
            Some(compared) => Some(compared.clone()),
            None => encode(text),
        };
        let name = match method.map(McpMethod::name_header) {
            Some(NameHeader::Repeats(by)) => {
                message.params.named(by).required().ok().and_then(|name| written(NAME, name))
            }
            Some(NameHeader::Unjudged) => fields.get(NAME).cloned(),
            Some(NameHeader::Absent) | None => None,
        };
        Self { version, method: method.and_then(|method| written(METHOD, method.as_str())), name }
    }

    /// Returns these headers for HTTP. With a handshake, only the version is one.
    pub(crate) fn for_http(mut self, revision: Revision) -> Self {
        match revision.lifecycle() {
            Lifecycle::Handshake => (self.method, self.name) = (None, None),
            Lifecycle::Stateless => {}
        }
        self
    }

    /// Writes the headers into a request to the upstream.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in
            [(PROTOCOL_VERSION, &self.version), (METHOD, &self.method), (NAME, &self.name)]
        {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// Returns the revision of a gRPC request, whose metadata must state it.
#[cfg(feature = "grpc")]
pub(crate) fn revision_in_grpc(fields: &HeaderMap) -> Result<Revision, Refusal> {
    stated_revision(fields)?.ok_or_else(|| Reason::HeaderMismatch.into())
}

/// Like [`agree`], for gRPC. All revisions require the headers for method and name, also for
/// notifications.
#[cfg(feature = "grpc")]
pub(crate) fn agree_in_grpc(
    fields: &HeaderMap,
    revision: Revision,
    message: &Message<'_>,
) -> Result<(), Reason> {
    match (revision.lifecycle(), &message.params.version) {
        (_, Text::Is(version)) if version == revision.as_str() => {}
        (_, Text::Is(_)) => return Err(Reason::HeaderMismatch),
        (Lifecycle::Handshake, Text::Absent | Text::NoString) => {}
        (Lifecycle::Stateless, Text::Absent) if message.id.is_none() => {}
        (Lifecycle::Stateless, Text::Absent | Text::NoString) => return Err(Reason::NoVersion),
    }
    let Some(method) = &message.method else {
        // A client's response has no method and no name. Without sessions there are no such
        // responses.
        let says_nothing = !fields.contains_key(METHOD) && !fields.contains_key(NAME);
        return match revision.lifecycle() {
            Lifecycle::Handshake if says_nothing => Ok(()),
            Lifecycle::Handshake => Err(Reason::HeaderMismatch),
            Lifecycle::Stateless => Err(Reason::NotAMessage),
        };
    };
    is(only(fields, &METHOD)?, method)?;
    mirrors(fields, method, message)
}

/// Like [`agree`], for Google's mapping, in which the headers are optional. Any that are present
/// must match the message.
#[cfg(feature = "grpc")]
pub(crate) fn agree_in_types(
    fields: &HeaderMap,
    method: &McpMethod<'_>,
    name: Option<&str>,
    routing: &[&'static str],
) -> Result<(), Reason> {
    if fields.contains_key(METHOD) {
        is(only(fields, &METHOD)?, method)?;
    }
    let says_the_name = |value: &HeaderValue| {
        if Some(decode(value)?.as_str()) == name { Ok(()) } else { Err(Reason::HeaderMismatch) }
    };
    only(fields, &NAME)?.map_or(Ok(()), says_the_name)?;
    for field in ["mcp_tool", "mcp_prompt", "mcp_resource"] {
        match only(fields, &HeaderName::from_static(field))? {
            Some(value) if routing.contains(&field) => says_the_name(value)?,
            Some(_) => return Err(Reason::HeaderMismatch),
            None => {}
        }
    }
    Ok(())
}

fn is(said: Option<&HeaderValue>, method: &McpMethod<'_>) -> Result<(), Reason> {
    if said.is_some_and(|said| said.as_bytes() == method.as_str().as_bytes()) {
        Ok(())
    } else {
        Err(Reason::HeaderMismatch)
    }
}

/// Compares the name, and checks that parameters are readable.
fn mirrors(
    fields: &HeaderMap,
    method: &McpMethod<'_>,
    message: &Message<'_>,
) -> Result<(), Reason> {
    let said = only(fields, &NAME)?;
    match (method.name_header(), said) {
        (NameHeader::Repeats(by), Some(said)) => match message.params.named(by) {
            Text::Is(name) if decode(said)? == *name => {}
            Text::Is(_) | Text::Absent | Text::NoString => return Err(Reason::HeaderMismatch),
        },
        (NameHeader::Repeats(_), None) | (NameHeader::Absent, Some(_)) => {
            return Err(Reason::HeaderMismatch);
        }
        (NameHeader::Absent, None) | (NameHeader::Unjudged, _) => {}
    }
    for (param, value) in fields.iter().filter(|(name, _)| name.as_str().starts_with(PARAM)) {
        only(fields, param)?;
        decode(value)?;
    }
    Ok(())
}

fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Reason> {
    let mut all = fields.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() { Err(Reason::HeaderMismatch) } else { Ok(first) }
}

/// Returns the text of a value, decoded if it is `=?base64?…?=`. Refuses a value that MCP does not
/// allow.
fn decode(value: &HeaderValue) -> Result<String, Reason> {
    let bytes = value.as_bytes();
    if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Reason::HeaderMismatch);
    }
    let octets = match bytes.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(coded) => STANDARD.decode(coded).map_err(|_| Reason::HeaderMismatch)?,
        None => bytes.to_vec(),
    };
    // J431: the members that headers repeat are texts (MCP 2026-07-28, "Value Encoding").
    String::from_utf8(octets).map_err(|_| Reason::HeaderMismatch)
}

/// Writes a value as [`decode`] reads it.
fn encode(text: &str) -> Option<HeaderValue> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    let value =
        if is_plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) };
    HeaderValue::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Limits;

    fn check(fields: &[(&'static str, &str)], body: &str) -> Result<(), Reason> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        let message = Message::read(body.as_bytes(), &Limits::default()).unwrap();
        agree(&map, stated_revision(&map).map_err(|refusal| refusal.reason())?, &message)
    }

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

    #[test]
    fn headers_must_agree_with_the_message() {
        let call = |name: &str| {
            let params = format!(r#"{{"name":"{name}",{META}}}"#);
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
        };
        let version = ("mcp-protocol-version", "2026-07-28");
        let method = ("mcp-method", "tools/call");
        assert_eq!(check(&[version, method, ("mcp-name", "get_item")], &call("get_item")), Ok(()));
        assert_eq!(check(&[version, method, ("mcp-name", "=?base64?w6k=?=")], &call("é")), Ok(()));
        for (what, fields) in [
            ("no name", &[version, method][..]),
            ("another name", &[version, method, ("mcp-name", "other")]),
            ("another case", &[version, method, ("mcp-name", "Get_item")]),
            ("two names", &[version, method, ("mcp-name", "get_item"), ("mcp-name", "get_item")]),
            ("no method", &[version, ("mcp-name", "get_item")]),
            ("another method", &[version, ("mcp-method", "tools/list"), ("mcp-name", "get_item")]),
            ("no version", &[method, ("mcp-name", "get_item")]),
            (
                "old version",
                &[("mcp-protocol-version", "2025-11-25"), method, ("mcp-name", "get_item")],
            ),
            (
                "broken parameter",
                &[version, method, ("mcp-name", "get_item"), ("mcp-param-a", "=?base64?!?=")],
            ),
            (
                "two values of a parameter",
                &[
                    version,
                    method,
                    ("mcp-name", "get_item"),
                    ("mcp-param-a", "1"),
                    ("mcp-param-a", "1"),
                ],
            ),
            ("two versions", &[version, version, method, ("mcp-name", "get_item")]),
            ("two methods", &[version, method, method, ("mcp-name", "get_item")]),
            ("a name with invalid base64", &[version, method, ("mcp-name", "=?base64?!?=")]),
            ("octets that MCP does not allow", &[version, method, ("mcp-name", "get_item\u{e9}")]),
        ] {
            assert_eq!(check(fields, &call("get_item")), Err(Reason::HeaderMismatch), "{what}");
        }
        let list =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#);
        let lists = ("mcp-method", "tools/list");
        assert_eq!(check(&[version, lists], &list), Ok(()));
        assert_eq!(check(&[version, lists, ("mcp-name", "x")], &list), Err(Reason::HeaderMismatch));
        let unknown = [("mcp-protocol-version", "2099-01-01"), method, ("mcp-name", "get_item")];
        assert_eq!(check(&unknown, &call("get_item")), Err(Reason::UnsupportedVersion));
        // J209
        let old = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#;
        assert_eq!(check(&[("mcp-name", "other")], old), Ok(()));
    }

    #[test]
    fn h420_the_headers_sent_are_those_of_the_message() {
        let written = |fields: &[(&'static str, &str)], revision: Revision, body: &str| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().unwrap());
            }
            let message = Message::read(body.as_bytes(), &Limits::default()).unwrap();
            let mut to = HeaderMap::new();
            to.insert(NAME, HeaderValue::from_static("forged"));
            JudgedHeaders::of(&map, revision, &message).for_http(revision).write(&mut to);
            [&PROTOCOL_VERSION, &METHOD, &NAME]
                .map(|name| to.get(name).map(|value| value.to_str().unwrap().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        let call = |name: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#
            )
        };
        let (old, new) = (Revision::V2025_11_25, Revision::V2026_07_28);
        let (version, method) = (some("2026-07-28"), some("tools/call"));
        for (name, value) in [
            ("get_item", "get_item"),
            ("é", "=?base64?w6k=?="),
            (" x", "=?base64?IHg=?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ] {
            let expected = [version.clone(), method.clone(), some(value)];
            assert_eq!(written(&[], new, &call(name)), expected, "H420 {name}");
        }
        let as_compared = [("mcp-name", "=?base64?Z2V0?=")];
        let name = some("=?base64?Z2V0?=");
        assert_eq!(written(&as_compared, new, &call("get")), [version.clone(), method, name]);
        let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
        let method = some("notifications/cancelled");
        assert_eq!(written(&[], new, cancelled), [version, method, some("forged")]);
        assert_eq!(written(&[], old, &call("get")), [None, None, some("forged")]);
        let sent = [("mcp-protocol-version", "2025-11-25")];
        assert_eq!(written(&sent, old, &call("get"))[0], some("2025-11-25"));
    }

    #[test]
    fn notifications_need_no_metadata_and_responses_are_refused() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
        assert_eq!(check(&[version], cancelled), Ok(()));
        assert_eq!(check(&[version, ("mcp-method", "notifications/cancelled")], cancelled), Ok(()));
        assert_eq!(
            check(&[version, ("mcp-method", "tools/list")], cancelled),
            Err(Reason::HeaderMismatch)
        );
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert_eq!(check(&[version], response), Err(Reason::NoVersion));
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_metadata_must_agree_with_a_framed_message() {
        let (old, new) = (Revision::V2025_11_25, Revision::V2026_07_28);
        let call = |meta: &str| {
            let params = format!(r#"{{"name":"get_item"{meta}}}"#);
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
        };
        let saying = |version: &str| {
            call(&format!(r#","_meta":{{"io.modelcontextprotocol/protocolVersion":{version}}}"#))
        };
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned();
        let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "get_item"));
        for (what, fields, revision, body, agreed) in [
            ("a call", &[method, name][..], old, call(""), Ok(())),
            (
                "a call that states its version",
                &[method, name],
                new,
                saying(r#""2026-07-28""#),
                Ok(()),
            ),
            ("no version", &[method, name], new, call(""), Err(Reason::NoVersion)),
            (
                "a version that is not text",
                &[method, name],
                new,
                saying("1"),
                Err(Reason::NoVersion),
            ),
            ("the same, where it is optional", &[method, name], old, saying("1"), Ok(())),
            (
                "another version",
                &[method, name],
                new,
                saying(r#""2025-11-25""#),
                Err(Reason::HeaderMismatch),
            ),
            (
                "the reverse",
                &[method, name],
                old,
                saying(r#""2026-07-28""#),
                Err(Reason::HeaderMismatch),
            ),
            ("two methods", &[method, method, name], old, call(""), Err(Reason::HeaderMismatch)),
            ("no method", &[name], old, call(""), Err(Reason::HeaderMismatch)),
            ("a response", &[], old, response.clone(), Ok(())),
            (
                "a response with a method",
                &[method],
                old,
                response.clone(),
                Err(Reason::HeaderMismatch),
            ),
            ("a response with a name", &[name], old, response.clone(), Err(Reason::HeaderMismatch)),
            ("a response without version", &[], new, response, Err(Reason::NoVersion)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().unwrap());
            }
            let message = Message::read(body.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(agree_in_grpc(&map, revision, &message), agreed, "{what}");
        }
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_metadata_must_agree_with_a_typed_message() {
        let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "get_item"));
        let refused = Err(Reason::HeaderMismatch);
        for (what, fields, agreed) in [
            ("nothing", &[][..], Ok(())),
            ("all of it", &[method, name, ("mcp_tool", "get_item")], Ok(())),
            ("two methods", &[method, method], refused),
            ("another method", &[("mcp-method", "tools/list")], refused),
            ("two names", &[name, name], refused),
            ("another name", &[("mcp-name", "delete_item")], refused),
            ("a name with invalid base64", &[("mcp-name", "=?base64?!?=")], refused),
            ("another tool", &[("mcp_tool", "delete_item")], refused),
            ("two tools", &[("mcp_tool", "get_item"), ("mcp_tool", "get_item")], refused),
            ("a prompt", &[("mcp_prompt", "get_item")], refused),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().unwrap());
            }
            assert_eq!(
                agree_in_types(&map, &McpMethod::CallTool, Some("get_item"), &["mcp_tool"]),
                agreed,
                "{what}"
            );
        }
    }
}
