//! Dynamic client registration (RFC 7591).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use token_broker_store::authority::{
    ApplicationType, Client, ClientAuthMethod, ClientId, ClientKeys, ClientStore, LookupKey,
    RegisterClient, Registration,
};
use tower_token_broker::{
    Broker, Secret,
    audit::{Note, RegisteredClient},
    clock::Timestamp,
    principal::{Initiator, Scopes},
};

use super::{
    RedirectUri,
    metadata::{self, ClientMetadata, MetadataError},
};
use crate::{
    limits::{CallerLimiter, Network, Quota},
    oauth_error::{EndpointError, ErrorCode, json_response},
    random,
    request::{EndpointRequest, record},
};

/// Limits of registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct RegistrationLimits {
    /// Registrations from one address (of IPv6, one network of 64 bits); 60 per hour by default.
    /// Four times as many from 48 bits of IPv6. Requests that cannot be read count by themselves;
    /// there may be ten times as many.
    pub per_address: Quota,
    /// Largest number of clients in the store; 10 000 by default.
    pub max_clients: u64,
    /// Time after which a client that was never used is removed; 24 hours by default.
    pub unused_lifetime: Duration,
    /// Time after which the oldest client that was never used makes space for a new one, if there
    /// is no other space; 15 minutes by default. Until then, its user may be about to sign in.
    pub unused_grace: Duration,
}

impl Default for RegistrationLimits {
    fn default() -> Self {
        Self {
            per_address: Quota::per_hour(60),
            max_clients: 10_000,
            unused_lifetime: Duration::from_secs(24 * 60 * 60),
            unused_grace: Duration::from_secs(15 * 60),
        }
    }
}

/// Registers clients.
#[derive(Debug)]
pub(crate) struct Registrar<S> {
    pub(crate) store: Arc<S>,
    pub(crate) lookup: LookupKey,
    pub(crate) limits: RegistrationLimits,
    per_address: CallerLimiter,
    attempts: CallerLimiter,
}

/// Number of unused clients that are removed at once.
const PAGE: usize = 100;
/// Requests, also those that cannot be read, for each registration of the quota.
const ATTEMPTS: u32 = 10;
/// Number of times that space is made for one client. In between, another process may take it.
const TRIES: usize = 3;

const NO_RANDOM: EndpointError = EndpointError::unavailable("the server cannot create an ID");
const NOT_STORED: EndpointError = EndpointError::unavailable("the store is not available");

impl<S: ClientStore> Registrar<S> {
    pub(crate) fn new(
        store: &Arc<S>,
        lookup: LookupKey,
        limits: RegistrationLimits,
        broker: &Broker,
    ) -> Self {
        let limiter = |quota| CallerLimiter::new(quota, broker.clock());
        let (per_address, attempts) =
            (limiter(limits.per_address), limiter(limits.per_address.times(ATTEMPTS)));
        Self { store: Arc::clone(store), lookup, limits, per_address, attempts }
    }

    /// Registers the client that a request describes. `known` are the scopes that exist here.
    pub(crate) async fn register(
        &self,
        broker: &Broker,
        request: &EndpointRequest,
        known: &Scopes,
    ) -> Result<Response<Bytes>, EndpointError> {
        let caller = Network::of(request.peer);
        // F524: before the body is parsed.
        self.attempts.take(caller).map_err(EndpointError::too_many)?;
        if !request.is_json() {
            let description = "a registration is application/json";
            return Err(EndpointError::new(ErrorCode::InvalidClientMetadata, description));
        }
        let object = metadata::parse(&request.body).map_err(refused)?;
        let metadata = ClientMetadata::read(object).map_err(refused)?;
        // F145: taken after the metadata was read, so that a mistake costs no registration.
        self.per_address.take(caller).map_err(EndpointError::too_many)?;
        let id = random::id().map_err(|_| NO_RANDOM)?;
        let now = broker.clock().now();
        let client = described(&metadata, ClientId::new(&id), now);
        let has_secret = [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost]
            .contains(&client.auth_method);
        let secret = if has_secret { Some(random::secret().map_err(|_| NO_RANDOM)?) } else { None };
        let redirect_uris: Vec<_> =
            metadata.redirect_uris.iter().map(RedirectUri::as_str).collect();
        let registered = RegisteredClient {
            client: &id,
            name: metadata.name.as_deref(),
            redirect_uris: &redirect_uris.join(" "),
        };
        let note = request.with_peer(Note::client_registered(registered));
        record(broker, &Initiator::anonymous(), note).await?;
        self.store(&client, secret.as_ref()).await?;
        let scopes = metadata.scopes.as_ref().map(|scopes| narrowed(scopes, known));
        Ok(response(&client, secret.as_ref(), scopes.as_ref()))
    }

