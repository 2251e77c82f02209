//! The handle that owns what all stacks of a process share.

use std::{fmt, sync::Arc};

use tokio::sync::{OnceCell, RwLock};

use super::{
    BrokerStack, NeedsVerifier, ShutdownError,
    metadata::{Metadata, Resources},
};
use crate::{
    audit::{AuditLog, AuditOptions, AuditSink},
    clock::Clock,
    exchange::leak_guard::Registry,
    principal::Resource,
    refusal::Reason,
    revocation::{BoxRevocationStore, RevocationFeed, RevocationStore, Revocations, StoreFeed},
    sealing::SealingKeys,
    tasks::Tasks,
};

/// The handle of a deployment: owns the audit log, revocations and blocks, the sealing keys, the
/// clock, background tasks and the list of protected resources. Cheap to clone; clones are one
/// broker.
///
/// Create one per process. It builds every stack ([`Broker::protect`]), revokes, serves the
/// metadata of its resources, and shuts them down.
///
/// ```
/// # #[cfg(feature = "test-util")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use tower_token_broker::{
///     Broker,
///     principal::{Initiator, User},
///     revocation::RevocationTarget,
/// };
/// # let sink = tower_token_broker::audit::InMemory::new();
///
/// // In production: `JsonLines::append("audit.jsonl")?`.
/// let broker = Broker::builder().audit(sink).build()?;
///
/// let alice = RevocationTarget::User(User::new("https://broker.example.com", "alice"));
/// let revoked = broker.revoke(alice, &Initiator::operator("olga")).await?;
/// assert!(!revoked.was_known(), "this process has seen no token of hers");
///
/// broker.shutdown(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "test-util"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Broker(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) audit: AuditLog,
    pub(super) revocations: Revocations,
    pub(super) store: Option<BoxRevocationStore>,
    pub(super) revocation_source: &'static str,
    pub(super) sealing_keys: SealingKeys,
    pub(super) sealing_keys_were_given: bool,
    pub(super) audit_sink: Box<str>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) verdict_cache_capacity: u64,
    pub(super) credential_registry: Arc<Registry>,
    pub(super) resources: Resources,
    /// Loosening holds it exclusively, tightening shared.
    pub(super) loosening: RwLock<()>,
    /// The result of the shutdown, once one was requested.
    pub(super) end: OnceCell<Result<(), ShutdownError>>,
}

impl Broker {
    /// The default number of verdicts that each stack caches, separately for good and bad ones.
    pub const VERDICT_CACHE_CAPACITY: u64 = 100_000;

    /// The default number of live credentials that the leak guard remembers.
    pub const CREDENTIAL_REGISTRY_CAPACITY: usize = 200_000;

    /// Creates a builder. Only [`BrokerBuilder::audit`] is required.
    pub fn builder() -> BrokerBuilder<()> {
        BrokerBuilder {
            sink: (),
            audit_options: AuditOptions::default(),
            clock: Clock::system(),
            tasks: Tasks::new(),
            sealing_keys: None,
            verdict_cache_capacity: Self::VERDICT_CACHE_CAPACITY,
            credential_registry_capacity: Self::CREDENTIAL_REGISTRY_CAPACITY,
            revocations: RevocationSource::Process,
        }
    }

    /// Begins the stack of one protected resource, by its URI (RFC 8707 §2): exactly the audience
    /// of its broker tokens. [`build`](BrokerStack::build) reports an invalid URI.
    pub fn protect(&self, resource: &str) -> BrokerStack<NeedsVerifier> {
        BrokerStack::begin(self, resource)
    }

    /// Returns the service for the metadata (RFC 9728) of all resources, also of those whose stacks
    /// are built later. Mount it outside of authentication: clients without a token read it.
    pub fn metadata(&self) -> Metadata {
        self.0.resources.metadata()
    }

