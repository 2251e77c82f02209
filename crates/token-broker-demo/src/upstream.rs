//! An upstream: an MCP server, a plain API next to it, and an authorization server of its own.
//!
//! It logs its requests. The log has the fingerprint and the scopes of a token, never the token.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Form, Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{any_service, get, post},
};
use bytes::Bytes;
use parking_lot::Mutex;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_token_broker::tasks::Tasks;

/// Prefix of every secret of the demo, so that a scan can find it.
pub const MARKER: &str = "tbm-demo-secret-";

/// Client ID of the broker at the upstream's authorization server.
pub(crate) const CLIENT_ID: &str = "token-broker";

/// A request, as the upstream saw it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Seen {
    /// Position in the log.
    pub number: usize,
    /// Endpoint: `mcp`, `api` or `token`.
    pub door: &'static str,
    /// Operation: the JSON-RPC method and tool, the path, or the grant type.
    pub what: String,
    /// Fingerprint of the token. Empty without a token.
    pub token: String,
    /// Scopes of the token. At the token endpoint, the requested scopes.
    pub scopes: String,
    /// Status of the response.
    pub status: u16,
}

/// A running upstream. It ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    name: &'static str,
    address: SocketAddr,
    state: Arc<Mutex<Accounts>>,
    log: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Default)]
struct Accounts {
    client_secret: String,
    /// Valid access tokens, with their scopes.
    access: BTreeMap<String, String>,
    /// The one valid refresh token, and the scopes of its grant. Using another one ends the grant.
    refresh: Option<(String, String)>,
    issued: BTreeSet<String>,
    api_closed: bool,
}

/// The tokens that the authorization server issued to the broker when the user connected an
/// account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) struct Connected {
    /// First refresh token.
    pub(crate) refresh_token: String,
    /// Scopes that the user allowed. A refresh may request fewer.
    pub(crate) granted: String,
    /// Secret of [`CLIENT_ID`] at the token endpoint.
    pub(crate) client_secret: String,
}

impl Upstream {
    /// Starts an upstream on loopback.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(name: &'static str, tasks: &Tasks) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(Mutex::new(Accounts { client_secret: secret(), ..Accounts::default() }));
        let upstream = Self { name, address, state, log: Arc::default() };
        let mcp = StreamableHttpService::new(
            move || Ok(Contacts(name)),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default().with_legacy_session_mode(false),
        );
        let router = Router::new()
            .route("/mcp", any_service(mcp))
            .route("/api/contacts", get(async || Json(json!({ "contacts": ["Ada", "Grace"] }))))
            .layer(from_fn_with_state(upstream.clone(), check_token))
            .route("/token", post(token))
            .with_state(upstream.clone());
        drop(tasks.spawn("demo-upstream", async move { axum::serve(listener, router).await }));
        Ok(upstream)
    }

    /// Returns the name.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the URL of the MCP server.
    pub(crate) fn mcp_url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Returns the issuer of the authorization server.
    pub(crate) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of the token endpoint.
    pub(crate) fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Returns the address of the listener.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects the account of a user, with these scopes.
    pub(crate) fn connect(&self, granted: &str) -> Connected {
        let mut state = self.state.lock();
        let refresh_token = state.issue();
        state.refresh = Some((refresh_token.clone(), granted.to_owned()));
        Connected {
            refresh_token,
            granted: granted.to_owned(),
            client_secret: state.client_secret.clone(),
        }
    }

    /// Issues an access token as to a client without a broker.
    pub(crate) fn raw_access_token(&self, scopes: &str) -> String {
        let mut state = self.state.lock();
        let token = state.issue();
        state.access.insert(token.clone(), scopes.to_owned());
        token
    }

    /// Expires every access token.
    pub(crate) fn expire_access_tokens(&self) {
        self.state.lock().access.clear();
    }

    /// Closes the plain API.
    pub(crate) fn close_the_api(&self) {
        self.state.lock().api_closed = true;
    }

    /// Returns the requests so far.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.log.lock().clone()
    }

    /// Returns every secret that was issued.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.state.lock().issued.iter().cloned().collect()
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

