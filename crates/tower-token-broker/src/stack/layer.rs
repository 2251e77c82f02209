//! The four layers as one [`Layer`].

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::Broker;
use crate::{
    audit::{Audit, AuditLayer},
    authenticate::{Authenticate, AuthenticateLayer, VerifyToken},
    body::RequestBody,
    resource_metadata::Document,
    scope_filter::{ScopeFilter, ScopeFilterLayer},
};

/// The four layers of one protected resource, stacked into one [`Layer`]. Cheap to clone.
#[derive(Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct BrokerLayer<V, P, C> {
    pub(super) audit: AuditLayer,
    pub(super) authenticate: AuthenticateLayer<V>,
    pub(super) scope_filter: ScopeFilterLayer<P>,
    pub(super) credential: C,
    pub(super) broker: Broker,
    pub(super) document: Document,
}

impl<V, P, C> BrokerLayer<V, P, C> {
    /// Serves the metadata of this layer by [`Broker::metadata`] from now on, in place of that of
    /// other layers of the same resource.
    pub fn publish_metadata(&self) {
        self.broker.0.resources.replace(self.document.clone());
    }

    /// Wraps a service. The same as [`Layer::layer`], without an import.
    pub fn layer<S>(&self, inner: S) -> <Self as Layer<S>>::Service
    where
        Self: Layer<S>,
    {
        Layer::layer(self, inner)
    }
}

impl<V, P, C: Clone> Clone for BrokerLayer<V, P, C> {
    fn clone(&self) -> Self {
        Self {
            audit: self.audit.clone(),
            authenticate: self.authenticate.clone(),
            scope_filter: self.scope_filter.clone(),
            credential: self.credential.clone(),
            broker: self.broker.clone(),
            document: self.document.clone(),
        }
    }
}

impl<V, P, C, S> Layer<S> for BrokerLayer<V, P, C>
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

/// The adapter between the stack and your service. Two layers wrap the body of a request; your
/// service sees only one wrapper.
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
