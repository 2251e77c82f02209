//! The stack of one protected resource, put together in the only right order: the compiler checks
//! it.

use http::HeaderName;

use super::{Broker, StackConfig, layer::BrokerLayer, metadata::OtherMetadata};
use crate::{
    audit::{AuditLayer, MountPathError, MountedAt},
    authenticate::{AuthenticateLayer, HostAndOrigin, HostAndOriginError, VerifyToken},
    exchange::{CallerLayer, ExchangeLayer, ForwardHeaderError, ProvideCredential},
    limits::{Limits, Protocol},
    principal::{Resource, ResourceError, Scopes},
    resource_metadata::{Document, MetadataError, ResourceMetadata},
    scope_filter::{Policy, ScopeFilterLayer},
};

/// Builds the stack of one protected resource: each state has only the methods that may come next.
/// Begun by [`Broker::protect`].
#[derive(Debug)]
#[must_use = "a stack does nothing until it is built and put onto a service"]
pub struct BrokerStack<State> {
    broker: Broker,
    /// The first thing that is wrong is what [`BrokerStack::build`] says.
    config: Result<StackConfig, BuildError>,
    metadata: ResourceMetadata,
    state: State,
}

/// Next comes [`BrokerStack::authenticate`].
#[derive(Debug)]
pub struct NeedsVerifier(());

/// Next comes [`BrokerStack::scope_filter`].
#[derive(Debug)]
pub struct NeedsPolicy<V> {
    verifier: V,
}

/// Next comes [`BrokerStack::exchange`] or [`BrokerStack::credential_for_handler`].
#[derive(Debug)]
pub struct NeedsCredential<V, P> {
    verifier: V,
    policy: P,
}

/// Nothing is missing: [`BrokerStack::build`].
#[derive(Debug)]
pub struct Complete<V, P, C> {
    verifier: V,
    policy: P,
    credential: C,
}

/// The proxy inside the stack applies the credential.
#[derive(Debug)]
pub struct ByProxy<C>(C);

/// The handler's own client applies the credential.
#[derive(Debug)]
pub struct ByHandler(());

impl BrokerStack<NeedsVerifier> {
    pub(super) fn begin(broker: &Broker, resource: &str) -> Self {
        Self {
            broker: broker.clone(),
            config: StackConfig::new(resource).map_err(BuildError::from),
            metadata: ResourceMetadata::default(),
            state: NeedsVerifier(()),
        }
    }

    /// Who is calling: by the verifier of broker tokens.
    pub fn authenticate<V: VerifyToken>(self, verifier: V) -> BrokerStack<NeedsPolicy<V>> {
        self.with_state(|NeedsVerifier(())| NeedsPolicy { verifier })
    }
}

impl<V> BrokerStack<NeedsPolicy<V>> {
    /// What they may call.
    pub fn scope_filter<P: Policy>(self, policy: P) -> BrokerStack<NeedsCredential<V, P>> {
        self.with_state(|NeedsPolicy { verifier }| NeedsCredential { verifier, policy })
    }
}

impl<V, P> BrokerStack<NeedsCredential<V, P>> {
    /// With which credential, towards which upstream. The service inside must send the request on
    /// and apply the credential: the proxy of `token-broker-outbound`, or
    /// [`ApplyCredentialLayer`](crate::exchange::ApplyCredentialLayer) around your own client.
    pub fn exchange<C: ProvideCredential>(
        self,
        provider: C,
    ) -> BrokerStack<Complete<V, P, ByProxy<C>>> {
        self.with_state(|NeedsCredential { verifier, policy }| Complete {
            verifier,
            policy,
            credential: ByProxy(provider),
        })
    }

    /// The service inside responds itself and sends requests of its own: it finds a
    /// [`CallerHandle`](crate::exchange::CallerHandle) in the extensions, stamps them, and sends
    /// them through a client that is wrapped in an [`ExchangeLayer::for_handler`].
    pub fn credential_for_handler(self) -> BrokerStack<Complete<V, P, ByHandler>> {
        self.with_state(|NeedsCredential { verifier, policy }| Complete {
            verifier,
            policy,
            credential: ByHandler(()),
        })
    }
}

/// Settings with a default; at any point before [`BrokerStack::build`].
impl<State> BrokerStack<State> {
    /// What the resource speaks; MCP by default.
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.with(|config| config.protocol = protocol)
    }

    /// Limits of size and time.
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|config| config.limits = limits)
    }

    /// Hosts and origins from which requests are accepted, beside the resource's own.
    pub fn host_and_origin(self, settings: HostAndOrigin) -> Self {
        self.with(|config| config.host_and_origin = settings)
    }

    /// Forwards this request header field to the upstream, beside those that always are.
    pub fn forward_header(self, name: HeaderName) -> Self {
        self.with(|config| config.forward_headers.push(name))
    }

    /// Names these scopes in the challenge of a 401: what a client asks for to begin with.
    pub fn challenge_scopes(self, scopes: Scopes) -> Self {
        self.with(|config| config.challenge_scopes = scopes)
    }

    /// What the metadata of the resource says (RFC 9728).
    pub fn metadata(mut self, metadata: ResourceMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The path at which this process serves the resource, if it is not the path of its URI: behind
    /// a proxy that takes a prefix off. A request for another path is refused with 404.
    pub fn mounted_at(mut self, path: &str) -> Self {
        match MountedAt::parse(path) {
            Ok(path) => self.with(|config| config.mounted_at = Some(path)),
            Err(error) => {
                self.config = self.config.and(Err(error.into()));
                self
            }
        }
    }

    /// Records the header field `x-request-id` of each request beside our own id. Only behind a
    /// proxy that sets it: else a client chooses what stands in the records.
    pub fn trust_request_id_header(self) -> Self {
        self.with(|config| config.trusts_request_id_header = true)
    }

    fn with(mut self, change: impl FnOnce(&mut StackConfig)) -> Self {
        if let Ok(config) = &mut self.config {
            change(config);
        }
        self
    }

    fn with_state<Next>(self, next: impl FnOnce(State) -> Next) -> BrokerStack<Next> {
        BrokerStack {
            broker: self.broker,
            config: self.config,
            metadata: self.metadata,
            state: next(self.state),
        }
    }
}

