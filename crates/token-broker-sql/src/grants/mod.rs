//! The store of grants.
//!
//! A change reads the row, computes the new one, and writes it if its stamp is still the same;
//! otherwise another process was first, and the change is computed again. So no lock is held while
//! a key is unwrapped, and one single-row statement decides.

mod access_tokens;
mod joint;
mod list;
mod row;
mod sealed;

use aws_lc_rs::rand;
use token_broker_store::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantState, GrantStore, Lease,
    LeaseOutcome, LeaseRequest, Renewal, StoreError,
};

use self::row::{Columns, GrantRow};
pub(crate) use self::{
    joint::{OpenedGrant, PreparedPut, write_put, write_revoked},
    list::find,
};
use crate::{
    database::{Failure, Value},
    limits,
    store::SqlStore,
};

/// How often a change is computed again. Each time, another process has made progress.
const ATTEMPTS: u32 = 1_000;

type Outcome<T> = Result<T, StoreError>;

/// The way in which a change is written to the row that was read.
enum Write<T> {
    /// The row stays.
    Nothing(T),
    /// State and lease change.
    State(T),
    /// Everything may change.
    All(T),
    /// The row is deleted.
    Delete(T),
}

impl SqlStore {
    /// Finds the row with this key.
    async fn row(&self, key: &GrantKey) -> Outcome<Option<GrantRow>> {
        // What can't be stored was not stored.
        if !limits::has_storable_key(key) {
            return Ok(None);
        }
        let values = row::key_values(key);
        let rows = self.within(self.database.read(row::LOAD, &values)).await?;
        rows.first().map(|row| GrantRow::read(row, key.clone())).transpose()
    }

    /// Finds the row with this key and ID.
    // G404: found by the whole key, and only if it has this ID.
    async fn find(&self, grant: &GrantRef) -> Outcome<Option<GrantRow>> {
        Ok(self.row(&grant.key).await?.filter(|row| row.grant.id == grant.id))
    }

    /// Changes the row with this key and ID, in one step that is atomic.
    async fn change<T>(
        &self,
        grant: &GrantRef,
        change: impl Fn(Option<&mut GrantRow>) -> Outcome<Write<T>>,
    ) -> Outcome<T> {
        for _ in 0..ATTEMPTS {
            let mut row = self.find(grant).await?;
            let write = change(row.as_mut())?;
            let Some(row) = row else {
                return Ok(match write {
                    Write::Nothing(result)
                    | Write::State(result)
                    | Write::All(result)
                    | Write::Delete(result) => result,
                });
            };
            let (written, result) = match write {
                Write::Nothing(result) => return Ok(result),
                Write::State(result) => (self.write_state(&row).await?, result),
                Write::All(result) => (self.replace(&row).await?, result),
                Write::Delete(result) => (self.delete_row(&row).await?, result),
            };
            if written {
                return Ok(result);
            }
        }
        Err(contended())
    }

    async fn write_state(&self, row: &GrantRow) -> Outcome<bool> {
        let columns = Columns::of(row);
        let mut values = columns.state().to_vec();
        values.extend([new_stamp(), Value::Text(row.grant.id.as_str()), Value::Int(row.stamp)]);
        Ok(!self.within(self.database.write(row::WRITE_STATE, &values)).await?.is_empty())
    }

