//! The trail of one request or background job, and the proofs that its intents are durable.

use std::{
    fmt, mem,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use http::StatusCode;
use parking_lot::Mutex;

use super::{
    log::{AuditError, AuditLog, Counted, NoPlace, OpenRequest, Place, Shared, Slot},
    record::{
        Event, GrantType, Intent, Operation, Outcome, PolicyDigest, RequestResult, TokenOutcome,
        Work,
    },
};
use crate::{
    clock::Timestamp,
    limits::Limits,
    principal::{Principal, Resource},
    refusal::Reason,
    request_id::{OuterRequestId, RequestId, random_bits},
    revocation::Standing,
    upload::{End, Owner, Upload},
};

/// The audit context of one request or background job. The audit layer inserts that of a request
/// into its extensions; [`AuditLog::job`] creates that of a job. Cheap to clone. A clone that is
/// kept delays no record.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    log: Arc<Shared>,
    work: Work,
    started: Timestamp,
    #[cfg(feature = "grpc")]
    begun: crate::clock::Moment,
    resource: Option<Resource>,
    peer: Option<SocketAddr>,
    outer_request: Option<OuterRequestId>,
    /// Bytes of the response body that were passed on.
    response_bytes: AtomicU64,
    known: Mutex<Known>,
}

/// Facts that the layers report while the request runs.
#[derive(Default)]
struct Known {
    /// The place of the terminal record; `None` once it is written.
    place: Option<Place>,
    slot: Option<Slot>,
    status: Option<StatusCode>,
    #[cfg(feature = "grpc")]
    grpc_status: Option<u64>,
    principal: Option<Principal>,
    /// Whether the principal is verified. A refused token may name one, too.
    is_verified: bool,
    operation: Option<Operation>,
    rule: Option<Arc<str>>,
    policy: Option<PolicyDigest>,
    refused: Option<Reason>,
    cut: Option<Reason>,
    /// The reason for which a part of the response was left out.
    withheld: Option<Reason>,
    /// The requests that were sent, until they are over.
    uploads: Vec<Upload>,
    /// The reason for which an upload was ended before its end.
    upload_end: Option<End>,
    /// The outcome, while the response is over and an upload is not.
    response_ended: Option<Outcome>,
    intents: u32,
    uses: u32,
    echo_masked: u64,
    ended: bool,
    #[cfg(feature = "grpc")]
    grpc: Option<Arc<super::grpc::Counts>>,
}

/// Facts about a request that the audit layer knows before it calls the inner service.
#[derive(Debug, Default)]
pub(super) struct RequestFacts {
    pub(super) resource: Option<Resource>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) outer_request: Option<OuterRequestId>,
}

impl Trail {
    /// Opens the trail of a request. The guard writes the terminal record, whatever happens.
    pub(super) fn begin(
        log: &AuditLog,
        facts: RequestFacts,
    ) -> Result<(Self, Terminal), AuditError> {
        let place = log.0.place_of_request()?;
        Ok(Self::open(log, place, Work::Request(RequestId::from_bits(random_bits())), facts))
    }

    /// Creates the ID of a request that has no trail.
    pub(super) fn unrecorded_id() -> RequestId {
        RequestId::from_bits(random_bits())
    }

    /// Opens the trail of a background job. The guard writes the terminal record.
    fn begin_job(log: &AuditLog, name: &'static str) -> Result<(Self, Terminal), AuditError> {
        let place = log.0.place_of_job()?;
        let work = Work::Job { id: RequestId::from_bits(random_bits()), name };
        Ok(Self::open(log, place, work, RequestFacts::default()))
    }

    fn open(log: &AuditLog, place: Place, work: Work, facts: RequestFacts) -> (Self, Terminal) {
        let now = log.0.clock.read();
        let trail = Self(Arc::new(Inner {
            log: Arc::clone(&log.0),
            work,
            started: now.wall,
            #[cfg(feature = "grpc")]
            begun: now.moment,
            resource: facts.resource,
            peer: facts.peer,
            outer_request: facts.outer_request,
            response_bytes: AtomicU64::new(0),
            known: Mutex::new(Known { place: Some(place), ..Known::default() }),
        }));
        let inner: Weak<Inner> = Arc::downgrade(&trail.0);
        let slot = log.0.open_requests.enter(work.id(), inner);
        trail.0.known.lock().slot = Some(slot);
        let terminal = Terminal { trail: trail.clone() };
        (trail, terminal)
    }

