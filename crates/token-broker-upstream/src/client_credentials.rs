//! One access token for all callers, which the broker requests as itself (RFC 6749 §4.4).

use token_broker_outbound::GuardedClient;
use tower_token_broker::{
    Broker,
    alarm::Alarm,
    audit::GrantType,
    clock::Timestamp,
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{Principal, Scopes},
};

use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    cache_key::Parts,
    on_demand::{OnDemand, RequestToken, TokenRequest},
};

/// Provides one access token for all callers, which the broker requests as itself: as a client of
/// the upstream's authorization server.
///
/// Every caller that the policy allows acts upstream as the broker. Use
/// [`TokenExchange`](crate::TokenExchange) for an upstream that must know the user. Limits and
/// refusals are those of [token exchange](crate::token_exchange), except that `invalid_grant` and
/// errors that a user would have to resolve are refused by policy, because there is no user.
///
/// # Example
/// ```
/// use token_broker_outbound::{Guard, GuardedClient};
/// use token_broker_upstream::{AuthorizationServer, ClientAuthentication, ClientCredentials};
/// use tower_token_broker::{Secret, exchange::Upstream, principal::Scopes};
///
/// # fn credentials(
/// #     broker: &tower_token_broker::Broker,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthorizationServer::new(
///     "https://login.crm.example",
///     "https://login.crm.example/token".parse()?,
///     ClientAuthentication::basic("broker", Secret::from_text("from a file".into())),
/// )
/// .scopes(Scopes::parse("crm:read")?);
/// let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
/// let client = GuardedClient::new(&Guard::new())?;
/// let credentials = ClientCredentials::new(broker, upstream, server, client);
/// # drop(credentials);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a provider does nothing until an exchange layer has it"]
pub struct ClientCredentials(OnDemand<OfTheBroker>);

#[derive(Debug)]
struct OfTheBroker;

impl ClientCredentials {
    /// Creates a provider for this upstream. `client` sends the requests to the token endpoint of
    /// `server`, in tasks of the broker and by its clock.
    pub fn new(
        broker: &Broker,
        upstream: Upstream,
        server: AuthorizationServer,
        client: GuardedClient,
    ) -> Self {
        Self(OnDemand::new(broker, OfTheBroker, upstream, server, client))
    }
}

impl RequestToken for OfTheBroker {
    const GRANT_TYPE: GrantType = GrantType::ClientCredentials;
    const IS_PER_USER: bool = false;

    /// The token is the same for every caller.
    fn key(&self, _: &Principal, _: Option<&str>, parts: Parts) -> Parts {
        parts
    }

    async fn request(
        &self,
        server: &AuthorizationServer,
        _: &Principal,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<TokenRequest, CredentialError> {
        match server.client_credentials_request(requested, now) {
            Ok(request) => Ok(TokenRequest { request, sent: Vec::new() }),
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::ClientAuthenticationFailed.code(),
                    error = %error,
                    "the broker could not authenticate as a client"
                );
                Err(CredentialError::Unavailable { retry_after: None })
            }
        }
    }

    fn accepts(&self, _: &Tokens) -> bool {
        true
    }

    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError {
        match denial {
            Denial::Scopes if !need.is_empty() => {
                CredentialError::ScopeRequired { missing: need.clone() }
            }
            Denial::Grant | Denial::User | Denial::Scopes | Denial::Policy => {
                CredentialError::RefusedByPolicy
            }
            Denial::Client => CredentialError::Unavailable { retry_after: None },
        }
    }
}

impl ProvideCredential for ClientCredentials {
    fn upstream(&self) -> &Upstream {
        self.0.upstream()
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.0.recall(request)
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.0.credential(request).await
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        self.0.refused(refusal.credential);
    }
}
