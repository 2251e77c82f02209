//! Writes to two sinks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::audit_sink::{AuditSink, Resumed, SegmentEnd, SinkError};
use crate::{audit::record::Records, clock::Timestamp};

/// Two sinks; a record is durable when both have it. Created by [`AuditSink::and`].
#[derive(Debug)]
pub struct TeeSink<A, B> {
    first: A,
    second: B,
    /// The sequence number after the last record that the first one has.
    written: AtomicU64,
}

impl<A, B> TeeSink<A, B> {
    pub(super) const fn new(first: A, second: B) -> Self {
        Self { first, second, written: AtomicU64::new(0) }
    }
}

impl<A: AuditSink, B: AuditSink> AuditSink for TeeSink<A, B> {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        let (first, second) = (self.first.resume().await?, self.second.resume().await?);
        match (first.is_kept, second.is_kept) {
            // P293: a chain that continued in only one of them would have a gap in the other.
            (true, true) if first.last != second.last => Err(SinkError::new(
                "its two sinks stopped at different records; keep both, and start two new ones",
            )),
            // P293: one chain has one writer.
            (true, true)
                if matches!((&first.segmented, &second.segmented), (Some(one), Some(other))
                    if one != other) =>
            {
                Err(SinkError::new(
                    "its two folders have different writer names, or chains; give both the same \
                     writer name",
                ))
            }
            (true, true) => {
                let dropped_bytes = first.dropped_bytes.max(second.dropped_bytes);
                let segmented = first.segmented.clone().or(second.segmented);
                Ok(Resumed { dropped_bytes, segmented, ..first })
            }
            (true, false) => Ok(first),
            (false, _) => Ok(second),
        }
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        let next = records.last_sequence().map_or(0, |last| last + 1);
        // P291: a batch that is retried because the second one failed is already in the first one.
        if self.written.load(Ordering::Relaxed) < next {
            self.first.write(records).await?;
            self.written.store(next, Ordering::Relaxed);
        }
        self.second.write(records).await
    }

    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd> {
        // Both see the records of the end, so the segments of both end there.
        self.first.segment_end(now).or_else(|| self.second.segment_end(now))
    }

    fn location(&self) -> String {
        format!("{}; {}", self.first.location(), self.second.location())
    }
}
