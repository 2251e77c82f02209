//! Ends one token family: in the store, and for the access tokens that are in use.

use std::sync::Arc;

use token_broker_store::authority::{AuthorityStore, Family, FamilyEnd, FamilyEndReason, FamilyId};
use tower_token_broker::{
    Broker,
    alarm::Alarm,
    audit::{EndedFamily, FamilyEndCause, Note},
    principal::Initiator,
    revocation::RevocationTarget,
    stack::RevokeError,
};

use crate::{oauth_error::EndpointError, request::EndpointRequest};

/// Ends token families, and the codes with which others would begin.
///
/// A revocation ends the access tokens that are in use, and is kept for a day; a family lives for
/// months. So each end is both: first the revocation, then the end in the store. A family is stored
/// as ended only after its revocation was, so a retry after an error repeats what failed.
///
/// [`Authority::end_families`](crate::Authority::end_families) uses it, and so can a command in
/// another process that shares the store.
#[derive(Debug)]
pub struct FamilyEnder<S> {
    pub(super) broker: Broker,
    pub(super) issuer: Arc<str>,
    pub(super) store: Arc<S>,
}

/// A part could not be stored or recorded. What took effect stays; a retry is safe, and repeats the
/// part that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the tokens could not be ended everywhere; try again")]
#[non_exhaustive]
pub struct NotEnded;

/// The effect of a revocation.
#[derive(Clone, Copy)]
pub(super) struct Revoked {
    pub(super) is_recorded: bool,
}

impl<S: AuthorityStore> FamilyEnder<S> {
    /// Ends families of this issuer, which the store has.
    pub fn new(broker: &Broker, issuer: &str, store: Arc<S>) -> Self {
        Self { broker: broker.clone(), issuer: issuer.into(), store }
    }

    /// Ends a family: its access tokens are refused at once, then its refresh tokens are, and both
    /// are recorded. Runs to its end in an owned task.
    ///
    /// # Errors
    /// [`NotEnded`]
    pub(crate) async fn end(
        &self,
        request: Option<&EndpointRequest>,
        family: &Family,
        cause: FamilyEndCause,
        initiator: &Initiator,
    ) -> Result<(), NotEnded> {
        // Its revocation was stored before.
        if family.end.is_some() {
            return Ok(());
        }
        let (ender, owned, initiator) = (self.clone(), family.clone(), initiator.clone());
        let peer = request.and_then(|request| request.peer);
        let ended = self.broker.tasks().spawn("end of a token family", async move {
            let note = Note::family_ended(EndedFamily {
                user: &owned.user,
                client: owned.client.as_str(),
                resource: &owned.resource,
                family: owned.id.as_str(),
                cause,
            });
            let note = peer.map_or(note, |peer| note.peer(peer));
            let recorded = ender.broker.audit_log().note(&initiator, note);
            let target = ender.target_of(&owned.id);
            let (revoked, recorded) = tokio::join!(ender.revoke(&target, &initiator), recorded);
            // F508: not before the revocation is stored, because the end erases the key by which
            // a retry is recognized.
            let revoked = revoked?;
            let end = FamilyEnd::new(reason(cause), ender.broker.clock().now());
            ender.store.end_family(&owned.id, end).await.map_err(|_| NotEnded)?;
            let is_recorded = revoked.is_recorded && recorded.is_ok();
            if is_recorded { Ok(()) } else { Err(NotEnded) }
        });
        let ended = ended.await.unwrap_or(Err(NotEnded));
        if ended.is_err() {
            tracing::error!(
                alarm = Alarm::FamilyNotEnded.code(),
                family = family.id.as_str(),
                "a token family could not be ended everywhere"
            );
        }
        ended
    }

    /// Returns the target of a revocation that names this family.
    pub(super) fn target_of(&self, family: &FamilyId) -> RevocationTarget {
        let id = family.as_str().into();
        RevocationTarget::Family { issuer: Arc::clone(&self.issuer), id }
    }

    /// Revokes. A revocation that is not stored is an error; a record that is late is not, because
    /// the log writes it as soon as it can.
    pub(super) async fn revoke(
        &self,
        target: &RevocationTarget,
        initiator: &Initiator,
    ) -> Result<Revoked, NotEnded> {
        match self.broker.revoke(target.clone(), initiator).await {
            Ok(_) => Ok(Revoked { is_recorded: true }),
            Err(RevokeError::NotRecorded { .. }) => Ok(Revoked { is_recorded: false }),
            Err(_) => Err(NotEnded),
        }
    }
}

impl<S> Clone for FamilyEnder<S> {
    fn clone(&self) -> Self {
        Self {
            broker: self.broker.clone(),
            issuer: Arc::clone(&self.issuer),
            store: Arc::clone(&self.store),
        }
    }
}

impl From<NotEnded> for EndpointError {
    fn from(NotEnded: NotEnded) -> Self {
        Self::unavailable("the tokens could not be ended everywhere; try again")
    }
}

const fn reason(cause: FamilyEndCause) -> FamilyEndReason {
    match cause {
        FamilyEndCause::CodeReplay => FamilyEndReason::CodeReplay,
        FamilyEndCause::RefreshReplay => FamilyEndReason::RefreshReplay,
        FamilyEndCause::Client => FamilyEndReason::Client,
        FamilyEndCause::User => FamilyEndReason::User,
        FamilyEndCause::Revoked | _ => FamilyEndReason::Operator,
    }
}