    /// Opens a trail for the tests of a provider. The terminal record is written when the second
    /// value is dropped.
    ///
    /// # Panics
    /// If the log is closed.
    #[cfg(any(test, feature = "test-util"))]
    pub fn for_test(log: &AuditLog) -> (Self, Terminal) {
        Self::begin(log, RequestFacts::default()).expect("a log that is open")
    }

    /// Returns the ID of the request or job.
    pub fn request_id(&self) -> RequestId {
        self.0.work.id()
    }

    /// Adds the caller that a refused token names.
    pub(crate) fn identified(&self, principal: &Principal) {
        self.0.known.lock().principal = Some(principal.clone());
    }

    /// Adds the verified caller, and moves the place of the result into the caller's quota.
    ///
    /// # Errors
    /// The user has no place left, or no user has: the request must be refused.
    // P382.
    pub(crate) fn admitted(&self, principal: &Principal) -> Result<(), Reason> {
        let mut known = self.0.known.lock();
        known.principal = Some(principal.clone());
        known.is_verified = true;
        // Without a place, the result was written, at the end of a shutdown.
        let moved = known.place.as_mut().map_or(Ok(()), |place| place.identify(principal.user()));
        moved.map_err(|no_place| match no_place {
            NoPlace::Quota => Reason::UserQuota,
            NoPlace::Full => Reason::AuditUnavailable,
        })
    }

    /// Adds the requested operation.
    pub(crate) fn judged(&self, operation: &Operation) {
        self.0.known.lock().operation = Some(operation.clone());
    }

    /// Adds the decision: the rule, if it has an ID, and the digest of the policy, if it has one.
    pub(crate) fn decided_by(&self, rule: Option<&Arc<str>>, policy: Option<PolicyDigest>) {
        let mut known = self.0.known.lock();
        known.rule = rule.cloned();
        known.policy = policy;
    }

    /// Adds the reason of a refusal. The first one counts.
    pub(crate) fn refused(&self, reason: Reason) {
        let is_first = {
            let mut known = self.0.known.lock();
            let is_first = known.refused.is_none();
            known.refused.get_or_insert(reason);
            is_first
        };
        if is_first {
            let id = self.request_id();
            tracing::info!(request.id = %id, refusal.reason = reason.code(), "refused");
        }
    }

    /// Adds the reason for which the stream was cut.
    pub(crate) fn cut(&self, reason: Reason) {
        tracing::info!(request.id = %self.request_id(), refusal.reason = reason.code(), "cut");
        self.0.known.lock().cut.get_or_insert(reason);
    }

    /// Adds the reason for which a part of the response was left out. The first one counts, and a
    /// refusal or cut takes precedence.
    pub(crate) fn withheld(&self, reason: Reason) {
        self.0.known.lock().withheld.get_or_insert(reason);
    }

    /// Opens the upload of a request that is about to be sent. `has_body` is whether it has a body.
    /// The result of this request waits for the upload's end.
    pub(crate) fn upload(
        &self,
        standing: Option<&Standing>,
        limits: &Limits,
        has_body: bool,
    ) -> Upload {
        let owner: Weak<Inner> = Arc::downgrade(&self.0);
        let upload = Upload::open(standing, owner, limits, has_body);
        // A request that is sent after the result is late. Its standing ends it.
        let mut known = self.0.known.lock();
        if !known.ended {
            // A handler may send many.
            known.uploads.retain(|upload| !upload.is_over());
            known.uploads.push(upload.clone());
            // Opened after the response, while another upload continues.
            if known.response_ended.is_some() {
                upload.start_grace();
            }
        }
        drop(known);
        upload
    }

    /// Returns the message counts of a gRPC call.
    #[cfg(feature = "grpc")]
    pub(crate) fn grpc(&self) -> Arc<super::grpc::Counts> {
        Arc::clone(self.0.known.lock().grpc.get_or_insert_default())
    }

