//! Builds an authorization server from its parts.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use token_broker_store::{StoreError, authority::AuthorityStore};
use tower_token_broker::{Broker, revocation::Revocations};

use crate::{
    authority::{Authority, AuthoritySettings, Endpoints},
    authorize::{AuthorizeEndpoint, PendingRequests},
    client::{
        ClientDocuments, ConfiguredClient, Directory, Registrar, assertion::Assertions,
        authentication::Authenticator,
    },
    key_rotation::{KeyringError, SigningKeyring},
    limits::{CallerLimiter, Limiter},
    metadata::IssuerUrl,
    servers::{ProtectedServer, Servers},
    token::{FamilyEnder, RevokedTokens, TokenEndpoint, Unfinished},
};

/// Builds an [`Authority`].
#[derive(Debug)]
#[must_use = "nothing is served before `start`"]
pub struct AuthorityBuilder<S> {
    broker: Broker,
    issuer: IssuerUrl,
    store: Arc<S>,
    servers: Vec<ProtectedServer>,
    clients: Vec<ConfiguredClient>,
    documents: ClientDocuments,
    has_registration: bool,
    settings: AuthoritySettings,
}

/// The reasons why an authorization server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys cannot be loaded.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// A lifetime is out of bounds.
    #[error("a broker token lives for 1 second to 24 hours")]
    AccessTokenLifetime,
    /// A signing key would be used before verifiers know it.
    #[error("a signing key is published for at least 5 minutes before it signs")]
    PublishedBeforeUse,
}

/// Shortest time for which a key is published before it signs: the time for which the key set is
/// cached.
const SHORTEST_PUBLICATION: Duration = Duration::from_secs(5 * 60);

impl<S: AuthorityStore> AuthorityBuilder<S> {
    pub(crate) fn new(broker: &Broker, issuer: IssuerUrl, store: S) -> Self {
        Self {
            broker: broker.clone(),
            issuer,
            store: Arc::new(store),
            servers: Vec::new(),
            clients: Vec::new(),
            documents: ClientDocuments::none(broker),
            has_registration: true,
            settings: AuthoritySettings::default(),
        }
    }

    /// Adds a server for which tokens are issued.
    pub fn server(mut self, server: ProtectedServer) -> Self {
        self.servers.push(server);
        self
    }

    /// Adds a client.
    pub fn client(mut self, client: ConfiguredClient) -> Self {
        self.clients.push(client);
        self
    }

    /// Accepts clients that are described by a metadata document; none by default.
    pub fn client_documents(mut self, documents: ClientDocuments) -> Self {
        self.documents = documents;
        self
    }

    /// Lets no client register itself.
    pub const fn without_registration(mut self) -> Self {
        self.has_registration = false;
        self
    }

    /// Replaces the settings.
    pub const fn settings(mut self, settings: AuthoritySettings) -> Self {
        self.settings = settings;
        self
    }

    /// Loads the keys, and starts to serve. Tasks of the broker read the keys again, and remove
    /// what has expired.
    ///
    /// # Errors
    /// The store is not reachable, the first signing key cannot be stored or recorded, or a setting
    /// is out of bounds.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancellation
    /// A signing key may be stored.
    pub async fn start(self) -> Result<Authority<S>, AuthorityError> {
        let settings = self.settings;
        let longest = Revocations::RETENTION;
        let lifetime = settings.token.access_token_lifetime;
        if lifetime < Duration::from_secs(1) || lifetime > longest {
            return Err(AuthorityError::AccessTokenLifetime);
        }
        if settings.keys.published_before_use < SHORTEST_PUBLICATION {
            return Err(AuthorityError::PublishedBeforeUse);
        }
        let (broker, store, issuer) = (self.broker, self.store, self.issuer);
        let lookup = store.lookup_key().await?;
        let keyring = SigningKeyring::load(&broker, issuer.as_str(), &store, settings.keys).await?;
        let directory = Arc::new(Directory::new(self.clients, self.documents, &store));
        let servers = Servers::new(self.servers);
        let clock = broker.clock();
        let pending = PendingRequests::new(
            broker.sealing_keys().clone(),
            clock.clone(),
            issuer.as_str(),
            issuer.path(),
        );
        let endpoint = issuer.endpoint("/oauth/token");
        let assertions = Assertions::new(clock, issuer.as_str(), &endpoint);
        let clients =
            Arc::new(Authenticator::new(Arc::clone(&directory), assertions, lookup.clone()));
        let authorize = AuthorizeEndpoint {
            broker: broker.clone(),
            issuer: issuer.as_str().into(),
            base_path: issuer.path().into(),
            store: Arc::clone(&store),
            lookup: lookup.clone(),
            directory,
            servers,
            pending,
            settings: settings.authorize,
            tokens: settings.token,
            per_address: CallerLimiter::new(settings.authorize.per_address, clock),
            allowed_per_user: Limiter::new(settings.authorize.allowed_per_user, clock),
        };
        let token = TokenEndpoint {
            broker: broker.clone(),
            issuer: issuer.as_str().into(),
            store: Arc::clone(&store),
            lookup: lookup.clone(),
            keyring: Arc::clone(&keyring),
            clients,
            settings: settings.token,
            families: FamilyEnder::new(&broker, issuer.as_str(), Arc::clone(&store)),
            unfinished: Unfinished::default(),
            revoked: RevokedTokens::default(),
            per_address: CallerLimiter::new(settings.token.per_address, clock),
        };
        let registrar = self
            .has_registration
            .then(|| Registrar::new(&store, lookup, settings.registration, &broker));
        keyring.keep_current();
        let authority = Authority(Arc::new(Endpoints {
            broker,
            issuer,
            store,
            metadata: ArcSwap::default(),
            authorize,
            token,
            registrar,
            keyring,
            settings,
        }));
        authority.0.publish_metadata();
        authority.keep_clean();
        Ok(authority)
    }
}
