//! MCP over gRPC: the service `token_broker.mcp.v1.Mcp`. Each of its frames carries one JSON-RPC
//! message.
//!
//! MCP 2026-07-28 requires a custom transport to preserve the message, the message patterns and the
//! metadata of each request ("Custom Transports"). A [`Frame`](mcp::v1::Frame) therefore holds the
//! bytes of the message, and the metadata of the call has what HTTP's header fields mirror:
//!
//! | metadata | value | present |
//! |---|---|---|
//! | `mcp-protocol-version` | `2026-07-28` or `2025-11-25` | always |
//! | `mcp-method` | `method` of the message | except with a client's response |
//! | `mcp-name` | `params.name`, or `params.uri` | with the three methods below |
//! | `mcp-session-id` | the session ID from the server | within a session of 2025-11-25 |
//!
//! `mcp-name` is `params.name` of `tools/call` and `prompts/get`, and `params.uri` of
//! `resources/read`. A name that is not printable ASCII is encoded as `=?base64?…?=`.
//!
//! The message decides. A call whose metadata differs from the message is refused. [`call`] and
//! [`response`] create requests whose metadata agrees.
//!
//! # Example
//! ```
//! use token_broker_grpc::{Revision, call};
//!
//! let message =
//!     r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#;
//! let request = call(Revision::V2025_11_25, "tools/call", Some("get_item"), message);
//! assert_eq!(request.metadata().get("mcp-method").unwrap(), "tools/call");
//! assert_eq!(request.get_ref().json, message);
//! // client.call(request).await?
//! ```
//!
//! # Features
//! `handler`: the module `handler`, for handlers that call a gRPC upstream for their caller.

#[cfg(feature = "handler")]
pub mod handler;

use bytes::Bytes;
use tonic::{Request, metadata::MetadataValue};

pub mod mcp {
    //! Package `token_broker.mcp`.

    #[expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::exhaustive_structs,
        clippy::missing_errors_doc,
        reason = "generated from proto/, and compared with it by a test"
    )]
    pub mod v1 {
        //! `proto/token_broker/mcp/v1/mcp.proto`.

        include!("generated/token_broker.mcp.v1.rs");
    }
}

/// Revision of MCP of a message in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// 2025-03-26, with sessions and `initialize`.
    V2025_03_26,
    /// 2025-06-18, likewise.
    V2025_06_18,
    /// 2025-11-25, likewise.
    V2025_11_25,
    /// 2026-07-28, stateless; `_meta` of the message names the revision too.
    V2026_07_28,
}

impl Revision {
    /// Returns the value of `mcp-protocol-version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}

/// Creates a request with this message, and with metadata for its method and the name of its tool,
/// prompt or resource.
pub fn call(
    revision: Revision,
    method: &str,
    name: Option<&str>,
    message: impl Into<Bytes>,
) -> Request<mcp::v1::Frame> {
    let mut request = response(revision, message);
    let metadata = request.metadata_mut();
    // A method of MCP is printable ASCII; no server knows another.
    if let Ok(method) = MetadataValue::try_from(method) {
        metadata.insert("mcp-method", method);
    }
    if let Some(name) = name.and_then(field_value) {
        metadata.insert("mcp-name", name);
    }
    request
}

/// Creates a request with a client's response to a request of the server, in a session. It has no
/// method.
pub fn response(revision: Revision, message: impl Into<Bytes>) -> Request<mcp::v1::Frame> {
    let mut request = Request::new(mcp::v1::Frame { json: message.into() });
    request
        .metadata_mut()
        .insert("mcp-protocol-version", MetadataValue::from_static(revision.as_str()));
    request
}

/// Encodes a name as a header value (MCP 2026-07-28, "Value Encoding"): in Base64 if it is not
/// printable ASCII, or if it looks encoded already.
fn field_value(name: &str) -> Option<MetadataValue<tonic::metadata::Ascii>> {
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~')) && name.trim() == name;
    if is_plain && !name.starts_with("=?base64?") {
        return MetadataValue::try_from(name).ok();
    }
    MetadataValue::try_from(format!("=?base64?{}?=", base64(name.as_bytes()))).ok()
}

/// Encodes bytes in Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET
                .get(bits >> (18 - 6 * place) & 63)
                .copied()
                .filter(|_| place <= group.len());
            coded.push(char::from(digit.unwrap_or(b'=')));
        }
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_field_value_is_coded() {
        for (name, value) in [
            ("get_item", "get_item"),
            ("a b", "a b"),
            (" a", "=?base64?IGE=?="),
            ("é", "=?base64?w6k=?="),
            ("日本", "=?base64?5pel5pys?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ] {
            assert_eq!(field_value(name).unwrap(), value);
        }
    }

    #[test]
    fn an_answer_has_no_method() {
        assert!(response(Revision::V2025_11_25, "{}").metadata().get("mcp-method").is_none());
    }
}
