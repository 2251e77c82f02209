//! Revokes, blocks and restores. Tightening takes effect in this process at once; loosening takes
//! effect last.

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

/// Timeout of the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The effect of a revocation, a block, an unblock or a restore in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    epoch: Epoch,
    was_known: bool,
}

impl Applied {
    /// Returns the number of the change in this process: every request that begins later sees it.
    pub const fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Returns whether this process knew the target. For a revocation or a block: it has seen the
    /// target lately (a token, family, client or user that was verified, a grant whose credential
    /// was provided), or serves it (a resource). For an unblock or a restore: the target was
    /// blocked or revoked. If not, look for a typing error; the change takes effect all the same.
    pub const fn was_known(self) -> bool {
        self.was_known
    }
}

/// A revocation or a block took effect in this process, but not everywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// It may not be in the store: other replicas may still accept the target, and a restart may
    /// forget it.
    #[non_exhaustive]
    #[error(
        "in effect in this process, but not stored, so other replicas may continue; try again: \
         {error}"
    )]
    NotStored {
        /// The effect in this process.
        applied: Applied,
        /// The reason why it was not stored.
        error: RevocationStoreError,
    },
    /// It is not recorded yet. It is recorded as soon as the audit log can write again, if the
    /// process still runs then.
    #[non_exhaustive]
    #[error(
        "in effect, but not recorded yet; look for its record when the audit log can write again"
    )]
    NotRecorded {
        /// The effect in this process.
        applied: Applied,
    },
    /// It may not be in the store, and it is not recorded yet.
    #[non_exhaustive]
    #[error("in effect in this process, but neither stored nor recorded yet; try again: {error}")]
    NotStoredAndNotRecorded {
        /// The effect in this process.
        applied: Applied,
        /// The reason why it was not stored.
        error: RevocationStoreError,
    },
    /// The runtime was shut down before the store and the record were known to be complete.
    #[non_exhaustive]
    #[error("in effect in this process, but it is not known whether it was stored and recorded")]
    Interrupted {
        /// The effect in this process.
        applied: Applied,
    },
}

impl RevokeError {
    /// Returns the effect in this process.
    pub const fn applied(&self) -> Applied {
        match self {
            Self::NotStored { applied, .. }
            | Self::NotRecorded { applied }
            | Self::NotStoredAndNotRecorded { applied, .. }
            | Self::Interrupted { applied } => *applied,
        }
    }
}

/// The reasons why an unblock or a restore did not take effect in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It could not be recorded, so nothing was changed.
    #[error(
        "nothing was changed, because it could not be recorded; \
         try again when the audit log can write"
    )]
    NotRecorded,
    /// It is recorded, but may not be in the store; nothing was changed in this process.
    #[error("recorded, but not stored, and not in effect in this process; try again: {0}")]
    NotStored(RevocationStoreError),
    /// The runtime was shut down before it was completed.
    #[error("it is not known whether it was stored and recorded; try again")]
    Interrupted,
}

impl Broker {
    /// Revokes. When the future is first polled, requests that begin later are refused and open
    /// streams are being cut. Then the revocation is stored and recorded.
    ///
    /// # Errors
    /// The part that failed. The effect in this process stays.
    ///
    /// # Cancellation
    /// Once polled, the work is completed in its own task.
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

    /// Blocks a user until [`Broker::unblock`], whenever the tokens were issued. Open streams are
    /// cut.
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

    /// Unblocks a user: recorded first, then stored, then in effect. Revoked tokens stay revoked.
    ///
    /// # Errors
    /// The part that failed. The user is still blocked in this process.
    ///
    /// # Cancellation
    /// Once polled, the work is completed in its own task.
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

    /// Returns whether this process knows that a grant was revoked. A credential source asks before
    /// it provides a credential that it has in memory: the user may have another grant since.
    pub fn is_grant_revoked(&self, grant: &GrantId) -> bool {
        self.0.revocations.is_grant_revoked(grant)
    }

    /// Restores a revoked grant: recorded first, then stored, then in effect. A user who connects
    /// again gets a grant with a new ID, so nothing must be restored.
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

    /// Notes the change before it takes effect, so that earlier entries of the feed do not undo it.
    fn begin(&self, entry: &RevocationEntry) {
        if self.0.store.is_some() {
            self.0.revocations.storing(&entry.change);
        }
    }

    /// Reapplies a change that an unblock or a restore, begun earlier, has undone since.
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

    /// Stores and records a change that is in effect, both at the same time.
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

    /// Stores a change; returns its place, or none without a store.
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

/// Appends in its own task and with a timeout: a store that panics or hangs counts as unreachable.
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