    async fn store(&self, client: &Client, secret: Option<&Secret>) -> Result<(), EndpointError> {
        let mut request = RegisterClient::new(client.clone(), self.limits.max_clients);
        if let Some(secret) = secret {
            // F147: only the keyed hash.
            request = request.secret(self.lookup.client_secret(&client.id, secret));
        }
        let register =
            || async { self.store.register_client(&request).await.map_err(|_| NOT_STORED) };
        if register().await? == Registration::Registered {
            return Ok(());
        }
        for _ in 0..TRIES {
            if !self.make_space(client.created_at).await? {
                break;
            }
            if register().await? == Registration::Registered {
                return Ok(());
            }
        }
        Err(EndpointError::unavailable("too many clients are registered"))
    }

    /// Removes clients that were never used: those whose time is over, or else the oldest one.
    /// Returns whether there is space now.
    // F145, F524: many registrations from few addresses do not keep other clients out for longer.
    async fn make_space(&self, now: Timestamp) -> Result<bool, EndpointError> {
        for (age, count) in [(self.limits.unused_lifetime, PAGE), (self.limits.unused_grace, 1)] {
            let removed = self.store.remove_unused_clients(now.minus(age), count).await;
            if removed.map_err(|_| NOT_STORED)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn refused(error: MetadataError) -> EndpointError {
    use super::RedirectUriError as Uri;
    let (code, description) = match error {
        MetadataError::Metadata(description) => (ErrorCode::InvalidClientMetadata, description),
        MetadataError::RedirectUri(error) => {
            let description = match error {
                Uri::Characters => "a redirect URI is too long, or not printable ASCII",
                Uri::NotAbsolute => "a redirect URI is not absolute",
                Uri::Scheme => {
                    "a redirect URI is neither https, nor http on loopback, nor of a scheme of \
                     the application's own"
                }
                Uri::Part => "a redirect URI has a fragment, user information or a wildcard",
                Uri::Path => "the path of a redirect URI has dot segments or escaped slashes",
                Uri::Query => "a redirect URI has a parameter of an authorization response",
                Uri::Count => "a client has 1 to 32 redirect URIs",
            };
            (ErrorCode::InvalidRedirectUri, description)
        }
    };
    EndpointError::new(code, description)
}

fn described(metadata: &ClientMetadata, id: ClientId, now: Timestamp) -> Client {
    let mut client = Client::new(id, now);
    client.name = metadata.name.clone().unwrap_or_default();
    client.redirect_uris = metadata.redirect_uris.iter().map(|uri| uri.as_str().into()).collect();
    client.application_type = metadata.application_type.unwrap_or(ApplicationType::Native);
    // RFC 7591 §2: the default.
    client.auth_method = metadata.auth_method.unwrap_or(ClientAuthMethod::ClientSecretBasic);
    client.keys.clone_from(&metadata.keys);
    client.software_id.clone_from(&metadata.software_id);
    client.software_version.clone_from(&metadata.software_version);
    client
}

fn narrowed(requested: &Scopes, known: &Scopes) -> String {
    let both: Vec<_> = requested.iter().filter(|scope| known.contains(scope)).collect();
    both.join(" ")
}

/// The client information response (RFC 7591 §3.2.1): what was registered.
fn response(client: &Client, secret: Option<&Secret>, scopes: Option<&String>) -> Response<Bytes> {
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    add("client_id", client.id.as_str().into());
    add("client_id_issued_at", client.created_at.unix_seconds().into());
    if let Some(secret) = secret {
        #[expect(clippy::disallowed_methods, reason = "returned once, to its client")]
        let secret = secret.expose_text().unwrap_or_default();
        add("client_secret", secret.into());
        add("client_secret_expires_at", 0.into());
    }
    if !client.name.is_empty() {
        add("client_name", (*client.name).into());
    }
    add("redirect_uris", json!(client.redirect_uris));
    add("token_endpoint_auth_method", client.auth_method.as_str().into());
    add("grant_types", json!(["authorization_code", "refresh_token"]));
    add("response_types", json!(["code"]));
    add("application_type", client.application_type.as_str().into());
    match &client.keys {
        Some(ClientKeys::Uri(uri)) => drop(add("jwks_uri", (**uri).into())),
        Some(ClientKeys::Inline(set)) => {
            if let Ok(set) = set.parse::<Value>() {
                add("jwks", set);
            }
        }
        None => {}
    }
    for (name, value) in
        [("software_id", &client.software_id), ("software_version", &client.software_version)]
    {
        if let Some(value) = value {
            add(name, (**value).into());
        }
    }
    if let Some(scopes) = scopes {
        add("scope", scopes.as_str().into());
    }
    json_response(StatusCode::CREATED, &Value::Object(members))
}
