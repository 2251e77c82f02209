//! The provider: exchanges tokens of one source for access tokens of one upstream.

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

use super::{TokenSource, TokenType};
use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    cache_key::Parts,
    connect_url::ConnectUrl,
    on_demand::{OnDemand, RequestToken, TokenRequest},
};

/// Provides each caller's own access token, in exchange for a token that identifies the caller. See
/// the [module](crate::token_exchange).
#[derive(Debug)]
#[must_use = "a provider does nothing until an exchange layer has it"]
pub struct TokenExchange {
    requested: OnDemand<Exchange>,
    connect_url: ConnectUrl,
}

#[derive(Debug)]
struct Exchange {
    subject: TokenSource,
    actor: Option<TokenSource>,
}

impl TokenExchange {
    /// Creates a provider that exchanges the tokens of `subject` for access tokens of this
    /// upstream. `client` sends the requests to the token endpoint of `server`, in tasks of the
    /// broker and by its clock.
    pub fn new(
        broker: &Broker,
        subject: impl Into<TokenSource>,
        upstream: Upstream,
        server: AuthorizationServer,
        client: GuardedClient,
    ) -> Self {
        let exchange = Exchange { subject: subject.into(), actor: None };
        Self {
            requested: OnDemand::new(broker, exchange, upstream, server, client),
            connect_url: ConnectUrl::default(),
        }
    }

    /// Sends also a token of this source, which identifies who acts for the caller (`actor_token`).
    pub fn actor(self, source: impl Into<TokenSource>) -> Self {
        let requested = self.requested.with(|shared| shared.requester.actor = Some(source.into()));
        Self { requested, ..self }
    }

    /// Sets the page for a caller that must act at the authorization server first. It is a page of
    /// the broker, and its URL contains no secret.
    pub fn connect_url(
        mut self,
        of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static,
    ) -> Self {
        self.connect_url = ConnectUrl::new(of);
        self
    }
}

impl RequestToken for Exchange {
    const GRANT_TYPE: GrantType = GrantType::TokenExchange;
    const IS_PER_USER: bool = true;

    fn key(&self, caller: &Principal, account: Option<&str>, parts: Parts) -> Parts {
        let parts = self.subject.key(caller, parts.list(account.into_iter()));
        match &self.actor {
            Some(actor) => actor.key(caller, parts),
            None => parts,
        }
    }

    async fn request(
        &self,
        server: &AuthorizationServer,
        caller: &Principal,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<TokenRequest, CredentialError> {
        let subject = self.subject.token(caller, server.issuer(), now).await?;
        let actor = match &self.actor {
            Some(actor) => Some(actor.token(caller, server.issuer(), now).await?),
            None => None,
        };
        match server.exchange_request(&subject, actor.as_ref(), requested, now) {
            Ok(request) => {
                let sent = [Some(subject), actor].into_iter().flatten();
                Ok(TokenRequest { request, sent: sent.map(|token| token.secret).collect() })
            }
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

    /// RFC 8693 §2.2.1: the server names the type of the issued token; it must be the requested
    /// one.
    fn accepts(&self, tokens: &Tokens) -> bool {
        tokens.issued_token_type.as_deref() == Some(TokenType::AccessToken.as_str())
    }

    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError {
        match denial {
            Denial::Grant => CredentialError::Revoked,
            Denial::User => CredentialError::ConnectRequired,
            Denial::Scopes if !need.is_empty() => {
                CredentialError::ScopeRequired { missing: need.clone() }
            }
            Denial::Scopes | Denial::Policy => CredentialError::RefusedByPolicy,
            Denial::Client => CredentialError::Unavailable { retry_after: None },
        }
    }
}

impl ProvideCredential for TokenExchange {
    fn upstream(&self) -> &Upstream {
        self.requested.upstream()
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.requested.recall(request)
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.requested.credential(request).await
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        self.requested.refused(refusal.credential);
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.connect_url.of(caller)
    }
}
