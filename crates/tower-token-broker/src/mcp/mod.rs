//! MCP as it is on the wire: one strict reading of a message, the header fields beside it, and
//! event streams.

pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod response;
mod revision;
pub(crate) mod sse;

pub use method::Listed;
pub use revision::Revision;
