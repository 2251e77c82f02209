//! The provider: serves cached tokens, and coordinates refreshes.

use std::{fmt, sync::Arc};

use moka::sync::Cache;
use token_broker_outbound::GuardedClient;
use token_broker_store::{Account, Grant, GrantKey, GrantStore, connect::ConnectStore};
use tower_token_broker::{
    Broker,
    audit::Trail,
    clock::Clock,
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::{Principal, Scopes},
    tasks::Tasks,
};

use super::{
    cache::Entry,
    hint::LastHint,
    refresh::{Outcome, Purpose, Refresh},
    sightings::{LastSuccess, Sightings},
};
use crate::{
    authorization_server::AuthorizationServer,
    cache_key::{Key, Parts},
    connect::{ConnectServer, Connector, Refreshed},
    connect_url::ConnectUrl,
    lifetime::{LONGEST_WAIT, MOST_ENTRIES, MOST_REFUSED},
    places::Places,
    scopes,
    single_flight::{Flight, SingleFlight},
};

/// Provides each user's own access token for one upstream, from a stored grant. See the crate and
/// its [example](crate#example).
#[must_use = "a provider does nothing until an exchange layer has it"]
pub struct StoredGrants<S>(pub(super) Arc<Shared<S>>);

pub(super) struct Shared<S> {
    pub(super) store: S,
    pub(super) upstream: Upstream,
    pub(super) server: AuthorizationServer,
    pub(super) client: GuardedClient,
    pub(super) clock: Clock,
    connect_url: ConnectUrl,
    /// The connector of the server; `None` if issuer, endpoint and client are fixed.
    pub(super) connector: Option<Box<dyn Refreshed>>,
    broker: Broker,
    tasks: Tasks,
    entries: Cache<Key, Arc<Entry>>,
    pub(super) sightings: Sightings,
    /// The last refresh of any grant that succeeded at this server.
    pub(super) last_success: LastSuccess,
    /// Refreshes in progress, by grant; each has the scopes that it requests.
    flights: SingleFlight<Scopes, Outcome>,
    pub(super) places: Places,
    pub(super) last_hint: LastHint,
}

impl<S: GrantStore> StoredGrants<S> {
    /// Creates a provider of the grants in this store, for this upstream. `client` sends the
    /// refreshes to the token endpoint of `server`, in tasks of the broker and by its clock.
    pub fn new(
        broker: &Broker,
        store: S,
        upstream: Upstream,
        server: AuthorizationServer,
        client: GuardedClient,
    ) -> Self {
        Self::with_connector(broker, (store, upstream), (server, client), None)
    }

    /// Creates a provider of the grants that users obtain by this connector, for a server of it.
    /// The connector must have the server ([`Connector::replace_servers`]) while it is used.
    ///
    /// Issuer and client are those of each grant; the endpoint is discovered, if the operator did
    /// not set it. The connect page is that of the connector.
    pub fn connected(
        broker: &Broker,
        upstream: Upstream,
        connector: &Connector<S>,
        server: &ConnectServer,
    ) -> Self
    where
        S: ConnectStore + Clone,
    {
        let refreshed = connector.refreshed(server);
        let store = connector.store().clone();
        let requests = (server.requests().clone(), server.guarded_client().clone());
        Self::with_connector(broker, (store, upstream), requests, Some(refreshed))
    }

    fn with_connector(
        broker: &Broker,
        (store, upstream): (S, Upstream),
        (server, client): (AuthorizationServer, GuardedClient),
        connector: Option<Box<dyn Refreshed>>,
    ) -> Self {
        Self(Arc::new(Shared {
            places: server.places(),
            store,
            upstream,
            server,
            client,
            clock: broker.clock().clone(),
            connect_url: ConnectUrl::default(),
            connector,
            broker: broker.clone(),
            tasks: broker.tasks().clone(),
            entries: Cache::new(MOST_ENTRIES),
            sightings: Sightings::new(),
            last_success: LastSuccess::default(),
            flights: SingleFlight::new(),
            last_hint: LastHint::default(),
        }))
    }

    /// Sets the page where a caller connects an account: the one that its broker token names
    /// ([`Principal::account`]). It is a page of the broker, never one of the upstream, and its URL
    /// contains no secret.
    pub fn connect_url(self, of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.connect_url = ConnectUrl::new(of))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared<S>)) -> Self {
        // There are no clones yet, and no refresh runs before the provider is built.
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            change(shared);
        }
        self
    }
}

impl<S: GrantStore> Shared<S> {
    /// Returns the scopes to request: the operator's and those of the rule, never the client's.
    fn requested_scopes(&self, need: &Scopes) -> Scopes {
        self.server.operator_scopes().union(need)
    }

    /// Returns the key of the grant that a request needs; `None` if the name that it has is not an
    /// account name, so that no grant can have it.
    fn grant_key(&self, request: &CredentialRequest<'_>) -> Option<GrantKey> {
        let account = match request.account {
            Some(name) => Account::parse(name).ok()?,
            None => Account::default_account(),
        };
        Some(GrantKey::new(request.caller.user().clone(), self.upstream.name(), account))
    }

    pub(super) fn entry_key(&self, grant_key: &GrantKey, requested: &Scopes) -> Key {
        self.parts("entry", grant_key).list(requested.iter()).key()
    }

