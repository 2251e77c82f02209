//! Layer configuration, and the state that its services share.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{policy::Policy, service::ScopeFilter};
use crate::{
    json,
    limits::{Limits, Protocol},
    sealing::SealingKeys,
};

/// Judges each request by a policy and filters lists in responses by the same policy. See the
/// [module](super).
#[must_use = "a layer has no effect until it is applied to a service"]
pub struct ScopeFilterLayer<P> {
    shared: Arc<Shared<P>>,
}

/// The state that the services of one layer share.
pub(super) struct Shared<P> {
    pub(super) policy: P,
    pub(super) protocol: Protocol,
    pub(super) limits: Limits,
    pub(super) json: json::Limits,
    pub(super) keys: SealingKeys,
}

impl<P> Shared<P> {
    /// Returns the maximum number of messages of a gRPC stream in each direction.
    #[cfg(feature = "grpc")]
    pub(super) fn max_messages(&self) -> u64 {
        match self.protocol {
            Protocol::Grpc(options) => options.max_messages,
            Protocol::Mcp | Protocol::Http => crate::limits::GrpcOptions::default().max_messages,
        }
    }
}

impl<P: Policy> ScopeFilterLayer<P> {
    /// Creates a layer for MCP, with the default limits and its own keys.
    #[cfg(test)]
    pub(crate) fn for_test(policy: P) -> Self {
        Self::build(policy, Protocol::Mcp, Limits::default(), SealingKeys::generate())
    }

    /// Creates a layer for plain HTTP.
    #[cfg(test)]
    pub(crate) fn for_test_of_http(policy: P) -> Self {
        Self::build(policy, Protocol::Http, Limits::default(), SealingKeys::generate())
    }

    /// Creates a layer for gRPC.
    #[cfg(all(test, feature = "grpc"))]
    pub(crate) fn for_test_of_grpc(policy: P) -> Self {
        let protocol = Protocol::Grpc(crate::limits::GrpcOptions::default());
        Self::build(policy, protocol, Limits::default(), SealingKeys::generate())
    }

    pub(crate) fn build(policy: P, protocol: Protocol, limits: Limits, keys: SealingKeys) -> Self {
        let json = json::Limits::default();
        Self { shared: Arc::new(Shared { policy, protocol, limits, json, keys }) }
    }
}

impl<P> Clone for ScopeFilterLayer<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P> fmt::Debug for ScopeFilterLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeFilterLayer")
            .field("protocol", &self.shared.protocol)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl<S, P> Layer<S> for ScopeFilterLayer<P> {
    type Service = ScopeFilter<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        ScopeFilter::new(inner, Arc::clone(&self.shared))
    }
}
