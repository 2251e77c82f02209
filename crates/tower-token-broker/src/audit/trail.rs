//! The trail of one request. (Being written; the signatures stand.)

use std::sync::Arc;

use super::{
    record::{Intent, Operation, RefreshOutcome},
    sink::AuditSink,
};
use crate::{dialect::RequestId, principal::Principal, refusal::Reason};

/// The audit log: the one owned writer behind all trails. Cheap to clone; share one between all stacks of a process.
#[derive(Clone, Debug)]
pub struct AuditLog(Arc<()>);

impl<S: AuditSink> From<S> for AuditLog {
    fn from(_sink: S) -> Self {
        todo!()
    }
}

/// The audit sink fails or hangs: the door is closed, nothing may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't make the record durable")]
pub struct AuditUnavailable;

/// What is known so far of one request; found in the extensions, made by the audit layer alone.
#[derive(Clone, Debug)]
pub struct Trail(Arc<RequestId>);

impl Trail {
    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        *self.0
    }

    /// Who it is.
    pub(crate) fn identified(&self, _principal: &Principal) {
        todo!()
    }

    /// What was asked for.
    pub(crate) fn judged(&self, _operation: &Operation) {
        todo!()
    }

    /// It was refused; the first reason stays.
    pub(crate) fn refused(&self, _reason: Reason) {
        todo!()
    }

    /// Its stream was cut.
    pub(crate) fn cut(&self, _reason: Reason) {
        todo!()
    }

    /// The upstream echoed the credential so many times; it was masked.
    pub(crate) fn echo_masked(&self, _times: u64) {
        todo!()
    }

    /// Writes that a credential is about to be sent, and waits until that is durable.
    ///
    /// # Errors
    /// The record could not be made durable in time: nothing may be sent.
    ///
    /// # Cancellation
    /// Dropped, the intent may stand in the log; the request's result says that nothing was sent.
    pub async fn intent(&self, _intent: Intent) -> Result<Receipt, AuditUnavailable> {
        todo!()
    }

    /// Writes that a refresh token is about to be sent, and waits until that is durable.
    ///
    /// # Errors
    /// As [`Trail::intent`].
    ///
    /// # Cancellation
    /// As [`Trail::intent`].
    pub async fn refresh_intent(&self, _intent: Intent) -> Result<RefreshReceipt, AuditUnavailable> {
        todo!()
    }
}

/// Proof that the intent to send one credential is durable. The one function that sets a credential takes it by value.
#[derive(Debug)]
#[must_use = "a receipt that is not used says that nothing was sent"]
pub struct Receipt(());

impl Receipt {
    /// The credential was put on the request.
    pub(crate) fn used(self) {
        todo!()
    }
}

/// Proof that the intent to refresh is durable. Dropped without an outcome, the record says that the outcome is unknown.
#[derive(Debug)]
#[must_use = "dropped, the record says that the outcome is unknown"]
pub struct RefreshReceipt(());

impl RefreshReceipt {
    /// How it came out.
    pub fn finish(self, _outcome: RefreshOutcome) {
        todo!()
    }
}