/// A stack cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The resource's URI.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The path at which the resource is served.
    #[error(transparent)]
    MountPath(#[from] MountPathError),
    /// A host or an origin from which requests are accepted.
    #[error(transparent)]
    HostAndOrigin(#[from] HostAndOriginError),
    /// A header field that must never go to an upstream.
    #[error(transparent)]
    ForwardHeader(#[from] ForwardHeaderError),
    /// The metadata of the resource.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The resource was built before, and its metadata said something else.
    #[error(
        "the resource {resource} was built before with other metadata: give both stacks the same \
         authorization servers, scopes and name"
    )]
    OtherMetadata {
        /// The resource.
        resource: Resource,
    },
}

impl<V: VerifyToken, P: Policy, C: ProvideCredential> BrokerStack<Complete<V, P, ByProxy<C>>> {
    /// Makes the layer, and all state behind it, once. From now on
    /// [`Broker::metadata`] serves the resource.
    ///
    /// # Errors
    /// What is wrong with the resource or the settings.
    pub fn build(self) -> Result<BrokerLayer<V, P, ExchangeLayer<C>>, BuildError> {
        let (broker, config) = (self.broker, self.config?);
        let Complete { verifier, policy, credential: ByProxy(provider) } = self.state;
        let exchange = ExchangeLayer::new(&broker, &config, provider)?;
        build(&broker, &config, &self.metadata, verifier, policy, exchange)
    }
}

impl<V: VerifyToken, P: Policy> BrokerStack<Complete<V, P, ByHandler>> {
    /// Makes the layer, and all state behind it, once. From now on
    /// [`Broker::metadata`] serves the resource.
    ///
    /// # Errors
    /// What is wrong with the resource or the settings.
    pub fn build(self) -> Result<BrokerLayer<V, P, CallerLayer>, BuildError> {
        let (broker, config) = (self.broker, self.config?);
        let Complete { verifier, policy, .. } = self.state;
        build(&broker, &config, &self.metadata, verifier, policy, CallerLayer::new())
    }
}

fn build<V: VerifyToken, P: Policy, C>(
    broker: &Broker,
    config: &StackConfig,
    metadata: &ResourceMetadata,
    verifier: V,
    policy: P,
    credential: C,
) -> Result<BrokerLayer<V, P, C>, BuildError> {
    let resource = &config.resource;
    let document = Document::new(resource, metadata, verifier.authorization_servers())?;
    let summary = policy.summary(config.protocol);
    let layer = BrokerLayer {
        audit: AuditLayer::new(broker, config),
        authenticate: AuthenticateLayer::new(broker, config, verifier)?,
        scope_filter: ScopeFilterLayer::new(broker, config, policy),
        credential,
    };
    broker
        .0
        .resources
        .add(document)
        .map_err(|OtherMetadata| BuildError::OtherMetadata { resource: resource.clone() })?;
    tracing::info!(
        resource = resource.as_str(),
        protocol = ?config.protocol,
        rules = summary.rules,
        revocations = broker.0.revocation_source,
        sealing_keys = if broker.0.sealing_keys_were_given { "given" } else { "drawn" },
        audit = broker.0.audit_sink,
        "protecting a resource"
    );
    for without_effect in summary.without_effect {
        tracing::warn!(resource = resource.as_str(), "{without_effect}");
    }
    Ok(layer)
}

/// Of each two, the first is the mistake and does not compile, and the second is the same without
/// it, and does:
///
/// ```compile_fail,E0599
/// # // T326: scope filter before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .scope_filter(policy)
///     .authenticate(verifier);
/// # }
/// ```
///
/// ```
/// # // T326: without that: scope filter before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: exchange before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .exchange(provider);
/// # }
/// ```
///
/// ```
/// # // T326: without that: exchange before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: credential for a handler before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .credential_for_handler();
/// # }
/// ```
///
/// ```
/// # // T326: without that: credential for a handler before authenticate
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .credential_for_handler();
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: no policy
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .exchange(provider)
///     .build();
/// # }
/// ```
///
/// ```
/// # // T326: without that: no policy
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider)
///     .build();
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: authenticate twice
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier.clone())
///     .authenticate(verifier);
/// # }
/// ```
///
/// ```
/// # // T326: without that: authenticate twice
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier.clone())
///     .scope_filter(policy);
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # // T326: built without a credential
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .build();
/// # }
/// ```
///
/// ```
/// # // T326: without that: built without a credential
/// # use tower_token_broker::{Broker, authenticate::VerifyToken};
/// # use tower_token_broker::{exchange::ProvideCredential, scope_filter::Policy};
/// # fn stack(
/// #     broker: &Broker, verifier: impl VerifyToken + Clone, policy: impl Policy + Clone,
/// #     provider: impl ProvideCredential,
/// # ) {
/// let stack = broker
///     .protect("https://broker.example.com/crm/mcp")
///     .authenticate(verifier)
///     .scope_filter(policy)
///     .exchange(provider)
///     .build();
/// # }
/// ```
#[cfg(doctest)]
struct OnlyInThisOrder;
