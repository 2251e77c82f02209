//! A whole broker on loopback in front of a scripted upstream: the real layers, the real proxy, a real socket.

use std::net::SocketAddr;

use axum::Router;
use http::HeaderName;
use serde_json::Value;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKey, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::{AuditLog, InMemory},
    authenticate::JwtVerifier,
    clock::Clock,
    exchange::{CallerLayer, ExchangeLayer, ProvideCredential, Upstream},
    principal::{Resource, Scopes},
    revocation::Revocations,
    scope_filter::{Call, Decision, Policy},
    stack::NeedsCredential,
};

use crate::{
    marker_scan::Scan,
    upstream::Scripted,
    wire::{self, Answer},
};

/// The upstream's secret in every test: no client may ever see it.
pub const SECRET: &str = "tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3";

/// A call that the default policy allows.
pub const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item","arguments":{"id":7}}}"#;

/// Who issues the broker tokens of the tests.
pub const ISSUER: &str = "https://broker.example.com";

/// A running broker. It ends with the test's runtime.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    resource: Resource,
    issuer: Issuer,
    signing_key: Vec<u8>,
    log: AuditLog,
    records: Option<InMemory>,
    revocations: Revocations,
    clock: Clock,
}

/// A broker that is being described.
#[derive(Debug)]
#[must_use = "a broker does nothing until it is started"]
pub struct BrokerBuilder<P> {
    upstream: String,
    credential_in: Option<&'static str>,
    plain_http: bool,
    grpc: bool,
    path: &'static str,
    policy: P,
    clock: Clock,
    audit: Option<AuditLog>,
}

impl Broker {
    /// In front of this upstream's `/mcp`, with a policy that allows everything.
    pub fn before(upstream: &Scripted) -> BrokerBuilder<impl Policy> {
        BrokerBuilder {
            upstream: upstream.url("/mcp"),
            credential_in: None,
            plain_http: false,
            grpc: false,
            path: "/mcp",
            policy: |_: &tower_token_broker::principal::Principal, _: &Call<'_>| Decision::allow(),
            clock: Clock::system(),
            audit: None,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of `Host` for it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.resource.authority()
    }

    /// Its protected resource.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Who issues its tokens.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// What is revoked.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Its clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A broker token of alice, with these scopes.
    ///
    /// # Panics
    /// If it can't be minted.
    #[must_use]
    pub fn token(&self, scopes: &str) -> String {
        let scopes = Scopes::parse(scopes).expect("scopes");
        let mint = Mint::for_person("alice").client("test-client").resource(&self.resource).scopes(scopes);
        self.issuer.mint(mint).expect("a token").into_text()
    }

    /// A token of these very texts, signed (ES256) with the broker's own key.
    ///
    /// # Panics
    /// If the key can't sign.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.signing_key).expect("a key pair");
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).expect("a signature");
        format!("{message}.{}", base64url(signature.as_ref()))
    }

    /// Posts a message with a good token and these header fields beside it.
    pub async fn call_with(&self, fields: &[(&str, &str)], message: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token("items:read"));
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(fields);
        self.send(&wire::post(self.resource.path(), self.host(), &all, message)).await
    }

    /// Gets a path with a good token.
    pub async fn get(&self, path: &str) -> Answer {
        let (host, token) = (self.host(), self.token("items:read"));
        let text = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        self.send(text.as_bytes()).await
    }

    /// Sends bytes; whatever comes back has no form of the upstream's secret in it.
    ///
    /// # Panics
    /// If it has.
    pub async fn send(&self, bytes: &[u8]) -> Answer {
        let answer = wire::send(self.address, bytes).await;
        has_no_secret("an answer", &answer.raw);
        answer
    }

    /// Waits until all that happened is written.
    ///
    /// # Panics
    /// If the sink fails.
    pub async fn flush(&self) {
        self.log.flush().await.expect("a sink that works");
    }

    /// The records so far.
    ///
    /// # Panics
    /// If the log is the test's own.
    pub async fn records(&self) -> Vec<Value> {
        self.flush().await;
        let records = self.records.as_ref().expect("the harness's own log");
        records.lines().iter().map(|line| line.parse().expect("a JSON record")).collect()
    }

    /// Waits until all that happened is written, and gives the records; as many terminal ones as there were requests.
    ///
    /// # Panics
    /// If there are more or fewer.
    pub async fn expect_records(&self, requests: u64) -> Vec<Value> {
        let records = self.records().await;
        let counted: u64 = records.iter().filter_map(|record| record["count"].as_u64()).sum();
        assert_eq!(counted, requests, "requests = sum of the terminal records' counts: {records:#?}");
        records
    }
}

impl<P: Policy> BrokerBuilder<P> {
    /// With another policy.
    pub fn policy<Q: Policy>(self, policy: Q) -> BrokerBuilder<Q> {
        let Self { upstream, credential_in, plain_http, grpc, path, policy: _, clock, audit } = self;
        BrokerBuilder { upstream, credential_in, plain_http, grpc, path, policy, clock, audit }
    }

    /// The credential goes into this field instead of `Authorization`.
    pub const fn credential_in(mut self, field: &'static str) -> Self {
        self.credential_in = Some(field);
        self
    }

    /// The route is plain HTTP.
    pub const fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// The route speaks gRPC, and so does the upstream.
    pub fn grpc(mut self) -> Self {
        self.grpc = true;
        self.upstream = self.upstream.trim_end_matches("/mcp").to_owned();
        self
    }

