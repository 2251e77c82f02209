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
        pub(super) store: SqlStore,
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

/// The traits of the authority and of connects, passed on to the store that is held.
mod held_rows {
    use token_broker_store::{Grant, GrantRef, StoreError, authority::*, connect::*};
    use tower_token_broker::{clock::Timestamp, principal::User};

    use super::held::Held;

    macro_rules! pass_on {
        ($($trait:ident { $(fn $method:ident($($name:ident: $type:ty),*) -> $result:ty;)+ })+) => {
            $(
                impl $trait for Held {
                    $(
                        async fn $method(&self, $($name: $type),*) -> Result<$result, StoreError> {
                            self.store.$method($($name),*).await
                        }
                    )+
                }
            )+
        };
    }

    pass_on! {
        AuthorityStore {
            fn lookup_key() -> LookupKey;
        }
        ClientStore {
            fn register_client(request: &RegisterClient) -> Registration;
            fn client(id: &ClientId) -> Option<Client>;
            fn mark_client_used(id: &ClientId, now: Timestamp) -> bool;
            fn clients(page: &PageRequest) -> Page<Client>;
            fn remove_client(id: &ClientId) -> bool;
            fn remove_unused_clients(before: Timestamp, limit: usize) -> usize;
        }
        CodeStore {
            fn put_code(hash: &LookupHash, code: &Code) -> ();
            fn code(hash: &LookupHash) -> Option<StoredCode>;
            fn redeem_code(request: &RedeemCode) -> Redemption;
            fn end_code(hash: &LookupHash, now: Timestamp) -> bool;
            fn remove_codes(before: Timestamp, limit: usize) -> usize;
        }
        FamilyStore {
            fn family(id: &FamilyId) -> Option<KeyedFamily>;
            fn advance_family(request: &AdvanceFamily) -> Advance;
            fn end_family(id: &FamilyId, end: FamilyEnd) -> bool;
            fn end_families(request: &EndFamilies) -> Vec<FamilyId>;
            fn families(filter: &FamilyFilter, page: &PageRequest) -> Page<Family>;
            fn remove_families(before: Timestamp, limit: usize) -> usize;
        }
        SessionStore {
            fn put_session(hash: &LookupHash, session: &Session) -> ();
            fn session(hash: &LookupHash, now: Timestamp) -> Option<Session>;
            fn touch_session(hash: &LookupHash, now: Timestamp) -> bool;
            fn end_session(hash: &LookupHash, now: Timestamp) -> bool;
            fn end_sessions(user: &User, now: Timestamp) -> u64;
            fn remove_sessions(before: Timestamp, limit: usize) -> usize;
        }
        AccountStore {
            fn create_account(account: &NewAccount) -> AccountCreation;
            fn create_first_account(request: &CreateFirstAccount) -> FirstAccount;
            fn put_first_account_link(link: &LookupHash, expires_at: Timestamp) -> ();
            fn first_account_link(link: &LookupHash, now: Timestamp) -> LinkState;
            fn account(subject: &str) -> Option<LocalAccount>;
            fn account_by_name(name: &UserName) -> Option<AccountWithPassword>;
            fn set_password(request: &SetPassword) -> Option<LocalAccount>;
            fn rehash_password(account: &AccountWithPassword) -> bool;
            fn enable_account(subject: &str) -> Option<LocalAccount>;
            fn disable_account(subject: &str) -> Option<LocalAccount>;
            fn accounts(page: &PageRequest) -> Page<LocalAccount>;
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
            fn newest_registered_client(issuer: &str, redirect_uri: &str)
                -> Option<RegisteredClient>;
            fn registered_client(issuer: &str, client_id: &str) -> Option<RegisteredClient>;
            fn mark_connection_used(used: &ConnectionUse) -> ();
            fn connection_uses(user: &User) -> Vec<ConnectionUse>;
        }
        SigningKeyStore {
            fn signing_keys() -> SigningKeySet;
            fn add_signing_key(request: &AddSigningKey) -> bool;
            fn remove_signing_keys(before: Timestamp) -> usize;
        }
    }
}

mod sqlite_file {
    use super::held::file;
    token_broker_store::authority_store_contract!(file);
    token_broker_store::connect_store_contract!(file);
    token_broker_store::grant_store_contract!(file);
    token_broker_store::revocation_store_contract!(file);
}

mod sqlite_memory {
    use super::held::memory;
    token_broker_store::authority_store_contract!(memory);
    token_broker_store::connect_store_contract!(memory);
    token_broker_store::grant_store_contract!(memory);
    token_broker_store::revocation_store_contract!(memory);
}

mod postgres {
    use super::held::postgres;
    token_broker_store::authority_store_contract!(postgres);
    token_broker_store::connect_store_contract!(postgres);
    token_broker_store::grant_store_contract!(postgres);
    token_broker_store::revocation_store_contract!(postgres);
}
