//! The store of connects.
//!
//! Steps that change connects and grants together are one transaction. In it, connects are changed
//! before grants, so that no two steps wait for each other. Secrets are opened and sealed before it
//! begins, and the stamp of the grant shows whether another process was first.

mod clients;
mod disconnect;
mod finish;
mod pending;
mod revocations;
mod row;
mod tokens;
mod uses;

use token_broker_store::{
    Grant, GrantRef, StoreError,
    authority::{LookupHash, SessionId},
    connect::{
        ConnectId, ConnectStore, ConnectionUse, PendingConnect, PendingRevocation,
        RegisteredClient, RevocationId,
    },
};
use tower_token_broker::{clock::Timestamp, principal::User};

use crate::{authority::SealedTable, limits, store::SqlStore};

/// The tables with sealed columns.
pub(crate) const TABLES: [SealedTable; 3] = [row::SEALED, revocations::SEALED, clients::SEALED];

impl ConnectStore for SqlStore {
    async fn put_connect(
        &self,
        state: &LookupHash,
        connect: &PendingConnect,
    ) -> Result<(), StoreError> {
        connect.check()?;
        let (store, state, connect) = (self.clone(), *state, connect.clone());
        self.owned(async move { store.put_pending(&state, &connect).await }).await
    }

    async fn claim_connect(
        &self,
        state: &LookupHash,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Option<PendingConnect>, StoreError> {
        if !limits::is_storable(session.as_str(), limits::ID) {
            return Ok(None);
        }
        let (store, state, session) = (self.clone(), *state, session.clone());
        self.owned(async move { store.claim_pending(&state, &session, now).await }).await
    }

    async fn finish_connect(
        &self,
        connect: &ConnectId,
        grant: Grant,
    ) -> Result<Option<Grant>, StoreError> {
        limits::check(&grant)?;
        let (store, connect) = (self.clone(), connect.clone());
        self.owned(async move { store.finish(&connect, grant).await }).await
    }

    async fn drop_connect(&self, connect: &ConnectId) -> Result<bool, StoreError> {
        let (store, connect) = (self.clone(), connect.clone());
        self.owned(async move { store.drop_pending(&connect).await }).await
    }

    async fn end_connects(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<u64, StoreError> {
        let (store, user) = (self.clone(), user.cloned());
        let server: Option<Box<str>> = server.map(Into::into);
        self.owned(async move { store.end_pending(user.as_ref(), server.as_deref()).await }).await
    }

    async fn remove_connects(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move { store.remove_pending(before, limit).await }).await
    }

    async fn disconnect(
        &self,
        grant: &GrantRef,
        revocation: &RevocationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        revocation.check()?;
        let (store, grant, id) = (self.clone(), grant.clone(), revocation.clone());
        self.owned(async move { store.disconnect_grant(&grant, &id, now).await }).await
    }

    async fn put_revocation(&self, revocation: &PendingRevocation) -> Result<(), StoreError> {
        revocation.check()?;
        let (store, revocation) = (self.clone(), revocation.clone());
        self.owned(async move { store.put_pending_revocation(&revocation).await }).await
    }

    async fn claim_revocation(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PendingRevocation>, StoreError> {
        let store = self.clone();
        self.owned(async move { store.claim_due_revocation(now, until).await }).await
    }

    async fn postpone_revocation(
        &self,
        revocation: &RevocationId,
        retry_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), revocation.clone());
        self.owned(async move { store.postpone(&id, retry_at).await }).await
    }

    async fn finish_revocation(&self, revocation: &RevocationId) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), revocation.clone());
        self.owned(async move { store.remove_revocation(&id).await }).await
    }

    async fn put_registered_client(&self, client: &RegisteredClient) -> Result<(), StoreError> {
        client.check()?;
        let (store, client) = (self.clone(), client.clone());
        self.owned(async move { store.put_client(&client).await }).await
    }

    async fn newest_registered_client(
        &self,
        issuer: &str,
        redirect_uri: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        self.newest_client(issuer, redirect_uri).await
    }

    async fn registered_client(
        &self,
        issuer: &str,
        client_id: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        self.client_at(issuer, client_id).await
    }

    async fn mark_connection_used(&self, used: &ConnectionUse) -> Result<(), StoreError> {
        used.check()?;
        let (store, used) = (self.clone(), used.clone());
        self.owned(async move { store.mark_used(&used).await }).await
    }

    async fn connection_uses(&self, user: &User) -> Result<Vec<ConnectionUse>, StoreError> {
        self.uses_of(user).await
    }
}
