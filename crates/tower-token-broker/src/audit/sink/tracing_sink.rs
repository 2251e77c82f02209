//! Emits records as tracing events.

use super::audit_sink::{AuditSink, Resumed, SinkError};
use crate::audit::record::Records;

/// Emits one tracing event per record, at level `info` with target `token_broker::audit`. As
/// durable as your subscriber: use it together with a file ([`AuditSink::and`]), or where the
/// subscriber stores its events durably.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TracingSink;

impl TracingSink {
    /// Creates the sink.
    pub const fn new() -> Self {
        Self
    }
}

impl AuditSink for TracingSink {
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
