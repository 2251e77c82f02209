//! Tokens to exchange: their types and their sources.

use std::{fmt, pin::Pin};

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    exchange::CredentialError,
    principal::{Actor, Principal},
};

use super::Assertion;
use crate::cache_key::Parts;

/// Token that identifies a user, or who acts for the user, at an authorization server (RFC 8693
/// §2.1).
#[derive(Clone, Debug)]
pub struct SecurityToken {
    pub(crate) kind: TokenType,
    pub(crate) secret: Secret,
}

impl SecurityToken {
    /// Creates a token of this type.
    pub const fn new(kind: TokenType, secret: Secret) -> Self {
        Self { kind, secret }
    }
}

/// Type of a token (RFC 8693 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// OAuth access token.
    AccessToken,
    /// ID token (OpenID Connect Core §2).
    IdToken,
    /// Any other JWT.
    Jwt,
    /// SAML 2.0 assertion.
    Saml2,
}

impl TokenType {
    /// Returns its URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::Saml2 => "urn:ietf:params:oauth:token-type:saml2",
        }
    }
}

/// Provides tokens of your own: for example the token that your identity provider issued when the
/// user signed in.
///
/// The broker token is not available here, because the authenticate layer removed it.
///
/// # Example
/// ```
/// use token_broker_upstream::{ProvideToken, SecurityToken, TokenType};
/// use tower_token_broker::{Secret, exchange::CredentialError, principal::Principal};
///
/// struct IdTokens(std::collections::HashMap<Box<str>, Secret>);
///
/// impl ProvideToken for IdTokens {
///     async fn token(&self, caller: &Principal) -> Result<SecurityToken, CredentialError> {
///         let token = self.0.get(caller.subject()).ok_or(CredentialError::ConnectRequired)?;
///         Ok(SecurityToken::new(TokenType::IdToken, token.clone()))
///     }
/// }
/// ```
pub trait ProvideToken: Send + Sync + 'static {
    /// Returns the token for this caller. It may depend on everything of the caller except ID,
    /// times and confirmation (`cnf`) of the broker token: what is obtained for it is kept for all
    /// broker tokens that are alike in the rest.
    ///
    /// # Errors
    /// The reason why there is none. It is not remembered: the next call requests a token again.
    ///
    /// # Cancellation
    /// Dropped after 5 s. A caller that is dropped does not cancel it.
    fn token(
        &self,
        caller: &Principal,
    ) -> impl Future<Output = Result<SecurityToken, CredentialError>> + Send;
}

/// Source of subject or actor tokens: an [`Assertion`] that the broker signs, or your
/// [`ProvideToken`].
pub struct TokenSource(Source);

enum Source {
    Signed(Assertion),
    Supplied(Box<dyn Supply>),
}

type Supplied<'a> =
    Pin<Box<dyn Future<Output = Result<SecurityToken, CredentialError>> + Send + 'a>>;

/// Erased [`ProvideToken`].
trait Supply: Send + Sync {
    fn supply<'a>(&'a self, caller: &'a Principal) -> Supplied<'a>;
}

impl<P: ProvideToken> Supply for P {
    fn supply<'a>(&'a self, caller: &'a Principal) -> Supplied<'a> {
        Box::pin(self.token(caller))
    }
}

impl From<Assertion> for TokenSource {
    fn from(assertion: Assertion) -> Self {
        Self(Source::Signed(assertion))
    }
}

impl<P: ProvideToken> From<P> for TokenSource {
    fn from(supplier: P) -> Self {
        Self(Source::Supplied(Box::new(supplier)))
    }
}

impl TokenSource {
    pub(super) async fn token(
        &self,
        caller: &Principal,
        server: &str,
        now: Timestamp,
    ) -> Result<SecurityToken, CredentialError> {
        match &self.0 {
            Source::Signed(assertion) => assertion.token(caller, server, now),
            Source::Supplied(supplier) => supplier.supply(caller).await,
        }
    }

    /// Adds to the key all of the caller that the source can look at.
    pub(super) fn key(&self, caller: &Principal, parts: Parts) -> Parts {
        let parts = parts.user(caller.user());
        match &self.0 {
            Source::Signed(_) => actors(caller, parts),
            Source::Supplied(_) => actors(caller, parts)
                .part(caller.client())
                .part(caller.resource().as_str())
                .list(caller.family().into_iter())
                .list(caller.scopes().iter())
                .list(caller.account().into_iter())
                .list(caller.groups().iter().map(|group| &**group))
                .list(caller.acr().into_iter())
                .list(caller.claims().flat_map(|(name, value)| [name, value.raw()])),
        }
    }
}

fn actors(caller: &Principal, parts: Parts) -> Parts {
    let chain = std::iter::successors(caller.actor(), |actor| actor.before());
    parts.list(chain.map(Actor::user).flat_map(|user| [user.issuer(), user.subject()]))
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Signed(assertion) => assertion.fmt(f),
            Source::Supplied(_) => f.write_str("ProvideToken"),
        }
    }
}
