//! The provider of exchanged tokens.

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

use super::{TokenSource, TokenType};
use crate::{
    authorization_server::{AuthorizationServer, Denial, Tokens},
    connect::ConnectUrl,
    key::Parts,
    requested::{Ask, Requested},
};

/// Gives each caller an access token that the authorization server gives in exchange for one that says who the caller is. See
/// [the module](crate::token_exchange).
#[derive(Debug)]
#[must_use = "a provider that is put into no exchange layer gives nothing"]
pub struct TokenExchange {
    requested: Requested<Exchange>,
    connect_url: ConnectUrl,
}

#[derive(Debug)]
struct Exchange {
    subject: TokenSource,
    actor: Option<TokenSource>,
}

impl TokenExchange {
    /// In exchange for the tokens of this source, for this upstream, from this authorization server, which is asked by this client.
    pub fn new(
        subject: impl Into<TokenSource>,
        upstream: Upstream,
        server: AuthorizationServer,
        client: GuardedClient,
    ) -> Self {
        let exchange = Exchange { subject: subject.into(), actor: None };
        Self { requested: Requested::new(exchange, upstream, server, client), connect_url: ConnectUrl::default() }
    }

    /// Sends a token of this source along that says who acts for the caller (`actor_token`).
    pub fn actor(self, source: impl Into<TokenSource>) -> Self {
        let requested = self.requested.with(|shared| shared.ask.actor = Some(source.into()));
        Self { requested, ..self }
    }

    /// Sends whoever must do something at the authorization server first to the page that this makes of the caller. It is the
    /// broker's own, and has nothing secret in it.
    pub fn connect_url(mut self, of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static) -> Self {
        self.connect_url = ConnectUrl::new(of);
        self
    }

    /// Asks this clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { requested: self.requested.with(|shared| shared.clock = clock), ..self }
    }

    /// Has this owner run the requests, so that a shutdown can wait for them.
    pub fn with_tasks(self, tasks: Tasks) -> Self {
        Self { requested: self.requested.with(|shared| shared.tasks = tasks), ..self }
    }
}

impl Ask for Exchange {
    const NAME: &'static str = "token_exchange";

    fn key(&self, caller: &Principal, parts: Parts) -> Parts {
        let parts = self.subject.key(caller, parts);
        match &self.actor {
            Some(actor) => actor.key(caller, parts),
            None => parts,
        }
    }

    async fn request(
        &self,
        server: &AuthorizationServer,
        caller: &Principal,
        asked: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, CredentialError> {
        let subject = self.subject.token(caller, server.issuer(), now).await?;
        let actor = match &self.actor {
            Some(actor) => Some(actor.token(caller, server.issuer(), now).await?),
            None => None,
        };
        server.exchange_request(&subject, actor.as_ref(), asked, now).map_err(|error| {
            tracing::error!(error = %error, "the broker could not show who it is as a client");
            CredentialError::Unavailable { retry_after: None }
        })
    }

    /// RFC 8693 §2.2.1: it says which of the kinds it gave, and it is the one that was asked for.
    fn accepts(&self, tokens: &Tokens) -> bool {
        tokens.issued_token_type.as_deref() == Some(TokenType::AccessToken.as_str())
    }

    fn denied(&self, denial: Denial, need: &Scopes) -> CredentialError {
        match denial {
            Denial::Grant => CredentialError::Revoked { connect_url: None },
            Denial::User => CredentialError::ConnectRequired { connect_url: None },
            Denial::Scopes if !need.is_empty() => {
                CredentialError::ScopeRequired { missing: need.clone(), connect_url: None }
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

    fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        self.requested.recall(caller, need)
    }

    async fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> Result<Credential, CredentialError> {
        self.requested.credential(caller, need, trail).await
    }

    async fn refused(&self, credential: &Credential) {
        self.requested.refused(credential);
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.connect_url.of(caller)
    }
}
