//! Records every use of a credential, and lets no credential be used without a record.

mod body;
mod future;
mod json_lines;
mod layer;
mod log;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod record;
mod service;
mod sink;
mod trail;

pub use body::TrailBody;
pub use future::ResponseFuture;
pub use json_lines::{AuditFileError, JsonLines};
pub use layer::AuditLayer;
pub use log::{AuditLog, AuditOptions, AuditUnavailable};
#[cfg(any(test, feature = "test-util"))]
pub use memory::InMemory;
pub use record::{Intent, MAX_TEXT, Operation, Outcome, Record, RefreshOutcome, SCHEMA_VERSION};
pub use service::Audit;
pub use sink::{AuditSink, Both, Resumed, SinkError, Tracing};
pub use trail::{Receipt, RefreshReceipt, Terminal, Trail};

#[cfg(test)]
mod tests;
