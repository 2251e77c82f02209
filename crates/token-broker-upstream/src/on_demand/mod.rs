//! Access tokens that one request to a token endpoint returns: the common part of token exchange
//! and client credentials. They are kept in memory only, because a lost token can be requested
//! again.

mod attempt;
mod cache_entry;
mod provider;
mod server_pause;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::Request;
use tower_token_broker::{
    Secret,
    audit::GrantType,
    clock::Timestamp,
    exchange::CredentialError,
    principal::{Principal, Scopes},
};

use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    cache_key::Parts,
};

pub(crate) use provider::OnDemand;

/// A request to the token endpoint.
pub(crate) struct TokenRequest {
    pub(crate) request: Request<Bytes>,
    /// The tokens in it, which a response may repeat.
    pub(crate) sent: Vec<Secret>,
}

/// The parts in which token exchange and client credentials differ.
pub(crate) trait RequestToken: Send + Sync + 'static {
    /// Name of the grant type, in keys and logs.
    const GRANT_TYPE: GrantType;
    /// Whether each user has tokens of its own. If not, the broker requests for all of them.
    const IS_PER_USER: bool;

    /// Adds to the key what of the caller and its account determines the token.
    fn key(&self, caller: &Principal, account: Option<&str>, parts: Parts) -> Parts;

    /// Returns the request to the token endpoint.
    fn request(
        &self,
        server: &AuthorizationServer,
        caller: &Principal,
        requested: &Scopes,
        now: Timestamp,
    ) -> impl Future<Output = Result<TokenRequest, CredentialError>> + Send;

    /// Whether the issued token is of the requested type.
    fn accepts(&self, tokens: &Tokens) -> bool;

    /// Returns what a refusal of the server means for the caller. `need` are the scopes of the
    /// rule, in addition to the operator's.
    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError;
}
