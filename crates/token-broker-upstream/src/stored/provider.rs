//! The provider: what is at hand, who is waited for, who is told.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use moka::sync::Cache;
use token_broker_outbound::GuardedClient;
use token_broker_store::GrantStore;
use tokio::sync::Semaphore;
use tower_token_broker::{
    audit::Trail,
    clock::Clock,
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{GrantId, Principal, Scopes, User},
    tasks::Tasks,
};

use super::{
    cache::Entry,
    refresh::{Outcome, Purpose, Refresh},
};
use crate::{
    authorization_server::AuthorizationServer,
    connect::ConnectUrl,
    key::{Key, Parts},
    lifetime::{LONGEST_WAIT, MOST_AT_ONCE, MOST_ENTRIES, MOST_REFUSED},
    scopes,
    single_flight::{Flight, SingleFlight},
};

/// Gives each user's own access token for one upstream, refreshed when it is due. See the crate and its
/// [example](crate#example).
#[must_use = "a provider that is put into no exchange layer gives nothing"]
pub struct StoredGrants<S>(Arc<Shared<S>>);

pub(super) struct Shared<S> {
    pub(super) store: S,
    pub(super) upstream: Upstream,
    pub(super) server: AuthorizationServer,
    pub(super) client: GuardedClient,
    pub(super) clock: Clock,
    connect_url: ConnectUrl,
    tasks: Tasks,
    entries: Cache<Key, Arc<Entry>>,
    refused: Cache<(GrantId, u64), Arc<AtomicBool>>,
    /// With which scopes a grant is being refreshed.
    flights: SingleFlight<Scopes, Outcome>,
    /// X03: how many refreshes may be under way at the authorization server.
    pub(super) places: Semaphore,
}

impl<S: GrantStore> StoredGrants<S> {
    /// Grants of this store, for this upstream, from this authorization server, which is asked by this client.
    pub fn new(store: S, upstream: Upstream, server: AuthorizationServer, client: GuardedClient) -> Self {
        Self(Arc::new(Shared {
            store,
            upstream,
            server,
            client,
            clock: Clock::system(),
            connect_url: ConnectUrl::default(),
            tasks: Tasks::new(),
            entries: Cache::new(MOST_ENTRIES),
            refused: Cache::new(MOST_ENTRIES),
            flights: SingleFlight::new(),
            places: Semaphore::new(MOST_AT_ONCE),
        }))
    }

    /// Sends whoever must connect to the page that this makes of the caller. It is the broker's own, never the upstream's,
    /// and has nothing secret in it.
    pub fn connect_url(self, of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.connect_url = ConnectUrl::new(of))
    }

    /// Asks this clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with(|shared| shared.clock = clock)
    }

    /// Has this owner run the refreshes, so that a shutdown can wait for them.
    pub fn with_tasks(self, tasks: Tasks) -> Self {
        self.with(|shared| shared.tasks = tasks)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared<S>)) -> Self {
        // It has no clones, and no refresh runs before it is finished: nobody else holds it.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            change(shared);
        }
        self
    }
}

impl<S: GrantStore> Shared<S> {
    /// The operator's scopes and the rule's: never the client's.
    fn asked(&self, need: &Scopes) -> Scopes {
        self.server.operator_scopes().union(need)
    }

    pub(super) fn entry_key(&self, user: &User, asked: &Scopes) -> Key {
        self.parts("entry", user).list(asked.iter()).key()
    }

    fn parts(&self, purpose: &str, user: &User) -> Parts {
        let parts = Parts::of(purpose).user(user).part(self.upstream.name()).part(self.upstream.origin().as_str());
        parts.part(self.server.issuer())
    }

    /// Whether the upstream refused what came with this version; shared by all that rests on it.
    pub(super) fn refused_mark(&self, grant: &GrantId, version: u64) -> Arc<AtomicBool> {
        self.refused.get_with((grant.clone(), version), Arc::default)
    }

