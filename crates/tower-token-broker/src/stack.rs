//! The four layers in their only right order, checked by the compiler.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    audit::{Audit, AuditLayer, AuditLog},
    authenticate::{Authenticate, AuthenticateLayer, HostAndOriginError, VerifyToken},
    body::RequestBody,
    clock::Clock,
    exchange::{CallerLayer, ExchangeLayer, ForwardHeaderError, ProvideCredential},
    principal::{Resource, ResourceError, Scopes},
    revocation::Revocations,
    scope_filter::{Policy, ScopeFilter, ScopeFilterLayer},
    sealing::SealingKeys,
};

/// Builds a broker: each state has only the methods that may come next.
///
/// Of each two, the first is the mistake and does not compile, and the second is the same without it, and does:
///
/// ```compile_fail,E0599
/// # // T326: authenticate before audit
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .audit(log);
/// # }
/// ```
///
/// ```
/// # // T326: without that: authenticate before audit
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: scope filter before authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .scope_filter(policy)
///     .authenticate(verifier);
/// # }
/// ```
///
/// ```
/// # // T326: without that: scope filter before authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .scope_filter(policy);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: exchange before authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .exchange(provider);
/// # }
/// ```
///
/// ```
/// # // T326: without that: exchange before authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: no policy
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .exchange(provider)
///     .build();
/// # }
/// ```
///
/// ```
/// # // T326: without that: no policy
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider)
///     .build();
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: audit inside of authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log.clone())
///     .authenticate(verifier)
///     .audit(log);
/// # }
/// ```
///
/// ```
/// # // T326: without that: audit inside of authenticate
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log.clone())
///     .authenticate(verifier)
///     .scope_filter(policy);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: built without a credential
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .build();
/// # }
/// ```
///
/// ```
/// # // T326: without that: built without a credential
/// # use tower_token_broker::{BrokerStack, audit::AuditLog, authenticate::VerifyToken, exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(log: AuditLog, verifier: impl VerifyToken, policy: impl Policy, provider: impl ProvideCredential) {
/// let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
///     .audit(log)
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider)
///     .build();
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a stack does nothing until it is built and put onto a service"]
pub struct BrokerStack<State> {
    common: Common,
    state: State,
}

#[derive(Debug)]
struct Common {
    resource: Result<Resource, ResourceError>,
    settings: Settings,
}

/// What has a default: applied when the stack is built.
#[derive(Debug, Default)]
struct Settings {
    revocations: Option<Revocations>,
    clock: Clock,
    plain_http: bool,
    #[cfg(feature = "grpc")]
    grpc: Option<Option<u64>>,
    allowed_hosts: Vec<Box<str>>,
    allowed_origins: Vec<Box<str>>,
    forwarded_headers: Vec<HeaderName>,
    strip_prefix: Box<str>,
    challenge_scopes: Option<Scopes>,
    body_limit: Option<usize>,
    body_deadline: Option<Duration>,
    answer_limit: Option<usize>,
    credential_deadline: Option<Duration>,
    verdicts: Option<u64>,
    sealing_keys: Option<SealingKeys>,
}

/// Next comes [`BrokerStack::audit`].
#[derive(Debug)]
pub struct NeedsAudit(());

/// Next comes [`BrokerStack::authenticate`].
#[derive(Debug)]
pub struct NeedsVerifier {
    audit: AuditLog,
}

/// Next comes [`BrokerStack::scope_filter`].
#[derive(Debug)]
pub struct NeedsPolicy<V> {
    audit: AuditLog,
    verifier: V,
}

/// Next comes [`BrokerStack::exchange`] or [`BrokerStack::credential_for_handler`].
#[derive(Debug)]
pub struct NeedsCredential<V, P> {
    audit: AuditLog,
    verifier: V,
    policy: P,
}

/// Nothing is missing: [`BrokerStack::build`].
#[derive(Debug)]
pub struct Complete<V, P, C> {
    audit: AuditLog,
    verifier: V,
    policy: P,
    credential: C,
}

/// The credential is put on by the stack.
#[derive(Debug)]
pub struct ByProxy<C>(C);

