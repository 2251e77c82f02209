//! The client as which the broker appears at an authorization server.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use moka::sync::Cache;
use serde_json::json;
use token_broker_store::{
    StoreError,
    connect::{ConnectStore, RegisteredClient},
};
use tower_token_broker::{
    Secret,
    clock::{Clock, Timestamp},
};

use super::{discovery::Found, server::ConnectServer};
use crate::{
    authorization_server::{ClientAuthentication, JsonObject, Member},
    cache_key::{Key, Parts},
};

/// The clients of the broker.
pub(super) struct Clients {
    /// Public URL of the broker, if authorization servers can fetch its metadata documents there.
    documents: Option<Box<str>>,
    /// Registered clients that their server does not know any more.
    forgotten: Cache<Key, ()>,
    clock: Clock,
}

/// A client, with its ID if it is not the configured one.
pub(super) struct Client {
    pub(super) id: Option<Box<str>>,
    pub(super) authentication: ClientAuthentication,
}

/// The reason why there is no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoClient {
    Store,
    /// Code of the reason.
    Refused(&'static str),
    Unavailable(&'static str),
}

impl From<StoreError> for NoClient {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

/// Ways of client authentication, the preferred one first.
const METHODS: &[&str] = &["client_secret_basic", "client_secret_post", "none"];
/// A secret that ends within this time, or is in the second half of a shorter lifetime, is not used
/// for a new connect.
const SECRET_RESERVE: Duration = Duration::from_secs(24 * 3600);
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(8);
const LONGEST_ID: usize = 2048;

impl Clients {
    /// Creates them for a broker at this URL. Authorization servers fetch its metadata documents by
    /// `https` only.
    pub(super) fn new(base: &str, clock: &Clock) -> Self {
        let documents = base.starts_with("https:").then(|| base.into());
        Self { documents, forgotten: Cache::new(1000), clock: clock.clone() }
    }

    /// Returns the URL of the metadata document for one server. Each server has its own, with one
    /// redirect URI: what one authorization server sends back cannot arrive at the callback of
    /// another, and none learns of the others.
    pub(super) fn document(&self, server: &str) -> Option<String> {
        let base = self.documents.as_deref()?;
        Some(format!("{base}/connect/{server}/client-metadata.json"))
    }

    /// Returns the client of a new connect: the configured one, the metadata document, or one that
    /// is registered, now if necessary.
    ///
    /// # Cancellation
    /// The authorization server may have registered a client that no one uses.
    pub(super) async fn of_connect<S: ConnectStore>(
        &self,
        store: &S,
        server: &ConnectServer,
        found: &Found,
        redirect_uri: &str,
    ) -> Result<Client, NoClient> {
        if server.client_authentication.is_some() {
            let configured = server.client_at(&found.issuer);
            let configured = configured.ok_or(NoClient::Refused("as.client_issuer"))?;
            return Ok(Client { id: None, authentication: configured.clone() });
        }
        if let (true, Some(document)) = (found.has_client_documents, self.document(&server.name)) {
            let authentication = ClientAuthentication::public(&document);
            return Ok(Client { id: Some(document.into()), authentication });
        }
        let newest = store.newest_registered_client(&found.issuer, redirect_uri).await;
        let newest = match newest {
            // It is registered again.
            Err(StoreError::UnreadableRow { .. }) => None,
            newest => newest?,
        };
        let wanted = server.registered_scopes();
        let is_usable = |client: &RegisteredClient| {
            self.is_usable(client) && client.scopes.contains_all(&wanted)
        };
        let registered = match newest.filter(is_usable) {
            Some(registered) => registered,
            None => {
                let registered = self.register(server, found, redirect_uri).await?;
                store.put_registered_client(&registered).await?;
                registered
            }
        };
        let authentication = authentication(&registered);
        Ok(Client { id: Some(registered.client_id), authentication })
    }

    /// Returns how the client authenticates that obtained a grant; `None` if it is not known.
    pub(super) async fn of_grant<S: ConnectStore>(
        &self,
        store: &S,
        server: &ConnectServer,
        issuer: &str,
        client_id: Option<&str>,
    ) -> Result<Option<ClientAuthentication>, StoreError> {
        let Some(id) = client_id else { return Ok(server.client_at(issuer).cloned()) };
        let mut documents = server.names().filter_map(|name| self.document(name));
        if documents.any(|document| document == id) {
            return Ok(Some(ClientAuthentication::public(id)));
        }
        let registered = store.registered_client(issuer, id).await?;
        Ok(registered.as_ref().map(authentication))
    }

    /// Notes that an authorization server does not accept a registered client any more: the next
    /// connect registers another one. Grants keep theirs.
    pub(super) fn forget(&self, issuer: &str, client_id: &str) {
        self.forgotten.insert(key(issuer, client_id), ());
    }

    fn is_usable(&self, client: &RegisteredClient) -> bool {
        let now = self.clock.now();
        let is_long_enough = |end: Timestamp| {
            let reserve = (client.created_at.until(end) / 2).min(SECRET_RESERVE);
            now.plus(reserve) < end
        };
        client.secret_expires_at.is_none_or(is_long_enough)
            && !self.forgotten.contains_key(&key(&client.issuer, &client.client_id))
    }

    /// Registers a client (RFC 7591 §3).
    async fn register(
        &self,
        server: &ConnectServer,
        found: &Found,
        redirect_uri: &str,
    ) -> Result<RegisteredClient, NoClient> {
        let Some(endpoint) = &found.registration_endpoint else {
            return Err(NoClient::Refused("as.no_registration"));
        };
        let method = method_of(found).ok_or(NoClient::Refused("as.auth_methods"))?;
        let request = request(endpoint, server, method, redirect_uri);
        let sent = server.client.fetch_within(request, REGISTRATION_TIMEOUT).await;
        let fetched = sent.map_err(|error| NoClient::Unavailable(error.code()))?;
        let (response, now) = (fetched.response, self.clock.now());
        is_registered(response.status())?;
        let read = read(response.body(), (&found.issuer, redirect_uri), method, now);
        let read = read.map(|client| client.scopes(server.registered_scopes()));
        read.ok_or(NoClient::Refused("as.registration_response"))
    }
}

impl From<NoClient> for token_broker_store::connect::ConnectError {
    fn from(no: NoClient) -> Self {
        match no {
            NoClient::Store => Self::Unavailable,
            NoClient::Refused(reason) => Self::Misconfigured { reason },
            NoClient::Unavailable(reason) => Self::AuthorizationServer { reason },
        }
    }
}

fn is_registered(status: StatusCode) -> Result<(), NoClient> {
    match status {
        StatusCode::OK | StatusCode::CREATED => Ok(()),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(NoClient::Unavailable("as.unavailable"))
        }
        _ => Err(NoClient::Refused("as.registration_refused")),
    }
}

fn key(issuer: &str, client_id: &str) -> Key {
    Parts::of("client").part(issuer).part(client_id).key()
}

/// Returns the preferred way of client authentication that the server supports. Without a list, it
/// is `client_secret_basic` (RFC 8414 §2).
fn method_of(found: &Found) -> Option<&'static str> {
    let Some(supported) = &found.auth_methods else { return METHODS.first().copied() };
    METHODS.iter().copied().find(|method| supported.iter().any(|known| known == method))
}

