//! Token endpoint: issues broker tokens for authorization codes and refresh tokens.
//!
//! # Codes
//! A code is redeemed once, by the client that it was issued to, with the verifier of its PKCE
//! challenge (S256). The first wrong verifier ends it. A client that presents a redeemed code again
//! within ten seconds, with the right verifier, is refused and nothing more, because clients repeat
//! requests whose response was lost; any other replay ends the family of its tokens. A code is used
//! up last, when its access token was minted and recorded; a redemption whose outcome the store did
//! not return can be completed by its client.
//!
//! # Refresh tokens
//! A refresh token is derived from its family and its generation. Its use begins the next
//! generation. A generation that was superseded is accepted for
//! [`TokenSettings::stale_generation_grace`] and obtains the current refresh token, because
//! processes of one client share a store and refresh at the same time. The predecessor of the
//! current generation is accepted as long as the current one was not used. After that, reuse ends
//! the family. A refused request consumes nothing.
//!
//! # Failures
//! `invalid_grant` makes a client forget its sign-in, so no trouble of the broker has that code:
//! while the store, the audit log, the signing keys or the revocation feed fail, or the process
//! shuts down, a request is refused with 503 and `Retry-After`, and is good later.
//!
//! # Sources
//! OAuth 2.1 §4.1.3, 4.3; RFC 7636 §4.5, 4.6; RFC 8707 §2.2; RFC 9700 §4.14.

mod access_end;
mod code;
mod family_end;
pub(crate) mod pkce;
mod refresh;
pub(crate) mod refresh_token;
mod response;
pub(crate) mod revoked_tokens;
mod standing;
mod unfinished;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{AuthorityStore, LookupKey};
use tower_token_broker::{Broker, principal::Resource};

pub use self::{
    access_end::end_families,
    family_end::{FamilyEnder, NotEnded},
};
pub(crate) use self::{revoked_tokens::RevokedTokens, unfinished::Unfinished};
use crate::{
    client::authentication::Authenticator,
    key_rotation::SigningKeyring,
    limits::{CallerLimiter, Network, Quota},
    oauth_error::{EndpointError, ErrorCode},
    params::Params,
    request::EndpointRequest,
};

/// Settings of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct TokenSettings {
    /// Lifetime of a broker token; 10 minutes by default, at most 24 hours.
    pub access_token_lifetime: Duration,
    /// A family ends when no refresh token was used for this time; 30 days by default.
    pub refresh_idle_lifetime: Duration,
    /// A family ends after this time; 180 days by default.
    pub refresh_absolute_lifetime: Duration,
    /// Time after which the reuse of a superseded refresh token ends its family; 10 minutes by
    /// default. The predecessor of the current one is accepted until the current one was used.
    pub stale_generation_grace: Duration,
    /// Time in which the replay of a code by its own client ends nothing; 10 seconds by default.
    pub code_replay_grace: Duration,
    /// Requests from one address; 1200 per minute by default.
    pub per_address: Quota,
}

impl Default for TokenSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            access_token_lifetime: Duration::from_secs(10 * 60),
            refresh_idle_lifetime: DAY.saturating_mul(30),
            refresh_absolute_lifetime: DAY.saturating_mul(180),
            stale_generation_grace: Duration::from_secs(10 * 60),
            code_replay_grace: Duration::from_secs(10),
            per_address: Quota::per_minute(1200),
        }
    }
}

/// The token endpoint.
#[derive(Debug)]
pub(crate) struct TokenEndpoint<S> {
    pub(crate) broker: Broker,
    pub(crate) issuer: Box<str>,
    pub(crate) store: Arc<S>,
    pub(crate) lookup: LookupKey,
    pub(crate) keyring: Arc<SigningKeyring<S>>,
    pub(crate) clients: Arc<Authenticator<S>>,
    pub(crate) settings: TokenSettings,
    pub(crate) families: FamilyEnder<S>,
    pub(crate) unfinished: Unfinished,
    pub(crate) revoked: RevokedTokens,
    pub(crate) per_address: CallerLimiter,
}

pub(crate) const NOT_STORED: EndpointError =
    EndpointError::unavailable("the store is not available");
const INVALID_GRANT: EndpointError =
    EndpointError::new(ErrorCode::InvalidGrant, "the code or refresh token is not valid");

impl<S: AuthorityStore> TokenEndpoint<S> {
    /// Responds to a request.
    ///
    /// # Cancellation
    /// What is stored stays stored. A client that repeats a refresh obtains the same successor.
    pub(crate) async fn respond(&self, request: &EndpointRequest) -> Response<Bytes> {
        self.issue(request).await.unwrap_or_else(EndpointError::response)
    }

    async fn issue(&self, request: &EndpointRequest) -> Result<Response<Bytes>, EndpointError> {
        let params = request.form()?;
        self.per_address.take(Network::of(request.peer)).map_err(EndpointError::too_many)?;
        // F135
        let grant_type = params.get("grant_type").ok_or(missing("grant_type is missing"))?;
        match grant_type {
            "authorization_code" => self.redeem(request, &params).await,
            "refresh_token" => self.refresh(request, &params).await,
            _ => {
                let description = "the grant type is authorization_code or refresh_token";
                Err(EndpointError::new(ErrorCode::UnsupportedGrantType, description))
            }
        }
    }
}

const fn missing(description: &'static str) -> EndpointError {
    EndpointError::new(ErrorCode::InvalidRequest, description)
}

/// Checks the resource of a request against the granted one. A request may name none.
// F126, F133
fn check_resource(params: &Params, granted: &Resource) -> Result<(), EndpointError> {
    match params.get("resource") {
        Some(resource) if !is_same_resource(resource, granted) => {
            let description = "the resource is another one than the user allowed";
            Err(EndpointError::new(ErrorCode::InvalidTarget, description))
        }
        _ => Ok(()),
    }
}

/// Returns whether a text names a resource: case of scheme and host does not count (RFC 3986
/// §6.2.2.1), nor the slash of an empty path.
// D095: the only forms that are canonicalized.
pub(crate) fn is_same_resource(text: &str, resource: &Resource) -> bool {
    let Some((scheme, after)) = text.split_once("://") else { return false };
    let host_ends = after.find(['/', '?', '#']).unwrap_or(after.len());
    let Some((authority, rest)) = after.split_at_checked(host_ends) else { return false };
    if authority.contains('@') {
        return false;
    }
    let scheme = scheme.to_ascii_lowercase();
    let canonical = format!("{scheme}://{}{rest}", authority.to_ascii_lowercase());
    resource.is_named_by(&canonical)
}
