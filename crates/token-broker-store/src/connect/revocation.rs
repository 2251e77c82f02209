//! Revocations that an authorization server has not confirmed yet (RFC 7009).

use std::{fmt, sync::Arc};

use tower_token_broker::{Secret, clock::Timestamp, principal::GrantId};

use crate::GrantKey;

/// ID of a pending revocation. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationId(Arc<str>);

impl RevocationId {
    /// Creates an ID.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tokens that no one uses any longer, and that their authorization server is still to revoke.
/// `Debug` does not print them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PendingRevocation {
    /// ID, unique in a store.
    pub id: RevocationId,
    /// User, server and account of the grant.
    pub key: GrantKey,
    /// ID of the grant that had the tokens.
    pub grant: GrantId,
    /// Issuer of the authorization server.
    pub authorization_server: Box<str>,
    /// The client that obtained the tokens; `None` if it is the configured one.
    pub client_id: Option<Box<str>>,
    /// The tokens, in the order in which they are revoked.
    pub tokens: Vec<RevokedToken>,
    /// When the tokens stopped being used here.
    pub created_at: Timestamp,
    /// Number of attempts that were begun.
    pub attempts: u32,
    /// No attempt begins before this instant.
    pub retry_at: Timestamp,
}

/// A token that is to be revoked. `Debug` does not print it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RevokedToken {
    /// Kind of the token.
    pub kind: RevokedTokenKind,
    /// The token.
    pub secret: Secret,
}

/// Kind of a token (`token_type_hint`, RFC 7009 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "stores must handle each")]
pub enum RevokedTokenKind {
    /// Refresh token.
    Refresh,
    /// Access token.
    Access,
}

impl RevokedTokenKind {
    /// Returns the `token_type_hint`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refresh => "refresh_token",
            Self::Access => "access_token",
        }
    }
}

impl RevokedToken {
    /// Creates a token to be revoked.
    pub const fn new(kind: RevokedTokenKind, secret: Secret) -> Self {
        Self { kind, secret }
    }
}

impl PendingRevocation {
    /// Creates a revocation that is due at once.
    pub fn new(
        id: RevocationId,
        (key, grant): (GrantKey, GrantId),
        authorization_server: &str,
        tokens: Vec<RevokedToken>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            key,
            grant,
            authorization_server: authorization_server.into(),
            client_id: None,
            tokens,
            created_at,
            attempts: 0,
            retry_at: created_at,
        }
    }

    /// Sets the client that obtained the tokens.
    #[must_use = "returns the changed revocation"]
    pub fn client_id(mut self, client_id: Option<&str>) -> Self {
        self.client_id = client_id.map(Into::into);
        self
    }
}
