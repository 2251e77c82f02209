//! What a record says of a gRPC call: its status, and how many messages went each way.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

use super::trail::Trail;
use crate::grpc::metadata;

/// Counts the messages of one call. Written while they pass, read once at the end.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    came_in: AtomicU64,
    went_out: AtomicU64,
}

/// How a gRPC call came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcResult {
    pub(super) status: Option<u64>,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
}

impl Counts {
    /// So many messages of the client so far.
    pub(crate) fn came_in(&self, so_far: u64) {
        self.came_in.store(so_far, Ordering::Relaxed);
    }

    /// So many messages were passed on to the client so far.
    pub(crate) fn went_out(&self, so_far: u64) {
        self.went_out.store(so_far, Ordering::Relaxed);
    }

    pub(super) fn result(&self, status: Option<u64>) -> GrpcResult {
        let (messages_in, messages_out) =
            (self.came_in.load(Ordering::Relaxed), self.went_out.load(Ordering::Relaxed));
        GrpcResult { status, messages_in, messages_out }
    }
}

/// The status in the head or in the trailers of an answer.
pub(super) fn status_in(fields: &HeaderMap) -> Option<u64> {
    fields.get(metadata::STATUS)?.to_str().ok()?.parse().ok()
}

impl Trail {
    /// How long ago the request came in, by the log's own clock.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        let (now, started) = (self.now().unix_millis(), self.started().unix_millis());
        std::time::Duration::from_millis(now.saturating_sub(started))
    }
}