    /// Returns the routes of [`Broker::metadata`] for an axum application, to be merged.
    #[cfg(feature = "axum")]
    pub fn metadata_router<S>(&self) -> axum::Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        axum::Router::new()
            .route_service("/.well-known/oauth-protected-resource", self.metadata())
            .route_service("/.well-known/oauth-protected-resource/{*path}", self.metadata())
    }

    /// Returns an error if every new request would be refused: for a readiness probe.
    ///
    /// # Errors
    /// The reason: the audit log is closed, the revocation feed is silent, or the broker shuts
    /// down.
    pub fn readiness(&self) -> Result<(), Reason> {
        self.0.revocations.admits()?;
        if self.0.audit.is_open() { Ok(()) } else { Err(Reason::AuditUnavailable) }
    }

    /// Removes the metadata of a resource that is protected no longer. Returns whether there was
    /// one. A service with a stack of the resource continues to work.
    pub fn remove_metadata(&self, resource: &Resource) -> bool {
        self.0.resources.remove(resource)
    }

    /// Returns the audit log.
    pub fn audit_log(&self) -> &AuditLog {
        &self.0.audit
    }

    /// Returns the revocations of this process.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// Returns the clock that decides about the lifetimes of tokens and credentials.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Returns the owner of background work: refreshes, key fetches. [`Broker::shutdown`] waits for
    /// it.
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Returns the keys that seal what clients and browsers carry for the broker.
    pub fn sealing_keys(&self) -> &SealingKeys {
        &self.0.sealing_keys
    }

    pub(super) fn verdict_cache_capacity(&self) -> u64 {
        self.0.verdict_cache_capacity
    }

    pub(super) fn credential_registry(&self) -> Arc<Registry> {
        Arc::clone(&self.0.credential_registry)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("audit", &self.0.audit)
            .field("revocations", &self.0.revocation_source)
            .finish_non_exhaustive()
    }
}

/// Configuration of a broker. Created by [`Broker::builder`].
///
/// It cannot be built before [`audit`](Self::audit) has set a sink.
#[must_use = "a broker does nothing until it is built"]
pub struct BrokerBuilder<S> {
    sink: S,
    audit_options: AuditOptions,
    clock: Clock,
    tasks: Tasks,
    sealing_keys: Option<SealingKeys>,
    verdict_cache_capacity: u64,
    credential_registry_capacity: usize,
    revocations: RevocationSource,
}

/// Starts to follow a feed.
type Follow = Box<dyn FnOnce(&Revocations, &Tasks) + Send>;

enum RevocationSource {
    /// Revocations last as long as the process.
    Process,
    /// Revocations are durable and shared with other replicas.
    Store(BoxRevocationStore),
    /// Others report revocations; this process keeps its own as long as it runs.
    Feed(Follow),
}

impl BrokerBuilder<()> {
    /// Sets the sink that records each request and each use of a credential. Required, because no
    /// use is allowed without a record.
    pub fn audit<S: AuditSink>(self, sink: S) -> BrokerBuilder<S> {
        BrokerBuilder {
            sink,
            audit_options: self.audit_options,
            clock: self.clock,
            tasks: self.tasks,
            sealing_keys: self.sealing_keys,
            verdict_cache_capacity: self.verdict_cache_capacity,
            credential_registry_capacity: self.credential_registry_capacity,
            revocations: self.revocations,
        }
    }
}

/// Settings with a default, in any order before [`BrokerBuilder::build`].
impl<S> BrokerBuilder<S> {
    /// Sets the timeout and the queue of the audit log. Its clock is the broker's.
    pub fn audit_options(mut self, options: AuditOptions) -> Self {
        self.audit_options = options;
        self
    }

    /// Replaces the system's clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the owner of background work, if one exists already. [`Broker::shutdown`] waits for all
    /// of its tasks, so none may depend on the end of the broker.
    pub fn tasks(mut self, tasks: Tasks) -> Self {
        self.tasks = tasks;
        self
    }

    /// Sets the keys that seal session IDs and request states. All replicas need the same keys. By
    /// default they are random, and a restart ends all sessions.
    pub fn sealing_keys(mut self, keys: SealingKeys) -> Self {
        self.sealing_keys = Some(keys);
        self
    }

    /// Sets the number of token verdicts that each stack caches, separately for good and bad ones;
    /// [`Broker::VERDICT_CACHE_CAPACITY`] by default.
    pub fn verdict_cache_capacity(mut self, entries: u64) -> Self {
        self.verdict_cache_capacity = entries;
        self
    }

    /// Sets the number of live credentials that the leak guard remembers, of all users and servers;
    /// [`Broker::CREDENTIAL_REGISTRY_CAPACITY`] by default. No response to any user may contain one
    /// of them. The registry has keyed hashes of them, about 900 bytes for each. When it is full,
    /// the credentials that were used the longest ago are forgotten, with an alarm
    /// (`exchange.credential_registry_full`).
    ///
    /// With 0, a response is searched only for the credentials that were used for it.
    pub fn credential_registry_capacity(mut self, credentials: usize) -> Self {
        self.credential_registry_capacity = credentials;
        self
    }

