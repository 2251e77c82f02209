//! Grants in the memory of one process.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tower_token_broker::{clock::Timestamp, principal::GrantId};

use super::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantState, GrantStore, Lease,
    LeaseOutcome, LeaseRequest, Renewal, StoreError,
};
use crate::connect::ConnectRows;

/// Grants, and the connects that become grants, in the memory of one process, for tests and
/// embedders. Clones share them.
///
/// # Example
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use token_broker_store::{Account, Grant, GrantKey, GrantStore, MemoryGrants};
/// use tower_token_broker::principal::{GrantId, User};
///
/// let alice = User::new("https://broker.example.com", "alice");
/// let key = GrantKey::new(alice, "crm", Account::default_account());
/// let store = MemoryGrants::new();
/// let grant = Grant::new(GrantId::new("g1"), key.clone(), "https://login.crm.example");
/// assert_eq!(store.put(grant).await.unwrap().version, 1);
/// assert!(store.load(&key).await.unwrap().is_some());
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryGrants {
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The only way to a grant.
    by_key: HashMap<GrantKey, Row>,
    /// The key to which each ID belongs, so that no other takes it.
    ids: HashMap<GrantId, GrantKey>,
    /// Under the same lock, so that a step changes both.
    pub(crate) connects: ConnectRows,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) grant: Grant,
    fence: u64,
    leased_until: Option<Timestamp>,
}

impl MemoryGrants {
    /// Creates a store without grants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a grant as [`GrantStore::put`] does, for callers that are not async.
    ///
    /// # Errors
    /// [`StoreError::IdTaken`]
    pub fn insert(&self, grant: Grant) -> Result<Grant, StoreError> {
        self.rows.lock().put(grant)
    }

    /// Returns the grant with this key, for callers that are not async.
    pub fn get(&self, key: &GrantKey) -> Option<Grant> {
        self.rows.lock().by_key.get(key).map(|row| row.grant.clone())
    }

    /// Locks the rows for one step.
    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock()
    }

    fn with_row<T>(&self, grant: &GrantRef, change: impl FnOnce(Option<&mut Row>) -> T) -> T {
        change(self.rows.lock().find(grant))
    }

    /// Changes a row, if this is the last lease of its current version.
    fn with_lease(&self, lease: &Lease, change: impl FnOnce(&mut Row)) -> Result<(), StoreError> {
        let current =
            |row: &&mut Row| row.grant.version == lease.version && row.fence == lease.fence;
        self.with_row(&lease.grant, |row| match row.filter(current) {
            Some(row) => {
                change(row);
                Ok(())
            }
            None => Err(StoreError::overtaken(lease)),
        })
    }
}

impl Rows {
    // G404: found by the whole key, and only if it has this ID.
    pub(crate) fn find(&mut self, grant: &GrantRef) -> Option<&mut Row> {
        self.by_key.get_mut(&grant.key).filter(|row| row.grant.id == grant.id)
    }

    pub(crate) fn put(&mut self, mut grant: Grant) -> Result<Grant, StoreError> {
        if self.ids.get(&grant.id).is_some_and(|key| *key != grant.key) {
            return Err(StoreError::IdTaken { id: grant.id });
        }
        let mut fence = 0;
        if let Some(replaced) = self.by_key.remove(&grant.key) {
            self.ids.remove(&replaced.grant.id);
            grant.version = grant.version.max(replaced.grant.version.saturating_add(1));
            fence = replaced.fence.saturating_add(1);
        }
        for token in &mut grant.access {
            token.version = grant.version;
        }
        let row = Row { grant: grant.clone(), fence, leased_until: None };
        self.ids.insert(grant.id.clone(), grant.key.clone());
        self.by_key.insert(grant.key.clone(), row);
        Ok(grant)
    }
}

impl Row {
    /// Erases the tokens and ends the lease, unless the grant is revoked already.
    pub(crate) fn revoke(&mut self) {
        if self.grant.state != GrantState::Revoked {
            self.grant.version = self.grant.version.saturating_add(1);
            self.grant.state = GrantState::Revoked;
            self.grant.refresh_token = None;
            self.grant.access.clear();
            self.leased_until = None;
        }
    }
}

impl GrantStore for MemoryGrants {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        Ok(self.get(key))
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        Ok(filter.page_of(self.rows.lock().by_key.values().map(|row| &row.grant)))
    }

    async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
        self.insert(grant)
    }

    async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        Ok(self.with_row(grant, |row| {
            let Some(row) = row else { return false };
            row.revoke();
            true
        }))
    }

    async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock();
        if rows.by_key.get(&grant.key).is_none_or(|row| row.grant.id != grant.id) {
            return Ok(false);
        }
        rows.by_key.remove(&grant.key);
        rows.ids.remove(&grant.id);
        Ok(true)
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
        let current =
            |row: &&mut Row| row.grant.version == request.version && row.grant.state.is_usable();
        Ok(self.with_row(&request.grant, |row| {
            let Some(row) = row.filter(current) else { return LeaseOutcome::Stale };
            if let Some(held) = row.leased_until.filter(|held| *held > request.now) {
                return LeaseOutcome::Held(held);
            }
            row.fence = row.fence.saturating_add(1);
            row.leased_until = Some(request.until);
            LeaseOutcome::Acquired(Lease::new(request.grant.clone(), request.version, row.fence))
        }))
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        self.with_lease(lease, |row| {
            row.grant.open_attempts = row.grant.open_attempts.saturating_add(1);
        })
    }

    async fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        // Only the version counts: a rotated token must not be lost because the lease expired.
        let current = |row: &&mut Row| {
            row.grant.version == lease.version && row.grant.state != GrantState::Revoked
        };
        Ok(self.with_row(&lease.grant, |row| {
            let row = row.filter(current)?;
            renewal.apply(&mut row.grant);
            row.leased_until = None;
            Some(row.grant.clone())
        }))
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        let released = self.with_lease(lease, |row| {
            row.leased_until = None;
            attempt.apply(&mut row.grant);
        });
        // Overtaken: there is no lease to release.
        match released {
            Ok(()) | Err(StoreError::Overtaken { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
        let current = |row: &&mut Row| row.grant.version == version && row.grant.state.is_usable();
        Ok(self.with_row(grant, |row| {
            let Some(row) = row.filter(current) else { return false };
            row.grant.state = GrantState::EndedByServer;
            row.leased_until = None;
            true
        }))
    }
}

#[cfg(test)]
mod tests {
    use tower_token_broker::principal::{GrantId, User};

    use super::*;
    use crate::Account;

    #[tokio::test]
    async fn g404_an_id_of_another_user_finds_no_grant() {
        let store = MemoryGrants::new();
        let key = |subject, server| {
            let user = User::new("https://broker.example.com", subject);
            GrantKey::new(user, server, Account::default_account())
        };
        let of_alice = Grant::new(GrantId::new("g1"), key("alice", "crm"), "https://as.example");
        store.put(of_alice.clone()).await.unwrap();
        for (subject, server) in [("mallory", "crm"), ("alice", "mail")] {
            let guessed = GrantRef::new(key(subject, server), GrantId::new("g1"));
            assert!(!store.revoke(&guessed).await.unwrap(), "G404 {guessed:?}");
            assert!(!store.delete(&guessed).await.unwrap(), "G404 {guessed:?}");
            assert!(!store.end(&guessed, 1).await.unwrap(), "G404 {guessed:?}");
        }
        assert!(store.revoke(&of_alice.to_ref()).await.unwrap());
    }
}
