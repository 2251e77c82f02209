//! A store of grants whose type is chosen at run time.

use std::{fmt, pin::Pin, sync::Arc};

use super::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantStore, Lease, LeaseOutcome,
    LeaseRequest, Renewal, StoreError,
};

/// A [`GrantStore`] of any type, chosen by configuration. Clones share the store.
#[derive(Clone)]
pub struct BoxGrantStore(Arc<dyn DynGrantStore>);

impl BoxGrantStore {
    /// Erases the type of a store.
    pub fn new(store: impl GrantStore) -> Self {
        Self(Arc::new(store))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`GrantStore`] with boxed futures, so that it can be a trait object.
trait DynGrantStore: Send + Sync {
    fn load<'a>(&'a self, key: &'a GrantKey) -> BoxFuture<'a, Option<Grant>>;
    fn list<'a>(&'a self, filter: &'a GrantFilter) -> BoxFuture<'a, GrantPage>;
    fn put(&self, grant: Grant) -> BoxFuture<'_, Grant>;
    fn revoke<'a>(&'a self, grant: &'a GrantRef) -> BoxFuture<'a, bool>;
    fn delete<'a>(&'a self, grant: &'a GrantRef) -> BoxFuture<'a, bool>;
    fn lease<'a>(&'a self, request: &'a LeaseRequest) -> BoxFuture<'a, LeaseOutcome>;
    fn mark_attempt<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, ()>;
    fn complete<'a>(
        &'a self,
        lease: &'a Lease,
        renewal: &'a Renewal,
    ) -> BoxFuture<'a, Option<Grant>>;
    fn release<'a>(&'a self, lease: &'a Lease, attempt: &'a Attempt) -> BoxFuture<'a, ()>;
    fn end<'a>(&'a self, grant: &'a GrantRef, version: u64) -> BoxFuture<'a, bool>;
}

impl<S: GrantStore> DynGrantStore for S {
    fn load<'a>(&'a self, key: &'a GrantKey) -> BoxFuture<'a, Option<Grant>> {
        Box::pin(GrantStore::load(self, key))
    }

    fn list<'a>(&'a self, filter: &'a GrantFilter) -> BoxFuture<'a, GrantPage> {
        Box::pin(GrantStore::list(self, filter))
    }

    fn put(&self, grant: Grant) -> BoxFuture<'_, Grant> {
        Box::pin(GrantStore::put(self, grant))
    }

    fn revoke<'a>(&'a self, grant: &'a GrantRef) -> BoxFuture<'a, bool> {
        Box::pin(GrantStore::revoke(self, grant))
    }

    fn delete<'a>(&'a self, grant: &'a GrantRef) -> BoxFuture<'a, bool> {
        Box::pin(GrantStore::delete(self, grant))
    }

    fn lease<'a>(&'a self, request: &'a LeaseRequest) -> BoxFuture<'a, LeaseOutcome> {
        Box::pin(GrantStore::lease(self, request))
    }

    fn mark_attempt<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, ()> {
        Box::pin(GrantStore::mark_attempt(self, lease))
    }

    fn complete<'a>(
        &'a self,
        lease: &'a Lease,
        renewal: &'a Renewal,
    ) -> BoxFuture<'a, Option<Grant>> {
        Box::pin(GrantStore::complete(self, lease, renewal))
    }

    fn release<'a>(&'a self, lease: &'a Lease, attempt: &'a Attempt) -> BoxFuture<'a, ()> {
        Box::pin(GrantStore::release(self, lease, attempt))
    }

    fn end<'a>(&'a self, grant: &'a GrantRef, version: u64) -> BoxFuture<'a, bool> {
        Box::pin(GrantStore::end(self, grant, version))
    }
}

impl GrantStore for BoxGrantStore {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        self.0.load(key).await
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        self.0.list(filter).await
    }

    async fn put(&self, grant: Grant) -> Result<Grant, StoreError> {
        self.0.put(grant).await
    }

    async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        self.0.revoke(grant).await
    }

    async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        self.0.delete(grant).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
        self.0.lease(request).await
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        self.0.mark_attempt(lease).await
    }

    async fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        self.0.complete(lease, renewal).await
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        self.0.release(lease, attempt).await
    }

    async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
        self.0.end(grant, version).await
    }
}

impl fmt::Debug for BoxGrantStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxGrantStore").finish_non_exhaustive()
    }
}
