//! A sink with its type erased.

use std::{fmt, pin::Pin, sync::Arc};

use super::audit_sink::{AuditSink, Resumed, SegmentEnd, SinkError};
use crate::{audit::record::Records, clock::Timestamp};

/// A sink with its type erased, for sinks chosen by configuration. Cheap to clone.
#[derive(Clone)]
pub struct BoxAuditSink(Arc<dyn ErasedAuditSink>);

impl BoxAuditSink {
    /// Erases the type of a sink.
    pub fn new(sink: impl AuditSink) -> Self {
        Self(Arc::new(sink))
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

trait ErasedAuditSink: Send + Sync {
    fn resume(&self) -> Boxed<'_, Resumed>;
    fn write<'a>(&'a self, records: &'a Records) -> Boxed<'a, ()>;
    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd>;
    fn location(&self) -> String;
}

impl<S: AuditSink> ErasedAuditSink for S {
    fn resume(&self) -> Boxed<'_, Resumed> {
        Box::pin(S::resume(self))
    }

    fn write<'a>(&'a self, records: &'a Records) -> Boxed<'a, ()> {
        Box::pin(S::write(self, records))
    }

    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd> {
        S::segment_end(self, now)
    }

    fn location(&self) -> String {
        S::location(self)
    }
}

impl AuditSink for BoxAuditSink {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        self.0.resume().await
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        self.0.write(records).await
    }

    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd> {
        self.0.segment_end(now)
    }

    fn location(&self) -> String {
        self.0.location()
    }
}

impl fmt::Debug for BoxAuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxAuditSink")
    }
}
