//! Stores of connects with one planted fault each: the law named with it notices.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use token_broker_store::{
    Attempt, Grant, GrantFilter, GrantKey, GrantPage, GrantRef, GrantState, GrantStore, Lease,
    LeaseOutcome, LeaseRequest, MemoryGrants, Renewal, StoreError,
    authority::{LookupHash, SessionId},
    connect::{
        ConnectId, ConnectStore, ConnectionUse, PendingConnect, PendingRevocation,
        RegisteredClient, RevocationId,
    },
    contract::{ContractError, connects},
};
use tower_token_broker::{clock::Timestamp, principal::User};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    AcceptsAnything,
    ConnectLosesTime,
    ConnectIsTakenTwice,
    ConnectIsClaimedAgain,
    ClaimRaces,
    ClaimInAnySession,
    ConnectNeverExpires,
    DropDoesNothing,
    EndsAtAnyServer,
    RemovesAtTheInstant,
    FinishWithoutConnect,
    FinishOfAnyKey,
    FinishKeepsVersion,
    FinishUsesUpConnect,
    DisconnectForgetsTokens,
    DisconnectAgainRaisesVersion,
    DisconnectKeepsEmpty,
    DisconnectOfAnyId,
    DisconnectKeepsConnects,
    DisconnectOfTakenId,
    DisconnectRaces,
    RevocationLosesClient,
    RevocationIsDueAtOnce,
    RevocationIsClaimedTwice,
    RevocationIsNotFinished,
    ClientLosesExpiry,
    ClientIsKept,
    OldestClientIsFound,
    UseFalls,
    UsesInReverse,
}

/// Creates one test for each law: the law fails for a store with the fault.
macro_rules! noticed {
    ($($law:ident: $fault:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                let noticed = connects::$law(Faulty::new(Fault::$fault)).await;
                assert!(noticed.is_err(), "{:?} is not noticed", Fault::$fault);
                assert_ne!(noticed, Err(ContractError::Panicked));
            }
        )+
    };
}

noticed! {
    a_connect_keeps_every_field: ConnectLosesTime,
    hostile_connects_are_refused: AcceptsAnything,
    a_state_and_an_id_are_taken_once: ConnectIsTakenTwice,
    a_connect_is_claimed_once: ConnectIsClaimedAgain,
    concurrent_claims_yield_one: ClaimRaces,
    a_connect_belongs_to_its_session: ClaimInAnySession,
    an_expired_connect_is_not_claimed: ConnectNeverExpires,
    a_dropped_connect_is_gone: DropDoesNothing,
    connects_are_ended_by_user_and_server: EndsAtAnyServer,
    expired_connects_are_removed_in_pages: RemovesAtTheInstant,
    finish_stores_the_grant_once: FinishWithoutConnect,
    only_a_claimed_connect_is_finished: FinishWithoutConnect,
    finish_of_another_key_changes_nothing: FinishOfAnyKey,
    finish_replaces_as_put_does: FinishKeepsVersion,
    finish_with_a_taken_id_changes_nothing: FinishUsesUpConnect,
    an_ended_connect_is_not_finished: FinishWithoutConnect,
    disconnect_keeps_the_tokens_to_be_revoked: DisconnectForgetsTokens,
    disconnect_again_changes_nothing: DisconnectAgainRaisesVersion,
    disconnect_without_tokens_leaves_no_revocation: DisconnectKeepsEmpty,
    disconnect_finds_a_grant_by_key_and_id: DisconnectOfAnyId,
    disconnect_ends_the_connects_of_its_key: DisconnectKeepsConnects,
    disconnect_with_a_taken_id_changes_nothing: DisconnectOfTakenId,
    concurrent_finish_and_disconnect_leave_no_token: DisconnectRaces,
    concurrent_refresh_and_disconnect_leave_no_token: DisconnectRaces,
    a_revocation_keeps_every_field: RevocationLosesClient,
    hostile_revocations_are_refused: AcceptsAnything,
    a_revocation_is_claimed_when_it_is_due: RevocationIsDueAtOnce,
    concurrent_claims_of_a_revocation_yield_one: RevocationIsClaimedTwice,
    a_finished_revocation_is_gone: RevocationIsNotFinished,
    a_registered_client_keeps_every_field: ClientLosesExpiry,
    hostile_registered_clients_are_refused: AcceptsAnything,
    a_client_that_is_registered_again_is_replaced: ClientIsKept,
    the_newest_registered_client_is_found: OldestClientIsFound,
    the_last_use_of_a_connection_rises: UseFalls,
    uses_are_listed_by_user: UsesInReverse,
    hostile_uses_are_refused: AcceptsAnything,
}

