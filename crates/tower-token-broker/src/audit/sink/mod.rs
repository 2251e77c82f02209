//! Sinks: where the log writes its records.

mod appended_file;
mod audit_folder;
mod audit_sink;
mod boxed;
mod file_error;
mod file_identity;
mod json_lines;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod stored_chain;
mod tee;
mod tracing_sink;

pub(super) use appended_file::sync_folder;
pub use audit_folder::{AuditFolder, SegmentLimits};
pub use audit_sink::{AuditSink, Resumed, SegmentEnd, SegmentedChain, SinkError};
pub use boxed::BoxAuditSink;
pub use file_error::AuditFileError;
pub use json_lines::JsonLines;
#[cfg(any(test, feature = "test-util"))]
pub use memory::InMemory;
pub(super) use stored_chain::{AtEnd, record_at_end};
pub use tee::TeeSink;
pub use tracing_sink::TracingSink;
