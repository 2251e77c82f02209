//! A complete broker on loopback in front of a scripted upstream, with the real layers, proxy and
//! sockets.
//!
//! A test starts an upstream and a broker, sends requests, and ends with [`Broker::done`], which
//! checks the audit records and searches all output for secrets. It fails if it forgets that call.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{HeaderName, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKey, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_token_broker::{
    Broker as Handle, Secret,
    audit::{AuditLog, AuditOptions, AuditSink, BoxAuditSink, InMemory},
    authenticate::jwt::{JwtVerifier, KeySource},
    clock::Clock,
    exchange::{self, CallerLayer, ExchangeLayer, ProvideCredential},
    limits::{GrpcOptions, Protocol},
    principal::{Initiator, Resource, Scopes, User},
    revocation::{BoxRevocationStore, RevocationStore, RevocationTarget},
    scope_filter::{Call, Decision, Policy},
    stack::{Applied, BrokerLayer, BrokerStack, NeedsCredential, ShutdownError},
};

use crate::{
    ledger::{Ledger, Upstream},
    upstream::ScriptedServer,
    wire::{self, RawResponse},
};

/// Upstream credential in every test; it must never reach a client.
pub const SECRET: &str = "tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3";

/// A call; the default policy allows it.
pub const CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
    r#""params":{"name":"get_item","arguments":{"id":7}}}"#
);

/// Issuer of the broker tokens.
pub const ISSUER: &str = "https://broker.example.com";

/// A running broker.
///
/// It stops with the test's runtime. Every test must end with [`Broker::done`] or
/// [`Broker::done_unsent`].
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    resource: Resource,
    issuer: Issuer,
    signing_key: Vec<u8>,
    handle: Handle,
    sink: Sink,
    ledger: Ledger,
    is_shut_down: AtomicBool,
}

/// A response that is read piece by piece.
#[derive(Debug)]
#[must_use = "an unread response proves nothing"]
pub struct OpenResponse<'a> {
    broker: &'a Broker,
    socket: TcpStream,
    seen: Vec<u8>,
}

impl OpenResponse<'_> {
    /// Reads until the given text has been received.
    ///
    /// # Panics
    /// Panics if the response ends first.
    pub async fn until(&mut self, text: &str) {
        while !self.seen.windows(text.len()).any(|window| window == text.as_bytes()) {
            let read = self.socket.read_buf(&mut self.seen).await.expect("an open connection");
            assert_ne!(read, 0, "the response ended before {text:?}: {:?}", self.seen);
        }
    }

    /// Returns the number of bytes received so far.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Reads the rest of the response.
    ///
    /// # Panics
    /// Panics if the connection fails or the response is not valid HTTP/1.1.
    pub async fn rest(mut self) -> RawResponse {
        self.socket.read_to_end(&mut self.seen).await.expect("an end");
        let response = wire::parse(self.seen);
        self.broker.ledger.received(&response);
        response
    }
}

/// The records written so far.
enum Sink {
    InMemory(InMemory),
    OfTheTest(Arc<dyn Fn() -> Vec<String> + Send + Sync>),
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::InMemory(records) => records.lines(),
            Self::OfTheTest(lines) => lines(),
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("lines", &self.lines()).finish()
    }
}

/// Creates the verification keys of a broker from its handle.
type MakeKeys = Box<dyn FnOnce(&Handle) -> KeySource + Send>;

/// Configuration of a [`Broker`].
#[must_use = "a broker does nothing until it is started"]
pub struct BrokerBuilder<P> {
    upstream: ScriptedServer,
    credential_in: Option<&'static str>,
    protocol: Protocol,
    path: Option<&'static str>,
    policy: P,
    clock: Clock,
    audit: Option<(BoxAuditSink, Sink)>,
    audit_options: AuditOptions,
    keys: Option<MakeKeys>,
    revocation_store: Option<BoxRevocationStore>,
    url: String,
}