/// Connects in memory with one fault.
struct Faulty {
    store: MemoryGrants,
    fault: Fault,
    /// Connects as they were put.
    connects: Mutex<HashMap<LookupHash, PendingConnect>>,
    /// Clients and uses in the order in which they were put.
    clients: Mutex<Vec<RegisteredClient>>,
    uses: Mutex<Vec<ConnectionUse>>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self {
            store: MemoryGrants::new(),
            fault,
            connects: Mutex::default(),
            clients: Mutex::default(),
            uses: Mutex::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Accepts what was refused, without storing it.
    fn accept(&self, outcome: Result<(), StoreError>) -> Result<(), StoreError> {
        let accepts = match outcome {
            Err(StoreError::Invalid { .. }) => self.has(Fault::AcceptsAnything),
            Err(StoreError::Exists { .. }) => self.has(Fault::ConnectIsTakenTwice),
            _ => false,
        };
        if accepts { Ok(()) } else { outcome }
    }

    fn put_as(&self, state: &LookupHash) -> Option<PendingConnect> {
        self.connects.lock().get(state).cloned()
    }

    /// Disconnects in several steps, of which the first reads the tokens.
    async fn disconnect_in_steps(
        &self,
        grant: &GrantRef,
        id: &RevocationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let read = self.store.load(&grant.key).await?;
        if self.has(Fault::DisconnectRaces) {
            wait().await;
        }
        let pending = read.and_then(|read| PendingRevocation::of_grant(id.clone(), &read, now));
        if let Some(pending) = pending.filter(|_| !self.has(Fault::DisconnectForgetsTokens)) {
            self.store.put_revocation(&pending).await?;
        }
        if !self.has(Fault::DisconnectKeepsConnects) {
            self.store.end_connects(Some(&grant.key.user), Some(&grant.key.server)).await?;
        }
        self.store.revoke(grant).await
    }
}

/// Lets other tasks go first.
async fn wait() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

impl ConnectStore for Faulty {
    async fn put_connect(
        &self,
        state: &LookupHash,
        connect: &PendingConnect,
    ) -> Result<(), StoreError> {
        self.connects.lock().insert(*state, connect.clone());
        self.accept(self.store.put_connect(state, connect).await)
    }