/// The credential is put on by the handler's own client.
#[derive(Debug)]
pub struct ByHandler(());

impl BrokerStack<NeedsAudit> {
    /// For one protected resource, by its URI (RFC 8707 §2): exactly what broker tokens name as their audience. What is
    /// wrong with it, [`BrokerStack::build`] says.
    pub fn for_resource(uri: &str) -> Self {
        Self { common: Common { resource: Resource::parse(uri), settings: Settings::default() }, state: NeedsAudit(()) }
    }

    /// First, and outermost, so that refusals are seen too: where it is recorded. Share one [`AuditLog`] between all stacks
    /// of a process.
    pub fn audit(self, log: impl Into<AuditLog>) -> BrokerStack<NeedsVerifier> {
        BrokerStack { common: self.common, state: NeedsVerifier { audit: log.into() } }
    }
}

impl BrokerStack<NeedsVerifier> {
    /// Who is calling.
    pub fn authenticate<V: VerifyToken>(self, verifier: V) -> BrokerStack<NeedsPolicy<V>> {
        BrokerStack { common: self.common, state: NeedsPolicy { audit: self.state.audit, verifier } }
    }
}

impl<V> BrokerStack<NeedsPolicy<V>> {
    /// May they call this.
    pub fn scope_filter<P: Policy>(self, policy: P) -> BrokerStack<NeedsCredential<V, P>> {
        let NeedsPolicy { audit, verifier } = self.state;
        BrokerStack { common: self.common, state: NeedsCredential { audit, verifier, policy } }
    }
}

impl<V, P> BrokerStack<NeedsCredential<V, P>> {
    /// With whose credential, towards which upstream. The service inside is given it on its request: a proxy, never a handler.
    pub fn exchange<C: ProvideCredential>(self, provider: C) -> BrokerStack<Complete<V, P, ByProxy<C>>> {
        let NeedsCredential { audit, verifier, policy } = self.state;
        BrokerStack { common: self.common, state: Complete { audit, verifier, policy, credential: ByProxy(provider) } }
    }

    /// The service inside answers itself and sends requests of its own: it finds a [`crate::exchange::CallerHandle`] in the
    /// extensions, stamps them, and sends them through a client that is wrapped in an [`ExchangeLayer`].
    pub fn credential_for_handler(self) -> BrokerStack<Complete<V, P, ByHandler>> {
        let NeedsCredential { audit, verifier, policy } = self.state;
        BrokerStack { common: self.common, state: Complete { audit, verifier, policy, credential: ByHandler(()) } }
    }
}

/// Settings with a default; at any point before [`BrokerStack::build`].
impl<State> BrokerStack<State> {
    /// What is revoked; share one between all stacks of a process. Without it nothing can be.
    pub fn revocations(mut self, revocations: Revocations) -> Self {
        self.common.settings.revocations = Some(revocations);
        self
    }

    /// The keys that seal what clients keep: session ids, request states. All replicas of one resource need the same; without, a restart
    /// ends all sessions ([`ScopeFilterLayer::sealed_with`]).
    pub fn sealed_with(mut self, keys: SealingKeys) -> Self {
        self.common.settings.sealing_keys = Some(keys);
        self
    }

