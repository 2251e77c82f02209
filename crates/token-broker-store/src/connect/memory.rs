//! Connects in the memory of one process, under the lock of the grants.

use std::collections::{BTreeMap, HashMap};

use tower_token_broker::{Secret, clock::Timestamp, principal::User};

use super::{
    ConnectId, ConnectStore, ConnectionUse, PendingConnect, PendingRevocation, RegisteredClient,
    RevocationId,
};
use crate::{
    Grant, GrantKey, GrantRef, GrantState, MemoryGrants, StoreError,
    authority::{LookupHash, SessionId},
};

/// Rows of [`MemoryGrants`] next to the grants.
#[derive(Debug, Default)]
pub(crate) struct ConnectRows {
    connects: HashMap<LookupHash, ConnectRow>,
    revocations: BTreeMap<RevocationId, PendingRevocation>,
    /// By issuer and `client_id`.
    clients: BTreeMap<(Box<str>, Box<str>), RegisteredClient>,
    uses: HashMap<GrantKey, ConnectionUse>,
}

#[derive(Debug)]
struct ConnectRow {
    /// Without its content, once it is claimed.
    connect: PendingConnect,
    is_claimed: bool,
}

impl ConnectRows {
    /// Removes the connects that are selected, and returns their number.
    fn end(&mut self, selects: impl Fn(&PendingConnect) -> bool) -> usize {
        let before = self.connects.len();
        self.connects.retain(|_, row| !selects(&row.connect));
        before - self.connects.len()
    }

    fn put_revocation(&mut self, revocation: PendingRevocation) -> Result<(), StoreError> {
        if self.revocations.contains_key(&revocation.id) {
            return Err(StoreError::exists(REVOCATION, revocation.id.as_str()));
        }
        self.revocations.insert(revocation.id.clone(), revocation);
        Ok(())
    }
}

impl ConnectStore for MemoryGrants {
    async fn put_connect(
        &self,
        state: &LookupHash,
        connect: &PendingConnect,
    ) -> Result<(), StoreError> {
        connect.check()?;
        let connects = &mut self.rows().connects.connects;
        let has_id = |row: &ConnectRow| row.connect.id == connect.id;
        if connects.contains_key(state) || connects.values().any(has_id) {
            return Err(StoreError::exists(CONNECT, connect.id.as_str()));
        }
        connects.insert(*state, ConnectRow { connect: connect.clone(), is_claimed: false });
        Ok(())
    }

