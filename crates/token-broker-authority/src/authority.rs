//! The authorization server: its endpoints as functions from requests to responses.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use token_broker_store::authority::{AuthorityStore, ClientId, FamilyId};
use tower_token_broker::{
    Broker, Secret,
    audit::FamilyEndCause,
    authenticate::jwt::Keys,
    principal::{Initiator, User},
    revocation::RevocationTarget,
};

use crate::{
    authorize::{AuthorizeEndpoint, AuthorizeSettings, Interaction, PendingRequests},
    builder::AuthorityBuilder,
    client::{ConfiguredClient, Registrar, RegistrationLimits},
    issue::KeyError,
    jwks,
    key_rotation::{KeySettings, KeyringError, SigningKeyring},
    metadata::{self, IssuerUrl},
    oauth_error::{EndpointError, ErrorCode},
    request::EndpointRequest,
    servers::ProtectedServer,
    token::{NotEnded, TokenEndpoint, TokenSettings},
};

/// The authorization server of a deployment. Cheap to clone.
///
/// Each endpoint is a function of its own, so that it can be mounted in any server; with feature
/// `axum`, [`Authority::router`] has all of them.
pub struct Authority<S>(pub(crate) Arc<Endpoints<S>>);

pub(crate) struct Endpoints<S> {
    pub(crate) broker: Broker,
    pub(crate) issuer: IssuerUrl,
    pub(crate) store: Arc<S>,
    pub(crate) metadata: ArcSwap<Bytes>,
    pub(crate) authorize: AuthorizeEndpoint<S>,
    pub(crate) token: TokenEndpoint<S>,
    /// `None`: clients do not register themselves.
    pub(crate) registrar: Option<Registrar<S>>,
    pub(crate) keyring: Arc<SigningKeyring<S>>,
    pub(crate) settings: AuthoritySettings,
}

/// Settings of an authorization server. Each has a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct AuthoritySettings {
    /// The authorize endpoint.
    pub authorize: AuthorizeSettings,
    /// The token endpoint.
    pub token: TokenSettings,
    /// Registrations.
    pub registration: RegistrationLimits,
    /// Signing keys.
    pub keys: KeySettings,
}

impl<S: AuthorityStore> Authority<S> {
    /// Begins an authorization server with this issuer. Its tokens are verified by
    /// `JwtVerifier::new(issuer, authority.keys())`.
    pub fn builder(broker: &Broker, issuer: IssuerUrl, store: S) -> AuthorityBuilder<S> {
        AuthorityBuilder::new(broker, issuer, store)
    }