    /// Returns the time since the request came in, by the clock of the log.
    #[cfg(feature = "grpc")]
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.0.begun.until(self.0.log.clock.moment())
    }

    /// Counts echoes of the credential that were masked in the response.
    pub(crate) fn echo_masked(&self, times: u64) {
        let mut known = self.0.known.lock();
        known.echo_masked = known.echo_masked.saturating_add(times);
    }

    /// Records that a credential is about to be sent, and waits until the record is durable. If the
    /// request has ended (a handler that continues after its client has disconnected), the record
    /// has the member `late`.
    ///
    /// # Errors
    /// The record could not be made durable in time: nothing may be sent.
    ///
    /// # Cancellation
    /// If dropped, the intent may be in the log. The request's result then reports no use.
    pub async fn intent(&self, intent: Intent<'_>) -> Result<Receipt, AuditError> {
        let (written, is_late) = {
            // Under one lock with the end of the request: an intent is either before its result or
            // marked as late.
            let mut known = self.0.known.lock();
            let (principal, is_late) = (known.principal.as_ref(), known.ended);
            let event = Event::Intent { work: self.0.work, is_late, principal, intent: &intent };
            let place = match &known.place {
                Some(place) => place.another()?,
                None => self.0.log.late_place(principal)?,
            };
            let written = self.0.log.enqueue(place, &event)?;
            known.intents += 1;
            (written, is_late)
        };
        self.0.log.durable(written).await?;
        Ok(Receipt { trail: self.clone(), is_late })
    }

    /// Records that a request is about to be sent to a token endpoint, and waits until the record
    /// is durable.
    ///
    /// # Errors
    /// As for [`Trail::intent`].
    ///
    /// # Cancellation
    /// If dropped before the record is durable, the record may be in the log. Its result then
    /// reports an unknown outcome.
    pub async fn token_request(
        &self,
        grant_type: GrantType,
        intent: Intent<'_>,
    ) -> Result<TokenReceipt, AuditError> {
        let number = self.0.log.next_token_request();
        let place_of_result = self.0.log.place_of_token_request()?;
        let place = self.0.log.place_of_token_request()?;
        let written = {
            let known = self.0.known.lock();
            let principal = known.principal.as_ref();
            let event = Event::TokenRequest {
                work: self.0.work,
                number,
                grant_type,
                principal,
                intent: &intent,
            };
            self.0.log.enqueue(place, &event)?
        };
        // Created before the wait, so that the request has a result whatever happens to this
        // future.
        let receipt = TokenReceipt { trail: self.clone(), number, place: Some(place_of_result) };
        self.0.log.durable(written).await?;
        Ok(receipt)
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("request", &self.request_id()).finish_non_exhaustive()
    }
}

/// Proof that the intent to send one credential is durable. The function that sets the credential
/// takes it by value.
#[derive(Debug)]
#[must_use = "if it is dropped, the result reports that nothing was sent"]
pub struct Receipt {
    trail: Trail,
    is_late: bool,
}

impl Receipt {
    /// Records that the credential is set on the request.
    ///
    /// # Errors
    /// The result of the request has been written since the intent, and it does not count this use:
    /// the credential must not be set. A new intent is late, and counts as a use.
    pub(crate) fn used(self) -> Result<(), AuditError> {
        let mut known = self.trail.0.known.lock();
        if known.ended && !self.is_late {
            return Err(AuditError);
        }
        known.uses += 1;
        Ok(())
    }
}

/// Proof that the intent to call a token endpoint is durable.
#[must_use = "if it is dropped, the record reports an unknown outcome"]
pub struct TokenReceipt {
    trail: Trail,
    number: u64,
    place: Option<Place>,
}

impl TokenReceipt {
    /// Records the outcome.
    pub fn finish(mut self, outcome: TokenOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: TokenOutcome) {
        if let Some(place) = self.place.take() {
            let inner = &self.trail.0;
            let event = Event::TokenResult { work: inner.work, number: self.number, outcome };
            inner.log.settle(place, &event);
        }
    }
}

impl Drop for TokenReceipt {
    fn drop(&mut self) {
        self.settle(TokenOutcome::Unknown);
    }
}

impl fmt::Debug for TokenReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReceipt").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A background job that uses credentials or obtains them, without a request. It has one terminal
/// record, `job_result`; see [`AuditLog::job`].
#[derive(Debug)]
#[must_use = "if it is dropped, the record reports a dropped job"]
pub struct Job {
    trail: Trail,
    terminal: Terminal,
}

