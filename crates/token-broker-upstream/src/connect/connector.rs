//! The connector: the servers, and what all connects share.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use token_broker_store::{
    Account, StoreError,
    authority::LookupKey,
    connect::{
        BeginConnect, ConnectError, ConnectStore, Connected, Connection, Connections,
        ConnectionsUnavailable, FinishConnect,
    },
};
use tower_token_broker::{
    Broker,
    principal::{Resource, Scopes, User},
};

use super::{
    clients::{self, Clients},
    discovery::Discoveries,
    quotas::Quotas,
    revocations::Waker,
    server::ConnectServer,
    uses::Uses,
};

/// Connects users' own accounts at servers: [`Connections`] for the pages of the authority, and the
/// clients and endpoints with which [`StoredGrants`](crate::StoredGrants) refreshes their grants.
/// Cheap to clone.
pub struct Connector<S>(pub(super) Arc<Inner<S>>);

pub(super) struct Inner<S> {
    pub(super) broker: Broker,
    pub(super) store: S,
    pub(super) lookup: LookupKey,
    /// The public URL of the broker, without a slash at the end.
    base: Box<str>,
    servers: ArcSwap<Vec<Arc<ConnectServer>>>,
    pub(super) clients: Clients,
    pub(super) discoveries: Discoveries,
    pub(super) quotas: Quotas,
    pub(super) uses: Uses,
    pub(super) revocations: Waker,
}

impl<S: ConnectStore + Clone> Connector<S> {
    /// Creates a connector without servers. `public_url` is the URL of the broker, to which
    /// authorization servers send browsers back; with `https`, they can also fetch the broker's
    /// metadata document there. `lookup` is the key of the store.
    ///
    /// A task of the broker revokes tokens that users disconnected at their authorization servers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(broker: &Broker, store: S, lookup: LookupKey, public_url: &str) -> Self {
        let base: Box<str> = public_url.trim_end_matches('/').into();
        let clock = broker.clock();
        let connector = Self(Arc::new(Inner {
            broker: broker.clone(),
            store,
            lookup,
            clients: Clients::new(&base, clock),
            base,
            servers: ArcSwap::default(),
            discoveries: Discoveries::new(broker),
            quotas: Quotas::new(clock),
            uses: Uses::new(clock),
            revocations: Waker::default(),
        }));
        connector.0.keep_revoking();
        connector
    }

    /// Returns the store.
    pub(crate) fn store(&self) -> &S {
        &self.0.store
    }

    /// Replaces the servers. Connects in progress continue as they were begun, as long as their
    /// server is among them.
    pub fn replace_servers(&self, servers: impl IntoIterator<Item = ConnectServer>) {
        self.0.servers.store(Arc::new(servers.into_iter().map(Arc::new).collect()));
    }

    /// Returns the metadata document that describes the broker as a client for one server (OAuth
    /// Client ID Metadata Document), which its authorization server fetches at
    /// `/connect/{server}/client-metadata.json` below the public URL; `None` if there is no such
    /// server, or the public URL is not `https`.
    pub fn client_document(&self, server: &str) -> Option<String> {
        // Grants that were connected under a former name keep the document of that name.
        self.0.server(server)?;
        let url = self.0.clients.document(server)?;
        Some(clients::document(&url, &self.0.redirect_uri(server)))
    }

    /// Revokes the tokens that are due at their authorization servers, and returns how many were
    /// tried. The connector's task does so by itself.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// A token may have been revoked; it is tried again.
    pub async fn revoke_due(&self) -> Result<usize, StoreError> {
        self.0.revoke_due().await
    }

    /// Removes connects that no one finished, an hour after they expired, at most `limit`, and
    /// returns their number.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each one is removed or not.
    pub async fn remove_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let before = self.0.broker.clock().now().minus(Duration::from_secs(3600));
        self.0.store.remove_connects(before, limit).await
    }
}

