//! The trait of a sink, and the sinks that need no file: a tracing event a record, and two sinks as
//! one.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::record::Records;

/// The sink could not make the records as durable as promised. The log keeps them and tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit sink failed: {0}")]
pub struct SinkError(Box<str>);

impl SinkError {
    /// What failed, for the operator: never a record's content.
    pub fn new(what: &str) -> Self {
        Self(what.into())
    }
}

/// Where an earlier process stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Whether the records stay where they can be read again, so that the chain must continue
    /// there.
    pub is_kept: bool,
    /// The last record's number and hash; `None` where nothing was written yet.
    pub last: Option<(u64, [u8; 32])>,
    /// Requests with an intent and without a result: each gets its terminal record.
    pub open_requests: Vec<Box<str>>,
    /// Refreshes without a result, by request and number.
    pub open_refreshes: Vec<(Box<str>, u64)>,
    /// Bytes of a torn last record that were taken off.
    pub dropped_bytes: u64,
}

impl Resumed {
    /// For a sink that cannot read again what it wrote: each process begins a chain of its own.
    pub const fn nothing_kept() -> Self {
        Self {
            is_kept: false,
            last: None,
            open_requests: Vec::new(),
            open_refreshes: Vec::new(),
            dropped_bytes: 0,
        }
    }

    /// For a sink that keeps its records: `last` is the number and hash of its last one, `None`
    /// where nothing was written yet. Set the public fields for what was open.
    pub fn after(last: Option<(u64, [u8; 32])>) -> Self {
        Self { is_kept: true, last, ..Self::nothing_kept() }
    }
}

/// Takes a group of records; returns only when all of them are as durable as promised.
///
/// One owned task calls it, one group at a time, in the order of the chain. A group that failed
/// comes again, whole, until it is written: a sink must not keep half of it.
pub trait AuditSink: Send + Sync + 'static {
    /// Where the chain continues. A sink that keeps its records reads them; one that does not says
    /// so ([`Resumed::nothing_kept`]).
    ///
    /// # Errors
    /// What is written cannot be read: no request is let through until it can.
    fn resume(&self) -> impl Future<Output = Result<Resumed, SinkError>> + Send;

    /// Writes a group.
    ///
    /// # Errors
    /// The group is not durable: requests that wait for it are refused, and it comes again.
    ///
    /// # Cancellation
    /// It is never dropped before its end but with the process. It may block: the log has a thread
    /// of its own, with a runtime that runs while a group is written, and rests in between.
    fn write(&self, records: &Records) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// This sink and another one: a record is durable when both have it. The chain goes on where
    /// they stopped: two that keep their records must have stopped at the same one. Where a crash
    /// came in between, the log says so and stays closed: keep both files for the auditor, and
    /// begin two new ones.
    fn and<S: AuditSink>(self, other: S) -> Both<Self, S>
    where
        Self: Sized,
    {
        Both { first: self, second: other, taken: AtomicU64::new(0) }
    }
}

/// Two sinks as one. See [`AuditSink::and`].
#[derive(Debug)]
pub struct Both<A, B> {
    first: A,
    second: B,
    /// The number behind the last record that the first one has.
    taken: AtomicU64,
}

impl<A: AuditSink, B: AuditSink> AuditSink for Both<A, B> {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        let (first, second) = (self.first.resume().await?, self.second.resume().await?);
        match (first.is_kept, second.is_kept) {
            // P293: a chain that went on in one of them alone would have a gap in the other.
            (true, true) if first.last != second.last => Err(SinkError::new(
                "its two sinks stopped at different records; keep both, and begin two new ones",
            )),
            (true, true) => {
                let dropped_bytes = first.dropped_bytes.max(second.dropped_bytes);
                Ok(Resumed { dropped_bytes, ..first })
            }
            (true, false) => Ok(first),
            (false, _) => Ok(second),
        }
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        let behind = records.last_sequence().map_or(0, |last| last + 1);
        // P291: a group that comes again because the second one failed stands in the first one
        // already.
        if self.taken.load(Ordering::Relaxed) < behind {
            self.first.write(records).await?;
            self.taken.store(behind, Ordering::Relaxed);
        }
        self.second.write(records).await
    }
}

/// One tracing event a record, at level `info` with target `token_broker::audit`. As durable as
/// your subscriber: use it beside a file ([`AuditSink::and`]), or where the subscriber's end is the
/// durable place.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Tracing;

impl Tracing {
    /// Nothing is to be chosen.
    pub const fn new() -> Self {
        Self
    }
}

impl AuditSink for Tracing {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(Resumed::nothing_kept())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        for record in records.iter() {
            let line = std::str::from_utf8(record.line())
                .map_err(|_| SinkError::new("a record is not UTF-8"))?;
            tracing::info!(target: "token_broker::audit", sequence = record.sequence(), "{line}");
        }
        Ok(())
    }
}

/// A sink whose type was erased: for sinks that configuration chooses. Cheap to clone.
#[derive(Clone)]
pub struct BoxAuditSink(Arc<dyn ErasedAuditSink>);

impl BoxAuditSink {
    /// Erases the type of this sink.
    pub fn new(sink: impl AuditSink) -> Self {
        Self(Arc::new(sink))
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

trait ErasedAuditSink: Send + Sync {
    fn resume(&self) -> Boxed<'_, Resumed>;
    fn write<'a>(&'a self, records: &'a Records) -> Boxed<'a, ()>;
}

impl<S: AuditSink> ErasedAuditSink for S {
    fn resume(&self) -> Boxed<'_, Resumed> {
        Box::pin(S::resume(self))
    }

    fn write<'a>(&'a self, records: &'a Records) -> Boxed<'a, ()> {
        Box::pin(S::write(self, records))
    }
}

impl AuditSink for BoxAuditSink {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        self.0.resume().await
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        self.0.write(records).await
    }
}

impl fmt::Debug for BoxAuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxAuditSink")
    }
}