impl Accounts {
    fn issue(&mut self) -> String {
        let token = secret();
        self.issued.insert(token.clone());
        token
    }
}

/// Returns the first 48 bits of the token's SHA-256: enough to distinguish two tokens in a log.
pub(crate) fn fingerprint(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn secret() -> String {
    let mut bits = [0; 24];
    aws_lc_rs::rand::fill(&mut bits)
        .expect("the system's source of randomness does not fail once it is seeded");
    let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{MARKER}{hex}")
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
    let scopes = upstream.state.lock().access.get(&token).cloned();
    let is_closed = door == "api" && upstream.state.lock().api_closed;
    let response = if scopes.is_some() && !is_closed {
        next.run(Request::from_parts(parts, Body::from(body))).await
    } else {
        let challenge = format!("Bearer error=\"invalid_token\", realm=\"{}\"", upstream.name);
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    };
    upstream.note(door, what, &token, scopes.unwrap_or_default(), response.status());
    response
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

/// RFC 6749 §6 with rotation: each refresh token is good once.
async fn token(
    State(upstream): State<Upstream>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (presented, requested) = (field("refresh_token"), field("scope"));
    let response = {
        let mut state = upstream.state.lock();
        let credentials = format!("{CLIENT_ID}:{}", state.client_secret);
        let basic = format!(
            "Basic {}",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, credentials)
        );
        let knows_client = headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| value.as_bytes() == basic.as_bytes());
        match state.refresh.take() {
            kept if !knows_client => {
                state.refresh = kept;
                Err((StatusCode::UNAUTHORIZED, "invalid_client"))
            }
            Some((good, granted))
                if good == presented && field("grant_type") == "refresh_token" =>
            {
                let within: BTreeSet<_> = granted.split(' ').collect();
                if requested.split(' ').all(|scope| within.contains(scope)) {
                    let (access, next) = (state.issue(), state.issue());
                    state.access.insert(access.clone(), requested.clone());
                    state.refresh = Some((next.clone(), granted));
                    Ok(json!({
                        "access_token": access, "token_type": "Bearer", "expires_in": 300,
                        "refresh_token": next, "scope": requested,
                    }))
                } else {
                    state.refresh = Some((good, granted));
                    Err((StatusCode::BAD_REQUEST, "invalid_scope"))
                }
            }
            // A token that was used before ends the grant.
            _ => Err((StatusCode::BAD_REQUEST, "invalid_grant")),
        }
    };
    let status = response.as_ref().err().map_or(StatusCode::OK, |(status, _)| *status);
    upstream.note("token", field("grant_type"), &presented, requested, status);
    match response {
        Ok(tokens) => ([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response(),
        Err((status, error)) => (status, Json(json!({ "error": error }))).into_response(),
    }
}

/// The MCP server: contacts, with six tools.
#[derive(Clone, Debug)]
struct Contacts(&'static str);

const TOOLS: [(&str, &str); 6] = [
    ("list_contacts", "List all contacts"),
    ("get_contact", "Get one contact"),
    ("create_contact", "Create a contact"),
    ("delete_contact", "Delete a contact"),
    ("export_everything", "Export all data"),
    ("watch_contacts", "Report changes"),
];

impl ServerHandler for Contacts {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema: JsonObject = [("type".to_owned(), json!("object"))].into_iter().collect();
        let tools = TOOLS.map(|(name, description)| Tool::new(name, description, schema.clone()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !TOOLS.iter().any(|(name, _)| *name == request.name) {
            return Err(ErrorData::invalid_params("unknown tool", None));
        }
        if request.name == "watch_contacts" {
            // 20 seconds of changes: if the stream ends earlier, it was cut.
            for change in 0..400_u32 {
                if let Some(token) = context.meta.get_progress_token() {
                    let progress = ProgressNotificationParam::new(token, f64::from(change));
                    if context.peer.notify_progress(progress).await.is_err() {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let text = format!("{}: {} done", self.0, request.name);
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}
