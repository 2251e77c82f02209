//! The connections of users, as the pages of the authority show and change them.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, Scopes, User},
};

use crate::{Account, authority::SessionId};

/// The connections of users to their accounts at servers. `token-broker-upstream` implements it,
/// and the pages of the authority use it.
pub trait Connections: Send + Sync + 'static {
    /// Returns the name of the server with this resource, if it needs the user's own account.
    fn server_of(&self, resource: &Resource) -> Option<Box<str>>;

    /// Returns whether there is a server with this name, or former name, that needs the user's own
    /// account.
    fn has_server(&self, name: &str) -> bool;

    /// Returns each server that needs the user's own account, connected or not, in the order of the
    /// configuration. A server at which the user has several accounts occurs once for each.
    ///
    /// # Errors
    /// [`ConnectionsUnavailable`]
    fn connections(
        &self,
        user: &User,
    ) -> impl Future<Output = Result<Vec<Connection>, ConnectionsUnavailable>> + Send;

    /// Returns one connection; `None` if the server needs no account of the user, or is unknown.
    ///
    /// # Errors
    /// [`ConnectionsUnavailable`]
    fn connection(
        &self,
        user: &User,
        server: &str,
        account: &Account,
    ) -> impl Future<Output = Result<Option<Connection>, ConnectionsUnavailable>> + Send;

    /// Reads the value of the query parameter `for` of a link to the connect page: returns the
    /// scopes that a rule needs in addition to the configured ones, if it was made for this user
    /// and server; otherwise `None`. In constant time.
    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes>;

    /// Begins a connect, and returns the URL of the authorization server, to which the browser is
    /// sent. The URL is checked: it is safe in a `Location` header.
    ///
    /// # Errors
    /// [`ConnectError`]
    ///
    /// # Cancellation
    /// A connect may be stored; no one has its `state`, and it expires.
    fn begin(
        &self,
        request: &BeginConnect<'_>,
    ) -> impl Future<Output = Result<Box<str>, ConnectError>> + Send;

    /// Handles the return of the browser.
    ///
    /// # Errors
    /// [`ConnectError`]
    ///
    /// # Cancellation
    /// The code is redeemed in a task that no caller can cancel; the account may be connected.
    fn finish(
        &self,
        request: &FinishConnect<'_>,
    ) -> impl Future<Output = Result<Connected, ConnectError>> + Send;

    /// Disconnects an account: at once here, and later at its authorization server. Returns whether
    /// it was connected. A connect in progress ends, too.
    ///
    /// # Errors
    /// [`ConnectionsUnavailable`]
    ///
    /// # Cancellation
    /// The account may be disconnected; a retry is safe.
    fn disconnect(
        &self,
        user: &User,
        server: &str,
        account: &Account,
        peer: Option<SocketAddr>,
    ) -> impl Future<Output = Result<bool, ConnectionsUnavailable>> + Send;
}

/// A user's connection to one account at one server, or the place for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Name of the server, as in URLs and records.
    pub server: Box<str>,
    /// Title of the server, for people.
    pub title: Box<str>,
    /// Account of the user there.
    pub account: Account,
    /// Host of the server.
    pub host: Box<str>,
    /// State.
    pub state: ConnectionState,
    /// Scopes that the operator configured, and that a connect requests.
    pub configured: Scopes,
    /// Scopes that the user agreed to; empty unless connected.
    pub granted: Scopes,
    /// Host of the authorization server, once it is known.
    pub authorization_server: Option<Box<str>>,
    /// When the account was connected.
    pub connected_at: Option<Timestamp>,
    /// When it was last used, to within some minutes.
    pub last_used_at: Option<Timestamp>,
    /// The client that used it last (`client_id`).
    pub last_used_by: Option<Box<str>>,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "pages must explain each")]
pub enum ConnectionState {
    /// No account is connected.
    None,
    /// Connected and usable.
    Connected,
    /// Usable, but the grant lacks scopes that the operator configured.
    NeedsScopes,
    /// The authorization server wants to see the user: connect again.
    NeedsUser,
    /// The authorization server ended it: connect again.
    EndedByServer,
    /// The tokens can't be read: connect again.
    Unreadable,
}

impl ConnectionState {
    /// Returns whether calls can use the account.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Connected | Self::NeedsScopes | Self::NeedsUser)
    }
}

impl Connection {
    /// Creates the place for a connection to a server where no account is connected.
    pub fn new(server: &str, title: &str, host: &str, configured: Scopes) -> Self {
        Self {
            server: server.into(),
            title: title.into(),
            account: Account::default_account(),
            host: host.into(),
            state: ConnectionState::None,
            configured,
            granted: Scopes::none(),
            authorization_server: None,
            connected_at: None,
            last_used_at: None,
            last_used_by: None,
        }
    }

