//! Ends token families: in the store, and for the access tokens that are in use.

use std::sync::Arc;

use token_broker_store::authority::{
    ClientId, EndFamilies, Family, FamilyEnd, FamilyEndReason, FamilyFilter, FamilyId, FamilyStore,
};
use tower_token_broker::{
    Broker,
    alarm::Alarm,
    audit::{EndedFamily, FamilyEndCause, Note},
    principal::{Initiator, User},
    revocation::RevocationTarget,
};

use crate::{oauth_error::EndpointError, request::EndpointRequest};

/// Ends families.
#[derive(Debug)]
pub(crate) struct FamilyEnder<S> {
    broker: Broker,
    issuer: Arc<str>,
    store: Arc<S>,
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

impl<S: FamilyStore> FamilyEnder<S> {
    pub(crate) fn new(broker: &Broker, issuer: &str, store: &Arc<S>) -> Self {
        Self { broker: broker.clone(), issuer: issuer.into(), store: Arc::clone(store) }
    }

    /// Ends a family: its access tokens are refused at once, then its refresh tokens are, and both
    /// are recorded. Runs to its end in an owned task.
    ///
    /// # Errors
    /// A part could not be stored or recorded. What took effect stays, and a retry is safe.
    pub(crate) async fn end(
        &self,
        request: Option<&EndpointRequest>,
        family: &Family,
        cause: FamilyEndCause,
        initiator: &Initiator,
    ) -> Result<(), EndpointError> {
        let (ender, owned, initiator) = (self.clone(), family.clone(), initiator.clone());
        let peer = request.and_then(|request| request.peer);
        let ended = self.broker.tasks().spawn("end of a token family", async move {
            let recorded = ender.broker.audit_log().note(&initiator, {
                let note = Note::family_ended(EndedFamily {
                    user: &owned.user,
                    client: owned.client.as_str(),
                    resource: &owned.resource,
                    family: owned.id.as_str(),
                    cause,
                });
                peer.map_or(note, |peer| note.peer(peer))
            });
            let end = FamilyEnd::new(reason(cause), ender.broker.clock().now());
            // N267: the access tokens first, in this process at once.
            let revoked = ender.revoke(&owned.id, &initiator);
            let stored = ender.store.end_family(&owned.id, end);
            let (revoked, stored, recorded) = tokio::join!(revoked, stored, recorded);
            revoked && stored.is_ok() && recorded.is_ok()
        });
        if ended.await.unwrap_or(false) {
            return Ok(());
        }
        tracing::error!(
            alarm = Alarm::FamilyNotEnded.code(),
            family = family.id.as_str(),
            "a token family could not be ended everywhere"
        );
        Err(EndpointError::unavailable("the tokens could not be ended everywhere; try again"))
    }

    async fn revoke(&self, family: &FamilyId, initiator: &Initiator) -> bool {
        let target = RevocationTarget::Family {
            issuer: Arc::clone(&self.issuer),
            id: family.as_str().into(),
        };
        self.broker.revoke(target, initiator).await.is_ok()
    }

    /// Ends all families of a user, of a client, or of both, and returns their number.
    ///
    /// # Errors
    /// As [`FamilyEnder::end`].
    pub(crate) async fn end_all(
        &self,
        user: Option<&User>,
        client: Option<&ClientId>,
        end: FamilyEndReason,
        initiator: &Initiator,
    ) -> Result<usize, EndpointError> {
        let mut filter = FamilyFilter::all();
        if let Some(user) = user {
            filter = filter.user(user.clone());
        }
        if let Some(client) = client {
            filter = filter.client(client.clone());
        }
        let (ender, initiator) = (self.clone(), initiator.clone());
        let ended = self.broker.tasks().spawn("end of token families", async move {
            let end = FamilyEnd::new(end, ender.broker.clock().now());
            let ended = ender.store.end_families(&EndFamilies::new(filter, end)).await.ok()?;
            for family in &ended {
                if !ender.revoke(family, &initiator).await {
                    return None;
                }
            }
            Some(ended.len())
        });
        ended.await.ok().flatten().ok_or(EndpointError::unavailable(
            "the tokens could not be ended everywhere; try again",
        ))
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
