//! Gives one access token for all callers, which the broker gets as itself (RFC 6749 §4.4).

use bytes::Bytes;
use http::Request;
use token_broker_outbound::GuardedClient;
use tower_token_broker::{
    audit::Trail,
    clock::{Clock, Timestamp},
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{Principal, Scopes},
    tasks::Tasks,
};

use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    key::Parts,
    requested::{Ask, Requested},
};

/// Gives one access token for all callers, which the broker gets as itself: a client of the upstream's authorization server.
///
/// Every caller that the policy lets through acts upstream as the broker. Where the upstream shall know who it is, take
/// [`TokenExchange`](crate::TokenExchange). What is kept in memory, for how long, and which failure is what refusal: as
/// [there](crate::token_exchange); `invalid_grant` and what a user would have to do are refused by policy, for there is no user.
///
/// # Example
/// ```
/// use token_broker_outbound::{Guard, GuardedClient};
/// use token_broker_upstream::{AuthorizationServer, ClientAuthentication, ClientCredentials};
/// use tower_token_broker::{Secret, exchange::Upstream, principal::Scopes};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::new(
///     "https://login.crm.example",
///     "https://login.crm.example/token".parse()?,
///     ClientAuthentication::basic("broker", Secret::from_text("from a file".into())),
/// )
/// .scopes(Scopes::parse("crm:read")?);
/// let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
/// let credentials = ClientCredentials::new(upstream, server, GuardedClient::new(&Guard::new())?);
/// # drop(credentials);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a provider that is put into no exchange layer gives nothing"]
pub struct ClientCredentials(Requested<OfTheBroker>);

#[derive(Debug)]
struct OfTheBroker;

impl ClientCredentials {
    /// For this upstream, from this authorization server, which is asked by this client.
    pub fn new(upstream: Upstream, server: AuthorizationServer, client: GuardedClient) -> Self {
        Self(Requested::new(OfTheBroker, upstream, server, client))
    }

    /// Asks this clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self(self.0.with(|shared| shared.clock = clock))
    }

    /// Has this owner run the requests, so that a shutdown can wait for them.
    pub fn with_tasks(self, tasks: Tasks) -> Self {
        Self(self.0.with(|shared| shared.tasks = tasks))
    }
}

impl Ask for OfTheBroker {
    const NAME: &'static str = "client_credentials";

    /// Whoever calls, it is the same.
    fn key(&self, _: &Principal, parts: Parts) -> Parts {
        parts
    }

    async fn request(
        &self,
        server: &AuthorizationServer,
        _: &Principal,
        asked: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, CredentialError> {
        server.client_credentials_request(asked, now).map_err(|error| {
            tracing::error!(error = %error, "the broker could not show who it is as a client");
            CredentialError::Unavailable { retry_after: None }
        })
    }

    fn accepts(&self, _: &Tokens) -> bool {
        true
    }

    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError {
        match denial {
            Denial::Scopes if !need.is_empty() => {
                CredentialError::ScopeRequired { missing: need.clone(), connect_url: None }
            }
            Denial::Grant | Denial::User | Denial::Scopes | Denial::Policy => CredentialError::RefusedByPolicy,
            Denial::Client => CredentialError::Unavailable { retry_after: None },
        }
    }
}

impl ProvideCredential for ClientCredentials {
    fn upstream(&self) -> &Upstream {
        self.0.upstream()
    }

    fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        self.0.recall(caller, need)
    }

    async fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> Result<Credential, CredentialError> {
        self.0.credential(caller, need, trail).await
    }

    async fn refused(&self, credential: &Credential) {
        self.0.refused(credential);
    }
}