impl<P> fmt::Debug for BrokerBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, path, url, .. } = self;
        f.debug_struct("BrokerBuilder")
            .field("protocol", protocol)
            .field("path", path)
            .field("url", url)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Creates the configuration of a broker in front of the upstream's `/mcp`, with a policy that
    /// allows everything.
    pub fn in_front_of(upstream: &ScriptedServer) -> BrokerBuilder<impl Policy> {
        BrokerBuilder {
            upstream: upstream.clone(),
            credential_in: None,
            protocol: Protocol::Mcp,
            path: None,
            policy: |_: &tower_token_broker::principal::Principal, _: &Call<'_>| Decision::allow(),
            clock: Clock::system(),
            audit: None,
            audit_options: AuditOptions::new(),
            keys: None,
            revocation_store: None,
            url: upstream.url("/mcp"),
        }
    }

    /// Returns the address that the broker listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value of `Host` for requests to the broker.
    pub fn host(&self) -> &str {
        self.resource.authority()
    }

    /// Returns the protected resource.
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Returns the issuer of the broker tokens.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Returns the handle that built the stack.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Revokes a target, with a test operator as the initiator.
    ///
    /// # Panics
    /// Panics if the revocation cannot be recorded.
    pub async fn revoke(&self, target: RevocationTarget) -> Applied {
        let initiator = Initiator::operator("test");
        self.handle.revoke(target, &initiator).await.expect("a revoke that is recorded")
    }

    /// Blocks alice, with a test operator as the initiator.
    ///
    /// # Panics
    /// Panics if the block cannot be recorded.
    pub async fn block_alice(&self) -> Applied {
        let (alice, initiator) = (User::new(ISSUER, "alice"), Initiator::operator("test"));
        self.handle.block(&alice, &initiator).await.expect("a block that is recorded")
    }

    /// Shuts the broker down; all records are written when this returns.
    ///
    /// # Errors
    /// Returns the error of the handle's `shutdown`.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), ShutdownError> {
        let ended = self.handle.shutdown(grace).await;
        self.is_shut_down.store(true, Ordering::SeqCst);
        ended
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Clock {
        self.handle.clock()
    }

    /// Mints a broker token for alice.
    ///
    /// # Panics
    /// Panics if the token cannot be minted.
    pub fn token(&self, scopes: &str) -> String {
        self.token_of("alice", scopes)
    }

    /// Mints a broker token for this user.
    ///
    /// # Panics
    /// Panics if the token cannot be minted.
    pub fn token_of(&self, user: &str, scopes: &str) -> String {
        let scopes = Scopes::parse(scopes).expect("scopes");
        let mint =
            Mint::for_user(user).client("test-client").resource(&self.resource).scopes(scopes);
        let token = self.issuer.mint(mint).expect("a token").into_text();
        self.ledger.token(&token);
        token
    }

    /// Signs the given header and claims, as they are, with the broker's own key (ES256).
    ///
    /// # Panics
    /// Panics if the key cannot sign.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.signing_key)
            .expect("a key pair");
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = pair
            .sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes())
            .expect("a signature");
        format!("{message}.{}", base64url(signature.as_ref()))
    }

    /// Posts a message with a valid token and additional header fields.
    pub async fn call_with(&self, fields: &[(&str, &str)], message: &str) -> RawResponse {
        let bearer = format!("Bearer {}", self.token("items:read"));
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(fields);
        self.send(&wire::post(self.resource.path(), self.host(), &all, message)).await
    }

    /// Posts a message with a valid token over HTTP/2.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn call_http_2(&self, message: &'static str) -> RawResponse {
        let bearer = format!("Bearer {}", self.token("items:read"));
        self.send_http_2(Some(&bearer), message).await
    }

    /// Posts a message over HTTP/2.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn send_http_2(
        &self,
        authorization: Option<&str>,
        message: &'static str,
    ) -> RawResponse {
        self.read(self.open_http_2(authorization, message).await).await
    }

    /// Posts a message over HTTP/2 and returns the response unread.
    ///
    /// The test reads the body and reports it to the [ledger](Broker::ledger).
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn open_http_2(
        &self,
        authorization: Option<&str>,
        message: &'static str,
    ) -> Response<Incoming> {
        #[expect(clippy::disallowed_methods, reason = "this is a client of the broker")]
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let mut request = Request::post(self.resource.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.ledger.sent(1, authorization.unwrap_or_default().as_bytes());
        let request = request.body(Full::from(message)).expect("valid parts");
        client.request(request).await.expect("a response")
    }

    /// Sends a GET request with a valid token.
    pub async fn get(&self, path: &str) -> RawResponse {
        let (host, token) = (self.host(), self.token("items:read"));
        let text = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        self.send(text.as_bytes()).await
    }

    /// Sends the bytes of one request on a new connection and reads the response.
    pub async fn send(&self, bytes: &[u8]) -> RawResponse {
        self.ledger.sent(1, bytes);
        let response = wire::send(self.address, bytes).await;
        self.ledger.received(&response);
        response
    }

    /// Sends the bytes of one request and returns the response unread.
    ///
    /// # Panics
    /// Panics if the broker does not accept connections.
    pub async fn open(&self, bytes: &[u8]) -> OpenResponse<'_> {
        self.ledger.sent(1, bytes);
        let mut socket = TcpStream::connect(self.address).await.expect("a listener");
        socket.write_all(bytes).await.expect("an open connection");
        OpenResponse { broker: self, socket, seen: Vec::new() }
    }

    /// Reads a response to a request that was not sent by [`Broker::send`], with its trailers.
    ///
    /// The test must report that request with [`Ledger::sent`].
    ///
    /// # Panics
    /// Panics if the body fails.
    pub async fn read<B>(&self, response: Response<B>) -> RawResponse
    where
        B: Body<Data = Bytes, Error: fmt::Debug>,
    {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body");
        let trailers = body.trailers().cloned().unwrap_or_default();
        let response = RawResponse::of(parts.status, &parts.headers, &body.to_bytes(), &trailers);
        self.ledger.received(&response);
        response
    }

    /// Returns the ledger.
    ///
    /// Tests report to it the requests and responses that they handle themselves, and their own
    /// secrets.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the audit log.
    pub fn log(&self) -> &AuditLog {
        self.handle.audit_log()
    }

    /// Returns the audit sink, for tests that make it fail.
    ///
    /// # Panics
    /// Panics if the test configured its own sink.
    pub fn sink(&self) -> &InMemory {
        match &self.sink {
            Sink::InMemory(records) => records,
            Sink::OfTheTest(_) => panic!("the test has a sink of its own"),
        }
    }

    /// Waits until all records are written.
    ///
    /// # Panics
    /// Panics if the sink fails.
    pub async fn flush(&self) {
        // Shutdown has flushed the log, and a closed log returns an error.
        if !self.is_shut_down.load(Ordering::SeqCst) {
            self.log().flush().await.expect("a sink that works");
        }
    }

    /// Waits until all records are written and returns them.
    ///
    /// # Panics
    /// Panics unless there is one terminal record per request.
    pub async fn records(&self) -> Vec<Value> {
        self.flush().await;
        let records: Vec<Value> =
            self.sink.lines().iter().map(|line| line.parse().expect("a JSON record")).collect();
        self.ledger.check_counts(&records);
        records
    }

    /// Returns the records like [`Broker::records`], for a number of requests that the test has
    /// counted.
    ///
    /// # Panics
    /// Panics unless there are as many terminal records.
    pub async fn expect_records(&self, requests: u64) -> Vec<Value> {
        assert_eq!(self.ledger.requests(), requests, "the requests that were sent");
        self.records().await
    }

    /// Ends a test that has called the upstream.
    ///
    /// Checks that each request has a terminal record, and that no response, trailer, record or log
    /// line contains a secret. The check is valid only if each secret was in use, so the upstream's
    /// log must contain it.
    ///
    /// # Panics
    /// Panics if any of this does not hold.
    pub async fn done(&self) {
        self.flush().await;
        self.ledger.settle(&self.sink.lines(), Upstream::Called);
    }

    /// Ends a test that must not have called the upstream.
    ///
    /// Makes the same checks as [`Broker::done`], except that the upstream's log must be empty.
    ///
    /// # Panics
    /// Panics if any of this does not hold.
    pub async fn done_unsent(&self) {
        self.flush().await;
        self.ledger.settle(&self.sink.lines(), Upstream::Untouched);
    }
}