    async fn claim_connect(
        &self,
        state: &LookupHash,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Option<PendingConnect>, StoreError> {
        let is_open = |row: &&mut ConnectRow| {
            !row.is_claimed && row.connect.session == *session && now < row.connect.expires_at
        };
        let mut rows = self.rows();
        let Some(row) = rows.connects.connects.get_mut(state).filter(is_open) else {
            return Ok(None);
        };
        row.is_claimed = true;
        let claimed = row.connect.clone();
        row.connect.content = Secret::new(Vec::new());
        Ok(Some(claimed))
    }

    async fn finish_connect(
        &self,
        connect: &ConnectId,
        grant: Grant,
    ) -> Result<Option<Grant>, StoreError> {
        let is_of = |row: &ConnectRow| {
            row.connect.id == *connect && row.is_claimed && row.connect.key == grant.key
        };
        let mut rows = self.rows();
        if !rows.connects.connects.values().any(is_of) {
            return Ok(None);
        }
        let stored = rows.put(grant)?;
        rows.connects.end(|pending| pending.id == *connect);
        Ok(Some(stored))
    }

    async fn drop_connect(&self, connect: &ConnectId) -> Result<bool, StoreError> {
        Ok(self.rows().connects.end(|pending| pending.id == *connect) > 0)
    }

    async fn end_connects(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<u64, StoreError> {
        let selects = |pending: &PendingConnect| {
            user.is_none_or(|user| pending.key.user == *user)
                && server.is_none_or(|server| *pending.key.server == *server)
        };
        Ok(self.rows().connects.end(selects) as u64)
    }

    async fn remove_connects(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let connects = &mut self.rows().connects.connects;
        let old = connects.iter().filter(|(_, row)| row.connect.expires_at < before);
        let old: Vec<_> = old.map(|(state, _)| *state).take(limit).collect();
        for state in &old {
            connects.remove(state);
        }
        Ok(old.len())
    }

    async fn disconnect(
        &self,
        grant: &GrantRef,
        revocation: &RevocationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        revocation.check()?;
        let mut rows = self.rows();
        let Some(row) = rows.find(grant) else { return Ok(false) };
        if row.grant.state != GrantState::Revoked {
            let pending = PendingRevocation::of_grant(revocation.clone(), &row.grant, now);
            if let Some(pending) = pending {
                rows.connects.put_revocation(pending)?;
            }
            if let Some(row) = rows.find(grant) {
                row.revoke();
            }
        }
        rows.connects.end(|pending| pending.key == grant.key);
        rows.connects.uses.remove(&grant.key);
        Ok(true)
    }

    async fn put_revocation(&self, revocation: &PendingRevocation) -> Result<(), StoreError> {
        revocation.check()?;
        self.rows().connects.put_revocation(revocation.clone())
    }

    async fn claim_revocation(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PendingRevocation>, StoreError> {
        let mut rows = self.rows();
        let due = rows.connects.revocations.values_mut().filter(|due| due.retry_at <= now);
        Ok(due.min_by_key(|due| due.retry_at).map(|due| {
            due.attempts = due.attempts.saturating_add(1);
            due.retry_at = until;
            due.clone()
        }))
    }

    async fn postpone_revocation(
        &self,
        revocation: &RevocationId,
        retry_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let pending = rows.connects.revocations.get_mut(revocation);
        Ok(pending.map(|pending| pending.retry_at = retry_at).is_some())
    }

    async fn finish_revocation(&self, revocation: &RevocationId) -> Result<bool, StoreError> {
        Ok(self.rows().connects.revocations.remove(revocation).is_some())
    }

    async fn put_registered_client(&self, client: &RegisteredClient) -> Result<(), StoreError> {
        client.check()?;
        let key = (client.issuer.clone(), client.client_id.clone());
        self.rows().connects.clients.insert(key, client.clone());
        Ok(())
    }

    async fn newest_registered_client(
        &self,
        issuer: &str,
        redirect_uri: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        let is_of = |client: &&RegisteredClient| {
            *client.issuer == *issuer && *client.redirect_uri == *redirect_uri
        };
        let rows = self.rows();
        // Of two that are equally old, the same one each time.
        let newest = rows.connects.clients.values().filter(is_of);
        Ok(newest.max_by_key(|client| client.created_at).cloned())
    }

    async fn registered_client(
        &self,
        issuer: &str,
        client_id: &str,
    ) -> Result<Option<RegisteredClient>, StoreError> {
        Ok(self.rows().connects.clients.get(&(issuer.into(), client_id.into())).cloned())
    }

    async fn mark_connection_used(&self, used: &ConnectionUse) -> Result<(), StoreError> {
        used.check()?;
        let mut rows = self.rows();
        let uses = &mut rows.connects.uses;
        if uses.get(&used.key).is_none_or(|stored| stored.last_used_at <= used.last_used_at) {
            uses.insert(used.key.clone(), used.clone());
        }
        Ok(())
    }

    async fn connection_uses(&self, user: &User) -> Result<Vec<ConnectionUse>, StoreError> {
        let rows = self.rows();
        let uses = rows.connects.uses.values().filter(|used| used.key.user == *user);
        let mut uses: Vec<_> = uses.cloned().collect();
        drop(rows);
        uses.sort_by(|one, other| {
            let of = |used: &ConnectionUse| (used.key.server.clone(), used.key.account.clone());
            of(one).cmp(&of(other))
        });
        Ok(uses)
    }
}

const CONNECT: &str = "connect";
const REVOCATION: &str = "revocation";
