//! Ends all access of a user, a client, a server, or of everyone.

use std::{collections::HashSet, sync::Arc};

use token_broker_store::authority::{
    AuthorityStore, ClientId, EndFamilies, Family, FamilyEnd, FamilyEndReason, FamilyFilter,
    FamilyId, PageRequest,
};
use tower_token_broker::{
    Broker,
    alarm::Alarm,
    clock::LEEWAY,
    principal::{Initiator, User},
    revocation::{RevocationTarget, Revocations},
};

use super::{FamilyEnder, NotEnded};

/// The families that a target names.
enum Selected {
    One(FamilyId),
    All(FamilyFilter),
}

impl<S: AuthorityStore> FamilyEnder<S> {
    /// Ends what a revocation targets: its access tokens, its token families, and its codes that
    /// were not redeemed. Of a token and of a grant, there is only the revocation. Returns the
    /// number of families that were not ended before.
    ///
    /// # Errors
    /// [`NotEnded`]
    ///
    /// # Cancellation
    /// Once polled, the work is completed in its own task.
    pub async fn end_access(
        &self,
        target: &RevocationTarget,
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        let (ender, target, initiator) = (self.clone(), target.clone(), initiator.clone());
        self.in_a_task(async move { ender.revoke_and_end(&target, &initiator).await }).await
    }

    /// Ends the access of a user, of a client, of both together, or, of neither, all access, as
    /// [`FamilyEnder::end_access`] does.
    ///
    /// # Errors
    /// As [`FamilyEnder::end_access`].
    ///
    /// # Cancellation
    /// As [`FamilyEnder::end_access`].
    pub async fn end_families(
        &self,
        (user, client): (Option<&User>, Option<&ClientId>),
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        let target = match (user, client) {
            (None, None) => RevocationTarget::Everything,
            (Some(user), None) => RevocationTarget::User(user.clone()),
            (None, Some(client)) => {
                let id = client.as_str().into();
                RevocationTarget::Client { issuer: Arc::clone(&self.issuer), id }
            }
            (Some(user), Some(client)) => {
                let filter = FamilyFilter::all().user(user.clone()).client(client.clone());
                let (ender, initiator) = (self.clone(), initiator.clone());
                return self
                    .in_a_task(async move { ender.end_each(filter, &initiator).await })
                    .await;
            }
        };
        self.end_access(&target, initiator).await
    }

    async fn in_a_task(
        &self,
        work: impl Future<Output = Result<usize, NotEnded>> + Send + 'static,
    ) -> Result<usize, NotEnded> {
        let ended = self.broker.tasks().spawn("end of token families", work).await;
        let ended = ended.unwrap_or(Err(NotEnded));
        if ended.is_err() {
            tracing::error!(
                alarm = Alarm::FamilyNotEnded.code(),
                "token families could not be ended everywhere"
            );
        }
        ended
    }

    /// Ends families that no revocation targets together: one after another.
    async fn end_each(
        &self,
        filter: FamilyFilter,
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        let before = self.revocable(&filter).await?;
        let mut is_recorded = true;
        for family in &before {
            is_recorded &= self.revoke(&self.target_of(family), initiator).await?.is_recorded;
        }
        let end = FamilyEnd::new(reason_of(initiator), self.broker.clock().now());
        let ended = self.store.end_families(&EndFamilies::new(filter, end)).await;
        let ended = ended.map_err(|_| NotEnded)?;
        // F510: those that began meanwhile.
        for family in ended.iter().filter(|family| !before.contains(*family)) {
            is_recorded &= self.revoke(&self.target_of(family), initiator).await?.is_recorded;
        }
        if is_recorded { Ok(ended.len()) } else { Err(NotEnded) }
    }

    /// Returns the families whose access tokens may be in use: also those that were ended within
    /// the longest life of a token, so that a retry revokes them again.
    // F508
    async fn revocable(&self, filter: &FamilyFilter) -> Result<HashSet<FamilyId>, NotEnded> {
        let since = self.broker.clock().now().minus(Revocations::RETENTION + LEEWAY);
        let (mut families, mut page) = (HashSet::new(), PageRequest::first());
        loop {
            let found = self.store.families(filter, &page).await.map_err(|_| NotEnded)?;
            let may_be_used = |family: &&Family| family.end.is_none_or(|end| end.at >= since);
            families.extend(found.rows.iter().filter(may_be_used).map(|family| family.id.clone()));
            families.extend(found.unreadable.iter().map(|id| FamilyId::new(id)));
            match found.next {
                Some(next) => page = PageRequest::after(&next),
                None => return Ok(families),
            }
        }
    }

    async fn revoke_and_end(
        &self,
        target: &RevocationTarget,
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        // F508, N267: the access tokens first, in this process at once.
        let mut revoked = self.revoke(target, initiator).await?;
        let end = FamilyEnd::new(reason_of(initiator), self.broker.clock().now());
        let ended = match self.selected(target) {
            None => 0,
            Some(Selected::One(id)) => {
                let ended = self.store.end_family(&id, end).await.map_err(|_| NotEnded)?;
                usize::from(ended)
            }
            Some(Selected::All(filter)) => {
                let request = EndFamilies::new(filter, end);
                let ended = self.store.end_families(&request).await.map_err(|_| NotEnded)?;
                if !ended.is_empty() {
                    // F510: tokens that were being issued while the families were ended. They are
                    // of a time before that step.
                    let again = self.revoke(target, initiator).await?;
                    revoked.is_recorded &= again.is_recorded;
                }
                ended.len()
            }
        };
        if revoked.is_recorded { Ok(ended) } else { Err(NotEnded) }
    }

    /// Returns the families of this issuer that a target names.
    fn selected(&self, target: &RevocationTarget) -> Option<Selected> {
        let all = FamilyFilter::all();
        match target {
            RevocationTarget::Family { issuer, id } if *issuer == self.issuer => {
                Some(Selected::One(FamilyId::new(id)))
            }
            RevocationTarget::Client { issuer, id } if *issuer == self.issuer => {
                Some(Selected::All(all.client(ClientId::new(id))))
            }
            RevocationTarget::User(user) => Some(Selected::All(all.user(user.clone()))),
            RevocationTarget::Server(resource) => {
                Some(Selected::All(all.resource(resource.clone())))
            }
            RevocationTarget::Everything => Some(Selected::All(all)),
            RevocationTarget::Family { .. }
            | RevocationTarget::Client { .. }
            | RevocationTarget::Token { .. }
            | RevocationTarget::Grant(_)
            | _ => None,
        }
    }
}

/// Ends the access of a user, of a client, of both together, or, of neither, all access: for a
/// command of an operator, in a process that serves nothing. See [`FamilyEnder::end_families`].
///
/// # Errors
/// [`NotEnded`]
///
/// # Cancellation
/// Once polled, the work is completed in its own task.
pub async fn end_families<S: AuthorityStore + Clone>(
    broker: &Broker,
    issuer: &str,
    store: &S,
    of: (Option<&User>, Option<&ClientId>),
    initiator: &Initiator,
) -> Result<usize, NotEnded> {
    let ender = FamilyEnder::new(broker, issuer, Arc::new(store.clone()));
    ender.end_families(of, initiator).await
}

const fn reason_of(initiator: &Initiator) -> FamilyEndReason {
    match initiator.as_user() {
        Some(_) => FamilyEndReason::User,
        None => FamilyEndReason::Operator,
    }
}
