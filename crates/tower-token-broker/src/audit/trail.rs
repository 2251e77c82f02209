//! The trail of one request: what is known of it so far, and the proofs that its intents are
//! durable.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use http::StatusCode;
use parking_lot::Mutex;

use super::{
    log::{AuditError, AuditLog, Shared},
    open::Slot,
    queue::Place,
    record::{Event, Intent, Operation, Outcome, RefreshOutcome, RequestResult},
};
use crate::{
    clock::Timestamp,
    principal::{Principal, Resource},
    refusal::Reason,
    request_id::{OuterRequestId, RequestId, random_bits},
};

/// What is known so far of one request. Found in the extensions; made by the audit layer alone.
/// Cheap to clone: whoever keeps a clone keeps nothing waiting.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

/// A trail that keeps nothing alive.
pub(super) type WeakTrail = Weak<Inner>;

pub(super) struct Inner {
    log: Arc<Shared>,
    request: RequestId,
    started: Timestamp,
    resource: Option<Resource>,
    peer: Option<SocketAddr>,
    outer_request: Option<OuterRequestId>,
    /// Bytes of the response's body that were passed on.
    answer_bytes: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Where the terminal record goes; none once it is written.
    place: Option<Place>,
    slot: Option<Slot>,
    status: Option<StatusCode>,
    #[cfg(feature = "grpc")]
    grpc_status: Option<u64>,
    principal: Option<Principal>,
    operation: Option<Operation>,
    rule: Option<Arc<str>>,
    refused: Option<Reason>,
    cut: Option<Reason>,
    intents: u32,
    uses: u32,
    echo_masked: u64,
    ended: bool,
    #[cfg(feature = "grpc")]
    grpc: Option<Arc<super::grpc::Counts>>,
}

impl Trail {
    /// A new request, and the guard that writes its terminal record whatever becomes of it.
    pub(super) fn begin(
        log: &AuditLog,
        resource: Option<Resource>,
        peer: Option<SocketAddr>,
        outer_request: Option<OuterRequestId>,
    ) -> Result<(Self, Terminal), AuditError> {
        let place = log.0.place()?;
        let trail = Self(Arc::new(Inner {
            log: Arc::clone(&log.0),
            request: RequestId::from_bits(random_bits()),
            started: log.0.clock.now(),
            resource,
            peer,
            outer_request,
            answer_bytes: AtomicU64::new(0),
            known: Mutex::new(Known { place: Some(place), ..Known::default() }),
        }));
        let slot = log.0.open_requests.enter(&trail.0);
        trail.0.known.lock().slot = Some(slot);
        let terminal = Terminal { trail: trail.clone() };
        Ok((trail, terminal))
    }

    /// A trail for the tests of a provider; its terminal record is written when the second value is
    /// dropped.
    ///
    /// # Panics
    /// If the log is closed.
    #[cfg(any(test, feature = "test-util"))]
    pub fn for_test(log: &AuditLog) -> (Self, Terminal) {
        Self::begin(log, None, None, None).expect("a log that is open")
    }

    /// The request's id.
    pub fn request_id(&self) -> RequestId {
        self.0.request
    }

    /// Who it is.
    pub(crate) fn identified(&self, principal: &Principal) {
        self.0.known.lock().principal = Some(principal.clone());
    }

    /// What was asked for.
    pub(crate) fn judged(&self, operation: &Operation) {
        self.0.known.lock().operation = Some(operation.clone());
    }

    /// The rule that decided.
    pub(crate) fn decided_by(&self, rule: &Arc<str>) {
        self.0.known.lock().rule = Some(Arc::clone(rule));
    }

    /// It was refused; the first reason stays.
    pub(crate) fn refused(&self, reason: Reason) {
        let is_first = {
            let mut known = self.0.known.lock();
            let is_first = known.refused.is_none();
            known.refused.get_or_insert(reason);
            is_first
        };
        if is_first {
            tracing::info!(request.id = %self.0.request, refusal.reason = reason.code(), "refused");
        }
    }

