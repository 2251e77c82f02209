//! The recipe of the layer.

use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{Authenticate, HostAndOriginError, VerifyToken, verdicts::Verdicts, visitors::Visitors};
use crate::{
    clock::Clock,
    principal::{Resource, Scopes},
    revocation::Revocations,
};

/// Lets a request in only with a broker token made for one resource; see the [module](crate::authenticate).
///
/// Cheap to clone; all clones, and all services that it makes, share one cache of verdicts,
/// until one of them is given other revocations.
#[must_use = "a layer does nothing until it is put around a service"]
pub struct AuthenticateLayer<V> {
    verifier: Arc<V>,
    recipe: Arc<Recipe>,
}

/// All that the services share, but for the verifier.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) resource: Resource,
    pub(super) visitors: Visitors,
    pub(super) revocations: Revocations,
    pub(super) clock: Clock,
    pub(super) verdicts: Verdicts,
    pub(super) challenge_scopes: Scopes,
    entries: u64,
}

impl<V: VerifyToken> AuthenticateLayer<V> {
    /// How many verdicts are kept by default.
    pub const VERDICTS: u64 = 100_000;

    /// Tokens are verified by `verifier` and must be for `resource`. Without [`AuthenticateLayer::revocations`], nothing
    /// is ever revoked.
    pub fn new(verifier: V, resource: &Resource) -> Self {
        let clock = Clock::system();
        Self {
            verifier: Arc::new(verifier),
            recipe: Arc::new(Recipe {
                resource: resource.clone(),
                visitors: Visitors::of(resource),
                revocations: Revocations::new(clock.clone()),
                clock,
                verdicts: Verdicts::new(Self::VERDICTS),
                challenge_scopes: Scopes::none(),
                entries: Self::VERDICTS,
            }),
        }
    }

    /// Asks these revocations; share one between all stacks of a process.
    pub fn revocations(self, revocations: &Revocations) -> Self {
        self.with(|recipe| {
            recipe.revocations = revocations.clone();
            // A verdict counts by the epoch of one set of revocations: a layer cloned before this keeps its own.
            recipe.verdicts = Verdicts::new(recipe.entries);
        })
    }

    /// With this clock. A feed's silence is measured by that of the revocations: give both the same.
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with(|recipe| recipe.clock = clock)
    }

    /// Keeps at most so many verdicts.
    pub fn verdicts(self, entries: u64) -> Self {
        self.with(|recipe| {
            recipe.entries = entries;
            recipe.verdicts = Verdicts::new(entries);
        })
    }

    /// Names these scopes in the challenge of a 401 (RFC 6750 §3): what a client should ask for to begin with. None by default.
    pub fn challenge_scopes(self, scopes: Scopes) -> Self {
        self.with(|recipe| recipe.challenge_scopes = scopes)
    }

    /// Lets requests in that name one of these hosts, and no others: for a server behind a proxy that rewrites `Host`, or
    /// one that has several names. By default the host is the resource's.
    ///
    /// # Errors
    /// One of them is no host with an optional port.
    pub fn allowed_hosts<'a>(self, hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, HostAndOriginError> {
        let mut result = Ok(());
        let layer = self.with(|recipe| result = recipe.visitors.set_hosts(hosts));
        result.map(|()| layer)
    }

    /// Lets requests in that a browser sends from a page of one of these origins, besides the resource's own.
    ///
    /// # Errors
    /// One of them is no origin.
    pub fn allowed_origins<'a>(self, origins: impl IntoIterator<Item = &'a str>) -> Result<Self, HostAndOriginError> {
        let mut result = Ok(());
        let layer = self.with(|recipe| result = recipe.visitors.add_origins(origins));
        result.map(|()| layer)
    }

    fn with(mut self, change: impl FnOnce(&mut Recipe)) -> Self {
        change(Arc::make_mut(&mut self.recipe));
        self
    }
}

impl<S, V: VerifyToken> Layer<S> for AuthenticateLayer<V> {
    type Service = Authenticate<S, V>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate::new(inner, Arc::clone(&self.verifier), Arc::clone(&self.recipe))
    }
}

impl<V> Clone for AuthenticateLayer<V> {
    fn clone(&self) -> Self {
        Self { verifier: Arc::clone(&self.verifier), recipe: Arc::clone(&self.recipe) }
    }
}

impl<V> fmt::Debug for AuthenticateLayer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer")
            .field("resource", &self.recipe.resource)
            .field("verdicts", &self.recipe.verdicts.entries())
            .finish_non_exhaustive()
    }
}