    /// Another clock than the system's.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.common.settings.clock = clock;
        self
    }

    /// The route is not MCP: it is judged by method and path, and bodies are streamed.
    pub fn plain_http(mut self) -> Self {
        self.common.settings.plain_http = true;
        self
    }

    /// The route speaks gRPC (module `grpc`): MCP in frames or in types by the same policy as over HTTP, any other service by rules
    /// [`scope_filter::grpc`](crate::scope_filter::grpc()). All refusals to gRPC requests are statuses; what is no gRPC is refused in its own
    /// dialect. The path that was judged goes behind the upstream's own, which for gRPC is mostly none.
    ///
    /// With tonic: `Server::builder().layer(broker)` for all services, or tonic's `named_layer` for one of several.
    #[cfg(feature = "grpc")]
    pub fn grpc(mut self) -> Self {
        self.common.settings.grpc.get_or_insert_default();
        self
    }

    /// How many messages a gRPC stream may have in each direction; a million by default. Implies [`BrokerStack::grpc`].
    #[cfg(feature = "grpc")]
    pub fn message_count(mut self, most: u64) -> Self {
        self.common.settings.grpc = Some(Some(most));
        self
    }

    /// For plain HTTP: takes this prefix off the path before the upstream's own path is put before it.
    pub fn strip_prefix(mut self, prefix: &str) -> Self {
        self.common.settings.strip_prefix = prefix.into();
        self
    }

    /// Another `Host` under which this resource is reached, beside its own (A021).
    pub fn allowed_host(mut self, authority: &str) -> Self {
        self.common.settings.allowed_hosts.push(authority.into());
        self
    }

    /// Another `Origin` whose pages may call this resource, beside its own (A022).
    pub fn allowed_origin(mut self, origin: &str) -> Self {
        self.common.settings.allowed_origins.push(origin.into());
        self
    }

    /// Forwards this request header field to the upstream, beside those that always are.
    pub fn forward_header(mut self, name: HeaderName) -> Self {
        self.common.settings.forwarded_headers.push(name);
        self
    }

    /// Names these scopes in the challenge of a 401: what a client should ask for to begin with. None by default.
    pub fn challenge_scopes(mut self, scopes: Scopes) -> Self {
        self.common.settings.challenge_scopes = Some(scopes);
        self
    }

    /// Longest message, in bytes; 1 MiB by default.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.common.settings.body_limit = Some(bytes);
        self
    }

    /// How long a message may take to arrive; 30 s by default.
    pub fn body_deadline(mut self, deadline: Duration) -> Self {
        self.common.settings.body_deadline = Some(deadline);
        self
    }

    /// Longest JSON answer, and longest event of a stream, in bytes; 16 MiB by default.
    pub fn answer_limit(mut self, bytes: usize) -> Self {
        self.common.settings.answer_limit = Some(bytes);
        self
    }

    /// How long a request waits for its credential; 30 s by default.
    pub fn credential_deadline(mut self, deadline: Duration) -> Self {
        self.common.settings.credential_deadline = Some(deadline);
        self
    }

    /// Keeps at most so many verdicts on tokens; [`AuthenticateLayer::VERDICTS`] by default.
    pub fn verdicts(mut self, entries: u64) -> Self {
        self.common.settings.verdicts = Some(entries);
        self
    }
}