    async fn claim_connect(
        &self,
        state: &LookupHash,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Option<PendingConnect>, StoreError> {
        let put = self.put_as(state);
        if self.has(Fault::ClaimRaces) {
            wait().await;
            self.connects.lock().remove(state);
            return Ok(put);
        }
        let (mut session, mut now) = (session.clone(), now);
        if let Some(put) = put.as_ref().filter(|_| self.has(Fault::ClaimInAnySession)) {
            session = put.session.clone();
        }
        if self.has(Fault::ConnectNeverExpires) {
            now = Timestamp::from_unix_millis(0);
        }
        let mut claimed = self.store.claim_connect(state, &session, now).await?;
        if let Some(claimed) = claimed.as_mut().filter(|_| self.has(Fault::ConnectLosesTime)) {
            claimed.created_at = claimed.expires_at;
        }
        if self.has(Fault::ConnectIsClaimedAgain) {
            return Ok(claimed.or(put));
        }
        Ok(claimed)
    }

    async fn finish_connect(
        &self,
        connect: &ConnectId,
        mut grant: Grant,
    ) -> Result<Option<Grant>, StoreError> {
        if self.has(Fault::FinishWithoutConnect) {
            return self.store.put(grant).await.map(Some);
        }
        let key = {
            let connects = self.connects.lock();
            connects.values().find(|put| put.id == *connect).map(|put| put.key.clone())
        };
        if let Some(key) = key.filter(|_| self.has(Fault::FinishOfAnyKey)) {
            grant.key = key;
        }
        if let Some(old) = self.store.load(&grant.key).await?
            && self.has(Fault::FinishKeepsVersion)
        {
            self.store.delete(&old.to_ref()).await?;
        }
        let finished = self.store.finish_connect(connect, grant).await;
        if finished.is_err() && self.has(Fault::FinishUsesUpConnect) {
            self.store.drop_connect(connect).await?;
        }
        finished
    }

    async fn drop_connect(&self, connect: &ConnectId) -> Result<bool, StoreError> {
        if self.has(Fault::DropDoesNothing) {
            return Ok(true);
        }
        self.store.drop_connect(connect).await
    }

    async fn end_connects(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<u64, StoreError> {
        let server = server.filter(|_| !self.has(Fault::EndsAtAnyServer));
        self.store.end_connects(user, server).await
    }

    async fn remove_connects(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let early = Duration::from_millis(self.has(Fault::RemovesAtTheInstant).into());
        self.store.remove_connects(before.plus(early), limit).await
    }

    async fn disconnect(
        &self,
        grant: &GrantRef,
        revocation: &RevocationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut of = grant.clone();
        let read = self.store.load(&grant.key).await?;
        if self.has(Fault::DisconnectForgetsTokens)
            || self.has(Fault::DisconnectKeepsConnects)
            || self.has(Fault::DisconnectRaces)
        {
            return self.disconnect_in_steps(grant, revocation, now).await;
        }
        if let Some(read) = &read {
            if self.has(Fault::DisconnectOfAnyId) {
                of.id = read.id.clone();
            }
            if self.has(Fault::DisconnectAgainRaisesVersion) && read.state == GrantState::Revoked {
                self.store.put(read.clone()).await?;
            }
            if self.has(Fault::DisconnectKeepsEmpty) && read.refresh_token.is_none() {
                let of = (read.key.clone(), read.id.clone());
                let issuer = &read.authorization_server;
                let empty = PendingRevocation::new(revocation.clone(), of, issuer, vec![], now);
                self.store.put_revocation(&empty).await?;
            }
        }
        let outcome = self.store.disconnect(&of, revocation, now).await;
        if outcome.is_err() && self.has(Fault::DisconnectOfTakenId) {
            return self.store.revoke(&of).await;
        }
        outcome
    }

    async fn put_revocation(&self, revocation: &PendingRevocation) -> Result<(), StoreError> {
        self.accept(self.store.put_revocation(revocation).await)
    }

    async fn claim_revocation(
        &self,
        mut now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PendingRevocation>, StoreError> {
        let at = now;
        if self.has(Fault::RevocationIsDueAtOnce) {
            now = Timestamp::from_unix_millis(u64::MAX);
        }
        let mut claimed = self.store.claim_revocation(now, until).await?;
        if let Some(claimed) = &mut claimed {
            if self.has(Fault::RevocationLosesClient) {
                claimed.client_id = None;
            }
            if self.has(Fault::RevocationIsClaimedTwice) {
                self.store.postpone_revocation(&claimed.id, at).await?;
            }
        }
        Ok(claimed)
    }

    async fn postpone_revocation(
        &self,
        revocation: &RevocationId,
        retry_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.store.postpone_revocation(revocation, retry_at).await
    }

    async fn finish_revocation(&self, revocation: &RevocationId) -> Result<bool, StoreError> {
        if self.has(Fault::RevocationIsNotFinished) {
            let ids = ["r1", "r2"].map(RevocationId::new);
            return Ok(ids.contains(revocation));
        }
        self.store.finish_revocation(revocation).await
    }

    async fn put_registered_client(&self, client: &RegisteredClient) -> Result<(), StoreError> {
        self.clients.lock().push(client.clone());
        self.accept(self.store.put_registered_client(client).await)
    }

    async fn newest_registered_client(
        &self,
        issuer: &str,
        redirect_uri: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        if self.has(Fault::OldestClientIsFound) {
            let clients = self.clients.lock();
            let of = clients.iter().filter(|client| {
                *client.issuer == *issuer && *client.redirect_uri == *redirect_uri
            });
            return Ok(of.min_by_key(|client| client.created_at).cloned());
        }
        self.store.newest_registered_client(issuer, redirect_uri).await
    }

    async fn registered_client(
        &self,
        issuer: &str,
        client_id: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        if self.has(Fault::ClientIsKept) {
            let clients = self.clients.lock();
            let first = clients
                .iter()
                .find(|client| *client.issuer == *issuer && *client.client_id == *client_id);
            return Ok(first.cloned());
        }
        let mut found = self.store.registered_client(issuer, client_id).await?;
        if let Some(found) = found.as_mut().filter(|_| self.has(Fault::ClientLosesExpiry)) {
            found.secret_expires_at = None;
        }
        Ok(found)
    }

    async fn mark_connection_used(&self, used: &ConnectionUse) -> Result<(), StoreError> {
        self.uses.lock().push(used.clone());
        self.accept(self.store.mark_connection_used(used).await)
    }

    async fn connection_uses(&self, user: &User) -> Result<Vec<ConnectionUse>, StoreError> {
        if self.has(Fault::UseFalls) {
            return Ok(self.uses.lock().last().cloned().into_iter().collect());
        }
        let mut uses = self.store.connection_uses(user).await?;
        if self.has(Fault::UsesInReverse) {
            uses.reverse();
        }
        Ok(uses)
    }
}

/// The grants have no fault.
macro_rules! pass_on {
    ($(fn $method:ident($($name:ident: $type:ty),*) -> $result:ty;)+) => {
        impl GrantStore for Faulty {
            $(
                async fn $method(&self, $($name: $type),*) -> Result<$result, StoreError> {
                    self.store.$method($($name),*).await
                }
            )+
        }
    };
}

pass_on! {
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
