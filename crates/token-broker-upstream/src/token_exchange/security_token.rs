//! The tokens that are exchanged: what they are, and where they come from.

use std::{fmt, pin::Pin};

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    exchange::CredentialError,
    principal::{Actor, Principal},
};

use super::Assertion;
use crate::key::Parts;

/// A token that says to an authorization server for whom a token is wanted, or who acts (RFC 8693 §2.1).
#[derive(Clone, Debug)]
pub struct SecurityToken {
    pub(crate) kind: TokenType,
    pub(crate) secret: Secret,
}

impl SecurityToken {
    /// A token of this kind.
    #[must_use]
    pub const fn new(kind: TokenType, secret: Secret) -> Self {
        Self { kind, secret }
    }
}

/// What a token is (RFC 8693 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// An OAuth access token.
    AccessToken,
    /// An ID token (OpenID Connect Core §2).
    IdToken,
    /// Another JWT.
    Jwt,
    /// A SAML 2.0 assertion.
    Saml2,
}

impl TokenType {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::Saml2 => "urn:ietf:params:oauth:token-type:saml2",
        }
    }
}

/// Gives a token of your own for a caller: what your identity provider gave you when the user signed in, say.
///
/// The broker token is not among what can be given: the authenticate layer took it off, and nobody further in has it.
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
///         let token = self.0.get(caller.subject()).ok_or(CredentialError::ConnectRequired { connect_url: None })?;
///         Ok(SecurityToken::new(TokenType::IdToken, token.clone()))
///     }
/// }
/// ```
pub trait ProvideToken: Send + Sync + 'static {
    /// The token for this caller. It may depend on all of the caller but the broker token's own id and times, for what is got
    /// for it is kept for those who are alike in the rest.
    ///
    /// # Errors
    /// Why there is none. It is not remembered: the next call asks again.
    ///
    /// # Cancellation
    /// Dropped when it takes more than 5 s; nobody else ends it.
    fn token(&self, caller: &Principal) -> impl Future<Output = Result<SecurityToken, CredentialError>> + Send;
}

/// Where a subject or actor token comes from: an [`Assertion`] that the broker signs itself, or a [`ProvideToken`] of yours.
pub struct TokenSource(Source);

enum Source {
    Signed(Assertion),
    Supplied(Box<dyn Supply>),
}

type Supplied<'a> = Pin<Box<dyn Future<Output = Result<SecurityToken, CredentialError>> + Send + 'a>>;

/// [`ProvideToken`], whoever it is.
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

    /// What of the caller takes part. Issuer and subject always do, whatever a source looks at.
    pub(super) fn key(&self, caller: &Principal, parts: Parts) -> Parts {
        let parts = parts.user(caller.user());
        match &self.0 {
            Source::Signed(_) => actors(caller, parts),
            Source::Supplied(_) => actors(caller, parts)
                .part(caller.client())
                .part(caller.resource().as_str())
                .list(caller.family().into_iter())
                .list(caller.scopes().iter()),
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
