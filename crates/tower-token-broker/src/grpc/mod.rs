//! gRPC as it is on the wire: frames, a strict reading of protobuf, the two services that carry MCP, and rich statuses.
//!
//! A stack speaks it after [`BrokerStack::grpc`](crate::BrokerStack::grpc). What a path means, and what is judged of it:
//!
//! | path | judged by |
//! |---|---|
//! | `/token_broker.mcp.v1.Mcp/{Call,Stream,Notify}` | the one JSON-RPC message in the frame, by the same reading and the same policy as over HTTP |
//! | `/model_context_protocol.Mcp/*` | the typed request of Google's published mapping (8 unary methods), as the same call |
//! | `/package.Service/Method` | its name, by a rule [`scope_filter::grpc`](crate::scope_filter::grpc()); reflection and health, too, pass only if a rule names them |
//! | anything else: a query, an escape, a slash too many | nobody; `UNIMPLEMENTED` |
//!
//! # MCP in frames
//! `token_broker.mcp.v1.Frame` has one field, `bytes json = 1`: exactly one JSON-RPC message, never a batch, unchanged. `Call` and
//! `Stream` take requests, `Notify` takes notifications and, in 2025-11-25, the client's answers. The metadata `mcp-method`,
//! `mcp-protocol-version` and, where a tool, a prompt or a resource is named, `mcp-name` are required in both revisions, have the values
//! of the header fields of MCP 2026-07-28, and are compared with the message: the message decides, a mismatch is `INVALID_ARGUMENT`
//! with `mcp-error-code: -32020`. A JSON-RPC error *of the server* is a frame; a refusal *of ours* is a status. Cancelling the RPC
//! cancels the request.
//!
//! # MCP in types
//! Google's mapping is younger and weaker than the message it maps: it has no cursor, no stream, no notice and no session, and
//! numbers in arguments are doubles. What it leaves open is refused here:
//! a field that stands twice and may stand once, a field that is not known, a doubled name in a map, two members of a choice, a value of no
//! kind, a number that is not finite. The arguments that a policy sees are JSON: integers within ±2^53 without a fraction,
//! other numbers in their shortest form. What is sent on are the very bytes that were judged. Its routing metadata
//! `mcp_tool`, `mcp_prompt`, `mcp_resource` is optional; where it stands, it stands once and says what the message says.
//!
//! # Any other service
//! Streams both ways untouched, but frame by frame: a message over the limit, or more messages than the limit, end it. Where one call
//! of a unary method is refused by the upstream for its credential, it is not replayed: only what was judged as a message is.
//!
//! # Compression
//! `gzip` and `identity`. A judged message is decoded within the limit and goes on uncompressed; of other services it goes on as it came.
//! The upstream is asked for `identity`: what is compressed can be neither guarded nor filtered, so an answer that is compressed
//! all the same is refused.
//!
//! # gRPC-Web
//! Is refused by name. To switch it on, put tonic-web's layer *outside* of the stack: it turns the browser's request into gRPC before
//! the stack sees it.
//!
//! # Sources
//! gRPC over HTTP/2; protobuf, "Encoding"; `google/rpc/status.proto`, `error_details.proto`; MCP 2026-07-28 "Custom Transports".

#[cfg(any(test, feature = "test-util"))]
use std::hint::black_box;

pub(crate) mod frame;
pub(crate) mod framed_mcp;
pub(crate) mod gzip;
pub(crate) mod metadata;
pub(crate) mod protobuf;
pub(crate) mod status;
pub(crate) mod typed_mcp;

/// The service that carries MCP unchanged, in frames.
pub const FRAMED_MCP: &str = "token_broker.mcp.v1.Mcp";

/// The service of Google's typed mapping of MCP.
pub const TYPED_MCP: &str = "model_context_protocol.Mcp";

/// Reads anything as frames, each as both messages of MCP and as what it may be in Google's mapping: for fuzzing, since the readers
/// themselves are nobody's interface. However the bytes are cut, the reading is one.
///
/// # Panics
/// If it is not.
#[cfg(any(test, feature = "test-util"))]
pub fn read_anything(bytes: &[u8], cut: usize) {
    let whole = frame::tests::all(bytes, bytes.len().max(1));
    let pieces = frame::tests::all(bytes, cut.max(1));
    assert_eq!(whole, pieces, "one reading, however the bytes are cut");
    let limits = crate::mcp::strict_json::Limits::default();
    for message in whole.0 {
        black_box(&framed_mcp::decode(&message));
        for method in typed_mcp::METHODS {
            black_box(&typed_mcp::read(method.name, &message, &limits));
            black_box(&method.lists.map(|of| typed_mcp::filter(of, &message, |entry| entry.name.len() % 2 == 0)));
        }
        black_box(&gzip::decode(&message, 1 << 16));
    }
}
