//! Layer configuration.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use super::{
    headers::{Forwarded, Returned},
    leak_guard::Registry,
    provide::ProvideCredential,
    service::Exchange,
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
    pub(super) returned: Arc<Returned>,
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

/// Headers in addition to the default ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderLists<'a> {
    /// Of requests.
    pub(crate) forwarded: &'a [HeaderName],
    /// Of responses.
    pub(crate) returned: &'a [HeaderName],
}

/// A header that is never forwarded to an upstream: a credential, a hop-by-hop header, an identity
/// that a proxy reports, or `Range`; or one that is never returned to a client: a cookie, a
/// challenge, a reference, a permission of another origin, or an instruction to a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header {name} cannot be forwarded: it carries credentials, framing or the identity that a \
     proxy reports, requests a part of a response, or instructs a proxy or browser"
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
        headers: &HeaderLists<'_>,
        mount_path: &str,
        limits: Limits,
        registry: Arc<Registry>,
    ) -> Result<Self, ForwardHeaderError> {
        let mut forwarded = Forwarded::default();
        for name in headers.forwarded {
            if !forwarded.add(name.clone()) {
                return Err(ForwardHeaderError { name: name.clone() });
            }
        }
        let mut returned = Returned::default();
        for name in headers.returned {
            if !returned.add(name.clone()) {
                return Err(ForwardHeaderError { name: name.clone() });
            }
        }
        let returned = Arc::new(returned);
        let mount_path = mount_path.into();
        let requests = Requests::OfClients;
        let shared =
            Shared { provider, forwarded, returned, mount_path, limits, requests, registry };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn build_for_handler(provider: P, limits: Limits, registry: Arc<Registry>) -> Self {
        let (forwarded, returned) = (Forwarded::default(), Arc::default());
        let mount_path = "".into();
        let requests = Requests::OfAHandler;
        let shared =
            Shared { provider, forwarded, returned, mount_path, limits, requests, registry };
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
