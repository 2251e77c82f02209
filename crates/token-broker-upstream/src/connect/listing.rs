//! The connections of a user, as pages show them.

use std::{collections::HashMap, sync::Arc};

use token_broker_store::{
    Account, GrantFilter, GrantKey, GrantState, GrantSummary, StoreError,
    connect::{ConnectStore, Connection, ConnectionState, ConnectionUse},
};
use tower_token_broker::principal::User;

use super::{connector::Inner, server::ConnectServer};

impl<S: ConnectStore> Inner<S> {
    /// Returns each server with the connections of this user.
    pub(super) async fn connections(&self, user: &User) -> Result<Vec<Connection>, StoreError> {
        let grants = self.grants(user).await?;
        let uses = self.uses_of(user).await?;
        let mut all = Vec::new();
        for server in self.servers() {
            let here = grants.iter().filter(|grant| is_at(&server, &grant.key));
            let shown: Vec<_> = here
                .filter(|grant| grant.state != GrantState::Revoked)
                .map(|grant| self.shown(&server, grant, uses.get(&grant.key)))
                .collect();
            match shown.is_empty() {
                true => all.push(empty(&server, &Account::default_account())),
                false => all.extend(shown),
            }
        }
        Ok(all)
    }

    /// Returns one connection.
    pub(super) async fn connection(
        &self,
        user: &User,
        server: &Arc<ConnectServer>,
        account: &Account,
    ) -> Result<Connection, StoreError> {
        let grants = self.grants(user).await?;
        let found = grants.iter().find(|grant| {
            is_at(server, &grant.key)
                && grant.key.account == *account
                && grant.state != GrantState::Revoked
        });
        match found {
            None => Ok(empty(server, account)),
            Some(grant) => {
                let uses = self.uses_of(user).await?;
                Ok(self.shown(server, grant, uses.get(&grant.key)))
            }
        }
    }

    async fn uses_of(&self, user: &User) -> Result<HashMap<GrantKey, ConnectionUse>, StoreError> {
        let uses = self.store.connection_uses(user).await?;
        Ok(uses.into_iter().map(|used| (used.key.clone(), used)).collect())
    }

    /// Returns all grants of a user.
    pub(super) async fn grants(&self, user: &User) -> Result<Vec<GrantSummary>, StoreError> {
        let mut filter = GrantFilter::all().user(user.clone()).limit(GrantFilter::MAX_LIMIT);
        let mut all = Vec::new();
        loop {
            let page = self.store.list(&filter).await?;
            all.extend(page.grants);
            match page.next {
                Some(next) => filter = filter.after(next),
                None => return Ok(all),
            }
        }
    }

    /// Returns a connection with its state.
    pub(super) fn shown(
        &self,
        server: &ConnectServer,
        grant: &GrantSummary,
        used: Option<&ConnectionUse>,
    ) -> Connection {
        let mut shown = empty(server, &grant.key.account);
        shown.state = state(server, grant);
        shown.granted = grant.granted.clone();
        // A connect requests them again.
        shown.configured = shown.configured.union(&server.of_rules(&grant.granted));
        shown.authorization_server = host(&grant.authorization_server);
        shown.connected_at = grant.connected_at;
        shown.last_used_at = used.map(|used| used.last_used_at);
        shown.last_used_by = used.map(|used| used.client.as_str().into());
        shown
    }
}

/// Returns whether a grant belongs to a server, by its name or a former name.
pub(super) fn is_at(server: &ConnectServer, key: &GrantKey) -> bool {
    server.names().any(|name| *name == *key.server)
}

fn state(server: &ConnectServer, grant: &GrantSummary) -> ConnectionState {
    let is_accepted = server.accepts(&grant.authorization_server, grant.upstream.as_deref());
    let has_all = grant.granted.contains_all(server.operator_scopes());
    match grant.state {
        state if state.is_usable() && !is_accepted => ConnectionState::EndedByServer,
        GrantState::Active if !has_all => ConnectionState::NeedsScopes,
        GrantState::Active => ConnectionState::Connected,
        GrantState::NeedsUser => ConnectionState::NeedsUser,
        GrantState::EndedByServer => ConnectionState::EndedByServer,
        GrantState::Revoked | _ => ConnectionState::None,
    }
}

fn empty(server: &ConnectServer, account: &Account) -> Connection {
    let upstream = server.upstream.host().unwrap_or_default();
    let scopes = server.operator_scopes().clone();
    let mut shown = Connection::new(&server.name, &server.title, upstream, scopes);
    shown.account = account.clone();
    shown
}

fn host(url: &str) -> Option<Box<str>> {
    url.parse::<http::Uri>().ok()?.host().map(Into::into)
}