impl<P: Policy> BrokerBuilder<P> {
    /// Sets the policy.
    pub fn policy<Q: Policy>(self, policy: Q) -> BrokerBuilder<Q> {
        BrokerBuilder {
            upstream: self.upstream,
            credential_in: self.credential_in,
            protocol: self.protocol,
            path: self.path,
            policy,
            clock: self.clock,
            audit: self.audit,
            audit_options: self.audit_options,
            keys: self.keys,
            revocation_store: self.revocation_store,
            url: self.url,
        }
    }

    /// Sets the URL that the credential is for, instead of the scripted upstream's.
    pub fn upstream_at(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    /// Sets the verification keys, instead of the issuer's own.
    pub fn keys<K: Into<KeySource>>(
        mut self,
        keys: impl FnOnce(&Handle) -> K + Send + 'static,
    ) -> Self {
        self.keys = Some(Box::new(|handle| keys(handle).into()));
        self
    }

    /// Sets the header field for the credential, instead of `Authorization`.
    pub const fn credential_in(mut self, field: &'static str) -> Self {
        self.credential_in = Some(field);
        self
    }

    /// Uses plain HTTP, at the root unless [`at`](Self::at) sets another path.
    pub const fn plain_http(mut self) -> Self {
        self.protocol = Protocol::Http;
        self
    }

    /// Uses gRPC, also towards the upstream.
    pub fn grpc(mut self) -> Self {
        self.protocol = Protocol::Grpc(GrpcOptions::default().max_messages(16));
        self.url = self.upstream.url("");
        self
    }

    /// Sets the path, instead of `/mcp`.
    pub const fn at(mut self, path: &'static str) -> Self {
        self.path = Some(path);
        self
    }

    /// Sets the audit sink, and a function that returns the lines it has written.
    pub fn audit(
        mut self,
        sink: impl AuditSink,
        lines: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.audit = Some((BoxAuditSink::new(sink), Sink::OfTheTest(Arc::new(lines))));
        self
    }

    /// Sets the options of the audit log.
    pub fn audit_options(mut self, options: AuditOptions) -> Self {
        self.audit_options = options;
        self
    }

    /// Sets the clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the revocation store, which several brokers may share.
    pub fn revocation_store(mut self, store: impl RevocationStore) -> Self {
        self.revocation_store = Some(BoxRevocationStore::new(store));
        self
    }

    /// Starts the broker on axum, around the real proxy.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn start(self) -> Broker {
        let protocol = self.protocol;
        let (listener, stack, broker) = self.prepare().await;
        serve(listener, mount(protocol, &broker, &stack));
        broker
    }

