//! The error of a record that is not durable.

/// The log cannot make a record durable at the moment: nothing may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot make the record durable")]
#[expect(
    clippy::exhaustive_structs,
    reason = "callers must do the same whatever the cause: use nothing"
)]
pub struct AuditError;
