//! Revoking, blocking and restoring. What tightens takes effect at once in this process; what
//! loosens takes effect last.

use std::time::Duration;

use super::Broker;
use crate::{
    audit::{AuditError, Note},
    principal::{GrantId, Initiator, User},
    revocation::{
        BoxRevocationStore, Epoch, RevocationChange, RevocationEntry, RevocationStore as _,
        RevocationStoreError, RevocationTarget, Sequence,
    },
    tasks::Tasks,
};

/// How long the store may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A revoke, a block, or the end of either has taken effect in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    epoch: Epoch,
    was_known: bool,
}

impl Applied {
    /// The number of the change in this process: every request that begins later sees it.
    pub const fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Whether this process knew the target. For a revoke and a block: it has seen it lately (a
    /// token, family, client or user that was verified, a grant whose credential was provided), or
    /// serves it (a resource). For an unblock and a restore: it was blocked, or revoked. If not,
    /// look for a typing error: the change takes effect all the same.
    pub const fn was_known(self) -> bool {
        self.was_known
    }
}

/// A revoke or a block that took effect in this process, but not everywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// It is not known to be in the store, so other replicas may go on, and a restart may forget
    /// it.
    #[non_exhaustive]
    #[error(
        "in effect in this process, but not stored, so other replicas may go on; try again: {error}"
    )]
    NotStored {
        /// What took effect.
        applied: Applied,
        /// Why it was not stored.
        error: RevocationStoreError,
    },
    /// It has no record yet. It is recorded as soon as the audit log can write again, if this
    /// process lives so long.
    #[non_exhaustive]
    #[error(
        "in effect, but not recorded yet; look for its record when the audit log can write again"
    )]
    NotRecorded {
        /// What took effect.
        applied: Applied,
    },
    /// Neither is it known to be in the store, nor is it on the record yet.
    #[non_exhaustive]
    #[error("in effect in this process, but neither stored nor recorded yet; try again: {error}")]
    NotStoredAndNotRecorded {
        /// What took effect.
        applied: Applied,
        /// Why it was not stored.
        error: RevocationStoreError,
    },
    /// The runtime was shut down before it was known whether it was stored and recorded.
    #[non_exhaustive]
    #[error("in effect in this process, but it is not known whether it was stored and recorded")]
    Interrupted {
        /// What took effect.
        applied: Applied,
    },
}

impl RevokeError {
    /// What took effect in this process nevertheless.
    pub const fn applied(&self) -> Applied {
        match self {
            Self::NotStored { applied, .. }
            | Self::NotRecorded { applied }
            | Self::NotStoredAndNotRecorded { applied, .. }
            | Self::Interrupted { applied } => *applied,
        }
    }
}

/// An unblock or a restore that did not take effect in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It could not be recorded: nothing was changed.
    #[error(
        "nothing was changed, because it could not be recorded; try again when the audit log can write"
    )]
    NotRecorded,
    /// It is on the record, but not known to be in the store: nothing was changed in this process.
    #[error("recorded, but not stored, and not in effect in this process; try again: {0}")]
    NotStored(RevocationStoreError),
    /// The runtime was shut down before it was done.
    #[error("it is not known whether it was stored and recorded; try again")]
    Interrupted,
}

impl Broker {
    /// Revokes: no request that begins later is let in and open streams are being cut when this is
    /// first polled; then it becomes durable in the store, and recorded.
    ///
    /// # Errors
    /// The part that failed. What took effect stays.
    ///
    /// # Cancellation
    /// Once polled, it runs to its end in a task of its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime, after it took effect in this process.
    pub async fn revoke(
        &self,
        target: RevocationTarget,
        initiator: &Initiator,
    ) -> Result<Applied, RevokeError> {
        let was_known = self.knows(&target);
        let at = self.0.clock.now();
        let entry = RevocationEntry::new(RevocationChange::Revoked(target.clone()), at);
        self.begin(&entry);
        let epoch = self.0.revocations.revoke_at(target, at);
        self.settle(Applied { epoch, was_known }, entry, initiator).await
    }

    /// Refuses a user, whenever their tokens were issued, until [`Broker::unblock`]. Open streams
    /// are cut.
    ///
    /// # Errors
    /// As [`Broker::revoke`].
    ///
    /// # Cancellation
    /// As [`Broker::revoke`].
    ///
    /// # Panics
    /// As [`Broker::revoke`].
    pub async fn block(&self, user: &User, initiator: &Initiator) -> Result<Applied, RevokeError> {
        let target = RevocationTarget::User(user.clone());
        let was_known = self.knows(&target);
        let change = RevocationChange::Blocked(user.clone());
        let entry = RevocationEntry::new(change, self.0.clock.now());
        self.begin(&entry);
        let epoch = self.0.revocations.block(user.clone());
        self.settle(Applied { epoch, was_known }, entry, initiator).await
    }

