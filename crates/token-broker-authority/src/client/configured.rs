//! Clients that the operator configured.

use token_broker_store::authority::{ClientId, ClientKeys};
use tower_token_broker::{
    Secret,
    authenticate::jwt::{Keys, KeysError},
};

use super::{
    Authentication, Client, ClientOrigin, RedirectUriError, RedirectUris, assertion,
    document_url::DocumentUrl,
};

/// A client that the operator configured.
#[derive(Clone, Debug)]
#[must_use = "does nothing unless it is used"]
pub struct ConfiguredClient(pub(super) Client);

/// The reasons why a configured client is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfiguredClientError {
    /// The ID is empty, too long, a URL, or has a character that is not printable ASCII.
    #[error("a client ID has 1 to 255 printable ASCII characters, and is no URL")]
    Id,
    /// A redirect URI cannot be used.
    #[error(transparent)]
    RedirectUri(#[from] RedirectUriError),
    /// The secret is too short.
    #[error("a client secret has at least 16 bytes")]
    Secret,
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl ConfiguredClient {
    /// Shortest secret, in bytes.
    const MIN_SECRET: usize = 16;

    /// Creates a public client with these redirect URIs.
    ///
    /// # Errors
    /// [`ConfiguredClientError::Id`], or [`ConfiguredClientError::RedirectUri`]
    pub fn new<'a>(
        id: &str,
        redirect_uris: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ConfiguredClientError> {
        let is_printable = id.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=255).contains(&id.len()) || !is_printable || DocumentUrl::is_meant_by(id) {
            return Err(ConfiguredClientError::Id);
        }
        Ok(Self(Client {
            id: ClientId::new(id),
            name: None,
            origin: ClientOrigin::Configured,
            redirect_uris: RedirectUris::parse(redirect_uris)?,
            authentication: Authentication::None,
        }))
    }

    /// Sets the name that users see.
    pub fn name(mut self, name: &str) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Lets the client authenticate with this secret (`client_secret_basic` or
    /// `client_secret_post`).
    ///
    /// # Errors
    /// [`ConfiguredClientError::Secret`]
    pub fn secret(mut self, secret: Secret) -> Result<Self, ConfiguredClientError> {
        #[expect(clippy::disallowed_methods, reason = "only its length")]
        if secret.expose().len() < Self::MIN_SECRET {
            return Err(ConfiguredClientError::Secret);
        }
        self.0.authentication = Authentication::Secret(secret);
        Ok(self)
    }

    /// Lets the client authenticate with assertions that one of these keys signed
    /// (`private_key_jwt`). `jwk_set` is its public key set.
    ///
    /// # Errors
    /// [`ConfiguredClientError::Keys`]
    pub fn private_key_jwt(mut self, jwk_set: &str) -> Result<Self, ConfiguredClientError> {
        Keys::parse_for(jwk_set.as_bytes(), assertion::algorithms())?;
        self.0.authentication = Authentication::PrivateKeyJwt(ClientKeys::Inline(jwk_set.into()));
        Ok(self)
    }

    /// Returns the name that users see; empty if none is set.
    pub fn shown_name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }

    /// Returns the ID.
    pub fn id(&self) -> &str {
        self.0.id.as_str()
    }
}
