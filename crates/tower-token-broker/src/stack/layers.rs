//! Constructors of single layers, for stacks that are composed by hand.

#[cfg(feature = "jwt")]
use std::fmt;

#[cfg(feature = "jwt")]
use bytes::Bytes;
#[cfg(feature = "jwt")]
use http::{Request, Response, Uri};
#[cfg(feature = "jwt")]
use tower_service::Service;

use super::{Broker, StackConfig};
#[cfg(feature = "jwt")]
use crate::authenticate::{
    introspection::{Introspection, IntrospectionClient},
    jwt::{EndpointError, RemoteKeys},
};
use crate::{
    audit::{self, AuditLayer},
    authenticate::{self, AuthenticateLayer, HostAndOriginError, VerifyToken},
    exchange::{CallerLayer, ExchangeLayer, ForwardHeaderError, HeaderLists, ProvideCredential},
    limits::Limits,
    scope_filter::{Policy, ScopeFilterLayer},
};

impl AuditLayer {
    /// Creates the outermost layer, which records into the audit log of this broker.
    pub fn new(broker: &Broker, config: &StackConfig) -> Self {
        Self::build(audit::Config {
            log: broker.audit_log().clone(),
            resource: Some(config.resource.clone()),
            mount_path: Some(config.mount_path()),
            trusts_request_id: config.trusts_request_id_header,
        })
    }
}

impl<V: VerifyToken> AuthenticateLayer<V> {
    /// Creates the layer inside of audit, with the broker's revocations, clock and cache capacity.
    ///
    /// # Errors
    /// A host or an origin of the configuration is invalid.
    pub fn new(
        broker: &Broker,
        config: &StackConfig,
        verifier: V,
    ) -> Result<Self, HostAndOriginError> {
        Self::build(
            verifier,
            &authenticate::Config {
                resource: &config.resource,
                host_and_origin: &config.host_and_origin,
                challenge_scopes: &config.challenge_scopes,
                revocations: broker.revocations(),
                clock: broker.clock(),
                verdict_cache_capacity: broker.verdict_cache_capacity(),
                verify_timeout: config.limits.verify_timeout,
            },
        )
    }
}

#[cfg(feature = "jwt")]
impl<S> RemoteKeys<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Display,
{
    /// Creates keys that are fetched from this URL, with the broker's clock and tasks. Nothing is
    /// fetched before the first token arrives.
    pub fn new(broker: &Broker, client: S, url: Uri) -> Self {
        Self::build(client, url, broker.clock(), broker.tasks())
    }

    /// Creates keys that are fetched from the `jwks_uri` of this issuer's metadata: at
    /// `/.well-known/openid-configuration`, else at `/.well-known/oauth-authorization-server`.
    /// Their `issuer` must be this text, character by character, and `jwks_uri` an https URL.
    ///
    /// # Errors
    /// The issuer is no https URL (http only on loopback), or has a query or fragment.
    pub fn discover(broker: &Broker, client: S, issuer: &str) -> Result<Self, EndpointError> {
        Self::build_for_issuer(client, issuer, broker.clock(), broker.tasks())
    }
}

#[cfg(feature = "jwt")]
impl<S> Introspection<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Display,
{
    /// Creates a verifier for the tokens of this issuer, which asks this endpoint and authenticates
    /// there as `us`.
    ///
    /// # Errors
    /// One of the URLs is not https (http only on loopback), or has a query or fragment.
    pub fn new(
        broker: &Broker,
        client: S,
        issuer: &str,
        endpoint: &str,
        us: IntrospectionClient,
    ) -> Result<Self, EndpointError> {
        Self::build(client, issuer, endpoint, us, broker.clock(), broker.tasks())
    }
}

impl<P: Policy> ScopeFilterLayer<P> {
    /// Creates the layer inside of authenticate, with the broker's sealing keys.
    pub fn new(broker: &Broker, config: &StackConfig, policy: P) -> Self {
        Self::build(policy, config.protocol, config.limits, broker.sealing_keys().clone())
    }
}

impl<P: ProvideCredential> ExchangeLayer<P> {
    /// Creates the innermost layer, around the proxy.
    ///
    /// # Errors
    /// A header of the configuration must never be forwarded to an upstream, or never returned to a
    /// client.
    pub fn new(
        broker: &Broker,
        config: &StackConfig,
        provider: P,
    ) -> Result<Self, ForwardHeaderError> {
        Self::build(
            provider,
            &HeaderLists {
                forwarded: &config.forward_headers,
                returned: &config.forward_response_headers,
            },
            config.mount_path().prefix(),
            config.limits,
            broker.credential_registry(),
        )
    }

    /// Creates a layer for the client of a handler
    /// ([`credential_for_handler`](super::BrokerStack::credential_for_handler)). Each request that
    /// the handler [stamped](crate::exchange::CallerHandle::stamp) is sent with the credential of
    /// its caller.
    pub fn for_handler(broker: &Broker, provider: P) -> Self {
        Self::build_for_handler(provider, Limits::default(), broker.credential_registry())
    }
}

impl CallerLayer {
    /// Creates the layer around a handler, in the place of [`ExchangeLayer`]. The credential
    /// provider is configured at the handler's client.
    pub fn new(broker: &Broker) -> Self {
        Self::build(broker.credential_registry())
    }
}
