//! A store of grants and connects in memory whose steps fail on demand.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use token_broker_store::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantStore, Lease, LeaseOutcome,
    LeaseRequest, MemoryGrants, Renewal, StoreError,
    authority::{LookupHash, SessionId},
    connect::{
        ConnectId, ConnectStore, ConnectionUse, PendingConnect, PendingRevocation,
        RegisteredClient, RevocationId,
    },
};
use tower_token_broker::{clock::Timestamp, principal::User};

/// The store. Cheap to clone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FlakyGrants {
    /// The rows.
    pub rows: MemoryGrants,
    failures: Arc<Mutex<HashMap<&'static str, Failures>>>,
}

/// How a step fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// It does not take effect.
    Refused(StoreError),
    /// It takes effect, and its response is lost.
    Late,
}

#[derive(Clone, Debug)]
struct Failures {
    failure: Failure,
    left: usize,
}

impl FlakyGrants {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next calls of this method fail.
    pub fn fail(&self, method: &'static str, failure: Failure, times: usize) {
        self.failures.lock().insert(method, Failures { failure, left: times });
    }

    fn next_failure(&self, method: &str) -> Option<Failure> {
        let mut failures = self.failures.lock();
        let found = failures.get_mut(method).filter(|failures| failures.left > 0)?;
        found.left -= 1;
        Some(found.failure.clone())
    }
}

macro_rules! pass_on {
    ($($trait:ident { $(fn $method:ident($($name:ident: $type:ty),*) -> $result:ty;)+ })+) => {
        $(
            impl $trait for FlakyGrants {
                $(
                    async fn $method(&self, $($name: $type),*) -> Result<$result, StoreError> {
                        let failure = self.next_failure(stringify!($method));
                        if let Some(Failure::Refused(error)) = failure {
                            return Err(error);
                        }
                        let done = self.rows.$method($($name),*).await;
                        if failure.is_some() { Err(StoreError::Unreachable) } else { done }
                    }
                )+
            }
        )+
    };
}

pass_on! {
    GrantStore {
        fn load(key: &GrantKey) -> Option<Grant>;
        fn list(filter: &GrantFilter) -> GrantPage;
        fn put(grant: Grant) -> Grant;
        fn revoke(grant: &GrantRef) -> bool;
        fn delete(grant: &GrantRef) -> bool;
        fn lease(request: &LeaseRequest) -> LeaseOutcome;
        fn mark_attempt(lease: &Lease) -> ();
        fn complete(lease: &Lease, renewal: &Renewal) -> Option<Grant>;
        fn release(lease: &Lease, attempt: &Attempt) -> ();
        fn end(grant: &GrantRef, version: u64) -> bool;
    }
    ConnectStore {
        fn put_connect(state: &LookupHash, connect: &PendingConnect) -> ();
        fn claim_connect(state: &LookupHash, session: &SessionId, now: Timestamp)
            -> Option<PendingConnect>;
        fn finish_connect(connect: &ConnectId, grant: Grant) -> Option<Grant>;
        fn drop_connect(connect: &ConnectId) -> bool;
        fn end_connects(user: Option<&User>, server: Option<&str>) -> u64;
        fn remove_connects(before: Timestamp, limit: usize) -> usize;
        fn disconnect(grant: &GrantRef, revocation: &RevocationId, now: Timestamp) -> bool;
        fn put_revocation(revocation: &PendingRevocation) -> ();
        fn claim_revocation(now: Timestamp, until: Timestamp) -> Option<PendingRevocation>;
        fn postpone_revocation(revocation: &RevocationId, retry_at: Timestamp) -> bool;
        fn finish_revocation(revocation: &RevocationId) -> bool;
        fn put_registered_client(client: &RegisteredClient) -> ();
        fn newest_registered_client(issuer: &str, redirect_uri: &str) -> Option<RegisteredClient>;
        fn registered_client(issuer: &str, client_id: &str) -> Option<RegisteredClient>;
        fn mark_connection_used(used: &ConnectionUse) -> ();
        fn connection_uses(user: &User) -> Vec<ConnectionUse>;
    }
}