    /// Adds scopes that a rule needs to the configured ones.
    #[must_use = "returns the changed connection"]
    pub fn with_scopes(mut self, scopes: &Scopes) -> Self {
        self.configured = self.configured.union(scopes);
        if self.state == ConnectionState::Connected && !self.granted.contains_all(&self.configured)
        {
            self.state = ConnectionState::NeedsScopes;
        }
        self
    }
}

/// Request to begin a connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BeginConnect<'a> {
    /// The user that is signed in.
    pub user: &'a User,
    /// Name of the server.
    pub server: &'a str,
    /// Account of the user there.
    pub account: &'a Account,
    /// The browser session.
    pub session: &'a SessionId,
    /// Text that [`Connected::continuation`] returns unchanged, of at most
    /// [`BeginConnect::MAX_CONTINUATION`] bytes.
    pub continuation: Option<&'a str>,
    /// Scopes that a rule needs in addition ([`Connections::scopes_of_link`]). Those that the
    /// operator did not configure for a rule of the server are not requested.
    pub scopes: Scopes,
    /// Whether the user wants to choose another account at the authorization server.
    pub selects_account: bool,
    /// Address of the browser.
    pub peer: Option<SocketAddr>,
}

impl<'a> BeginConnect<'a> {
    /// Longest continuation, in bytes. A store keeps it with the connect.
    pub const MAX_CONTINUATION: usize = 8 * 1024;

    /// Creates a request.
    pub fn new(
        user: &'a User,
        server: &'a str,
        account: &'a Account,
        session: &'a SessionId,
    ) -> Self {
        Self {
            user,
            server,
            account,
            session,
            continuation: None,
            scopes: Scopes::none(),
            selects_account: false,
            peer: None,
        }
    }
}

/// Return of a browser from an authorization server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FinishConnect<'a> {
    /// The user that is signed in.
    pub user: &'a User,
    /// Name of the server, from the path of the callback.
    pub server: &'a str,
    /// The browser session.
    pub session: &'a SessionId,
    /// Query of the callback, as it was received.
    pub query: &'a str,
    /// Address of the browser.
    pub peer: Option<SocketAddr>,
}

impl<'a> FinishConnect<'a> {
    /// Creates a request.
    pub const fn new(
        user: &'a User,
        server: &'a str,
        session: &'a SessionId,
        query: &'a str,
    ) -> Self {
        Self { user, server, session, query, peer: None }
    }
}

/// An account that was connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// The connection as it is now.
    pub connection: Connection,
    /// Configured scopes that were not granted.
    pub refused: Scopes,
    /// [`BeginConnect::continuation`]
    pub continuation: Option<Box<str>>,
}

impl Connected {
    /// Creates the result of a connect.
    pub const fn new(connection: Connection, refused: Scopes) -> Self {
        Self { connection, refused, continuation: None }
    }
}

/// The reasons why an account is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "pages must explain each")]
pub enum ConnectError {
    /// There is no such server, or it needs no account of the user.
    #[error("there is no such server")]
    UnknownServer,
    /// The `state` is unknown, was used, has expired, or belongs to another browser. Or the
    /// callback can't be read.
    #[error("the return from the authorization server is not one that was expected")]
    State,
    /// The response came from another authorization server than the request went to.
    #[error("the response is from another authorization server")]
    Issuer,
    /// The user or the authorization server denied access. The continuation is that of the request.
    #[error("access was denied")]
    Denied {
        /// [`BeginConnect::continuation`]
        continuation: Option<Box<str>>,
    },
    /// The authorization server granted more than the operator configured. Nothing was connected,
    /// and the tokens are revoked, unless that could end another connection of the account.
    #[error("the authorization server granted more than is allowed")]
    WiderScopes {
        /// Scopes that were granted in addition.
        additional: Scopes,
    },
    /// The connection was ended while this connect was in progress.
    #[error("the connection was ended meanwhile")]
    Overtaken,
    /// The authorization server can't be found, or announces what can't be used: the operator must
    /// act. The text is for the log.
    #[error("the authorization server can't be used: {reason}")]
    Misconfigured {
        /// Code of the reason, such as `as.issuer_mismatch`.
        reason: &'static str,
    },
    /// The authorization server does not respond, or not with tokens: try again.
    #[error("the authorization server failed: {reason}")]
    AuthorizationServer {
        /// Code of the reason, such as `connect.bad_response`.
        reason: &'static str,
    },
    /// Too many connects of this user or at this server: try again later.
    #[error("there are too many connects in progress")]
    TooMany,
    /// Store or audit log are not available.
    #[error("the broker can't connect accounts at the moment")]
    Unavailable,
}