    fn parts(&self, purpose: &str, grant_key: &GrantKey) -> Parts {
        let parts = Parts::of(purpose).user(&grant_key.user).part(grant_key.account.as_str());
        let parts = parts.part(self.upstream.name()).part(self.upstream.origin().as_str());
        parts.part(self.server.issuer())
    }

    /// Returns whether a grant is used.
    // Mix-up: a token of another authorization server must not be sent to this one, nor a token for
    // another host to this one.
    pub(super) fn accepts(&self, grant: &Grant) -> bool {
        match &self.connector {
            Some(connector) => connector.accepts(grant, self.upstream.origin()),
            None => *grant.authorization_server == *self.server.issuer(),
        }
    }

    /// Notes the use of a connection, for the page of its user.
    fn note_use(&self, entry: &Entry, key: &GrantKey, caller: &Principal) {
        if let Some(connector) = &self.connector
            && entry.begin_use()
        {
            connector.note_use(key, caller);
        }
    }

    /// Returns the token in memory, unless its grant was revoked: the store may have another one.
    fn entry(&self, grant_key: &GrantKey, requested: &Scopes) -> Option<Arc<Entry>> {
        let key = self.entry_key(grant_key, requested);
        let entry = self.entries.get(&key)?;
        let (grant, _) = entry.credential.grant()?;
        if self.broker.is_grant_revoked(grant) {
            self.entries.invalidate(&key);
            return None;
        }
        Some(entry)
    }

    /// Begins a refresh if one is due. Callers use the current token meanwhile.
    fn renew_if_due(
        self: &Arc<Self>,
        entry: &Entry,
        grant_key: &GrantKey,
        requested: &Scopes,
        trail: &Trail,
    ) {
        if entry.is_due(self.clock.read()) && entry.begin_refreshing() {
            drop(self.join(grant_key, requested, trail, Purpose::Renew));
        }
    }

    /// Joins the refresh of a grant that is in progress, or begins one in an owned task.
    fn join(
        self: &Arc<Self>,
        grant_key: &GrantKey,
        requested: &Scopes,
        trail: &Trail,
        purpose: Purpose,
    ) -> Flight<Scopes, Outcome> {
        let key = self.parts("flight", grant_key).key();
        self.flights.join(key, requested, &self.tasks, "refresh", || {
            let (shared, trail) = (Arc::clone(self), trail.clone());
            let (grant_key, requested) = (grant_key.clone(), requested.clone());
            async move {
                let outcome =
                    Refresh::new(&shared, &grant_key, &requested, &trail, purpose).run().await;
                let entry_key = shared.entry_key(&grant_key, &requested);
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

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        let need = request.scopes;
        let grant_key = self.0.grant_key(request)?;
        let entry = self.0.entry(&grant_key, &self.0.requested_scopes(need))?;
        let now = self.0.clock.read();
        let good = entry.is_usable(now)
            && !entry.is_due(now)
            && entry.credential.scopes().contains_all(need);
        good.then(|| {
            self.0.note_use(&entry, &grant_key, request.caller);
            entry.credential.clone()
        })
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        let shared = &self.0;
        let CredentialRequest { caller, scopes: need, trail, .. } = *request;
        let grant_key = shared.grant_key(request).ok_or(CredentialError::ConnectRequired)?;
        let requested = shared.requested_scopes(need);
        if let Some(entry) = shared.entry(&grant_key, &requested) {
            let now = shared.clock.read();
            if entry.is_usable(now) && entry.credential.scopes().contains_all(need) {
                shared.renew_if_due(&entry, &grant_key, &requested, trail);
                shared.note_use(&entry, &grant_key, caller);
                return Ok(entry.credential.clone());
            }
        }
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let landed = async {
            let mut refused = 0;
            // Each turn waits for one flight. Flights for other scopes are bounded by the timeout.
            while refused < MOST_REFUSED {
                let mut flight = shared.join(&grant_key, &requested, trail, Purpose::Use);
                match flight.landed().await {
                    Some(_) if flight.label != requested => {}
                    Some(Outcome::Given(entry)) if entry.is_refused() => refused += 1,
                    Some(Outcome::Given(entry)) => {
                        shared.renew_if_due(&entry, &grant_key, &requested, trail);
                        shared.note_use(&entry, &grant_key, caller);
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

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        // Marks only the version that was refused: a hundred concurrent refusals, or a late one,
        // cause one refresh.
        if let Some((grant, version)) = refusal.credential.grant() {
            let seen = self.0.sightings.token(grant, version, self.0.clock.read());
            seen.refuse(refusal.credential.was_accepted());
        }
        if let Some(connector) = &self.0.connector {
            connector.note_refusal();
        }
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.step_up_url(caller, &Scopes::none())
    }

    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>> {
        let of_connector = || self.0.connector.as_ref().map(|of| of.connect_url(caller, scopes));
        self.0.connect_url.of(caller).or_else(of_connector)
    }
}

fn covering(entry: &Entry, need: &Scopes) -> Result<Credential, CredentialError> {
    let missing = scopes::missing(need, entry.credential.scopes());
    if missing.is_empty() {
        return Ok(entry.credential.clone());
    }
    Err(CredentialError::ScopeRequired { missing })
}

impl<S> fmt::Debug for StoredGrants<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredGrants")
            .field("upstream", &self.0.upstream)
            .field("server", &self.0.server)
            .finish_non_exhaustive()
    }
}
