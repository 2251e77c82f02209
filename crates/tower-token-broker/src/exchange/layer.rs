//! The recipe of the exchange layer.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use tower_layer::Layer;

use super::{headers::Forwarded, provide::ProvideCredential, service::Exchange};

/// Puts the caller's upstream credential on each request. See the [module](super).
#[derive(Debug)]
#[must_use = "a layer does nothing until it is put onto a service"]
pub struct ExchangeLayer<P> {
    recipe: Arc<Recipe<P>>,
}

/// What all clones of one exchange share.
#[derive(Debug)]
pub(crate) struct Recipe<P> {
    pub(crate) provider: P,
    pub(crate) forwarded: Forwarded,
    pub(crate) strip_prefix: Box<str>,
    pub(crate) credential_deadline: Duration,
}

/// A field that must never go to an upstream: a credential, a hop-by-hop field, one that says who somebody is, or `Range`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header field {0} can't be forwarded: it carries credentials, framing or a proxy's word, or asks for a part of an answer"
)]
pub struct NeverForwarded(HeaderName);

impl<P: ProvideCredential> ExchangeLayer<P> {
    /// With the credentials of this provider, for its upstream.
    pub fn new(provider: P) -> Self {
        let recipe = Recipe {
            provider,
            forwarded: Forwarded::default(),
            strip_prefix: "".into(),
            credential_deadline: Duration::from_secs(30),
        };
        Self { recipe: Arc::new(recipe) }
    }

    /// Forwards this request header field too.
    ///
    /// # Errors
    /// The field must never go to an upstream.
    pub fn forward_header(self, name: HeaderName) -> Result<Self, NeverForwarded> {
        let mut recipe = self.into_recipe();
        if !recipe.forwarded.add(name.clone()) {
            return Err(NeverForwarded(name));
        }
        Ok(Self { recipe: Arc::new(recipe) })
    }

    /// For plain HTTP: takes this prefix off the path before the upstream's own path is put before it.
    pub fn strip_prefix(self, prefix: &str) -> Self {
        let mut recipe = self.into_recipe();
        recipe.strip_prefix = prefix.trim_end_matches('/').into();
        Self { recipe: Arc::new(recipe) }
    }

    /// How long a request waits for its credential; 30 s by default. What gets the credential goes on regardless.
    pub fn credential_deadline(self, deadline: Duration) -> Self {
        let mut recipe = self.into_recipe();
        recipe.credential_deadline = deadline;
        Self { recipe: Arc::new(recipe) }
    }

    fn into_recipe(self) -> Recipe<P> {
        // Only a layer that was cloned before it was complete shares its recipe; the setters take the one handle there is.
        Arc::into_inner(self.recipe).expect("a recipe is complete before its layer is cloned")
    }
}

impl<P> Clone for ExchangeLayer<P> {
    fn clone(&self) -> Self {
        Self { recipe: Arc::clone(&self.recipe) }
    }
}

impl<S, P> Layer<S> for ExchangeLayer<P> {
    type Service = Exchange<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Exchange::new(inner, Arc::clone(&self.recipe))
    }
}
