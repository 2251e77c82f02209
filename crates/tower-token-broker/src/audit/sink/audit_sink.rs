//! The trait of sinks.

use super::tee::TeeSink;
use crate::audit::record::{Head, OpenWork, Records};

/// The sink could not make the records durable. The log keeps them and retries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit sink failed: {0}")]
pub struct SinkError(Box<str>);

impl SinkError {
    /// Creates an error from the failure, for the operator. It must not quote a record.
    pub fn new(what: &str) -> Self {
        Self(what.into())
    }
}

/// The state in which an earlier process left its records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Whether the records can be read again, so that the chain must continue.
    pub is_kept: bool,
    /// Sequence number and hash of the last record; `None` if nothing was written yet.
    pub last: Option<Head>,
    /// Requests and jobs with an intent and without a result: each gets its terminal record.
    pub open: Vec<OpenWork>,
    /// Token requests without a result: the request or job, and the number.
    pub open_token_requests: Vec<(OpenWork, u64)>,
    /// Bytes of a torn last record that were removed.
    pub dropped_bytes: u64,
}

impl Resumed {
    /// For a sink that cannot read its records again: each process starts its own chain.
    pub const fn nothing_kept() -> Self {
        Self {
            is_kept: false,
            last: None,
            open: Vec::new(),
            open_token_requests: Vec::new(),
            dropped_bytes: 0,
        }
    }

    /// For a sink that keeps its records: `last` is the last one, `None` if nothing was written
    /// yet. Set the public fields if anything was open.
    pub fn after(last: Option<Head>) -> Self {
        Self { is_kept: true, last, ..Self::nothing_kept() }
    }
}

/// Writes batches of records. Returns only when all of them are durable.
///
/// One task calls it, one batch at a time, in the order of the chain. A failed batch is retried as
/// a whole until it succeeds, so a sink must not keep a part of it.
pub trait AuditSink: Send + Sync + 'static {
    /// Returns where the chain continues. A sink that keeps its records reads them; another one
    /// returns [`Resumed::nothing_kept`].
    ///
    /// # Errors
    /// The written records cannot be read. Every request is refused until they can.
    fn resume(&self) -> impl Future<Output = Result<Resumed, SinkError>> + Send;

    /// Writes a batch.
    ///
    /// # Errors
    /// The batch is not durable. Requests that wait for it are refused, and it is retried.
    ///
    /// # Cancellation
    /// Never dropped before it is ready, except when the process ends. It may block: the log has
    /// its own thread, with a runtime that runs only while a batch is written.
    fn write(&self, records: &Records) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Combines this sink with another one: a record is durable when both have it.
    ///
    /// If both keep their records, both must have stopped at the same one. After a crash between
    /// their two writes, the log logs an error and stays closed: keep both files for the auditor,
    /// and start two new ones.
    fn and<S: AuditSink>(self, other: S) -> TeeSink<Self, S>
    where
        Self: Sized,
    {
        TeeSink::new(self, other)
    }
}
