//! Clients that the broker registered at authorization servers of upstreams.

use tower_token_broker::{Secret, clock::Timestamp, principal::Scopes};

use crate::{StoreError, authority::limits};

/// A client that the broker registered at an authorization server (RFC 7591). A grant stays bound
/// to the client that obtained it. `Debug` does not print the secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegisteredClient {
    /// Issuer of the authorization server.
    pub issuer: Box<str>,
    /// The redirect URI that was registered. Another one needs another client.
    pub redirect_uri: Box<str>,
    /// `client_id`.
    pub client_id: Box<str>,
    /// `client_secret`; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// `token_endpoint_auth_method`, as the server returned it.
    pub auth_method: Box<str>,
    /// Scopes that were registered. Servers refuse others.
    pub scopes: Scopes,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When the secret ends; `None` if never.
    pub secret_expires_at: Option<Timestamp>,
}

impl RegisteredClient {
    /// Creates a public client.
    pub fn new(issuer: &str, redirect_uri: &str, client_id: &str, created_at: Timestamp) -> Self {
        Self {
            issuer: issuer.into(),
            redirect_uri: redirect_uri.into(),
            client_id: client_id.into(),
            client_secret: None,
            auth_method: "none".into(),
            scopes: Scopes::none(),
            created_at,
            secret_expires_at: None,
        }
    }

    /// Sets the scopes that were registered.
    #[must_use = "returns the changed client"]
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sets the secret, how it is sent, and when it ends.
    #[must_use = "returns the changed client"]
    pub fn secret(
        mut self,
        secret: Secret,
        auth_method: &str,
        expires_at: Option<Timestamp>,
    ) -> Self {
        self.client_secret = Some(secret);
        self.auth_method = auth_method.into();
        self.secret_expires_at = expires_at;
        self
    }

    /// Checks what every store checks before it stores a client.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::uri("the issuer of the authorization server", &self.issuer)?;
        limits::uri("the redirect URI", &self.redirect_uri)?;
        limits::client(&self.client_id)?;
        limits::id("the authentication method of the client", &self.auth_method)?;
        let scopes: usize = self.scopes.iter().map(|scope| scope.len() + 1).sum();
        limits::count("the scopes of the client", scopes, SCOPES)?;
        let secret = self.client_secret.as_ref().map_or(0, limits::octets);
        limits::count("the client secret", secret, SECRET)
    }
}

const SECRET: usize = 16 * 1_024;
const SCOPES: usize = 16 * 1_024;
