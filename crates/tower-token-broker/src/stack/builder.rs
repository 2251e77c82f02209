//! The builder of a stack, whose types enforce the only valid order of the layers.

use http::HeaderName;

use super::{Broker, StackConfig, layer::BrokerLayer, metadata::OtherMetadata};
use crate::{
    alarm::Alarm,
    audit::{AuditLayer, MountPathError, MountedAt},
    authenticate::{AuthenticateLayer, HostAndOrigin, HostAndOriginError, VerifyToken},
    exchange::{CallerLayer, ExchangeLayer, ForwardHeaderError, ProvideCredential},
    limits::{Limits, Protocol},
    principal::{Resource, ResourceError, Scopes},
    resource_metadata::{Document, MetadataError, ResourceMetadata},
    scope_filter::{Policy, ScopeFilterLayer},
};

/// Builds the stack of one protected resource. Each state has only the methods that may come next.
/// Created by [`Broker::protect`].
#[derive(Debug)]
#[must_use = "a stack does nothing until it is built and wraps a service"]
pub struct BrokerStack<State> {
    broker: Broker,
    /// The first error, which [`BrokerStack::build`] returns.
    config: Result<StackConfig, BuildError>,
    metadata: ResourceMetadata,
    publishes_later: bool,
    state: State,
}

/// State before [`BrokerStack::authenticate`].
#[derive(Debug)]
pub struct NeedsVerifier(());

/// State before [`BrokerStack::scope_filter`].
#[derive(Debug)]
pub struct NeedsPolicy<V> {
    verifier: V,
}

/// State before [`BrokerStack::exchange`] or [`BrokerStack::credential_for_handler`].
#[derive(Debug)]
pub struct NeedsCredential<V, P> {
    verifier: V,
    policy: P,
}

/// State before [`BrokerStack::build`].
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
            publishes_later: false,
            state: NeedsVerifier(()),
        }
    }

    /// Sets the verifier of broker tokens: who is calling.
    pub fn authenticate<V: VerifyToken>(self, verifier: V) -> BrokerStack<NeedsPolicy<V>> {
        self.with_state(|NeedsVerifier(())| NeedsPolicy { verifier })
    }
}

impl<V> BrokerStack<NeedsPolicy<V>> {
    /// Sets the policy: what callers may call.
    pub fn scope_filter<P: Policy>(self, policy: P) -> BrokerStack<NeedsCredential<V, P>> {
        self.with_state(|NeedsPolicy { verifier }| NeedsCredential { verifier, policy })
    }
}

impl<V, P> BrokerStack<NeedsCredential<V, P>> {
    /// Sets the credential source, and with it the upstream. The inner service must send the
    /// request and apply the credential: the proxy of `token-broker-outbound`, or
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

    /// Lets the inner service respond itself and send requests of its own. It finds a
    /// [`CallerHandle`](crate::exchange::CallerHandle) in the extensions, stamps its requests, and
    /// sends them through a client that is wrapped in an [`ExchangeLayer::for_handler`].
    pub fn credential_for_handler(self) -> BrokerStack<Complete<V, P, ByHandler>> {
        self.with_state(|NeedsCredential { verifier, policy }| Complete {
            verifier,
            policy,
            credential: ByHandler(()),
        })
    }
}

