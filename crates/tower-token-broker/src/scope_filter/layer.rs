//! The recipe of the scope filter.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{policy::Policy, service::ScopeFilter};
use crate::{json::Limits, sealing::SealingKeys};

/// Judges each request by a policy, and filters lists in answers by the same. See the [module](super).
#[must_use = "a layer does nothing until it is put onto a service"]
pub struct ScopeFilterLayer<P> {
    recipe: Arc<Recipe<P>>,
}

/// What all clones of one filter share.
pub(super) struct Recipe<P> {
    pub(super) policy: Arc<P>,
    pub(super) bounds: Bounds,
    pub(super) keys: SealingKeys,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) plain_http: bool,
    #[cfg(feature = "grpc")]
    pub(super) grpc: Option<super::grpc::Bounds>,
    pub(super) body: usize,
    pub(super) body_deadline: Duration,
    pub(super) answer: usize,
    pub(super) json: Limits,
}

impl<P: Policy> ScopeFilterLayer<P> {
    /// For an MCP endpoint, by this policy.
    pub fn new(policy: P) -> Self {
        let bounds = Bounds {
            plain_http: false,
            #[cfg(feature = "grpc")]
            grpc: None,
            body: 1024 * 1024,
            body_deadline: Duration::from_secs(30),
            answer: 16 * 1024 * 1024,
            json: Limits::default(),
        };
        Self { recipe: Arc::new(Recipe { policy: Arc::new(policy), bounds, keys: SealingKeys::generate() }) }
    }

    /// The route is not MCP: requests are judged by method and path, bodies and answers are streamed untouched.
    pub fn plain_http(self) -> Self {
        self.with(|bounds| bounds.plain_http = true)
    }

    /// The route speaks gRPC: a method that carries MCP is judged by its message, any other by its name.
    #[cfg(feature = "grpc")]
    pub fn grpc(self) -> Self {
        self.with(|bounds| bounds.grpc = Some(bounds.grpc.unwrap_or_default()))
    }

    /// How many messages a gRPC stream may have in each direction; a million by default. Implies [`ScopeFilterLayer::grpc`].
    #[cfg(feature = "grpc")]
    pub fn message_count(self, most: u64) -> Self {
        self.with(|bounds| bounds.grpc.get_or_insert_default().message_count = most)
    }

    /// Longest message, in bytes; 1 MiB by default.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|bounds| bounds.body = bytes)
    }

    /// How long a message may take to arrive; 30 s by default.
    pub fn body_deadline(self, deadline: Duration) -> Self {
        self.with(|bounds| bounds.body_deadline = deadline)
    }

    /// Longest JSON answer, and longest event of a stream, in bytes; 16 MiB by default.
    pub fn answer_limit(self, bytes: usize) -> Self {
        self.with(|bounds| bounds.answer = bytes)
    }

    /// The keys that seal session ids and request states. All replicas of one resource need the same; by default there is one of this
    /// layer alone, and a restart ends all sessions.
    pub fn sealed_with(mut self, keys: SealingKeys) -> Self {
        Arc::make_mut(&mut self.recipe).keys = keys;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Bounds)) -> Self {
        // Clones keep the recipe that they have.
        change(&mut Arc::make_mut(&mut self.recipe).bounds);
        self
    }
}

impl<P> Clone for Recipe<P> {
    fn clone(&self) -> Self {
        Self { policy: Arc::clone(&self.policy), bounds: self.bounds, keys: self.keys.clone() }
    }
}

impl<P> Clone for ScopeFilterLayer<P> {
    fn clone(&self) -> Self {
        Self { recipe: Arc::clone(&self.recipe) }
    }
}

impl<P> fmt::Debug for ScopeFilterLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeFilterLayer").field("bounds", &self.recipe.bounds).finish_non_exhaustive()
    }
}

impl<S, P> Layer<S> for ScopeFilterLayer<P> {
    type Service = ScopeFilter<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        ScopeFilter::new(inner, Arc::clone(&self.recipe))
    }
}