    /// In the background: this caller and those after it go on with the old one.
    fn renew_if_due(self: &Arc<Self>, entry: &Entry, user: &User, asked: &Scopes, trail: &Trail) {
        if entry.is_due(self.clock.now()) && entry.begin_refreshing() {
            drop(self.join(user, asked, trail, Purpose::Renew));
        }
    }

    /// One at a time for each grant: joins the one that is under way, or starts it in a task of its own.
    fn join(self: &Arc<Self>, user: &User, asked: &Scopes, trail: &Trail, purpose: Purpose) -> Flight<Scopes, Outcome> {
        let key = self.parts("flight", user).key();
        self.flights.join(key, asked, &self.tasks, "refresh", || {
            let (shared, user, asked, trail) = (Arc::clone(self), user.clone(), asked.clone(), trail.clone());
            async move {
                let outcome = Refresh::new(&shared, &user, &asked, &trail, purpose).run().await;
                let entry_key = shared.entry_key(&user, &asked);
                match &outcome {
                    Outcome::Given(entry) => shared.entries.insert(entry_key, Arc::clone(entry)),
                    Outcome::StillRefused(_) => shared.entries.invalidate(&entry_key),
                    Outcome::None(no) => {
                        if !matches!(no, CredentialError::Unavailable { .. }) {
                            shared.entries.invalidate(&entry_key);
                        }
                    }
                }
                outcome
            }
        })
    }
}

impl<S: GrantStore> ProvideCredential for StoredGrants<S> {
    fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        let asked = self.0.asked(need);
        let entry = self.0.entries.get(&self.0.entry_key(caller.user(), &asked))?;
        let now = self.0.clock.now();
        let good = entry.is_usable(now) && !entry.is_due(now) && entry.credential.scopes().contains_all(need);
        good.then(|| entry.credential.clone())
    }

    async fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> Result<Credential, CredentialError> {
        let shared = &self.0;
        let (user, asked) = (caller.user(), shared.asked(need));
        if let Some(entry) = shared.entries.get(&shared.entry_key(user, &asked)) {
            let now = shared.clock.now();
            if entry.is_usable(now) && entry.credential.scopes().contains_all(need) {
                shared.renew_if_due(&entry, user, &asked, trail);
                return Ok(entry.credential.clone());
            }
        }
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let landed = async {
            let mut refused = 0;
            // Each turn waits for one task. Those for other scopes may be many: the deadline alone bounds them.
            while refused < MOST_REFUSED {
                let mut flight = shared.join(user, &asked, trail, Purpose::Use);
                match flight.landed().await {
                    Some(_) if flight.label != asked => {}
                    Some(Outcome::Given(entry)) if entry.is_refused() => refused += 1,
                    Some(Outcome::Given(entry)) => {
                        shared.renew_if_due(&entry, user, &asked, trail);
                        return covering(&entry, need);
                    }
                    Some(Outcome::StillRefused(entry)) => return covering(&entry, need),
                    Some(Outcome::None(no)) => return Err(no),
                    None => return Err(unavailable()),
                }
            }
            Err(unavailable())
        };
        tokio::time::timeout(LONGEST_WAIT, landed).await.unwrap_or_else(|_| Err(unavailable()))
    }

    async fn refused(&self, credential: &Credential) {
        // The version it names and no other: a hundred at once, or one that comes late, are one refresh.
        if let Some((grant, version)) = credential.grant() {
            self.0.refused_mark(grant, version).store(true, Ordering::Release);
        }
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.0.connect_url.of(caller)
    }
}

fn covering(entry: &Entry, need: &Scopes) -> Result<Credential, CredentialError> {
    let missing = scopes::missing(need, entry.credential.scopes());
    if missing.is_empty() {
        return Ok(entry.credential.clone());
    }
    Err(CredentialError::ScopeRequired { missing, connect_url: None })
}

impl<S> fmt::Debug for StoredGrants<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredGrants")
            .field("upstream", &self.0.upstream)
            .field("server", &self.0.server)
            .finish_non_exhaustive()
    }
}