    /// Starts the broker with another credential source.
    ///
    /// The test must register its secrets with [`Broker::ledger`].
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn start_with<C: ProvideCredential>(
        self,
        provider: impl FnOnce(&Handle) -> C,
    ) -> Broker {
        let protocol = self.protocol;
        let (listener, stack, broker) = self.prepare_with(provider).await;
        serve(listener, mount(protocol, &broker, &stack));
        broker
    }

    /// Returns listener, layer and broker, for a test that mounts the layer itself.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn prepare(self) -> (TcpListener, Stack<P>, Broker) {
        let (listener, stack, secret, broker) = self.prepare_stack().await;
        (listener, stack.exchange(secret).build().expect("a stack"), broker)
    }

    /// Returns the same as [`prepare`](Self::prepare), with another credential source.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn prepare_with<C: ProvideCredential>(
        self,
        provider: impl FnOnce(&Handle) -> C,
    ) -> (TcpListener, Stack<P, C>, Broker) {
        let (listener, stack, broker) = self.before_exchange().await;
        let provider = provider(broker.handle());
        (listener, stack.exchange(provider).build().expect("a stack"), broker)
    }

    /// Returns the layer for a service that handles requests itself, and the credential source for
    /// the requests that the service sends.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn prepare_for_handler(self) -> (TcpListener, HandlerStack<P>, StaticSecret, Broker) {
        let (listener, stack, secret, broker) = self.prepare_stack().await;
        (listener, stack.credential_for_handler().build().expect("a stack"), secret, broker)
    }

    /// Returns the stack before its credential source is set, for a test with its own settings, and
    /// the default source.
    ///
    /// # Panics
    /// Panics if no loopback port is available.
    pub async fn prepare_stack(
        self,
    ) -> (TcpListener, BrokerStack<NeedsCredential<JwtVerifier, P>>, StaticSecret, Broker) {
        let secret = self.secret();
        let (listener, stack, broker) = self.before_exchange().await;
        broker.ledger.secret("the upstream's token", SECRET);
        (listener, stack, secret, broker)
    }

    fn secret(&self) -> StaticSecret {
        let upstream = exchange::Upstream::parse("items", &self.url).expect("an upstream");
        let secret = StaticSecret::new(Secret::from_text(SECRET.to_owned()), upstream)
            .expect("a long secret");
        match self.credential_in {
            Some(field) => secret.in_header(HeaderName::from_static(field)),
            None => secret,
        }
    }

    async fn before_exchange(
        self,
    ) -> (TcpListener, BrokerStack<NeedsCredential<JwtVerifier, P>>, Broker) {
        let ledger = Ledger::new(&self.upstream);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let path = self.path.unwrap_or(if self.protocol == Protocol::Mcp { "/mcp" } else { "/" });
        let uri = format!("http://{address}{path}");
        let key = SigningKey::generate(Algorithm::Es256).expect("a key");
        #[expect(
            clippy::disallowed_methods,
            reason = "hostile tokens are signed with the broker's own key"
        )]
        let signing_key = key.pkcs8().expose().to_vec();
        let signing_keys = SigningKeys::new(key).expect("keys");
        let issuer = Issuer::new(ISSUER, signing_keys).with_clock(self.clock.clone());
        let (audit, sink) = self.audit.unwrap_or_else(|| {
            let records = InMemory::new();
            (BoxAuditSink::new(records.clone()), Sink::InMemory(records))
        });
        let mut handle =
            Handle::builder().audit(audit).audit_options(self.audit_options).clock(self.clock);
        if let Some(store) = self.revocation_store {
            handle = handle.revocation_store(store);
        }
        let handle = handle.build().expect("a broker");
        let keys = match self.keys {
            Some(keys) => keys(&handle),
            None => issuer.keys().into(),
        };
        let stack = handle
            .protect(&uri)
            .protocol(self.protocol)
            .authenticate(JwtVerifier::new(ISSUER, keys))
            .scope_filter(self.policy);
        // Upstreams of tests echo credentials in these.
        let stack = ["x-echo", "x-echo-bin", "x-after"]
            .map(HeaderName::from_static)
            .into_iter()
            .fold(stack, BrokerStack::forward_response_header);
        let resource = Resource::parse(&uri).expect("a resource");
        let is_shut_down = AtomicBool::new(false);
        let broker =
            Broker { address, resource, issuer, signing_key, handle, sink, ledger, is_shut_down };
        (listener, stack, broker)
    }
}

