//! The log: one queue, one writer on its own thread, and group commit.
//!
//! Requests put records into the [queue](queue). The [writer] chains them and has the sink write
//! them in batches. Each record has a [place](places) in the queue, so no one fills it for others.
//! Callers that wait for one batch [share its write](group_commit). While the sink
//! fails, the log is closed: it refuses what it could not make durable, and counts the refusals. In
//! a [flood] of requests without a verified user, most refusals are counted, too.

mod audit_log;
mod core;
mod durable;
mod error;
mod flood;
mod group_commit;
mod open_requests;
mod options;
mod places;
mod queue;
mod writer;

pub use audit_log::AuditLog;
pub(super) use audit_log::Shared;
pub use error::AuditError;
pub(super) use flood::Counted;
pub(super) use open_requests::{OpenRequest, Slot};
pub use options::AuditOptions;
pub(super) use places::{NoPlace, Place};
