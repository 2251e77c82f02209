//! Sinks: where the log writes its records.

mod audit_sink;
mod boxed;
mod file_identity;
mod json_lines;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod tee;
mod tracing_sink;

pub use audit_sink::{AuditSink, Resumed, SinkError};
pub use boxed::BoxAuditSink;
pub use json_lines::{AuditFileError, JsonLines};
#[cfg(any(test, feature = "test-util"))]
pub use memory::InMemory;
pub use tee::TeeSink;
pub use tracing_sink::TracingSink;