impl ConnectError {
    /// Returns the continuation of the request, if it is known and the user may still continue.
    pub fn continuation(&self) -> Option<&str> {
        if let Self::Denied { continuation } = self { continuation.as_deref() } else { None }
    }
}

/// Store or audit log are not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connections can't be read or changed at the moment")]
#[non_exhaustive]
pub struct ConnectionsUnavailable;

impl ConnectionsUnavailable {
    /// Creates the error.
    pub const fn new() -> Self {
        Self
    }
}

impl Default for ConnectionsUnavailable {
    fn default() -> Self {
        Self::new()
    }
}

/// [`Connections`] of any type. Clones share them.
#[derive(Clone)]
pub struct BoxConnections(Arc<dyn DynConnections>);

impl BoxConnections {
    /// Erases the type.
    pub fn new(connections: impl Connections) -> Self {
        Self(Arc::new(connections))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Available<T> = Result<T, ConnectionsUnavailable>;

/// [`Connections`] with boxed futures, so that it can be a trait object.
trait DynConnections: Send + Sync {
    fn server_of(&self, resource: &Resource) -> Option<Box<str>>;
    fn has_server(&self, name: &str) -> bool;
    fn connections<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Available<Vec<Connection>>>;
    fn connection<'a>(
        &'a self,
        user: &'a User,
        server: &'a str,
        account: &'a Account,
    ) -> BoxFuture<'a, Available<Option<Connection>>>;
    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes>;
    fn begin<'a>(
        &'a self,
        request: &'a BeginConnect<'a>,
    ) -> BoxFuture<'a, Result<Box<str>, ConnectError>>;
    fn finish<'a>(
        &'a self,
        request: &'a FinishConnect<'a>,
    ) -> BoxFuture<'a, Result<Connected, ConnectError>>;
    fn disconnect<'a>(
        &'a self,
        user: &'a User,
        server: &'a str,
        account: &'a Account,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Available<bool>>;
}

impl<C: Connections> DynConnections for C {
    fn server_of(&self, resource: &Resource) -> Option<Box<str>> {
        Connections::server_of(self, resource)
    }

    fn has_server(&self, name: &str) -> bool {
        Connections::has_server(self, name)
    }

    fn connections<'a>(&'a self, user: &'a User) -> BoxFuture<'a, Available<Vec<Connection>>> {
        Box::pin(Connections::connections(self, user))
    }

    fn connection<'a>(
        &'a self,
        user: &'a User,
        server: &'a str,
        account: &'a Account,
    ) -> BoxFuture<'a, Available<Option<Connection>>> {
        Box::pin(Connections::connection(self, user, server, account))
    }

    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes> {
        Connections::scopes_of_link(self, user, server, value)
    }

    fn begin<'a>(
        &'a self,
        request: &'a BeginConnect<'a>,
    ) -> BoxFuture<'a, Result<Box<str>, ConnectError>> {
        Box::pin(Connections::begin(self, request))
    }

    fn finish<'a>(
        &'a self,
        request: &'a FinishConnect<'a>,
    ) -> BoxFuture<'a, Result<Connected, ConnectError>> {
        Box::pin(Connections::finish(self, request))
    }

    fn disconnect<'a>(
        &'a self,
        user: &'a User,
        server: &'a str,
        account: &'a Account,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Available<bool>> {
        Box::pin(Connections::disconnect(self, user, server, account, peer))
    }
}

impl Connections for BoxConnections {
    fn server_of(&self, resource: &Resource) -> Option<Box<str>> {
        self.0.server_of(resource)
    }

    fn has_server(&self, name: &str) -> bool {
        self.0.has_server(name)
    }

    async fn connections(&self, user: &User) -> Available<Vec<Connection>> {
        self.0.connections(user).await
    }

    async fn connection(
        &self,
        user: &User,
        server: &str,
        account: &Account,
    ) -> Available<Option<Connection>> {
        self.0.connection(user, server, account).await
    }

    fn scopes_of_link(&self, user: &User, server: &str, value: &str) -> Option<Scopes> {
        self.0.scopes_of_link(user, server, value)
    }

    async fn begin(&self, request: &BeginConnect<'_>) -> Result<Box<str>, ConnectError> {
        self.0.begin(request).await
    }

    async fn finish(&self, request: &FinishConnect<'_>) -> Result<Connected, ConnectError> {
        self.0.finish(request).await
    }

    async fn disconnect(
        &self,
        user: &User,
        server: &str,
        account: &Account,
        peer: Option<SocketAddr>,
    ) -> Available<bool> {
        self.0.disconnect(user, server, account, peer).await
    }
}

impl fmt::Debug for BoxConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxConnections").finish_non_exhaustive()
    }
}
