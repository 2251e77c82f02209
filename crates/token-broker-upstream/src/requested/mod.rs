//! Access tokens that one request to a token endpoint gives, as often as one is needed: kept in memory alone, for nothing is lost
//! with them. What token exchange and client credentials have in common.

mod attempt;
mod provider;
mod slot;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::Request;
use tower_token_broker::{
    clock::Timestamp,
    exchange::CredentialError,
    principal::{Principal, Scopes},
};

use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    key::Parts,
};

pub(crate) use provider::Requested;

/// What is asked for, and for whom: all in which the two differ.
pub(crate) trait Ask: Send + Sync + 'static {
    /// The grant, in keys and in the log.
    const NAME: &'static str;

    /// What of the caller takes part in the answer.
    fn key(&self, caller: &Principal, parts: Parts) -> Parts;

    /// The request to the token endpoint.
    fn request(
        &self,
        server: &AuthorizationServer,
        caller: &Principal,
        asked: &Scopes,
        now: Timestamp,
    ) -> impl Future<Output = Result<Request<Bytes>, CredentialError>> + Send;

    /// Whether the answer is of the kind that was asked for.
    fn accepts(&self, tokens: &Tokens) -> bool;

    /// What the server's no means to the caller. `need` is what the rule asked for beyond the operator's scopes.
    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError;
}
