//! MCP on the wire: messages, their headers, and event streams, each parsed strictly and once.

pub(crate) mod completion;
pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod response;
mod revision;
pub(crate) mod sse;
mod template_values;
mod uri_template;

pub use method::Listed;
pub use revision::Revision;