impl<S: ConnectStore> Inner<S> {
    /// Returns the server with this name, or with this former name.
    pub(super) fn server(&self, name: &str) -> Option<Arc<ConnectServer>> {
        let servers = self.servers.load();
        let current = servers.iter().find(|server| *server.name == *name);
        let former = || servers.iter().find(|server| server.names().any(|former| former == name));
        current.or_else(former).cloned()
    }

    /// Returns all servers.
    pub(super) fn servers(&self) -> Vec<Arc<ConnectServer>> {
        self.servers.load().to_vec()
    }

    pub(super) fn redirect_uri(&self, server: &str) -> String {
        format!("{}/connect/{server}/callback", self.base)
    }

    /// Returns the connect page of a server for this user. Others who open it connect nothing. The
    /// scopes of a rule that a connect does not request anyway are in the link, which no one can
    /// change.
    pub(super) fn connect_url(&self, user: &User, server: &str, scopes: &Scopes) -> Box<str> {
        let of_rules = self.server(server).map(|server| server.of_rules(scopes));
        let scopes = of_rules.unwrap_or(Scopes::none());
        let hash = self.lookup.connect_link(user, server, &scopes);
        let mut value = URL_SAFE_NO_PAD.encode(hash.as_bytes());
        if !scopes.is_empty() {
            value.push('.');
            value.push_str(&URL_SAFE_NO_PAD.encode(scopes.to_string()));
        }
        format!("{}/connect/{server}?for={value}", self.base).into()
    }

    /// Reads the value of a link.
    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes> {
        let (hash, scopes) = match value.split_once('.') {
            Some((hash, scopes)) => {
                let scopes = String::from_utf8(URL_SAFE_NO_PAD.decode(scopes).ok()?).ok()?;
                (hash, Scopes::parse(&scopes).ok()?)
            }
            None => (value, Scopes::none()),
        };
        let mut octets = [0; 32];
        let decoded = URL_SAFE_NO_PAD.decode_slice(hash, &mut octets);
        let stored = token_broker_store::authority::StoredHash::new(octets);
        let expected = self.lookup.connect_link(user, server, &scopes);
        let is_whole = decoded == Ok(octets.len()) && expected.matches(&stored);
        // Rules may have changed since the link was made.
        let server = self.server(server).filter(|_| is_whole)?;
        Some(server.of_rules(&scopes))
    }
}

impl<S: ConnectStore> Connections for Connector<S> {
    fn server_of(&self, resource: &Resource) -> Option<Box<str>> {
        let servers = self.0.servers.load();
        let server = servers.iter().find(|server| server.resources.contains(resource))?;
        Some(server.name.clone())
    }

    fn has_server(&self, name: &str) -> bool {
        self.0.server(name).is_some()
    }

    async fn connections(&self, user: &User) -> Result<Vec<Connection>, ConnectionsUnavailable> {
        self.0.connections(user).await.map_err(|_| ConnectionsUnavailable::new())
    }

    async fn connection(
        &self,
        user: &User,
        server: &str,
        account: &Account,
    ) -> Result<Option<Connection>, ConnectionsUnavailable> {
        let Some(server) = self.0.server(server) else { return Ok(None) };
        let connection = self.0.connection(user, &server, account).await;
        connection.map(Some).map_err(|_| ConnectionsUnavailable::new())
    }

    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes> {
        self.0.scopes_of_link(user, server, value)
    }

    async fn begin(&self, request: &BeginConnect<'_>) -> Result<Box<str>, ConnectError> {
        self.0.begin_connect(request).await
    }

    async fn finish(&self, request: &FinishConnect<'_>) -> Result<Connected, ConnectError> {
        Inner::finish_connect(&self.0, request).await
    }

    async fn disconnect(
        &self,
        user: &User,
        server: &str,
        account: &Account,
        peer: Option<SocketAddr>,
    ) -> Result<bool, ConnectionsUnavailable> {
        let Some(server) = self.0.server(server) else { return Ok(false) };
        let ended = self.0.disconnect(user, &server, account, peer).await;
        ended.map_err(|_| ConnectionsUnavailable::new())
    }
}

impl<S> Clone for Connector<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Connector<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("base", &self.0.base).finish_non_exhaustive()
    }
}
