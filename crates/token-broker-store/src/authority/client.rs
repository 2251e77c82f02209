//! Clients that registered themselves (RFC 7591).

use tower_token_broker::clock::Timestamp;

use super::{
    ClientId, LookupHash, Page, PageRequest, StoredHash,
    limits::{self, text},
};
use crate::StoreError;

/// A client that registered itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// ID, unique in a store.
    pub id: ClientId,
    /// Name as the client claims it (`client_name`); empty if it has none.
    pub name: Box<str>,
    /// Redirect URIs, as they were registered.
    pub redirect_uris: Vec<Box<str>>,
    /// Kind of application (`application_type`).
    pub application_type: ApplicationType,
    /// Method of authentication at the token endpoint (`token_endpoint_auth_method`).
    pub auth_method: ClientAuthMethod,
    /// Hash of the secret, as the store has read it; only [`RegisterClient::secret`] sets it.
    pub secret: Option<StoredHash>,
    /// Public keys, for `private_key_jwt`.
    pub keys: Option<ClientKeys>,
    /// `software_id`
    pub software_id: Option<Box<str>>,
    /// `software_version`
    pub software_version: Option<Box<str>>,
    /// When it registered.
    pub created_at: Timestamp,
    /// When a user last authorized it or it last refreshed; `None` if it was never used.
    pub last_used_at: Option<Timestamp>,
}

impl Client {
    /// Creates a native client without authentication, name and redirect URIs.
    pub fn new(id: ClientId, created_at: Timestamp) -> Self {
        Self {
            id,
            name: "".into(),
            redirect_uris: Vec::new(),
            application_type: ApplicationType::Native,
            auth_method: ClientAuthMethod::None,
            secret: None,
            keys: None,
            software_id: None,
            software_version: None,
            created_at,
            last_used_at: None,
        }
    }

    /// Returns whether this is the hash of the client's secret. False for a client without one.
    pub fn has_secret(&self, secret: &LookupHash) -> bool {
        self.secret.as_ref().is_some_and(|stored| secret.matches(stored))
    }

    /// Checks what every store checks before it stores a client.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::client(self.id.as_str())?;
        text("the client name", &self.name, 1_024)?;
        limits::count("the redirect URIs", self.redirect_uris.len(), 32)?;
        for uri in &self.redirect_uris {
            limits::uri("a redirect URI", uri)?;
        }
        match &self.keys {
            Some(ClientKeys::Inline(set)) => text("the client's JWK set", set, 32 * 1_024)?,
            Some(ClientKeys::Uri(uri)) => limits::uri("the client's jwks_uri", uri)?,
            None => {}
        }
        for (field, value) in
            [("software_id", &self.software_id), ("software_version", &self.software_version)]
        {
            value.as_deref().map_or(Ok(()), |value| limits::id(field, value))?;
        }
        Ok(())
    }
}

/// Kind of a client's application (OpenID Connect Dynamic Client Registration 1.0 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApplicationType {
    /// Runs on a web server.
    Web,
    /// Runs on the user's device.
    Native,
}

impl ApplicationType {
    /// Returns the registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Native => "native",
        }
    }

    /// Returns the type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Web, Self::Native].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Method by which a client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAuthMethod {
    /// No authentication: a public client.
    None,
    /// Secret in the `Authorization` header (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// Secret in the body (RFC 6749 §2.3.1).
    ClientSecretPost,
    /// Signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

impl ClientAuthMethod {
    /// Returns the registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Returns the method of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// Public keys of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores must handle each")]
pub enum ClientKeys {
    /// A JWK set, as JSON text (`jwks`).
    Inline(Box<str>),
    /// The URL of a JWK set (`jwks_uri`).
    Uri(Box<str>),
}

/// Request to register a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct RegisterClient {
    /// The client. Its field `secret` is ignored.
    pub client: Client,
    /// Hash of its secret.
    pub secret: Option<LookupHash>,
    /// Largest number of clients in the store, with this one.
    pub max_clients: u64,
}

impl RegisterClient {
    /// Creates the request for a client without a secret.
    pub const fn new(client: Client, max_clients: u64) -> Self {
        Self { client, secret: None, max_clients }
    }

    /// Sets the hash of the secret.
    pub const fn secret(mut self, secret: LookupHash) -> Self {
        self.secret = Some(secret);
        self
    }
}

/// Outcome of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
#[must_use = "the client may not be registered"]
pub enum Registration {
    /// The client is registered.
    Registered,
    /// The store has the largest number of clients already.
    Full,
}

/// A store of clients that registered themselves.
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each. An ID that no store keeps (with
/// NUL, or too long) is an unknown one.
pub trait ClientStore: Send + Sync + 'static {
    /// Registers a client, unless there are already as many as the request allows. The count is
    /// exact, also when several processes register at once.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::Exists`] if the ID belongs to a client.
    ///
    /// # Cancellation
    /// The client is registered or not.
    fn register_client(
        &self,
        request: &RegisterClient,
    ) -> impl Future<Output = Result<Registration, StoreError>> + Send;

    /// Returns the client with this ID.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn client(
        &self,
        id: &ClientId,
    ) -> impl Future<Output = Result<Option<Client>, StoreError>> + Send;

    /// Sets when the client was last used, and returns whether there is one with this ID. An
    /// instant before the stored one changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The instant is set or not.
    fn mark_client_used(
        &self,
        id: &ClientId,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Returns one page of the clients, in the order of the octets of their IDs. A client that
    /// exists while all pages are read is in exactly one of them. One that can't be read is in
    /// [`Page::unreadable`].
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn clients(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Client>, StoreError>> + Send;

    /// Removes a client, and returns whether there was one with this ID. Its codes and token
    /// families stay: end them by [`FamilyStore::end_families`](super::FamilyStore::end_families).
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The client is removed or not; a retry is safe.
    fn remove_client(&self, id: &ClientId)
    -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes clients that were never used and were registered before this instant, the oldest
    /// first, at most `limit`, and returns their number.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each client is removed or not; a retry is safe.
    fn remove_unused_clients(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