fn request(
    endpoint: &Uri,
    server: &ConnectServer,
    method: &str,
    redirect_uri: &str,
) -> Request<Bytes> {
    // A web client may not have an `http` redirect URI, and a native one may (OpenID Connect
    // Dynamic Client Registration 1.0 §2).
    let kind = if redirect_uri.starts_with("https:") { "web" } else { "native" };
    let mut metadata = json!({
        "client_name": "token-broker",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": kind,
    });
    let scopes = server.registered_scopes();
    if let (false, Some(members)) = (scopes.is_empty(), metadata.as_object_mut()) {
        members.insert("scope".to_owned(), scopes.to_string().into());
    }
    let mut request = Request::new(Bytes::from(metadata.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.clone();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
    request.headers_mut().insert(header::ACCEPT, json);
    request
}

/// Reads the response to a registration (RFC 7591 §3.2.1).
fn read(
    body: &[u8],
    (issuer, redirect_uri): (&str, &str),
    method: &'static str,
    now: Timestamp,
) -> Option<RegisteredClient> {
    let object = JsonObject::read(body).ok()?;
    let id = object
        .text("client_id")
        .filter(|id| id.len() <= LONGEST_ID && !id.chars().any(char::is_control))?;
    let registered = RegisteredClient::new(issuer, redirect_uri, &id, now);
    let secret = object.text("client_secret").filter(|secret| secret.len() <= LONGEST_ID);
    // The server may have chosen another way than the one that was requested.
    let named = object.text("token_endpoint_auth_method");
    let method = match &named {
        Some(named) => METHODS.iter().copied().find(|known| **known == **named)?,
        None => method,
    };
    match (method, secret) {
        ("none", _) => Some(registered),
        (_, None) => None,
        (method, Some(secret)) => {
            let secret = Secret::new(secret.as_bytes().to_vec());
            Some(registered.secret(secret, method, expires_at(&object)))
        }
    }
}

/// Returns when the secret ends; 0 means never.
fn expires_at(object: &JsonObject<'_>) -> Option<Timestamp> {
    let seconds = object.present("client_secret_expires_at").filter_map(|member| match member {
        Member::Number(raw) => std::str::from_utf8(raw).ok()?.parse::<f64>().ok(),
        Member::Text(text) => text.trim().parse().ok(),
        Member::Null | Member::Bool(_) | Member::NotText | Member::Array(_) | Member::Object(_) => {
            None
        }
    });
    let first = seconds.filter(|seconds| *seconds >= 1.0).reduce(f64::min)?;
    let whole = Duration::try_from_secs_f64(first.floor()).ok()?;
    Some(Timestamp::from_unix_seconds(whole.as_secs()))
}

fn authentication(client: &RegisteredClient) -> ClientAuthentication {
    match (&client.client_secret, &*client.auth_method) {
        (Some(secret), "client_secret_post") => {
            ClientAuthentication::post(&client.client_id, secret.clone())
        }
        (Some(secret), "client_secret_basic") => {
            ClientAuthentication::basic(&client.client_id, secret.clone())
        }
        (Some(_) | None, _) => ClientAuthentication::public(&client.client_id),
    }
}

/// Returns a metadata document of the broker as a client.
pub(super) fn document(url: &str, redirect_uri: &str) -> String {
    let metadata = json!({
        "client_id": url,
        "client_name": "token-broker",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    metadata.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    fn registered(body: &str, method: &'static str) -> Option<RegisteredClient> {
        read(body.as_bytes(), ("https://i", "https://b/callback"), method, now())
    }

    #[test]
    fn the_server_decides_how_a_client_authenticates() {
        let basic = registered(r#"{"client_id":"c","client_secret":"s"}"#, "client_secret_basic");
        assert_eq!(&*basic.unwrap().auth_method, "client_secret_basic");
        let post = registered(
            r#"{"client_id":"c","client_secret":"s",
                "token_endpoint_auth_method":"client_secret_post","client_secret_expires_at":0}"#,
            "client_secret_basic",
        );
        let post = post.unwrap();
        assert_eq!((&*post.auth_method, post.secret_expires_at), ("client_secret_post", None));
        let public = r#"{"client_id":"c","token_endpoint_auth_method":"none"}"#;
        assert!(registered(public, "client_secret_basic").unwrap().client_secret.is_none());
        let ending =
            r#"{"client_id":"c","client_secret":"s","client_secret_expires_at":1900000000}"#;
        let ending = registered(ending, "client_secret_basic").unwrap();
        let end = Timestamp::from_unix_seconds(1_900_000_000);
        assert_eq!(ending.secret_expires_at, Some(end));
    }

    #[test]
    fn a_registration_that_cannot_be_used_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"client_id":""}"#,
            r#"{"client_id":"c"}"#,
            r#"{"client_id":"c\n","client_secret":"s"}"#,
            r#"{"client_id":"a","client_id":"b","client_secret":"s"}"#,
            r#"{"client_id":"c","token_endpoint_auth_method":"tls_client_auth"}"#,
        ] {
            assert!(registered(body, "client_secret_basic").is_none(), "{body}");
        }
    }
}