    /// Returns the issuer.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.0.issuer
    }

    /// Returns the public keys, for verifiers in this process. They follow each rotation.
    pub fn keys(&self) -> &Keys {
        self.0.keyring.keys()
    }

    /// Returns the store.
    pub fn store(&self) -> &S {
        &self.0.store
    }

    /// Returns the requests that browsers carry while their user signs in.
    pub fn pending(&self) -> &PendingRequests {
        &self.0.authorize.pending
    }

    /// Replaces the servers, and the scopes in the metadata. Families of a server that is gone are
    /// kept: it may return.
    pub fn replace_servers(&self, servers: Vec<ProtectedServer>) {
        self.0.authorize.servers.replace(servers);
        self.0.publish_metadata();
    }

    /// Replaces the configured clients. Access that users allowed to one that is gone is kept: it
    /// may return. End it by [`Authority::end_access`].
    pub fn replace_clients(&self, clients: Vec<ConfiguredClient>) {
        self.0.authorize.directory.replace_configured(clients);
    }

    /// Signs a JWT of these claims with the current key, as [`SigningKey::sign_jwt`] does: an
    /// assertion for another server, which finds the key at the `jwks_uri`.
    ///
    /// # Errors
    /// No key signs now, or the claims are too large.
    ///
    /// [`SigningKey::sign_jwt`]: crate::issue::SigningKey::sign_jwt
    pub fn sign_jwt(&self, claims: &str) -> Result<Secret, KeyError> {
        self.0.keyring.sign_jwt(claims)
    }

    /// Returns the metadata document.
    pub fn metadata(&self) -> Response<Bytes> {
        metadata::response(Bytes::clone(&self.0.metadata.load()))
    }

    /// Returns the key set.
    pub fn jwks(&self) -> Response<Bytes> {
        jwks::response(self.0.keyring.jwks())
    }

    /// Responds to an authorization request (`GET`).
    ///
    /// # Cancellation
    /// Nothing is stored.
    pub async fn authorize<I: Interaction>(
        &self,
        interaction: &I,
        request: EndpointRequest,
    ) -> Response<Bytes> {
        self.0.authorize.authorize(interaction, &request).await
    }

    /// Responds where an authorization request continues after the sign-in (`GET`), at
    /// [`Pending::location`](crate::authorize::Pending::location).
    ///
    /// # Cancellation
    /// Nothing is stored.
    pub async fn resume<I: Interaction>(
        &self,
        interaction: &I,
        request: EndpointRequest,
    ) -> Response<Bytes> {
        self.0.authorize.resume(interaction, &request).await
    }

    /// Responds to the form of a consent page (`POST`).
    ///
    /// # Cancellation
    /// A code may be stored; no one has it.
    pub async fn decide<I: Interaction>(
        &self,
        interaction: &I,
        request: EndpointRequest,
    ) -> Response<Bytes> {
        self.0.authorize.decide(interaction, &request).await
    }

    /// Responds when a user who has allowed access has connected an account, or continues
    /// without (`GET`). See [`Interaction::connect_first`].
    ///
    /// # Cancellation
    /// A code may be stored; no one has it.
    pub async fn allowed<I: Interaction>(
        &self,
        interaction: &I,
        request: EndpointRequest,
    ) -> Response<Bytes> {
        self.0.authorize.allowed(interaction, &request).await
    }

    /// Responds to a token request (`POST`).
    ///
    /// # Cancellation
    /// A code may be redeemed, a family may have advanced. A client that repeats a refresh obtains
    /// the same refresh token.
    pub async fn token(&self, request: EndpointRequest) -> Response<Bytes> {
        self.0.token.respond(&request).await
    }

    /// Responds to a revocation request (RFC 7009, `POST`).
    ///
    /// # Cancellation
    /// A revocation that began is completed.
    pub async fn revoke(&self, request: EndpointRequest) -> Response<Bytes> {
        self.0.token.respond_to_revocation(&request).await
    }

    /// Responds to a registration (RFC 7591, `POST`).
    ///
    /// # Cancellation
    /// A client may be registered; it is removed after a day.
    pub async fn register(&self, request: EndpointRequest) -> Response<Bytes> {
        let registered = async {
            let off = EndpointError::new(ErrorCode::InvalidRequest, "clients cannot register here");
            let off = off.with_status(StatusCode::NOT_FOUND);
            let registrar = self.0.registrar.as_ref().ok_or(off)?;
            if request.method != Method::POST {
                let wrong = EndpointError::new(ErrorCode::InvalidRequest, "the method is POST");
                return Err(wrong.with_status(StatusCode::METHOD_NOT_ALLOWED));
            }
            let scopes = self.0.authorize.servers.scopes();
            registrar.register(&self.0.broker, &request, &scopes).await
        };
        registered.await.unwrap_or_else(EndpointError::response)
    }

    /// Ends a token family for its user: refresh tokens and access tokens. An unknown family is
    /// no error.
    ///
    /// # Errors
    /// [`NotEnded`]
    ///
    /// # Cancellation
    /// Once polled, the work is completed in its own task.
    pub async fn end_family(&self, family: &FamilyId, user: &User) -> Result<(), NotEnded> {
        let found = self.0.store.family(family).await.map_err(|_| NotEnded)?;
        // Q304: a family of another user is an unknown one.
        let Some(found) = found.filter(|found| found.family.user == *user) else { return Ok(()) };
        let (ender, by) = (&self.0.token.families, Initiator::user(user));
        ender.end(None, &found.family, FamilyEndCause::User, &by).await
    }

    /// Ends what a revocation targets (a user, a client, a server, a family, everything): access
    /// tokens, token families, and codes that were not redeemed. Returns the number of families.
    ///
    /// A revocation by itself is kept for a day; this also ends what would be refreshed a week
    /// later. A command in another process uses [`FamilyEnder`](crate::FamilyEnder).
    ///
    /// # Errors
    /// [`NotEnded`]: a retry repeats what failed.
    ///
    /// # Cancellation
    /// Once polled, the work is completed in its own task.
    pub async fn end_access(
        &self,
        target: &RevocationTarget,
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        self.0.token.families.end_access(target, initiator).await
    }

    /// Ends the access of a user, of a client, of both together, or, of neither, all access, as
    /// [`Authority::end_access`] does.
    ///
    /// # Errors
    /// As [`Authority::end_access`].
    ///
    /// # Cancellation
    /// As [`Authority::end_access`].
    pub async fn end_families(
        &self,
        user: Option<&User>,
        client: Option<&ClientId>,
        initiator: &Initiator,
    ) -> Result<usize, NotEnded> {
        self.0.token.families.end_families((user, client), initiator).await
    }

    /// Publishes a new signing key, which signs after [`KeySettings::published_before_use`].
    ///
    /// # Errors
    /// The key could not be stored or recorded.
    ///
    /// # Cancellation
    /// A key may be published.
    pub async fn rotate_keys(&self, initiator: &Initiator) -> Result<(), KeyringError> {
        self.0.keyring.rotate(initiator).await
    }

    /// Reads the signing keys again. A task does so once a minute.
    ///
    /// # Errors
    /// The keys could not be read. The last ones are used.
    ///
    /// # Cancellation
    /// A key may be published.
    pub async fn refresh_keys(&self) -> Result<(), KeyringError> {
        self.0.keyring.refresh().await
    }
}

impl<S: AuthorityStore> Endpoints<S> {
    /// Works the metadata out again.
    pub(crate) fn publish_metadata(&self) {
        let facts = metadata::Facts {
            issuer: &self.issuer,
            scopes: &self.authorize.servers.scopes(),
            has_client_documents: self.authorize.directory.documents().are_supported(),
            has_registration: self.registrar.is_some(),
        };
        self.metadata.store(Arc::new(metadata::document(&facts)));
    }
}

impl<S> Clone for Authority<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Authority<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
