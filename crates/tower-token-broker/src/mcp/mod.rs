//! MCP as it is on the wire: one strict reading of a message, the header fields beside it, and event streams.

pub(crate) mod answer;
pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod sse;
pub mod strict_json;
