//! Verifies tokens by asking their issuer (RFC 7662): opaque ones, and any other.
//!
//! # Example
//! ```no_run
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use tower_token_broker::{Broker, Secret};
//! use tower_token_broker::authenticate::introspection::{Introspection, IntrospectionClient};
//!
//! # fn verifier<S>(broker: &Broker, client: S, secret: Secret)
//! # -> Result<Introspection<S>, Box<dyn std::error::Error>>
//! # where
//! #     S: tower_service::Service<Request<Bytes>, Response = Response<Bytes>>,
//! #     S: Clone + Send + 'static,
//! #     S::Future: Send,
//! #     S::Error: std::fmt::Display,
//! # {
//! let us = IntrospectionClient::basic("token-broker", secret);
//! let (issuer, endpoint) = ("https://login.example.com", "https://login.example.com/introspect");
//! Ok(Introspection::new(broker, client, issuer, endpoint, us)?)
//! # }
//! ```
//!
//! # Accepted responses
//! Status 200 and one object of strict JSON, with `active: true`. `sub`, `client_id`, `exp` and
//! `iat` are required, `iss` must be the issuer if it is present, and `aud` must be the resource,
//! or [`audience`](Introspection::audience). At least one of `token_type`, `token_use` and `typ`
//! must name an access token, because a refresh token is active, too. Where `token_type` is the
//! only one, the response must have `aud`, `jti` or `uid`, and neither `nonce` nor a `jti` that
//! begins with `ID.`: some servers call every token `Bearer`. `scope`, `groups`, `acr` and
//! `cnf` are read as from a JWT; a token without `jti` is named by its digest.
//!
//! # Caching
//! The layer caches the verdicts: good ones for [`cache_for`](Introspection::cache_for) and never
//! past `exp`, bad ones for 5 s. A revocation at the issuer is seen after that; one by
//! [`Broker::revoke`](crate::Broker::revoke) at once. A running stream is not introspected again:
//! it ends with `exp`, or by a revocation of the broker's.
//!
//! # Limits
//! One request per token at a time, whose result all that wait for it share, and 256 in all; 10 s;
//! a response of 64 KiB. Half of the 256 are only for tokens that were valid within the last hour,
//! up to 16 384 of them, so that a client that invents tokens does not shut the others out. Further
//! requests wait up to 5 s for one of the 256; up to 1024 of them, not counting those of tokens
//! that were valid. Over a limit, and for any failure of the endpoint, the request is refused with
//! 503 (`authn.introspection_unavailable`).
//!
//! # Sources
//! RFC 7662, RFC 6749 §2.3.1, RFC 6750 §2.1.

mod flights;
mod places;
mod request;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use tower_service::Service;

use self::flights::Flights;
pub use self::request::IntrospectionClient;
use super::jwt::{
    EndpointError, TokenProfile,
    claims::{self, Expected},
    object,
};
use crate::{
    authenticate::{VerifyError, VerifyRequest, VerifyToken},
    clock::Clock,
    principal::Verified,
    refusal::Reason,
    tasks::Tasks,
};

/// Verifies tokens at the introspection endpoint of their issuer. See the [module](self).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct Introspection<S> {
    issuer: Arc<[Box<str>; 1]>,
    flights: Arc<Flights<S>>,
    profile: Arc<TokenProfile>,
    kept_claims: Arc<[Box<str>]>,
    cache_for: Duration,
}

impl<S> Introspection<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    /// The longest time for which a good verdict is cached, and the default.
    pub const LONGEST_CACHED: Duration = Duration::from_secs(60);

    pub(crate) fn build(
        client: S,
        issuer: &str,
        endpoint: &str,
        us: IntrospectionClient,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Self, EndpointError> {
        EndpointError::check(issuer)?;
        let endpoint: Uri = EndpointError::check(endpoint)?;
        Ok(Self {
            issuer: Arc::new([issuer.into()]),
            flights: Arc::new(Flights::new(client, endpoint, us, clock, tasks)),
            profile: Arc::new(TokenProfile::introspected()),
            kept_claims: Arc::from(Vec::new()),
            cache_for: Self::LONGEST_CACHED,
        })
    }

    /// Accepts this audience in place of the resource's URI.
    pub fn audience(self, audience: &str) -> Self {
        self.with_profile(|profile| profile.audience(audience))
    }

    /// Accepts tokens that name other audiences, too.
    pub fn with_other_audiences(self) -> Self {
        self.with_profile(TokenProfile::with_other_audiences)
    }

    /// Accepts tokens of these clients only. Then, a response without `aud` is accepted.
    pub fn only_clients<'a>(self, clients: impl IntoIterator<Item = &'a str>) -> Self {
        self.with_profile(|profile| profile.only_clients(clients))
    }

    /// Takes the user from this member of the response in place of `sub`. A response without it is
    /// refused (`jwt.missing_claim`). For servers whose `sub` is a login name, which can be given
    /// to another person; Okta has `uid`.
    pub fn subject_from(self, member: &str) -> Self {
        self.with_profile(|profile| profile.subject_from(member))
    }

    /// Keeps these members of the response for policies and credential sources
    /// ([`Principal::claim`](crate::principal::Principal::claim)), each up to 4 KiB of JSON.
    pub fn keep_claims<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.kept_claims = names.into_iter().map(Box::from).collect();
        self
    }

    /// Sets the time for which a good verdict is cached, at most 60 s; 60 s by default, and zero
    /// introspects for each request.
    pub fn cache_for(mut self, time: Duration) -> Self {
        self.cache_for = time.min(Self::LONGEST_CACHED);
        self
    }

    fn with_profile(mut self, change: impl FnOnce(TokenProfile) -> TokenProfile) -> Self {
        self.profile = Arc::new(change(TokenProfile::clone(&self.profile)));
        self
    }
}

impl<S> VerifyToken for Introspection<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        let unavailable = || VerifyError::for_now(Reason::IntrospectionUnavailable);
        let response = self.flights.introspect(request.token).await.ok_or_else(unavailable)?;
        // B496: an unreadable response proves nothing about the token.
        let response = object(&response).map_err(|_| unavailable())?;
        match response.get("active").and_then(|active| active.as_bool()) {
            Some(true) => {}
            Some(false) => {
                self.flights.note(request.token, false);
                return Err(VerifyError::because(Reason::UnknownToken));
            }
            None => return Err(unavailable()),
        }
        let [issuer] = &*self.issuer;
        let verified =
            claims::judge(response, &Expected { issuer, profile: &self.profile, request })?;
        let verified = claims::keep(verified, response, &self.kept_claims, &self.profile)?;
        self.flights.note(request.token, true);
        Ok(verified.cached_for(self.cache_for))
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        &*self.issuer
    }
}

impl<S> fmt::Debug for Introspection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
