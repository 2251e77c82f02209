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
    pub(crate) provider: Arc<P>,
    pub(crate) forwarded: Forwarded,
    pub(crate) strip_prefix: Box<str>,
    pub(crate) credential_deadline: Duration,
}

/// A field that must never go to an upstream: a credential, a hop-by-hop field, one that says who somebody is, or `Range`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header field {0} can't be forwarded: it carries credentials, framing or a proxy's word, or asks for a part of an answer"
)]
pub struct ForwardHeaderError(HeaderName);

impl<P: ProvideCredential> ExchangeLayer<P> {
    /// With the credentials of this provider, for its upstream.
    pub fn new(provider: P) -> Self {
        let recipe = Recipe {
            provider: Arc::new(provider),
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
    pub fn forward_header(self, name: HeaderName) -> Result<Self, ForwardHeaderError> {
        let mut may_be = false;
        let layer = self.with(|recipe| may_be = recipe.forwarded.add(name.clone()));
        if may_be { Ok(layer) } else { Err(ForwardHeaderError(name)) }
    }

    /// For plain HTTP: takes this prefix off the path before the upstream's own path is put before it.
    pub fn strip_prefix(self, prefix: &str) -> Self {
        self.with(|recipe| recipe.strip_prefix = prefix.trim_end_matches('/').into())
    }

    /// How long a request waits for its credential; 30 s by default. What gets the credential goes on regardless.
    pub fn credential_deadline(self, deadline: Duration) -> Self {
        self.with(|recipe| recipe.credential_deadline = deadline)
    }

    fn with(mut self, change: impl FnOnce(&mut Recipe<P>)) -> Self {
        // Clones keep the recipe that they have.
        change(Arc::make_mut(&mut self.recipe));
        self
    }
}

impl<P> Clone for Recipe<P> {
    fn clone(&self) -> Self {
        Self {
            provider: Arc::clone(&self.provider),
            forwarded: self.forwarded.clone(),
            strip_prefix: self.strip_prefix.clone(),
            credential_deadline: self.credential_deadline,
        }
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

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::{
        audit::Trail,
        exchange::{Credential, CredentialError, Upstream},
        principal::{Principal, Scopes},
    };

    struct Nobody;

    impl ProvideCredential for Nobody {
        fn upstream(&self) -> &Upstream {
            unreachable!("nothing is sent")
        }

        async fn credential(&self, _: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
            unreachable!("nothing is sent")
        }

        async fn refused(&self, _: &Credential) {}
    }

    #[test]
    fn a_layer_that_was_cloned_is_still_configured_on_its_own() {
        let first = ExchangeLayer::new(Nobody);
        let second = first.clone().strip_prefix("/api").credential_deadline(Duration::from_secs(1));
        let second = second.clone().forward_header(HeaderName::from_static("x-region")).unwrap();
        assert_eq!((&*first.recipe.strip_prefix, &*second.recipe.strip_prefix), ("", "/api"));
        assert_eq!(first.recipe.credential_deadline, Duration::from_secs(30));
        assert!(first.forward_header(header::AUTHORIZATION).is_err());
    }
}
