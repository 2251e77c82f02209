//! Watches the messages of a streamed request.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use crate::{
    audit::{Counts, Trail},
    body::{Ended, Watch},
    grpc::frame::Scanner,
    refusal::Reason,
    revocation::StandingWatch,
};

/// The reason that ended the request stream, shared with the response. Cheap to clone; clones share
/// the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Tripped(Arc<OnceLock<Reason>>);

impl Tripped {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.0.get().copied()
    }

    fn trip(&self, reason: Reason) {
        // Keep the first reason.
        self.0.get_or_init(|| reason);
    }
}

/// Counts messages, checks their lengths, and ends the stream if its caller was revoked.
// L244: a stream ends when its token is revoked.
pub(super) struct RequestWatch {
    pub(super) scanner: Scanner,
    pub(super) counts: Arc<Counts>,
    pub(super) tripped: Tripped,
    pub(super) trail: Trail,
    pub(super) standing: Option<StandingWatch>,
}

impl RequestWatch {
    /// Ends the stream and records the reason at once, before the upstream responds to half a
    /// request.
    fn trip(&self, reason: Reason) {
        self.tripped.trip(reason);
        self.trail.refused(reason);
    }
}

impl Watch for RequestWatch {
    fn pass(&mut self, data: &Bytes) -> Result<(), Ended> {
        let (_, ended) = self.scanner.pass(data.clone());
        self.counts.came_in(self.scanner.count());
        match ended {
            None => Ok(()),
            Some(error) => {
                self.trip(error.into());
                Err(Ended::Limit)
            }
        }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(standing) = &mut self.standing else { return Poll::Pending };
        let reason = ready!(standing.poll_ended(cx));
        self.trip(reason);
        Poll::Ready(Ended::Cut)
    }
}

impl fmt::Debug for RequestWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestWatch").field("scanner", &self.scanner).finish_non_exhaustive()
    }
}