    /// Writes all columns of a row that exists.
    async fn replace(&self, row: &GrantRow) -> Outcome<bool> {
        let columns = Columns::of(row);
        let mut values = columns.all();
        values.extend([new_stamp(), Value::Int(row.stamp)]);
        match self.within(self.database.write(row::REPLACE, &values)).await {
            Ok(rows) => Ok(!rows.is_empty()),
            // The new ID was taken meanwhile.
            Err(Failure::Taken) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn insert(&self, row: &GrantRow) -> Outcome<bool> {
        let columns = Columns::of(row);
        let mut values = columns.all();
        values.push(new_stamp());
        match self.within(self.database.write(row::INSERT, &values)).await {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Failure::Taken) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn delete_row(&self, row: &GrantRow) -> Outcome<bool> {
        let values = [Value::Text(row.grant.id.as_str()), Value::Int(row.stamp)];
        Ok(!self.within(self.database.write(row::DELETE, &values)).await?.is_empty())
    }

    /// Wraps the data key of a grant with the current key-encryption key. Returns whether it was
    /// wrapped with another.
    pub(crate) async fn rewrap_grant(&self, grant: &GrantRef) -> Outcome<bool> {
        for _ in 0..ATTEMPTS {
            let Some(mut row) = self.find(grant).await? else { return Ok(false) };
            if !self.rewrap(&mut row).await? {
                return Ok(false);
            }
            if self.replace(&row).await? {
                return Ok(true);
            }
        }
        Err(contended())
    }

    async fn put_row(&self, grant: Grant) -> Outcome<Grant> {
        for _ in 0..ATTEMPTS {
            let put = self.prepare_put(grant.clone()).await?;
            let written = if put.replaces {
                self.replace(&put.row).await?
            } else {
                self.insert(&put.row).await?
            };
            if written {
                return Ok(put.into_grant());
            }
        }
        Err(contended())
    }

    async fn complete_row(&self, lease: &Lease, renewal: &Renewal) -> Outcome<Option<Grant>> {
        // Only the version counts: a rotated token must not be lost because the lease expired.
        let current = |row: &GrantRow| {
            row.grant.version == lease.version && row.grant.state != GrantState::Revoked
        };
        for _ in 0..ATTEMPTS {
            let Some(mut row) = self.find(&lease.grant).await?.filter(current) else {
                return Ok(None);
            };
            match self.open_tokens(&mut row).await {
                // The new token does not depend on the old ones.
                Err(StoreError::Unreadable { .. }) if renewal.refresh_token.is_some() => {
                    row.erase();
                }
                outcome => outcome?,
            }
            renewal.apply(&mut row.grant);
            row.leased_until = None;
            limits::drop_excess(&mut row.grant);
            limits::check(&row.grant)?;
            self.seal_tokens(&mut row).await?;
            if self.replace(&row).await? {
                return Ok(Some(row.grant));
            }
        }
        Err(contended())
    }

    async fn lease_row(&self, request: &LeaseRequest) -> Outcome<LeaseOutcome> {
        self.change(&request.grant, |row| {
            let current = |row: &&mut GrantRow| {
                row.grant.version == request.version && row.grant.state.is_usable()
            };
            let Some(row) = row.filter(current) else {
                return Ok(Write::Nothing(LeaseOutcome::Stale));
            };
            if let Some(held) = row.leased_until.filter(|held| *held > request.now) {
                return Ok(Write::Nothing(LeaseOutcome::Held(held)));
            }
            row.fence = row.fence.saturating_add(1);
            row.leased_until = Some(request.until);
            let lease = Lease::new(request.grant.clone(), request.version, row.fence);
            Ok(Write::State(LeaseOutcome::Acquired(lease)))
        })
        .await
    }

    /// Changes state and lease, if this is the last lease of the current version.
    async fn with_lease(&self, lease: &Lease, change: impl Fn(&mut GrantRow)) -> Outcome<()> {
        let current =
            |row: &&mut GrantRow| row.grant.version == lease.version && row.fence == lease.fence;
        self.change(&lease.grant, |row| match row.filter(current) {
            Some(row) => {
                change(row);
                Ok(Write::State(()))
            }
            None => Err(StoreError::overtaken(lease)),
        })
        .await
    }
}

impl GrantStore for SqlStore {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        let Some(mut row) = self.row(key).await? else { return Ok(None) };
        self.open_tokens(&mut row).await?;
        Ok(Some(row.grant))
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        list::page(self, filter).await
    }

    async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
        limits::check(&grant)?;
        let store = self.clone();
        self.owned(async move { store.put_row(grant).await }).await
    }

    async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        let (store, grant) = (self.clone(), grant.clone());
        self.owned(async move {
            let revoke = |row: Option<&mut GrantRow>| {
                let Some(row) = row else { return Ok(Write::Nothing(false)) };
                if row.grant.state == GrantState::Revoked {
                    return Ok(Write::Nothing(true));
                }
                row.revoke();
                Ok(Write::All(true))
            };
            store.change(&grant, revoke).await
        })
        .await
    }

    async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        let (store, grant) = (self.clone(), grant.clone());
        self.owned(async move {
            store
                .change(
                    &grant,
                    |row| Ok(row.map_or(Write::Nothing(false), |_| Write::Delete(true))),
                )
                .await
        })
        .await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move { store.lease_row(&request).await }).await
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        let (store, lease) = (self.clone(), lease.clone());
        self.owned(async move {
            store
                .with_lease(&lease, |row| {
                    row.grant.open_attempts = row.grant.open_attempts.saturating_add(1);
                })
                .await
        })
        .await
    }

    async fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        let (store, lease, renewal) = (self.clone(), lease.clone(), renewal.clone());
        self.owned(async move { store.complete_row(&lease, &renewal).await }).await
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        let (store, lease, attempt) = (self.clone(), lease.clone(), *attempt);
        self.owned(async move {
            let released = store
                .with_lease(&lease, |row| {
                    row.leased_until = None;
                    attempt.apply(&mut row.grant);
                })
                .await;
            // Overtaken: there is no lease to release.
            match released {
                Ok(()) | Err(StoreError::Overtaken { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
        let (store, grant) = (self.clone(), grant.clone());
        self.owned(async move {
            let current =
                |row: &&mut GrantRow| row.grant.version == version && row.grant.state.is_usable();
            store
                .change(&grant, |row| {
                    let Some(row) = row.filter(current) else { return Ok(Write::Nothing(false)) };
                    row.grant.state = GrantState::EndedByServer;
                    row.leased_until = None;
                    Ok(Write::State(true))
                })
                .await
        })
        .await
    }
}

fn contended() -> StoreError {
    Failure::Unreachable("other processes changed the row each time".into()).into()
}

/// Returns a new stamp: random, so that a row that is deleted and put again has another one.
pub(crate) fn new_stamp() -> Value<'static> {
    let mut octets = [0; 8];
    rand::fill(&mut octets)
        .expect("the system's source of randomness does not fail once it is seeded");
    Value::Int(i64::from_be_bytes(octets))
}
