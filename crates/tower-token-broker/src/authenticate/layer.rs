//! Layer configuration.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    Authenticate, HostAndOrigin, HostAndOriginError, VerifyToken, host_and_origin::AllowedHosts,
    verdict_cache::VerdictCache,
};
use crate::{
    clock::Clock,
    principal::{Resource, Scopes},
    revocation::Revocations,
};

/// Accepts a request only with a broker token that was issued for one resource. See the
/// [module](crate::authenticate).
///
/// Cheap to clone. All clones, and all services that it creates, share one verdict cache.
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AuthenticateLayer<V> {
    verifier: Arc<V>,
    shared: Arc<Shared>,
}

/// The configuration that all services of one layer share, except the verifier.
pub(super) struct Shared {
    pub(super) resource: Resource,
    pub(super) allowed_hosts: AllowedHosts,
    pub(super) revocations: Revocations,
    pub(super) clock: Clock,
    pub(super) verdicts: VerdictCache,
    pub(super) challenge_scopes: Scopes,
    pub(super) verify_timeout: Duration,
}

/// The configuration of a layer, except its verifier.
pub(crate) struct Config<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) host_and_origin: &'a HostAndOrigin,
    pub(crate) challenge_scopes: &'a Scopes,
    pub(crate) revocations: &'a Revocations,
    pub(crate) clock: &'a Clock,
    pub(crate) verdict_cache_capacity: u64,
    pub(crate) verify_timeout: Duration,
}

impl<V: VerifyToken> AuthenticateLayer<V> {
    pub(crate) fn build(verifier: V, config: &Config<'_>) -> Result<Self, HostAndOriginError> {
        Ok(Self {
            verifier: Arc::new(verifier),
            shared: Arc::new(Shared {
                resource: config.resource.clone(),
                allowed_hosts: AllowedHosts::new(config.resource, config.host_and_origin)?,
                revocations: config.revocations.clone(),
                clock: config.clock.clone(),
                verdicts: VerdictCache::new(config.verdict_cache_capacity),
                challenge_scopes: config.challenge_scopes.clone(),
                verify_timeout: config.verify_timeout,
            }),
        })
    }
}

impl<S, V: VerifyToken> Layer<S> for AuthenticateLayer<V> {
    type Service = Authenticate<S, V>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate::new(inner, Arc::clone(&self.verifier), Arc::clone(&self.shared))
    }
}

impl<V> Clone for AuthenticateLayer<V> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), shared: Arc::clone(&self.shared) }
    }
}

impl<V> fmt::Debug for AuthenticateLayer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer")
            .field("resource", &self.shared.resource)
            .field("verdict_cache_capacity", &self.shared.verdicts.entries())
            .finish_non_exhaustive()
    }
}