/// Mounts the stack around the real proxy: MCP at its path, other protocols at all paths.
fn mount<P: Policy, C: ProvideCredential>(
    protocol: Protocol,
    broker: &Broker,
    stack: &Stack<P, C>,
) -> Router {
    if protocol == Protocol::Mcp {
        return Router::new().route_service(broker.resource.path(), stack.layer(proxy()));
    }
    let is_grpc = matches!(protocol, Protocol::Grpc(_));
    let proxy = if is_grpc { grpc_proxy() } else { proxy() };
    Router::new().fallback_service(stack.layer(proxy))
}

/// The four layers for a service that handles requests itself.
pub type HandlerStack<P> = BrokerLayer<JwtVerifier, P, CallerLayer>;

/// The four layers as configured by most tests.
pub type Stack<P, C = StaticSecret> = BrokerLayer<JwtVerifier, P, ExchangeLayer<C>>;

/// Creates the real proxy, with loopback allowed.
///
/// # Panics
/// Panics if no TLS configuration is available.
pub fn proxy() -> Proxy {
    Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).expect("a proxy")
}

/// Creates the real proxy for gRPC, with loopback allowed.
///
/// # Panics
/// Panics if no TLS configuration is available.
pub fn grpc_proxy() -> Proxy {
    Proxy::grpc(&Guard::new().allow_loopback("127.0.0.1")).expect("a proxy")
}

/// Encodes bytes as base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

/// Serves a router until the test ends.
#[expect(clippy::disallowed_methods, reason = "the server stops with the test")]
pub fn serve(listener: TcpListener, router: Router) {
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
}
