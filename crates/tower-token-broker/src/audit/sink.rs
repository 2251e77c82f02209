//! The trait of a sink. (Being written.)

use super::record::Operation;

/// Placeholder until the records are written.
#[derive(Debug)]
#[non_exhaustive]
pub struct Record(pub(crate) Option<Operation>);

/// The sink could not make the records durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit sink failed: {0}")]
pub struct SinkError(pub String);

/// Takes a group of records; answers only when all of them are as durable as promised.
pub trait AuditSink: Send + Sync + 'static {
    /// Writes.
    fn write(&self, records: &[Record]) -> impl Future<Output = Result<(), SinkError>> + Send;
}
