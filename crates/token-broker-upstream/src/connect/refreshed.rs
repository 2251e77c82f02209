//! The interface of a connector for the refresh of stored grants.

use std::{pin::Pin, sync::Arc};

use token_broker_store::{
    Grant, GrantKey,
    connect::{ConnectStore, RevokedToken},
};
use tower_token_broker::{
    exchange::Origin,
    principal::{Principal, Scopes},
};

use super::{begin::resource, connector::Connector, give_back::Granted, server::ConnectServer};
use crate::authorization_server::AuthorizationServer;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The connector of one server, for the refresh of its grants.
pub(crate) trait Refreshed: Send + Sync + 'static {
    /// Returns former names of the server, under which grants may be stored.
    fn former_names(&self) -> Vec<Box<str>>;

    /// Returns whether a grant is used at this origin: it is of this server, as it is configured at
    /// the moment, and of its authorization server.
    fn accepts(&self, grant: &Grant, origin: &Origin) -> bool;

    /// Returns the authorization server at which a grant is refreshed; `None` if it is not found.
    fn authorization_server<'a>(
        &'a self,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Option<AuthorizationServer>>;

    /// Notes that a caller used the grant with this key.
    fn note_use(&self, key: &GrantKey, caller: &Principal);

    /// Keeps tokens that arrived for a grant that was disconnected meanwhile, until they are
    /// revoked at their authorization server.
    fn give_back<'a>(&'a self, grant: &'a Grant, tokens: Vec<RevokedToken>) -> BoxFuture<'a, ()>;

    /// Notes that the authorization server does not accept the client of a grant any more: the next
    /// connect registers another one.
    fn forget_client(&self, grant: &Grant);

    /// Notes that the server refused a token: it may have another authorization server now.
    fn note_refusal(&self);

    /// Returns the page where a caller connects its account, with the scopes of a rule.
    fn connect_url(&self, caller: &Principal, scopes: &Scopes) -> Box<str>;
}

/// One server of a connector, as it is configured at the moment.
struct OfServer<S> {
    connector: Connector<S>,
    name: Box<str>,
}

impl<S: ConnectStore + Clone> Connector<S> {
    pub(crate) fn refreshed(&self, server: &ConnectServer) -> Box<dyn Refreshed> {
        Box::new(OfServer { connector: self.clone(), name: server.name.clone() })
    }
}

impl<S> OfServer<S>
where
    S: ConnectStore,
{
    fn server(&self) -> Option<Arc<ConnectServer>> {
        self.connector.0.server(&self.name)
    }
}

impl<S: ConnectStore + Clone> Refreshed for OfServer<S> {
    fn former_names(&self) -> Vec<Box<str>> {
        self.server().map(|server| server.former_names.clone()).unwrap_or_default()
    }

    fn accepts(&self, grant: &Grant, origin: &Origin) -> bool {
        let (issuer, upstream) = (&grant.authorization_server, grant.upstream.as_deref());
        self.server().is_some_and(|server| {
            server.origin().as_ref() == Some(origin) && server.accepts(issuer, upstream)
        })
    }

    fn authorization_server<'a>(
        &'a self,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Option<AuthorizationServer>> {
        Box::pin(async move {
            let (server, shared) = (self.server()?, &*self.connector.0);
            let issuer = &grant.authorization_server;
            let token_endpoint = match &server.endpoints.token {
                Some(fixed) if server.is_fixed(issuer) => fixed.clone(),
                Some(_) | None => {
                    let found = shared.discoveries.of_issuer(&server, issuer).await;
                    let found = found.inspect_err(|not_found| shared.report(&server, not_found));
                    found.ok()?.token_endpoint.clone()
                }
            };
            let id = grant.client_id.as_deref();
            let client = shared.clients.of_grant(&shared.store, &server, issuer, id).await;
            let client = client.ok().flatten()?;
            let resource = resource(&server, grant.resource.as_deref());
            Some(server.requests.at(issuer, &token_endpoint, client, resource.as_deref()))
        })
    }

    fn note_use(&self, key: &GrantKey, caller: &Principal) {
        let shared = &self.connector.0;
        shared.uses.note((&shared.store, shared.broker.tasks()), key, caller);
    }

    fn give_back<'a>(&'a self, grant: &'a Grant, tokens: Vec<RevokedToken>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let of = Granted {
                key: &grant.key,
                id: grant.id.clone(),
                issuer: &grant.authorization_server,
                client_id: grant.client_id.as_deref(),
            };
            // A failure is in the log, and nothing else can be done.
            drop(self.connector.0.give_back(of, tokens).await);
        })
    }

    fn forget_client(&self, grant: &Grant) {
        if let Some(id) = &grant.client_id {
            self.connector.0.clients.forget(&grant.authorization_server, id);
        }
    }

    // N536
    fn note_refusal(&self) {
        if let Some(server) = self.server() {
            self.connector.0.discoveries.doubt(&server);
        }
    }

    fn connect_url(&self, caller: &Principal, scopes: &Scopes) -> Box<str> {
        self.connector.0.connect_url(caller.user(), &self.name, scopes)
    }
}