impl Job {
    /// Returns the trail, for the calls that need one.
    pub const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Records that the job did its work.
    pub fn complete(mut self) {
        self.terminal.settle(Outcome::Completed);
    }

    /// Records that the job failed.
    pub fn fail(mut self) {
        self.terminal.settle(Outcome::Failed);
    }
}

impl AuditLog {
    /// Starts a background job with this name, such as `grants.refresh_ahead`. The records of its
    /// intents and token requests have the members `job` and `job_name` instead of `request`.
    ///
    /// # Errors
    /// The log is closed or full: nothing may be used.
    pub fn job(&self, name: &'static str) -> Result<Job, AuditError> {
        let (trail, terminal) = Trail::begin_job(self, name)?;
        Ok(Job { trail, terminal })
    }
}

/// Guard for the terminal record of one request. The record is written when the response has ended,
/// or when the guard is dropped.
#[must_use = "if it is dropped, the record reports a dropped request"]
pub struct Terminal {
    trail: Trail,
}

impl Terminal {
    /// Adds the response's status, and its reason if it is a refusal that no layer reported.
    pub(super) fn responded(&mut self, status: StatusCode, refused: Option<Reason>) {
        self.trail.0.known.lock().status = Some(status);
        if let Some(reason) = refused {
            self.trail.refused(reason);
        }
    }

    /// Adds the gRPC status in the headers or trailers of a response. The last one counts.
    #[cfg(feature = "grpc")]
    pub(super) fn grpc_fields(&mut self, fields: &http::HeaderMap) {
        if let Some(status) = super::grpc::status_in(fields) {
            self.trail.0.known.lock().grpc_status = Some(status);
        }
    }

    pub(super) fn passed(&mut self, bytes: usize) {
        // Written by one body, and read when it has ended.
        self.trail.0.response_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns whether the place of the result belongs to no share.
    pub(super) fn is_passing(&self) -> bool {
        self.trail.0.known.lock().place.as_ref().is_some_and(Place::is_passing)
    }

    /// Writes the record of a refusal, with the length of its body.
    pub(super) fn refused(&mut self, body: u64) {
        self.trail.0.response_bytes.store(body, Ordering::Relaxed);
        self.settle(Outcome::Refused);
    }

    /// Ends the response. The record is written when the uploads are over, too. A refusal or cut
    /// that a layer reported takes precedence over how the body ended.
    pub(super) fn settle(&mut self, ended: Outcome) {
        self.trail.0.response_ended(ended);
    }
}

impl Inner {
    /// Settles the request when its response is over. A complete response leaves its uploads some
    /// time, except in gRPC, where a server that has responded needs no more.
    fn response_ended(&self, ended: Outcome) {
        let uploads = {
            let mut known = self.known.lock();
            if known.place.is_none() || known.response_ended.is_some() {
                return;
            }
            known.uploads.retain(|upload| !upload.is_over());
            let may_continue = ended == Outcome::Completed && !known.ends_uploads();
            if may_continue && !known.uploads.is_empty() {
                known.response_ended = Some(ended);
                known.uploads.iter().for_each(Upload::start_grace);
                return;
            }
            mem::take(&mut known.uploads)
        };
        // Ended before the record is written.
        uploads.iter().for_each(Upload::abandon);
        self.settle(ended);
    }

    fn settle(&self, ended: Outcome) {
        let mut known = self.known.lock();
        let Some(place) = known.place.take() else { return };
        known.ended = true;
        let slot = known.slot.take();
        let (outcome, reason) = known.outcome(ended);
        if place.is_passing() {
            // No record without a share: a flood would fill the queue.
            self.log.count(Counted::Refused(reason.unwrap_or(Reason::AuditUnavailable)));
            drop(known);
            return self.leave(slot);
        }
        match self.work {
            Work::Request(request) => {
                // M257: a flood would fill the disk. Counted before the place is released, for
                // which the end of the log waits.
                let counted = known.may_be_counted(outcome, reason);
                if let Some(counted) = counted.filter(|_| !self.log.may_record(self.peer)) {
                    drop(known);
                    self.log.count_in_flood(counted);
                    drop(place);
                    return self.leave(slot);
                }
                let result = self.result(request, &known, outcome, reason);
                // Still under the lock: an intent after this record is late.
                self.log.settle(place, &Event::Result(&result));
            }
            work @ Work::Job { .. } => {
                let (started, intents, uses) = (self.started, known.intents, known.uses);
                let result = Event::JobResult { work, started, outcome, intents, uses };
                self.log.settle(place, &result);
            }
        }
        drop(known);
        self.leave(slot);
    }