    /// At another path than `/mcp`.
    pub const fn at(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// With an audit log of the test's own; then [`Broker::expect_records`] knows nothing.
    pub fn audit(mut self, log: AuditLog) -> Self {
        self.audit = Some(log);
        self
    }

    /// With a clock that is set by hand.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts it: on axum, around the real proxy.
    ///
    /// # Panics
    /// If loopback gives no port.
    pub async fn start(self) -> Broker {
        let proxy = if self.grpc { grpc_proxy() } else { proxy() };
        let (listener, stack, broker) = self.prepare().await;
        serve(listener, Router::new().fallback_service(tower::Layer::layer(&stack, proxy)));
        broker
    }

    /// Starts it with a provider of the test's own, for gRPC.
    ///
    /// # Panics
    /// If loopback gives no port.
    pub async fn start_with(self, provider: impl ProvideCredential) -> Broker {
        let (listener, stack, broker) = self.before_exchange().await;
        let stack = stack.exchange(provider).build().expect("a stack");
        serve(listener, Router::new().fallback_service(tower::Layer::layer(&stack, grpc_proxy())));
        broker
    }

    /// The layer and where it shall listen, for a test that mounts it in its own way.
    ///
    /// # Panics
    /// If loopback gives no port.
    pub async fn prepare(self) -> (TcpListener, Stack<P>, Broker) {
        let secret = self.secret();
        let (listener, stack, broker) = self.before_exchange().await;
        (listener, stack.exchange(secret).build().expect("a stack"), broker)
    }

    /// The layer for a service that answers itself, and the credentials for the requests that it sends.
    ///
    /// # Panics
    /// If loopback gives no port.
    pub async fn prepare_for_handler(self) -> (TcpListener, HandlerStack<P>, StaticSecret, Broker) {
        let secret = self.secret();
        let (listener, stack, broker) = self.before_exchange().await;
        (listener, stack.credential_for_handler().build().expect("a stack"), secret, broker)
    }

    fn secret(&self) -> StaticSecret {
        let upstream = Upstream::parse("items", &self.upstream).expect("an upstream");
        let secret = StaticSecret::new(Secret::from_text(SECRET.to_owned()), upstream);
        match self.credential_in {
            Some(field) => secret.in_header(HeaderName::from_static(field)),
            None => secret,
        }
    }

    async fn before_exchange(self) -> (TcpListener, BrokerStack<NeedsCredential<JwtVerifier, P>>, Broker) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let at_root = self.plain_http || self.grpc;
        let uri = if at_root { format!("http://{address}/") } else { format!("http://{address}{}", self.path) };
        let key = SigningKey::generate(Algorithm::Es256).expect("a key");
        #[expect(clippy::disallowed_methods, reason = "hostile tokens are signed with the broker's own key")]
        let signing_key = key.pkcs8().expose().to_vec();
        let issuer = Issuer::new(ISSUER, SigningKeys::new(key).expect("keys"));
        let (log, records) = match self.audit {
            Some(log) => (log, None),
            None => {
                let (log, records) = AuditLog::in_memory();
                (log, Some(records))
            }
        };
        let revocations = Revocations::new(self.clock.clone());
        let mut stack = BrokerStack::for_resource(&uri).revocations(revocations.clone()).with_clock(self.clock.clone());
        if self.plain_http {
            stack = stack.plain_http();
        }
        if self.grpc {
            stack = stack.grpc().message_count(16);
        }
        let stack = stack
            .audit(log.clone())
            .authenticate(JwtVerifier::new(ISSUER, issuer.keys()).with_clock(self.clock.clone()))
            .scope_filter(self.policy);
        let resource = Resource::parse(&uri).expect("a resource");
        let broker = Broker { address, resource, issuer, signing_key, log, records, revocations, clock: self.clock };
        (listener, stack, broker)
    }
}

/// The four layers around a service that answers itself.
pub type HandlerStack<P> = tower_token_broker::stack::Broker<JwtVerifier, P, CallerLayer>;

/// The four layers as the tests build them.
pub type Stack<P> = tower_token_broker::stack::Broker<JwtVerifier, P, ExchangeLayer<StaticSecret>>;

/// The real proxy, which may go to loopback.
///
/// # Panics
/// If there is no TLS configuration to be had.
#[must_use]
pub fn proxy() -> Proxy {
    Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).expect("a proxy")
}

/// The real proxy for gRPC, which may go to loopback.
///
/// # Panics
/// If there is no TLS configuration to be had.
#[must_use]
pub fn grpc_proxy() -> Proxy {
    Proxy::grpc(&Guard::new().allow_loopback("127.0.0.1")).expect("a proxy")
}

/// L0, in every test that stands on this harness.
pub(crate) fn has_no_secret(source: &str, bytes: &[u8]) {
    let mut scan = Scan::new();
    // Whether it was in play is for the test to show that is about it.
    scan.secret("the upstream's token", SECRET).received(SECRET.as_bytes()).source(source, bytes);
    if !bytes.is_empty() {
        assert_eq!(scan.run(), Ok(()));
    }
}

/// Base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

/// Serves a router until the test ends.
#[expect(clippy::disallowed_methods, reason = "the server of a test ends with the test")]
pub fn serve(listener: TcpListener, router: Router) {
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
}
