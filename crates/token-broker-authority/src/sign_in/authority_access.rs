//! The access of clients, as the protocol endpoints keep it.

use std::{collections::BTreeMap, time::Duration};

use token_broker_store::authority::{AuthorityStore, Family, FamilyFilter, FamilyId, PageRequest};
use tower_token_broker::{
    alarm::Alarm,
    principal::{Initiator, User},
    revocation::RevocationTarget,
};

use super::{AccessUnavailable, ClientAccess};
use crate::{
    Authority,
    limits::Network,
    pages::{ClientFamily, ConnectedClient, ConnectionsView},
};

/// Most families on a page.
const MOST_FAMILIES: usize = 200;
/// Time within which the names of clients are found. Some have a document that may have to be
/// fetched; the page does not wait for it longer than this.
const NAMES_WITHIN: Duration = Duration::from_secs(2);

impl<S: AuthorityStore> ClientAccess for Authority<S> {
    async fn clients(&self, user: &User) -> Result<ConnectionsView, AccessUnavailable> {
        let now = self.0.broker.clock().now();
        let filter = FamilyFilter::all().user(user.clone()).active_at(now);
        let page = PageRequest::first().limit(MOST_FAMILIES);
        let page = self.0.store.families(&filter, &page).await.map_err(|_| AccessUnavailable)?;
        let mut families = BTreeMap::<&str, Vec<ClientFamily>>::new();
        for family in &page.rows {
            families.entry(family.client.as_str()).or_default().push(self.family_on_page(family));
        }
        let clients = families.into_iter().map(|(id, of)| ConnectedClient::new(id, None, of));
        let mut clients: Vec<_> = clients.collect();
        // Documents last: the others are found at once.
        clients.sort_by_key(|client| client.id.contains("://"));
        // A client whose name is not found in time is shown by its ID.
        if tokio::time::timeout(NAMES_WITHIN, self.name(&mut clients)).await.is_err() {
            tracing::debug!("some names of clients were not found in time");
        }
        if !page.unreadable.is_empty() {
            tracing::error!(
                alarm = Alarm::AuthorityRowUnreadable.code(),
                families = page.unreadable.len(),
                first = page.unreadable.first().map(|id| &**id),
                "token families cannot be read"
            );
        }
        let view = ConnectionsView::new(clients).unreadable(page.unreadable.len());
        Ok(if page.next.is_some() { view.and_more() } else { view })
    }

    async fn end(&self, user: &User, family: &str) -> Result<bool, AccessUnavailable> {
        let ended = self.end_family(&FamilyId::new(family), user).await;
        ended.map(|()| true).map_err(|_| AccessUnavailable)
    }

    async fn end_all(&self, user: &User) -> Result<(), AccessUnavailable> {
        let target = RevocationTarget::User(user.clone());
        let ended = self.end_access(&target, &Initiator::user(user)).await;
        ended.map(drop).map_err(|_| AccessUnavailable)
    }
}

impl<S: AuthorityStore> Authority<S> {
    async fn name(&self, clients: &mut [ConnectedClient]) {
        let directory = &self.0.authorize.directory;
        for client in clients {
            let found = directory.find(&client.id, Network::of(None)).await;
            // It has a token family.
            directory.documents().mark_in_use(&client.id);
            if let Ok(Some(found)) = found {
                let shown = self.0.authorize.on_page(&found);
                client.claimed_name = shown.claimed_name;
                client.identity = Some(shown.identity);
            }
        }
    }

    fn family_on_page(&self, family: &Family) -> ClientFamily {
        let server = self.0.authorize.servers.find(family.resource.as_str());
        let server = server.map(|server| server.on_page(&family.scopes));
        let (title, scopes) = match &server {
            Some(server) => {
                let text = |scope: &crate::authorize::ConsentScope| {
                    scope.text.clone().unwrap_or_else(|| scope.name.clone())
                };
                (&*server.title, server.scopes.iter().map(text).collect())
            }
            // A server that was removed from the configuration.
            None => (family.resource.as_str(), family.scopes.iter().map(Box::from).collect()),
        };
        let ends = family.idle_until.min(family.ends_at);
        ClientFamily::new(family.id.as_str(), title, family.created_at, ends)
            .scopes(scopes)
            .last_used(Some(family.last_used_at))
    }
}