    /// Sets the store of revocations and blocks, shared by all replicas. It is polled; while it
    /// cannot be read, requests are refused. By default revocations last as long as the process.
    pub fn revocation_store(mut self, store: impl RevocationStore) -> Self {
        self.revocations = RevocationSource::Store(BoxRevocationStore::new(store));
        self
    }

    /// Sets a feed of revocations that were made elsewhere, instead of
    /// [`BrokerBuilder::revocation_store`], which has its own feed.
    pub fn revocation_feed(mut self, feed: impl RevocationFeed) -> Self {
        self.revocations = RevocationSource::Feed(Box::new(move |revocations, tasks| {
            drop(revocations.follow(feed, tasks));
        }));
        self
    }
}

/// The reasons why a broker cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A revocation store or feed needs a tokio runtime for its background reads, and there is
    /// none.
    #[error(
        "a revocation store or feed is read in the background: \
         build the broker inside of a tokio runtime"
    )]
    NoRuntime,
}

impl<S: AuditSink> BrokerBuilder<S> {
    /// Starts the audit log, and reads the revocation store in the background.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn build(self) -> Result<Broker, BrokerError> {
        let in_background = !matches!(self.revocations, RevocationSource::Process);
        if in_background && tokio::runtime::Handle::try_current().is_err() {
            return Err(BrokerError::NoRuntime);
        }
        let revocations = Revocations::new(self.clock.clone());
        let (store, revocation_source) = match self.revocations {
            RevocationSource::Process => {
                tracing::info!(
                    "revocations and blocks last as long as this process; with a revocation store \
                     they outlive it and reach all replicas"
                );
                (None, "process")
            }
            RevocationSource::Store(store) => {
                drop(revocations.follow(StoreFeed::new(store.clone()), &self.tasks));
                (Some(store), "store")
            }
            RevocationSource::Feed(follow) => {
                follow(&revocations, &self.tasks);
                (None, "feed")
            }
        };
        let sealing_keys_were_given = self.sealing_keys.is_some();
        let options = self.audit_options.with_clock(self.clock.clone());
        let audit_sink = self.sink.location().into();
        Ok(Broker(Arc::new(Shared {
            audit: AuditLog::start(self.sink, options),
            revocations,
            store,
            revocation_source,
            sealing_keys: self.sealing_keys.unwrap_or_else(SealingKeys::generate),
            sealing_keys_were_given,
            audit_sink,
            credential_registry: Arc::new(Registry::new(
                self.credential_registry_capacity,
                self.clock.clone(),
            )),
            clock: self.clock,
            tasks: self.tasks,
            verdict_cache_capacity: self.verdict_cache_capacity,
            resources: Resources::default(),
            loosening: RwLock::new(()),
            end: OnceCell::new(),
        })))
    }
}

impl<S> fmt::Debug for BrokerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder").finish_non_exhaustive()
    }
}

/// Revocations exist only within a broker, so that each is recorded:
///
/// ```compile_fail,E0624
/// # use tower_token_broker::{clock::Clock, revocation::Revocations};
/// let revocations = Revocations::new(Clock::system());
/// ```
///
/// ```
/// # use tower_token_broker::Broker;
/// # fn read(broker: &Broker) {
/// let revocations = broker.revocations();
/// # }
/// ```
///
/// No layer is created without a broker:
///
/// ```compile_fail,E0061
/// # use tower_token_broker::{scope_filter::{Rules, ScopeFilterLayer}};
/// let layer = ScopeFilterLayer::new(Rules::new());
/// ```
///
/// ```
/// # use tower_token_broker::{Broker, scope_filter::{Rules, ScopeFilterLayer}, stack::StackConfig};
/// # fn layer(broker: &Broker, config: &StackConfig) {
/// let layer = ScopeFilterLayer::new(broker, config, Rules::new());
/// # }
/// ```
///
/// No broker is built without an audit sink:
///
/// ```compile_fail,E0599
/// # use tower_token_broker::Broker;
/// let broker = Broker::builder().build();
/// ```
///
/// ```
/// # use tower_token_broker::{Broker, audit::TracingSink};
/// let broker = Broker::builder().audit(TracingSink::new()).build();
/// ```
#[cfg(doctest)]
struct OnlyWithABroker;