/// Settings with a default, in any order before [`BrokerStack::build`].
impl<State> BrokerStack<State> {
    /// Sets the protocol of the resource; MCP by default.
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.with(|config| config.protocol = protocol)
    }

    /// Sets the limits of size and time.
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|config| config.limits = limits)
    }

    /// Sets hosts and origins from which requests are accepted, in addition to those of the
    /// resource.
    pub fn host_and_origin(self, settings: HostAndOrigin) -> Self {
        self.with(|config| config.host_and_origin = settings)
    }

    /// Forwards this request header to the upstream, in addition to the default ones.
    pub fn forward_header(self, name: HeaderName) -> Self {
        self.with(|config| config.forward_headers.push(name))
    }

    /// Passes this response header to clients, in addition to the default ones. Of MCP and gRPC few
    /// pass, of plain HTTP also those that REST APIs commonly use
    /// ([`header_rules`](crate::header_rules)).
    pub fn forward_response_header(self, name: HeaderName) -> Self {
        self.with(|config| config.forward_response_headers.push(name))
    }

    /// Sets the scopes that the challenge of a 401 names, for clients to request first.
    pub fn challenge_scopes(self, scopes: Scopes) -> Self {
        self.with(|config| config.challenge_scopes = scopes)
    }

    /// Sets the metadata of the resource (RFC 9728).
    pub fn metadata(mut self, metadata: ResourceMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Leaves it to [`BrokerLayer::publish_metadata`] when the metadata of the resource is served:
    /// for a program that reads its configuration again, and may find an error after this layer was
    /// built.
    pub fn publish_metadata_later(mut self) -> Self {
        self.publishes_later = true;
        self
    }

    /// Sets the path at which this process serves the resource, if it is not the path of its URI,
    /// because a proxy removes a prefix. A request for another path is refused with 404.
    pub fn mounted_at(mut self, path: &str) -> Self {
        match MountedAt::parse(path) {
            Ok(path) => self.with(|config| config.mounted_at = Some(path)),
            Err(error) => {
                self.config = self.config.and(Err(error.into()));
                self
            }
        }
    }

    /// Records the header `x-request-id` of each request in addition to our own ID. Only for a
    /// server whose proxy sets it: otherwise clients choose a part of the records.
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
            publishes_later: self.publishes_later,
            state: next(self.state),
        }
    }
}

/// The reasons why a stack cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The URI of the resource is invalid.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The path at which the resource is served is invalid.
    #[error(transparent)]
    MountPath(#[from] MountPathError),
    /// A host or an origin from which requests are accepted is invalid.
    #[error(transparent)]
    HostAndOrigin(#[from] HostAndOriginError),
    /// A header must never be forwarded to an upstream.
    #[error(transparent)]
    ForwardHeader(#[from] ForwardHeaderError),
    /// The metadata of the resource is invalid.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The resource was built before with other metadata.
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
    /// Creates the layer and all its state, once. From now on [`Broker::metadata`] serves the
    /// resource, unless that is left for [later](BrokerStack::publish_metadata_later).
    ///
    /// # Errors
    /// The error of the resource or the settings.
    pub fn build(self) -> Result<BrokerLayer<V, P, ExchangeLayer<C>>, BuildError> {
        let (broker, config) = (self.broker, self.config?);
        let Complete { verifier, policy, credential: ByProxy(provider) } = self.state;
        let exchange = ExchangeLayer::new(&broker, &config, provider)?;
        build(&broker, &config, (&self.metadata, self.publishes_later), verifier, policy, exchange)
    }
}

impl<V: VerifyToken, P: Policy> BrokerStack<Complete<V, P, ByHandler>> {
    /// Creates the layer and all its state, once. From now on [`Broker::metadata`] serves the
    /// resource, unless that is left for [later](BrokerStack::publish_metadata_later).
    ///
    /// # Errors
    /// The error of the resource or the settings.
    pub fn build(self) -> Result<BrokerLayer<V, P, CallerLayer>, BuildError> {
        let (broker, config) = (self.broker, self.config?);
        let Complete { verifier, policy, .. } = self.state;
        let caller = CallerLayer::new(&broker);
        build(&broker, &config, (&self.metadata, self.publishes_later), verifier, policy, caller)
    }
}

fn build<V: VerifyToken, P: Policy, C>(
    broker: &Broker,
    config: &StackConfig,
    (metadata, publishes_later): (&ResourceMetadata, bool),
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
        broker: broker.clone(),
        document: document.clone(),
    };
    if !publishes_later {
        let other = |OtherMetadata| BuildError::OtherMetadata { resource: resource.clone() };
        broker.0.resources.add(document).map_err(other)?;
    }
    tracing::info!(
        resource = resource.as_str(),
        protocol = ?config.protocol,
        rules = summary.rules,
        revocations = broker.0.revocation_source,
        sealing_keys = if broker.0.sealing_keys_were_given { "given" } else { "drawn" },
        audit = &*broker.0.audit_sink,
        "protecting a resource"
    );
    for without_effect in summary.without_effect {
        tracing::warn!(
            alarm = Alarm::SettingWithoutEffect.code(),
            resource = resource.as_str(),
            "{without_effect}"
        );
    }
    Ok(layer)
}

/// Pairs: the first is a mistake and does not compile, the second is the same code without it.
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