    fn leave(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.log.open_requests.leave(slot);
        }
    }

    fn result<'a>(
        &'a self,
        request: RequestId,
        known: &'a Known,
        outcome: Outcome,
        reason: Option<Reason>,
    ) -> RequestResult<'a> {
        RequestResult {
            request,
            started: self.started,
            resource: self.resource.as_ref(),
            peer: self.peer,
            outer_request: self.outer_request.as_ref().map(OuterRequestId::as_str),
            principal: known.principal.as_ref(),
            operation: known.operation.as_ref(),
            rule: known.rule.as_deref(),
            policy: known.policy,
            outcome,
            reason,
            status: known.status,
            intents: known.intents,
            uses: known.uses,
            echo_masked: known.echo_masked,
            response_bytes: self.response_bytes.load(Ordering::Relaxed),
            // A call that was refused before its messages were read has a status, too.
            #[cfg(feature = "grpc")]
            grpc: known.grpc.as_deref().map(|counts| counts.result(known.grpc_status)).or_else(
                || {
                    let status = known.grpc_status?;
                    Some(super::grpc::Counts::default().result(Some(status)))
                },
            ),
        }
    }
}

// The last owner of an upload may be the last owner of the trail.
impl Drop for Inner {
    fn drop(&mut self) {
        self.settle(Outcome::Dropped);
    }
}

impl Known {
    /// Returns whether the uploads end with the response.
    fn ends_uploads(&self) -> bool {
        #[cfg(feature = "grpc")]
        let is_grpc = self.grpc.is_some() || self.grpc_status.is_some();
        #[cfg(not(feature = "grpc"))]
        let is_grpc = false;
        is_grpc || self.cut.is_some() || self.refused.is_some()
    }

    /// Returns how this end is counted, if it may be: no user is verified, nothing was used, and
    /// there was no response but a refusal.
    fn may_be_counted(&self, outcome: Outcome, reason: Option<Reason>) -> Option<Counted> {
        if self.is_verified || self.intents > 0 || self.uses > 0 {
            return None;
        }
        match outcome {
            Outcome::Refused => reason.map(Counted::Refused),
            Outcome::Dropped => self.status.is_none().then_some(Counted::Dropped),
            Outcome::Completed
            | Outcome::Failed
            | Outcome::Cut
            | Outcome::UploadCut
            | Outcome::Unknown => None,
        }
    }

    /// Returns the outcome of a request whose response ended like this.
    fn outcome(&self, ended: Outcome) -> (Outcome, Option<Reason>) {
        match (self.cut, self.refused, self.upload_end) {
            (Some(reason), _, _) => (Outcome::Cut, Some(reason)),
            (None, Some(reason), _) => (Outcome::Refused, Some(reason)),
            (None, None, Some(End::Cut(reason))) => (Outcome::Cut, Some(reason)),
            (None, None, Some(End::Idle | End::Grace)) if ended == Outcome::Completed => {
                (Outcome::UploadCut, None)
            }
            (None, None, Some(End::BrokenOff)) if ended == Outcome::Completed => {
                (Outcome::Dropped, None)
            }
            (None, None, _) => (ended, self.withheld),
        }
    }
}

impl Owner for Inner {
    fn upload_is_over(&self, end: Option<End>) {
        let ended = {
            let mut known = self.known.lock();
            if let Some(end) = end.filter(|end| *end != End::Abandoned) {
                known.upload_end.get_or_insert(end);
            }
            let Some(ended) = known.response_ended else { return };
            known.uploads.retain(|upload| !upload.is_over());
            if !known.uploads.is_empty() {
                return;
            }
            ended
        };
        self.settle(ended);
    }
}

impl OpenRequest for Inner {
    fn cut_at_shutdown(&self, reason: Reason) {
        let mut known = self.known.lock();
        if known.place.is_none() {
            return;
        }
        known.cut.get_or_insert(reason);
        drop(known);
        tracing::info!(request.id = %self.work.id(), refusal.reason = reason.code(), "cut");
        self.settle(Outcome::Cut);
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
