//! A token endpoint on loopback that rotates refresh tokens, accepts each once, and records what it
//! received and sent.

use std::{sync::Arc, time::Duration};

use http::Response;
use parking_lot::Mutex;
use token_broker_authority::issue::{Algorithm, SigningKey};
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_store::{AccessToken, Account, Grant, GrantKey, MemoryGrants};
use token_broker_upstream::{
    Assertion, AuthorizationServer, ClientAuthentication, SignError, StoredGrants, TokenExchange,
};
use tower_token_broker::{
    Broker, Secret,
    clock::Clock,
    exchange,
    principal::{GrantId, Scopes, User},
};

use crate::{
    harness::ISSUER,
    ledger::Ledger,
    upstream::{Received, ScriptedBody, ScriptedServer, json},
};

/// Client secret of the broker at the token endpoint.
pub const CLIENT_SECRET: &str = "tbm-cs-Yw4nHd8sLq2ZtVb6RkXm9PcJ";

/// ID of the only grant, which is alice's.
pub const GRANT: &str = "alices-grant";

/// The endpoint. It stops with the test's runtime.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    scripted: ScriptedServer,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl TokenEndpoint {
    /// Starts an endpoint that returns [`TokenEndpoint::access_token`] 1, 2, … for
    /// [`TokenEndpoint::refresh_token`] 0, 1, …, each once.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn start() -> Self {
        let issued = Mutex::new(0);
        Self::responding_with(move |request| {
            let form = String::from_utf8(request.body.to_vec()).expect("a form");
            let mut issued = issued.lock();
            if !form.contains(&format!("refresh_token={}&", Self::refresh_token(*issued))) {
                return (400, r#"{"error":"invalid_grant"}"#.to_owned());
            }
            *issued += 1;
            (200, Self::tokens(*issued))
        })
        .await
    }

    /// Starts an endpoint that responds with the status and body that a function returns.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn responding_with<F>(response: F) -> Self
    where
        F: Fn(&Received) -> (u16, String) + Send + Sync + 'static,
    {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let scripted = ScriptedServer::start(move |request| -> Response<ScriptedBody> {
            let (status, body) = response(request);
            log.lock().extend_from_slice(body.as_bytes());
            let mut response = json(&body);
            *response.status_mut() = status.try_into().expect("a status");
            response
        })
        .await;
        Self { scripted, sent }
    }

    /// Returns the token response with the tokens of a number.
    pub fn tokens(number: usize) -> String {
        let (access, refresh) = (Self::access_token(number), Self::refresh_token(number));
        format!(
            "{{\"access_token\":\"{access}\",\"token_type\":\"Bearer\",\
             \"expires_in\":3600,\"refresh_token\":\"{refresh}\",\
             \"scope\":\"crm:read\"}}"
        )
    }

    /// Returns the access token of a number. The grant may have number 0 from the start.
    pub fn access_token(number: usize) -> String {
        format!("tbm-at-{number}-Kd7Qw2XsLr9VnTz4HbYc6JpUfEg")
    }

    /// Returns the refresh token of a number. The grant has number 0 from the start.
    pub fn refresh_token(number: usize) -> String {
        format!("tbm-rt-{number}-Mv3Pq8ZkWs5XdRt2LyNh7GcBjFu")
    }

    /// Returns the number of requests received.
    pub fn posts(&self) -> usize {
        self.scripted.received().len()
    }

    /// Creates a credential source with alice's grant but no access token, so that the first call
    /// requests one.
    ///
    /// # Panics
    /// Panics if no TLS configuration is available.
    pub fn grants(&self, broker: &Broker, upstream: &ScriptedServer) -> StoredGrants<MemoryGrants> {
        self.provider(broker, upstream, false)
    }

    /// Creates a credential source whose store has alice's grant for a server of this name, of this
    /// authorization server; `None`: of the configured one.
    ///
    /// # Panics
    /// Panics if no TLS configuration is available.
    pub fn grants_of(
        &self,
        broker: &Broker,
        upstream: &ScriptedServer,
        server_name: &str,
        issuer: Option<&str>,
    ) -> StoredGrants<MemoryGrants> {
        let store = MemoryGrants::new();
        store.insert(self.grant_of(server_name, issuer)).expect("an ID of its own");
        self.grants_in(store, broker, upstream)
    }

    /// Creates a credential source with the grants in this store.
    ///
    /// # Panics
    /// Panics if no TLS configuration is available.
    pub fn grants_in(
        &self,
        store: MemoryGrants,
        broker: &Broker,
        upstream: &ScriptedServer,
    ) -> StoredGrants<MemoryGrants> {
        StoredGrants::new(broker, store, target(upstream), self.server(), guarded())
    }

    /// Returns alice's grant for a server of this name, as for [`TokenEndpoint::grants_of`].
    ///
    /// # Panics
    /// Never: the scopes are valid.
    pub fn grant_of(&self, server_name: &str, issuer: Option<&str>) -> Grant {
        let own = self.scripted.url("");
        let user = User::new(ISSUER, "alice");
        let key = GrantKey::new(user, server_name, Account::default_account());
        Grant::new(GrantId::new(GRANT), key, issuer.unwrap_or(&own))
            .granted(Scopes::parse("crm:read").expect("scopes"))
            .refresh_token(Secret::from_text(Self::refresh_token(0)))
    }

    /// Creates a credential source with alice's grant and access token 0, which is valid for an
    /// hour.
    ///
    /// # Panics
    /// Panics if no TLS configuration is available.
    pub fn grants_with_access_token(
        &self,
        broker: &Broker,
        upstream: &ScriptedServer,
    ) -> StoredGrants<MemoryGrants> {
        self.provider(broker, upstream, true)
    }

    /// Creates a credential source that exchanges assertions, signed with a new key, for tokens of
    /// this endpoint.
    ///
    /// # Panics
    /// Panics if no TLS configuration or key is available.
    pub fn exchange(&self, broker: &Broker, upstream: &ScriptedServer) -> TokenExchange {
        let key = SigningKey::generate(Algorithm::Es256).expect("a key");
        let sign = move |claims: &str| key.sign_jwt(claims).map_err(|_| SignError);
        let (target, guarded) = (target(upstream), guarded());
        let subject = Assertion::of_caller(ISSUER, sign);
        TokenExchange::new(broker, subject, target, self.server(), guarded)
    }

    /// Returns the values of a form field in all requests, without decoding them.
    ///
    /// # Panics
    /// Panics if a request is not text.
    pub fn presented(&self, field: &str) -> Vec<String> {
        let of = |received: &Received| {
            let form = String::from_utf8(received.body.to_vec()).expect("a form");
            let value = form
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == field));
            value.map(|(_, value)| value.to_owned())
        };
        self.scripted.received().iter().filter_map(of).collect()
    }

    /// Returns the endpoint as the broker's configuration names it.
    fn server(&self) -> AuthorizationServer {
        let client = ClientAuthentication::basic("broker", Secret::from_text(CLIENT_SECRET.into()));
        let token_endpoint = self.scripted.url("/token").parse().expect("a URI");
        AuthorizationServer::new(&self.scripted.url(""), token_endpoint, client)
            .scopes(Scopes::parse("crm:read").expect("scopes"))
    }

    fn provider(
        &self,
        broker: &Broker,
        upstream: &ScriptedServer,
        with_access_token: bool,
    ) -> StoredGrants<MemoryGrants> {
        let scopes = Scopes::parse("crm:read").expect("scopes");
        let server_name = self.scripted.url("");
        let key = GrantKey::new(User::new(ISSUER, "alice"), "items", Account::default_account());
        let mut grant = Grant::new(GrantId::new(GRANT), key, &server_name)
            .granted(scopes.clone())
            .refresh_token(Secret::from_text(Self::refresh_token(0)));
        if with_access_token {
            let now = Clock::system().now();
            let secret = Secret::from_text(Self::access_token(0));
            let expires_at = now.plus(Duration::from_secs(3600));
            grant = grant.access_token(AccessToken::new(secret, scopes, now, expires_at));
        }
        let store = MemoryGrants::new();
        store.insert(grant).expect("an ID of its own");
        StoredGrants::new(broker, store, target(upstream), self.server(), guarded())
    }

    /// Reports to the ledger everything exchanged with this endpoint: the client secret, and the
    /// tokens with the given numbers, which must be all of them.
    pub fn report_to(&self, ledger: &Ledger, access_tokens: &[usize], refresh_tokens: &[usize]) {
        for received in self.scripted.received() {
            ledger.in_use(&received.to_bytes());
        }
        ledger.in_use(&self.sent.lock());
        ledger.secret("the broker's client secret", CLIENT_SECRET);
        for number in access_tokens {
            ledger.secret(&format!("access token {number}"), &Self::access_token(*number));
        }
        for number in refresh_tokens {
            ledger.secret(&format!("refresh token {number}"), &Self::refresh_token(*number));
        }
    }
}

/// Returns the upstream as the broker's configuration names it.
///
/// # Panics
/// Never: the URL is valid.
pub fn target(upstream: &ScriptedServer) -> exchange::Upstream {
    exchange::Upstream::parse("items", &upstream.url("/mcp")).expect("an upstream")
}

/// Creates the real outbound client, with loopback allowed.
///
/// # Panics
/// Panics if no TLS configuration is available.
pub fn guarded() -> GuardedClient {
    GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).expect("a client")
}
