//! The trait of sinks.

use super::tee::TeeSink;
use crate::{
    audit::{
        record::{Head, OpenWork, Records},
        segment::WriterName,
    },
    clock::Timestamp,
};

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
    /// The chain, if the sink writes it in segments. `None`: in one piece.
    pub segmented: Option<SegmentedChain>,
}

/// A chain that is written in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these two identify the chain of a segment")]
pub struct SegmentedChain {
    /// The writer, in the name of each segment.
    pub writer: WriterName,
    /// The random name of the chain; `None` if nothing was written yet.
    pub name: Option<[u8; 16]>,
}

/// The end of a segment: what the next segment records again at its beginning, so that it can be
/// continued without those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentEnd {
    /// Requests and jobs with an intent and without a result.
    pub open: Vec<OpenWork>,
    /// Token requests without a result: the request or job, and the number.
    pub open_token_requests: Vec<(OpenWork, u64)>,
}

impl SegmentEnd {
    /// Creates the end of a segment, with what is open then.
    pub const fn new(open: Vec<OpenWork>, open_token_requests: Vec<(OpenWork, u64)>) -> Self {
        Self { open, open_token_requests }
    }
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
            segmented: None,
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

    /// Returns what is open if a segment ends here. Called before each batch that a process writes
    /// between its first record and its last one, with the time of the log's clock; it must not
    /// block. After `Some`, the next batch begins with `close`, `open` and a `carried` for each
    /// that is open. The default is `None`: one piece.
    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd> {
        let _ = now;
        None
    }

    /// Returns the place of the records for the log, which reports it at the start: a file's
    /// absolute path. The default is the name of the type.
    fn location(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }

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