    /// Lets a blocked user in again: recorded first, then stored, then in effect. Tokens that were
    /// revoked stay revoked.
    ///
    /// # Errors
    /// The part that failed. The user is still blocked in this process.
    ///
    /// # Cancellation
    /// Once polled, it runs to its end in a task of its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn unblock(
        &self,
        user: &User,
        initiator: &Initiator,
    ) -> Result<Applied, RestoreError> {
        let was_known = self.0.revocations.is_blocked(user);
        self.loosen(was_known, RevocationChange::Unblocked(user.clone()), initiator).await
    }

    /// Lets a revoked grant be used again: recorded first, then stored, then in effect. A user who
    /// connects anew gets a grant with a new id, for which nothing need be restored.
    ///
    /// # Errors
    /// The part that failed. The grant is still revoked in this process.
    ///
    /// # Cancellation
    /// As [`Broker::unblock`].
    ///
    /// # Panics
    /// As [`Broker::unblock`].
    pub async fn restore_grant(
        &self,
        grant: &GrantId,
        initiator: &Initiator,
    ) -> Result<Applied, RestoreError> {
        let was_known = self.0.revocations.is_grant_revoked(grant);
        self.loosen(was_known, RevocationChange::GrantRestored(grant.clone()), initiator).await
    }

    fn knows(&self, target: &RevocationTarget) -> bool {
        match target {
            RevocationTarget::Server(resource) => self.0.resources.contains(resource),
            RevocationTarget::Everything => true,
            RevocationTarget::Token { .. }
            | RevocationTarget::Family { .. }
            | RevocationTarget::Client { .. }
            | RevocationTarget::User(_)
            | RevocationTarget::Grant(_) => self.0.revocations.has_seen(target),
        }
    }

    /// Before it takes effect: what the feed still reads of the time before does not undo it.
    fn begin(&self, entry: &RevocationEntry) {
        if self.0.store.is_some() {
            self.0.revocations.storing(&entry.change);
        }
    }

    /// What an unblock or a restore, begun earlier, has loosened since this took effect.
    fn tighten_again(&self, entry: &RevocationEntry) {
        let revocations = &self.0.revocations;
        if let RevocationChange::Blocked(user) = &entry.change
            && !revocations.is_blocked(user)
        {
            self.begin(entry);
            revocations.block(user.clone());
        }
        if let RevocationChange::Revoked(target @ RevocationTarget::Grant(grant)) = &entry.change
            && !revocations.is_grant_revoked(grant)
        {
            self.begin(entry);
            revocations.revoke_at(target.clone(), entry.at);
        }
    }

    /// It is in effect: stores and records it, neither waiting for the other.
    async fn settle(
        &self,
        applied: Applied,
        entry: RevocationEntry,
        initiator: &Initiator,
    ) -> Result<Applied, RevokeError> {
        let (broker, initiator) = (self.clone(), initiator.clone());
        let settled = self.0.tasks.spawn("revocation", async move {
            // An unblock or a restore that began before this is stored before it, and does not undo
            // it.
            let _no_loosening = broker.0.loosening.read().await;
            broker.tighten_again(&entry);
            let (stored, recorded) = tokio::join!(
                broker.store(&entry),
                broker.0.audit.note(&initiator, Note::revocation(&entry.change))
            );
            match (stored, recorded) {
                (Ok(place), recorded) => {
                    if let Some(place) = place {
                        broker.0.revocations.stored(&entry.change, place);
                    }
                    recorded
                        .map(|()| applied)
                        .map_err(|AuditError| RevokeError::NotRecorded { applied })
                }
                (Err(error), Ok(())) => Err(RevokeError::NotStored { applied, error }),
                (Err(error), Err(AuditError)) => {
                    Err(RevokeError::NotStoredAndNotRecorded { applied, error })
                }
            }
        });
        settled.await.unwrap_or(Err(RevokeError::Interrupted { applied }))
    }

    async fn loosen(
        &self,
        was_known: bool,
        change: RevocationChange,
        initiator: &Initiator,
    ) -> Result<Applied, RestoreError> {
        let (broker, initiator) = (self.clone(), initiator.clone());
        let entry = RevocationEntry::new(change, self.0.clock.now());
        let settled = self.0.tasks.spawn("revocation", async move {
            let _alone = broker.0.loosening.write().await;
            if !broker.0.audit.is_open() {
                return Err(RestoreError::NotRecorded);
            }
            let recorded = broker.0.audit.note(&initiator, Note::revocation(&entry.change)).await;
            recorded.map_err(|AuditError| RestoreError::NotRecorded)?;
            broker.store(&entry).await.map_err(RestoreError::NotStored)?;
            let revocations = &broker.0.revocations;
            revocations.loosened(&entry.change);
            let epoch = match &entry.change {
                RevocationChange::Unblocked(user) => revocations.unblock(user),
                RevocationChange::GrantRestored(grant) => revocations.lift(grant).0,
                RevocationChange::Blocked(_) | RevocationChange::Revoked(_) => revocations.epoch(),
            };
            Ok(Applied { epoch, was_known })
        });
        settled.await.unwrap_or(Err(RestoreError::Interrupted))
    }

    /// The place in the store; none without a store.
    async fn store(
        &self,
        entry: &RevocationEntry,
    ) -> Result<Option<Sequence>, RevocationStoreError> {
        match &self.0.store {
            Some(store) => append(store, entry, &self.0.tasks).await.map(Some),
            None => Ok(None),
        }
    }
}

/// In a task of its own and within bounds: a store that panics or hangs is one that cannot be
/// reached.
async fn append(
    store: &BoxRevocationStore,
    entry: &RevocationEntry,
    tasks: &Tasks,
) -> Result<Sequence, RevocationStoreError> {
    let (store, entry) = (store.clone(), entry.clone());
    let appended = tasks.spawn("append to the revocation store", async move {
        let appended = tokio::time::timeout(STORE_TIMEOUT, store.append(&entry)).await;
        appended.unwrap_or(Err(RevocationStoreError::Unreachable))
    });
    appended.await.unwrap_or(Err(RevocationStoreError::Unreachable))
}
