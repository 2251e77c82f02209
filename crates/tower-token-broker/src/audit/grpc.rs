//! The gRPC members of a record: status and message counts.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

use crate::grpc::metadata;

/// Counts the messages of one call. Updated while messages pass, read once at the end.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    came_in: AtomicU64,
    went_out: AtomicU64,
}

/// The outcome of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcResult {
    pub(super) status: Option<u64>,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
}

impl Counts {
    /// Sets the number of messages received from the client so far.
    pub(crate) fn came_in(&self, so_far: u64) {
        self.came_in.store(so_far, Ordering::Relaxed);
    }

    /// Sets the number of messages passed on to the client so far.
    pub(crate) fn went_out(&self, so_far: u64) {
        self.went_out.store(so_far, Ordering::Relaxed);
    }

    pub(super) fn result(&self, status: Option<u64>) -> GrpcResult {
        let (messages_in, messages_out) =
            (self.came_in.load(Ordering::Relaxed), self.went_out.load(Ordering::Relaxed));
        GrpcResult { status, messages_in, messages_out }
    }
}

/// Returns the status in the headers or trailers of a response.
pub(super) fn status_in(fields: &HeaderMap) -> Option<u64> {
    fields.get(metadata::STATUS)?.to_str().ok()?.parse().ok()
}
