//! An upstream: an MCP server, a plain API next to it, and an authorization server of its own.
//!
//! It logs its requests. The log has the fingerprint and the scopes of a token, never the token.

mod accounts;
mod authorization;
mod contacts;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{any_service, get},
};
use bytes::Bytes;
use parking_lot::Mutex;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_token_broker::tasks::Tasks;

pub(crate) use self::accounts::random;
use self::{accounts::Accounts, contacts::Contacts};

/// Prefix of every secret of the demo, so that a scan can find it.
pub const MARKER: &str = "tbm-demo-secret-";

/// Names of an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Name in URLs.
    pub(crate) name: &'static str,
    /// Name for people.
    pub(crate) title: &'static str,
    /// The thing that its tools are about.
    pub(crate) noun: &'static str,
}

/// The CRM.
pub(crate) const CRM: Kind = Kind { name: "crm", title: "CRM", noun: "contact" };
/// The ticket server.
pub(crate) const TICKETS: Kind = Kind { name: "tickets", title: "Tickets", noun: "ticket" };

impl Kind {
    /// Returns the scopes that the operator of the broker configured.
    pub(crate) fn operators_scopes(&self) -> String {
        let noun = self.noun;
        format!("{noun}s:read {noun}s:write")
    }

    /// Returns every scope of the upstream: more than the broker needs.
    pub(crate) fn every_scope(&self) -> String {
        format!("admin {} export", self.operators_scopes())
    }

    /// Returns every scope of broker tokens for it.
    pub(crate) fn broker_scopes(&self) -> String {
        let name = self.name;
        format!("{name}:admin {}", self.default_scopes())
    }

    /// Returns the scopes of broker tokens for a client that requests none.
    pub(crate) fn default_scopes(&self) -> String {
        let name = self.name;
        format!("{name}:read {name}:write")
    }
}

/// A request, as the upstream saw it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Seen {
    /// Position in the log.
    pub number: usize,
    /// Endpoint: `mcp`, `api`, `metadata`, `register`, `authorize`, `token` or `revoke`.
    pub door: &'static str,
    /// Operation: the JSON-RPC method and tool, the path, the decision of the user, the grant type
    /// or the type of the revoked token.
    pub what: String,
    /// Fingerprint of the token. Empty without a token.
    pub token: String,
    /// Scopes of the token. At the authorization endpoint, and if no token was issued, the
    /// requested scopes.
    pub scopes: String,
    /// Status of the response.
    pub status: u16,
}

/// A running upstream. It ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    kind: Kind,
    address: SocketAddr,
    accounts: Arc<Mutex<Accounts>>,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Starts an upstream on loopback.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(kind: Kind, tasks: &Tasks) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let upstream = Self { kind, address, accounts: Arc::default(), log: Arc::default() };
        let mcp = StreamableHttpService::new(
            move || Ok(Contacts(kind)),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default().with_legacy_session_mode(false),
        );
        let router = Router::new()
            .route("/mcp", any_service(mcp))
            .route("/api/contacts", get(async || Json(json!({ "contacts": ["Ada", "Grace"] }))))
            .layer(from_fn_with_state(upstream.clone(), check_token))
            .merge(authorization::router())
            .with_state(upstream.clone());
        drop(tasks.spawn("demo-upstream", async move { axum::serve(listener, router).await }));
        Ok(upstream)
    }

    /// Returns the names.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the name in URLs.
    pub(crate) const fn name(&self) -> &'static str {
        self.kind.name
    }

    /// Returns the URL of the MCP server.
    pub(crate) fn mcp_url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Returns the issuer of the authorization server.
    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the address of the listener.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Issues an access token as to a client without a broker.
    pub(crate) fn raw_access_token(&self, scopes: &str) -> String {
        self.accounts.lock().raw_access_token(scopes)
    }

    /// Expires every access token.
    pub(crate) fn expire_access_tokens(&self) {
        self.accounts.lock().expire_access_tokens();
    }

    /// Closes the plain API.
    pub(crate) fn close_the_api(&self) {
        self.accounts.lock().api_closed = true;
    }

    /// Returns the requests so far.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.log.lock().clone()
    }

    /// Returns every secret that was issued.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.accounts.lock().secrets()
    }

    fn note(
        &self,
        door: &'static str,
        what: String,
        token: &str,
        scopes: String,
        status: StatusCode,
    ) {
        let mut log = self.log.lock();
        let number = log.len();
        let token = if token.is_empty() { String::new() } else { fingerprint(token) };
        log.push(Seen { number, door, what, token, scopes, status: status.as_u16() });
    }
}

/// Returns the first 48 bits of the token's SHA-256: enough to distinguish two tokens in a log.
pub(crate) fn fingerprint(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Accepts tokens of the upstream's own authorization server only, and logs every request.
async fn check_token(State(upstream): State<Upstream>, request: Request, next: Next) -> Response {
    let token = bearer(request.headers()).unwrap_or_default().to_owned();
    let door = if request.uri().path() == "/mcp" { "mcp" } else { "api" };
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let what = if door == "mcp" {
        operation(&body, parts.method.as_str())
    } else {
        parts.uri.path().to_owned()
    };
    let (scopes, api_closed) = {
        let accounts = upstream.accounts.lock();
        (accounts.scopes_of(&token), accounts.api_closed)
    };
    let response = if scopes.is_some() && !(door == "api" && api_closed) {
        next.run(Request::from_parts(parts, Body::from(body))).await
    } else {
        let challenge = challenge(&upstream, &token);
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    };
    upstream.note(door, what, &token, scopes.unwrap_or_default(), response.status());
    response
}

/// Returns the challenge that leads to the metadata (RFC 9728 §5.1).
fn challenge(upstream: &Upstream, token: &str) -> String {
    let error = if token.is_empty() { "" } else { "error=\"invalid_token\", " };
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp", upstream.issuer());
    format!("Bearer {error}resource_metadata=\"{metadata}\"")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn operation(body: &Bytes, method: &str) -> String {
    let message: Value =
        std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    match (text("/method"), text("/params/name")) {
        (Some(method), Some(name)) => format!("{method} {name}"),
        (Some(method), None) => method.to_owned(),
        (None, _) => method.to_owned(),
    }
}
