//! Records every use of a credential; no use without a record.

mod record;
mod sink;
mod trail;

pub use record::{Intent, Operation, RefreshOutcome};
pub use sink::{AuditSink, SinkError};
pub use trail::{AuditLog, AuditUnavailable, Receipt, RefreshReceipt, Trail};