    /// Its stream was cut.
    pub(crate) fn cut(&self, reason: Reason) {
        tracing::info!(request.id = %self.0.request, refusal.reason = reason.code(), "cut");
        self.0.known.lock().cut.get_or_insert(reason);
    }

    /// It is a gRPC call, whose messages are counted.
    #[cfg(feature = "grpc")]
    pub(crate) fn grpc(&self) -> Arc<super::grpc::Counts> {
        Arc::clone(self.0.known.lock().grpc.get_or_insert_default())
    }

    #[cfg(feature = "grpc")]
    pub(super) fn now(&self) -> Timestamp {
        self.0.log.clock.now()
    }

    #[cfg(feature = "grpc")]
    pub(super) fn started(&self) -> Timestamp {
        self.0.started
    }

    /// The upstream echoed the credential so many times; it was masked.
    pub(crate) fn echo_masked(&self, times: u64) {
        let mut known = self.0.known.lock();
        known.echo_masked = known.echo_masked.saturating_add(times);
    }

    /// Writes that a credential is about to be sent, and waits until that is durable. The record of
    /// an intent whose request has ended (a handler that works on after its client has gone) says
    /// so.
    ///
    /// # Errors
    /// The record could not be made durable in time: nothing may be sent.
    ///
    /// # Cancellation
    /// Dropped, the intent may stand in the log; the request's result says that nothing was used.
    pub async fn intent(&self, intent: Intent<'_>) -> Result<Receipt, AuditError> {
        let written = {
            // Under one lock with the end of the request: an intent stands before its result, or
            // says that it is late.
            let mut known = self.0.known.lock();
            let (principal, is_late) = (known.principal.as_ref(), known.ended);
            let event =
                Event::Intent { request: self.0.request, is_late, principal, intent: &intent };
            let written = self.0.log.enqueue(&event)?;
            known.intents += 1;
            written
        };
        self.0.log.durable(written).await?;
        Ok(Receipt(self.clone()))
    }

    /// Writes that a refresh token is about to be sent, and waits until that is durable.
    ///
    /// # Errors
    /// As [`Trail::intent`].
    ///
    /// # Cancellation
    /// Dropped before it is durable, the intent may stand in the log; its result says that the
    /// outcome is unknown.
    pub async fn refresh_intent(&self, intent: Intent<'_>) -> Result<RefreshReceipt, AuditError> {
        let refresh = self.0.log.next_refresh();
        let place = self.0.log.place()?;
        // Made before the write: whatever becomes of this future, the intent has its result.
        let receipt = RefreshReceipt { trail: self.clone(), refresh, place: Some(place) };
        let written = {
            let known = self.0.known.lock();
            let principal = known.principal.as_ref();
            self.0.log.enqueue(&Event::RefreshIntent {
                request: self.0.request,
                refresh,
                principal,
                intent: &intent,
            })?
        };
        self.0.log.durable(written).await?;
        Ok(receipt)
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("request", &self.0.request).finish_non_exhaustive()
    }
}

/// Proof that the intent to send one credential is durable. The one function that sets a credential
/// takes it by value.
#[derive(Debug)]
#[must_use = "a receipt that is not used says that nothing was sent"]
pub struct Receipt(Trail);

impl Receipt {
    /// The credential was put on the request.
    pub(crate) fn used(self) {
        self.0.0.known.lock().uses += 1;
    }
}

/// Proof that the intent to refresh is durable. Dropped without an outcome, the record says that it
/// is unknown.
#[must_use = "dropped, the record says that the outcome is unknown"]
pub struct RefreshReceipt {
    trail: Trail,
    refresh: u64,
    place: Option<Place>,
}

impl RefreshReceipt {
    /// How it came out.
    pub fn finish(mut self, outcome: RefreshOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: RefreshOutcome) {
        if let Some(place) = self.place.take() {
            let request = self.trail.0.request;
            self.trail
                .0
                .log
                .settle(place, &Event::RefreshResult { request, refresh: self.refresh, outcome });
        }
    }
}

