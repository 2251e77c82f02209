//! The laws of the traits, on each database.

/// Keeps the folder of a store as long as the store.
mod held {
    use token_broker_sql::SqlStore;
    use token_broker_store::{
        Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantStore, Lease,
        LeaseOutcome, LeaseRequest, Renewal, StoreError,
    };
    use tower_token_broker::revocation::{
        RevocationEntry, RevocationStore, RevocationStoreError, Sequence,
    };

    use crate::support::{Place, keys};

    pub(crate) struct Held {
        store: SqlStore,
        _place: Option<Place>,
    }

    pub(crate) async fn memory() -> Held {
        let url = token_broker_sql::StoreUrl::parse("sqlite::memory:").unwrap();
        let store = SqlStore::open(&url, keys()).await.unwrap();
        Held { store, _place: None }
    }

    pub(crate) async fn at(place: Place) -> Held {
        let store = place.open(&keys()).await;
        Held { store, _place: Some(place) }
    }

    pub(crate) async fn file() -> Held {
        at(Place::sqlite()).await
    }

    /// Without a PostgreSQL, the laws run on memory again.
    pub(crate) async fn postgres() -> Held {
        match Place::postgres().await {
            Some(place) => at(place).await,
            None => memory().await,
        }
    }

    impl GrantStore for Held {
        async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
            self.store.load(key).await
        }
        async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
            self.store.list(filter).await
        }
        async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
            self.store.put(grant).await
        }
        async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
            self.store.revoke(grant).await
        }
        async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
            self.store.delete(grant).await
        }
        async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
            self.store.lease(request).await
        }
        async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
            self.store.mark_attempt(lease).await
        }
        async fn complete(
            &self,
            lease: &Lease,
            renewal: &Renewal,
        ) -> Result<Option<Grant>, StoreError> {
            self.store.complete(lease, renewal).await
        }
        async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
            self.store.release(lease, attempt).await
        }
        async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
            self.store.end(grant, version).await
        }
    }

    impl RevocationStore for Held {
        async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
            self.store.append(entry).await
        }
        async fn read_after(
            &self,
            after: Sequence,
            limit: usize,
        ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
            self.store.read_after(after, limit).await
        }
    }
}

mod sqlite_file {
    use super::held::file;
    token_broker_store::grant_store_contract!(file);
    token_broker_store::revocation_store_contract!(file);
}

mod sqlite_memory {
    use super::held::memory;
    token_broker_store::grant_store_contract!(memory);
    token_broker_store::revocation_store_contract!(memory);
}

mod postgres {
    use super::held::postgres;
    token_broker_store::grant_store_contract!(postgres);
    token_broker_store::revocation_store_contract!(postgres);
}
