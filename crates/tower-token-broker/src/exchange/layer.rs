//! Layer configuration.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use super::{
    headers::Forwarded, leak_guard::Registry, provide::ProvideCredential, service::Exchange,
};
use crate::limits::Limits;

/// Provides each request with the caller's upstream credential. See the [module](super).
#[derive(Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct ExchangeLayer<P> {
    shared: Arc<Shared<P>>,
}

/// The configuration that all services of one layer share.
#[derive(Debug)]
pub(super) struct Shared<P> {
    pub(super) provider: P,
    pub(super) forwarded: Forwarded,
    /// The prefix that is removed from a judged path before the upstream's path is prepended.
    pub(super) mount_path: Box<str>,
    pub(super) limits: Limits,
    pub(super) requests: Requests,
    /// The live credentials of all users, of which a response must contain none.
    pub(super) registry: Arc<Registry>,
}

/// The origin of the requests that a layer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requests {
    /// Requests of clients, as the outer layers judged them.
    OfClients,
    /// A handler's own requests, stamped with their caller.
    OfAHandler,
}

/// A header that is never forwarded to an upstream: a credential, a hop-by-hop header, an identity
/// that a proxy reports, or `Range`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header {name} cannot be forwarded: it carries credentials, framing or the identity that a \
     proxy reports, or requests a part of a response"
)]
pub struct ForwardHeaderError {
    name: HeaderName,
}

impl ForwardHeaderError {
    /// Returns the name of the header.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }
}

impl<P: ProvideCredential> ExchangeLayer<P> {
    pub(crate) fn build(
        provider: P,
        forward_headers: &[HeaderName],
        mount_path: &str,
        limits: Limits,
        registry: Arc<Registry>,
    ) -> Result<Self, ForwardHeaderError> {
        let mut forwarded = Forwarded::default();
        for name in forward_headers {
            if !forwarded.add(name.clone()) {
                return Err(ForwardHeaderError { name: name.clone() });
            }
        }
        let mount_path = mount_path.into();
        let requests = Requests::OfClients;
        let shared = Shared { provider, forwarded, mount_path, limits, requests, registry };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn build_for_handler(provider: P, limits: Limits, registry: Arc<Registry>) -> Self {
        let (forwarded, mount_path) = (Forwarded::default(), "".into());
        let requests = Requests::OfAHandler;
        let shared = Shared { provider, forwarded, mount_path, limits, requests, registry };
        Self { shared: Arc::new(shared) }
    }
}

impl<P> ExchangeLayer<P> {
    /// Wraps a service. The same as [`Layer::layer`], without an import.
    pub fn layer<S>(&self, inner: S) -> Exchange<S, P> {
        Layer::layer(self, inner)
    }
}

impl<P> Clone for ExchangeLayer<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S, P> Layer<S> for ExchangeLayer<P> {
    type Service = Exchange<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Exchange::new(inner, Arc::clone(&self.shared))
    }
}