impl Drop for RefreshReceipt {
    fn drop(&mut self) {
        self.settle(RefreshOutcome::Unknown);
    }
}

impl fmt::Debug for RefreshReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshReceipt").field("refresh", &self.refresh).finish_non_exhaustive()
    }
}

/// Owes the log the terminal record of one request: written when the answer has ended, or when this
/// is dropped.
#[must_use = "dropped, the record says that the request was dropped"]
pub struct Terminal {
    trail: Trail,
}

impl Terminal {
    /// The answer's head is known; `refused` if it is a refusal, also one that nobody noted in the
    /// trail.
    pub(super) fn answered(&mut self, status: StatusCode, refused: Option<Reason>) {
        self.trail.0.known.lock().status = Some(status);
        if let Some(reason) = refused {
            self.trail.refused(reason);
        }
    }

    /// The fields of a gRPC answer's head, or its trailers: the last status that stands there is
    /// the call's.
    #[cfg(feature = "grpc")]
    pub(super) fn grpc_fields(&mut self, fields: &http::HeaderMap) {
        if let Some(status) = super::grpc::status_in(fields) {
            self.trail.0.known.lock().grpc_status = Some(status);
        }
    }

    pub(super) fn passed(&mut self, bytes: usize) {
        // Of one body alone, and read when it is over.
        self.trail.0.answer_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Writes the record, the first time it is called. What the layers inside found out counts more
    /// than how the body ended.
    pub(super) fn settle(&mut self, ended: Outcome) {
        self.trail.settle(ended);
    }
}

impl Trail {
    pub(super) fn upgrade(weak: &WeakTrail) -> Option<Self> {
        weak.upgrade().map(Self)
    }

    /// Writes the record of a request that is still open at the end of a shutdown.
    pub(super) fn settle_as_cut(&self, reason: Reason) {
        let is_open = self.0.known.lock().place.is_some();
        if is_open {
            self.cut(reason);
            self.settle(Outcome::Cut);
        }
    }

    fn settle(&self, ended: Outcome) {
        let inner = &self.0;
        let mut known = inner.known.lock();
        let Some(place) = known.place.take() else { return };
        known.ended = true;
        let slot = known.slot.take();
        let (outcome, reason) = match (known.cut, known.refused) {
            (Some(reason), _) => (Outcome::Cut, Some(reason)),
            (None, Some(reason)) => (Outcome::Refused, Some(reason)),
            (None, None) => (ended, None),
        };
        let result = RequestResult {
            request: inner.request,
            started: inner.started,
            resource: inner.resource.as_ref(),
            peer: inner.peer,
            outer_request: inner.outer_request.as_ref().map(OuterRequestId::as_str),
            principal: known.principal.as_ref(),
            operation: known.operation.as_ref(),
            rule: known.rule.as_deref(),
            outcome,
            reason,
            status: known.status,
            intents: known.intents,
            uses: known.uses,
            echo_masked: known.echo_masked,
            answer_bytes: inner.answer_bytes.load(Ordering::Relaxed),
            // A call that was refused before its messages were looked at has a status, too.
            #[cfg(feature = "grpc")]
            grpc: known.grpc.as_deref().map(|counts| counts.result(known.grpc_status)).or_else(
                || {
                    let status = known.grpc_status?;
                    Some(super::grpc::Counts::default().result(Some(status)))
                },
            ),
        };
        // Under the lock still: an intent that comes behind this one is late.
        inner.log.settle(place, &Event::Result(&result));
        drop(known);
        if let Some(slot) = slot {
            inner.log.open_requests.leave(slot);
        }
    }
}

impl Inner {
    /// A byte that differs from request to request.
    pub(super) const fn id_byte(&self) -> u8 {
        let [first, ..] = *self.request.as_bits();
        first
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.settle(Outcome::Dropped);
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("trail", &self.trail).finish_non_exhaustive()
    }
}