/// Why a stack can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The resource's URI.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// A host or an origin from which requests are let in.
    #[error(transparent)]
    Visitor(#[from] HostAndOriginError),
    /// A header field that must never go to an upstream.
    #[error(transparent)]
    Header(#[from] ForwardHeaderError),
}

impl<V: VerifyToken, P: Policy, C: ProvideCredential> BrokerStack<Complete<V, P, ByProxy<C>>> {
    /// Makes the layer, and all state behind it, once.
    ///
    /// # Errors
    /// What is wrong with the resource or the settings.
    pub fn build(self) -> Result<Broker<V, P, ExchangeLayer<C>>, BuildError> {
        let Complete { audit, verifier, policy, credential: ByProxy(provider) } = self.state;
        let mut exchange = ExchangeLayer::new(provider).strip_prefix(&self.common.settings.strip_prefix);
        if let Some(deadline) = self.common.settings.credential_deadline {
            exchange = exchange.credential_deadline(deadline);
        }
        for name in &self.common.settings.forwarded_headers {
            exchange = exchange.forward_header(name.clone())?;
        }
        self.common.build(audit, verifier, policy, exchange)
    }
}

impl<V: VerifyToken, P: Policy> BrokerStack<Complete<V, P, ByHandler>> {
    /// Makes the layer, and all state behind it, once.
    ///
    /// # Errors
    /// What is wrong with the resource or the settings.
    pub fn build(self) -> Result<Broker<V, P, CallerLayer>, BuildError> {
        let Complete { audit, verifier, policy, .. } = self.state;
        self.common.build(audit, verifier, policy, CallerLayer::new())
    }
}

impl Common {
    fn build<V: VerifyToken, P: Policy, C>(
        self,
        audit: AuditLog,
        verifier: V,
        policy: P,
        credential: C,
    ) -> Result<Broker<V, P, C>, BuildError> {
        let (resource, settings) = (self.resource?, self.settings);
        let hosts = std::iter::once(resource.authority()).chain(settings.allowed_hosts.iter().map(AsRef::as_ref));
        let mut authenticate = AuthenticateLayer::new(verifier, &resource)
            .with_clock(settings.clock)
            .allowed_hosts(hosts)?
            .allowed_origins(settings.allowed_origins.iter().map(AsRef::as_ref))?;
        if let Some(revocations) = settings.revocations {
            authenticate = authenticate.revocations(&revocations);
        }
        if let Some(scopes) = settings.challenge_scopes {
            authenticate = authenticate.challenge_scopes(scopes);
        }
        if let Some(entries) = settings.verdicts {
            authenticate = authenticate.verdicts(entries);
        }
        let mut scope_filter = ScopeFilterLayer::new(policy);
        if settings.plain_http {
            scope_filter = scope_filter.plain_http();
        }
        if let Some(bytes) = settings.body_limit {
            scope_filter = scope_filter.body_limit(bytes);
        }
        if let Some(deadline) = settings.body_deadline {
            scope_filter = scope_filter.body_deadline(deadline);
        }
        if let Some(keys) = settings.sealing_keys {
            scope_filter = scope_filter.sealed_with(keys);
        }
        if let Some(bytes) = settings.answer_limit {
            scope_filter = scope_filter.answer_limit(bytes);
        }
        #[cfg(feature = "grpc")]
        if let Some(count) = settings.grpc {
            scope_filter = scope_filter.grpc();
            if let Some(most) = count {
                scope_filter = scope_filter.message_count(most);
            }
        }
        let audit = AuditLayer::new(audit).for_resource(&resource);
        Ok(Broker { audit, authenticate, scope_filter, credential })
    }
}

/// The four layers, built and stacked: itself one [`Layer`], cheap to clone.
#[derive(Debug)]
#[must_use = "a layer does nothing until it is put onto a service"]
pub struct Broker<V, P, C> {
    audit: AuditLayer,
    authenticate: AuthenticateLayer<V>,
    scope_filter: ScopeFilterLayer<P>,
    credential: C,
}

impl<V, P, C: Clone> Clone for Broker<V, P, C> {
    fn clone(&self) -> Self {
        Self {
            audit: self.audit.clone(),
            authenticate: self.authenticate.clone(),
            scope_filter: self.scope_filter.clone(),
            credential: self.credential.clone(),
        }
    }
}

impl<V, P, C, S> Layer<S> for Broker<V, P, C>
where
    V: VerifyToken,
    C: Layer<Flatten<S>>,
{
    type Service = Audit<Authenticate<ScopeFilter<C::Service, P>, V>>;

    fn layer(&self, inner: S) -> Self::Service {
        let credentialed = self.credential.layer(Flatten { inner });
        self.audit.layer(self.authenticate.layer(self.scope_filter.layer(credentialed)))
    }
}

/// What stands between the stack and your service: two layers wrap the request's body, your service sees one wrapper.
#[derive(Clone, Debug)]
pub struct Flatten<S> {
    inner: S,
}

impl<S, B> Service<Request<RequestBody<RequestBody<B>>>> for Flatten<S>
where
    S: Service<Request<RequestBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody<RequestBody<B>>>) -> S::Future {
        self.inner.call(request.map(RequestBody::flatten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::Trail,
        authenticate::TestTokens,
        exchange::{Credential, CredentialError, Upstream},
        principal::Principal,
        scope_filter::Rules,
    };

    #[derive(Debug)]
    struct Nobody;

    impl ProvideCredential for Nobody {
        fn upstream(&self) -> &Upstream {
            unreachable!("nothing is sent")
        }

        async fn credential(&self, _: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
            unreachable!("nothing is sent")
        }

        async fn refused(&self, _: &Credential) {}
    }

    struct Items(Upstream);

    impl ProvideCredential for Items {
        fn upstream(&self) -> &Upstream {
            &self.0
        }

        async fn credential(&self, _: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
            let secret = crate::Secret::from_text("tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3".into());
            Ok(Credential::vouch(secret, self.0.origin().clone()))
        }

        async fn refused(&self, _: &Credential) {}
    }

    #[test]
    fn the_limits_of_a_stack_are_those_of_its_layers() {
        let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
            .audit(AuditLog::in_memory().0)
            .authenticate(TestTokens::new())
            .scope_filter(Rules::new())
            .exchange(Nobody)
            .body_limit(11)
            .body_deadline(Duration::from_secs(12))
            .answer_limit(13)
            .credential_deadline(Duration::from_secs(14))
            .verdicts(15)
            .build()
            .unwrap();
        let told = format!("{broker:?}");
        for limit in
            ["body: 11,", "body_deadline: 12s", "answer: 13,", "credential_deadline: 14s", "verdicts: Some(15)"]
        {
            assert!(told.contains(limit), "{limit} in {told}");
        }
    }

    #[tokio::test]
    async fn what_a_stack_is_told_reaches_its_layers() {
        use http::{Request, Response, StatusCode, header};
        use http_body_util::Full;
        use tower::{Layer as _, ServiceExt as _, service_fn};

        let resource = Resource::parse("https://broker.example.com/crm").unwrap();
        let stack = || {
            BrokerStack::for_resource("https://broker.example.com/crm")
                .audit(AuditLog::in_memory().0)
                .authenticate(TestTokens::new().user("tok", "alice", &resource))
                .scope_filter(|_: &Principal, _: &crate::scope_filter::Call<'_>| crate::scope_filter::Decision::allow())
                .exchange(Items(Upstream::parse("items", "https://items.example.com/api").unwrap()))
                .plain_http()
                .sealed_with(SealingKeys::new(&[7; 32]))
        };
        let broker = stack()
            .strip_prefix("/v1")
            .allowed_host("crm.internal.example")
            .allowed_origin("https://inspector.example.com")
            .forward_header(HeaderName::from_static("x-region"))
            .challenge_scopes(Scopes::parse("crm:read").unwrap())
            .build()
            .unwrap();
        let service = broker.layer(service_fn(|request: Request<_>| async move {
            let region = request.headers().get("x-region").cloned();
            let seen = format!("{} {:?}", request.uri(), region.as_ref().map(|value| value.to_str().unwrap()));
            Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::from(seen)))
        }));
        let get = |host: &str, origin: &str, token: &str| {
            let request = Request::get("/v1/items").header(header::HOST, host).header(header::ORIGIN, origin);
            let request = request.header(header::AUTHORIZATION, token).header("x-region", "eu");
            request.body(Full::<bytes::Bytes>::default()).unwrap()
        };
        let (host, origin) = ("crm.internal.example", "https://inspector.example.com");
        let passed = service.clone().oneshot(get(host, origin, "Bearer tok")).await.unwrap();
        assert_eq!(passed.status(), StatusCode::OK);
        let body = http_body_util::BodyExt::collect(passed.into_body()).await.unwrap().to_bytes();
        assert_eq!(body, "https://items.example.com/api/items Some(\"eu\")");
        let refused = service.clone().oneshot(get(host, origin, "Bearer other")).await.unwrap();
        let challenge = refused.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("scope=\"crm:read\""), "{challenge}");
        for (host, origin, status) in [("other.example", origin, 421), (host, "https://evil.example", 403)] {
            let refused = service.clone().oneshot(get(host, origin, "Bearer tok")).await.unwrap();
            assert_eq!(refused.status(), status);
        }

        assert!(matches!(stack().allowed_host("a/b").build(), Err(BuildError::Visitor(HostAndOriginError::Host))));
        assert!(matches!(stack().allowed_origin("null").build(), Err(BuildError::Visitor(HostAndOriginError::Origin))));
        assert!(matches!(stack().forward_header(header::AUTHORIZATION).build(), Err(BuildError::Header(_))));
        let nowhere =
            BrokerStack::for_resource("nowhere").audit(AuditLog::in_memory().0).authenticate(TestTokens::new());
        assert!(matches!(nowhere.scope_filter(Rules::new()).exchange(Nobody).build(), Err(BuildError::Resource(_))));
    }
}
