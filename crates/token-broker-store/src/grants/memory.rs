//! Grants in the memory of this process: for one process, for tests, and as the model of what a store must do.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tower_token_broker::{
    clock::{Clock, Timestamp},
    principal::GrantId,
    principal::User,
};

use super::{
    grant::{Grant, GrantState},
    store::{AttemptOutcome, GrantStore, Lease, LeaseOutcome, Renewal, StoreError},
};

/// Keeps grants in memory. They are gone with the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryGrants {
    rows: Arc<Mutex<HashMap<Owner, Row>>>,
    clock: Clock,
}

type Owner = (User, Box<str>);

#[derive(Debug)]
struct Row {
    grant: Grant,
    fence: u64,
    leased_until: Option<Timestamp>,
}

impl MemoryGrants {
    /// Without any grant.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A user has connected: the grant takes the place of the one that was there, with a higher version and higher fence.
    pub fn put(&self, grant: Grant) {
        let owner = (grant.user.clone(), grant.upstream.clone());
        let mut rows = self.rows.lock();
        let (mut grant, mut fence) = (grant, 0);
        if let Some(old) = rows.get(&owner) {
            grant.version = grant.version.max(old.grant.version + 1);
            fence = old.fence + 1;
        }
        for token in &mut grant.access {
            token.version = grant.version;
        }
        rows.insert(owner, Row { grant, fence, leased_until: None });
    }

    /// The user or the operator ends it; says whether there was one.
    pub fn revoke(&self, user: &User, upstream: &str) -> bool {
        let mut rows = self.rows.lock();
        let Some(row) = rows.get_mut(&(user.clone(), upstream.into())) else { return false };
        row.grant.version += 1;
        row.grant.state = GrantState::Revoked;
        row.grant.refresh_token = None;
        row.grant.access.clear();
        true
    }

    /// The grant as it is.
    #[must_use]
    pub fn get(&self, user: &User, upstream: &str) -> Option<Grant> {
        self.rows.lock().get(&(user.clone(), upstream.into())).map(|row| row.grant.clone())
    }

    fn with_row<T>(&self, id: &GrantId, change: impl FnOnce(Option<&mut Row>) -> T) -> T {
        change(self.rows.lock().values_mut().find(|row| row.grant.id == *id))
    }

    /// The row, if this is the last lease of its current version.
    fn with_lease<T>(&self, lease: &Lease, change: impl FnOnce(&mut Row) -> T) -> Result<T, StoreError> {
        self.with_row(&lease.grant, |row| match row {
            Some(row) if row.grant.version == lease.version && row.fence == lease.fence => Ok(change(row)),
            _ => Err(StoreError::Overtaken),
        })
    }
}

impl GrantStore for MemoryGrants {
    async fn load(&self, user: &User, upstream: &str) -> Result<Option<Grant>, StoreError> {
        Ok(self.get(user, upstream))
    }

    async fn lease(
        &self,
        id: &GrantId,
        version: u64,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<LeaseOutcome, StoreError> {
        Ok(self.with_row(id, |row| match row {
            Some(row) if row.grant.version == version && row.grant.state == GrantState::Active => {
                if let Some(held) = row.leased_until.filter(|held| *held > now) {
                    return LeaseOutcome::Held(held);
                }
                row.fence += 1;
                row.leased_until = Some(until);
                LeaseOutcome::Acquired(Lease::new(id.clone(), version, row.fence))
            }
            _ => LeaseOutcome::Stale,
        }))
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        self.with_lease(lease, |row| row.grant.open_attempts += 1)
    }

    async fn complete(&self, lease: &Lease, renewal: &Renewal) -> Result<Option<Grant>, StoreError> {
        let now = self.clock.now();
        Ok(self.with_row(&lease.grant, |row| {
            // The version alone: what was rotated must not be lost because a lease ran out meanwhile.
            let row = row.filter(|row| row.grant.version == lease.version && row.grant.state != GrantState::Revoked)?;
            renewal.apply(&mut row.grant, now);
            row.leased_until = None;
            Some(row.grant.clone())
        }))
    }

    async fn release(&self, lease: &Lease, tried: AttemptOutcome) -> Result<(), StoreError> {
        let given = self.with_lease(lease, |row| {
            row.leased_until = None;
            let open = row.grant.open_attempts;
            (row.grant.open_attempts, row.grant.failures, row.grant.retry_at) = match tried {
                AttemptOutcome::NotSent { failures, retry_at } => (open.saturating_sub(1), failures, retry_at),
                AttemptOutcome::Answered { failures, retry_at } => (0, failures, retry_at),
                AttemptOutcome::Unknown { failures, retry_at } => (open, failures, retry_at),
            };
        });
        match given {
            // Overtaken: there is nothing left to give back.
            Ok(()) | Err(StoreError::Overtaken) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn end(&self, id: &GrantId, version: u64) -> Result<bool, StoreError> {
        Ok(self.with_row(id, |row| match row {
            Some(row) if row.grant.version == version && row.grant.state == GrantState::Active => {
                row.grant.state = GrantState::EndedByServer;
                row.leased_until = None;
                true
            }
            _ => false,
        }))
    }
}
