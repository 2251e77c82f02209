//! MCP on the wire: messages, their headers, and event streams, each parsed strictly and once.

pub(crate) mod addressee;
pub(crate) mod completion;
mod decisive;
pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod method;
pub(crate) mod response;
mod revision;
pub(crate) mod sse;
mod template_values;
mod uri_template;

pub use method::Listed;
pub(crate) use revision::Lifecycle;
pub use revision::Revision;
