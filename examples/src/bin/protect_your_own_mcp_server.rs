//! Your own MCP server (rmcp) inside the stack: its tool calls an API for the user, and never sees
//! the user's credential.
//!
//! Run: cargo run --release --bin protect_your_own_mcp_server
//!
//! It prints its address and broker tokens for alice (who connected an account) and bob. Try:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" -d '{"jsonrpc":"2.0","id":1,
//!   "method":"tools/call","params":{"name":"list_contacts","arguments":{}}}'
//! ```
//! Refused: a request without token (401); `delete_contact`, which no rule allows (-32602); bob,
//! who must connect an account first (-32001 with the page). Ctrl-C and SIGTERM end it.

use std::{env, error::Error, sync::LazyLock};

use axum::Router;
use bytes::Bytes;
use http::{Request, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, model,
    model::CallToolResult,
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use token_broker::demo::upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_store::{Account, Grant, GrantKey};
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_token_broker::{
    exchange::{Exchange, ExchangeLayer},
    prelude::*,
    principal::GrantId,
    tasks::Tasks,
};

#[path = "../shutdown.rs"]
mod shutdown;

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

/// The MCP server. Its client sends every stamped request with the credential of the caller.
#[derive(Clone)]
struct Contacts {
    api: Exchange<Proxy, StoredGrants<MemoryGrants>>,
    url: String,
}

impl ServerHandler for Contacts {
    fn get_info(&self) -> model::ServerConfig {
        let mut info = model::ServerConfig::default();
        info.capabilities = model::ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<model::PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<model::ListToolsResult, ErrorData> {
        let tools = ["list_contacts", "delete_contact"]
            .map(|name| model::Tool::new(name, "Contacts", model::JsonObject::new()));
        Ok(model::ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        _: model::CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<model::CallToolResponse, ErrorData> {
        let failed = || ErrorData::internal_error("the API call failed", None);
        // rmcp passes the parts of the HTTP request on; the stack inserted the caller there.
        let parts = context.extensions.get::<Parts>().ok_or_else(failed)?;
        let caller = parts.extensions.get::<CallerHandle>().ok_or_else(failed)?;
        let request = Request::get(&self.url).body(Empty::<Bytes>::new());
        let mut request = request.map_err(|_| failed())?;
        caller.stamp(&mut request);
        let Ok(response) = self.api.clone().oneshot(request).await;
        // The broker refused, because bob has no account: the client learns where to connect one.
        if let Some(refused) = caller.refused_call(&response) {
            let data = refused.data.and_then(|json| json.parse().ok());
            return Err(ErrorData::new(model::ErrorCode(refused.code), refused.message, data));
        }
        if !response.status().is_success() {
            return Err(failed());
        }
        let body = response.into_body().collect().await.map_err(|_| failed())?.to_bytes();
        let text = String::from_utf8(body.to_vec()).map_err(|_| failed())?;
        Ok(CallToolResult::success(vec![model::ContentBlock::text(text)]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = upstream::Upstream::start("crm", &TASKS).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let name = format!("protect_your_own_mcp_server-{}.jsonl", std::process::id());
    let audit = env::temp_dir().join(name);
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;

    let guard = Guard::new().allow_loopback("127.0.0.1");
    let credentials = stored_grants(&broker, &crm, &issuer, &guard)?;
    let api = ExchangeLayer::for_handler(&broker, credentials).layer(Proxy::new(&guard)?);
    let contacts = Contacts { api, url: crm.api_url() };
    let server = StreamableHttpService::new(
        move || Ok(contacts.clone()),
        LocalSessionManager::default().into(),
        // It accepts loopback hosts only. Behind a public name: `.with_allowed_hosts([..])`, or
        // `.disable_allowed_hosts()`, because the stack has checked `Host`.
        StreamableHttpServerConfig::default().with_legacy_session_mode(false),
    );

    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let layer = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["list_*"])))
        .credential_for_handler()
        .build()?;
    print(&format!("LISTENING {resource}\nAUDIT {}", audit.display()));
    for user in ["alice", "bob"] {
        let token = issuer.mint(Mint::for_user(user).client("example").resource(&resource))?;
        print(&format!("TOKEN {user} {}", token.into_text()));
    }
    let router = Router::new().route_service("/mcp", layer.layer(server));
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown::signal());
    Ok(shutdown::serve(&broker, server).await?)
}

/// alice connected her account: the broker holds a refresh token for her.
fn stored_grants(
    broker: &Broker,
    crm: &upstream::Upstream,
    issuer: &Issuer,
    guard: &Guard,
) -> Result<StoredGrants<MemoryGrants>, Box<dyn Error>> {
    let (connected, scopes) = (crm.connect("contacts:read"), Scopes::parse("contacts:read")?);
    let key = GrantKey::new(User::new(issuer.name(), "alice"), "crm", Account::default_account());
    let grant = Grant::new(GrantId::new("alice-1"), key, &crm.issuer()).granted(scopes.clone());
    let grants = MemoryGrants::new();
    grants.insert(grant.refresh_token(Secret::from_text(connected.refresh_token)))?;
    let secret = Secret::from_text(connected.client_secret);
    let client = ClientAuthentication::basic(upstream::CLIENT_ID, secret);
    let endpoint = crm.token_endpoint().parse()?;
    let server = AuthorizationServer::new(&crm.issuer(), endpoint, client).scopes(scopes);
    let api = Upstream::parse("crm", &crm.api_url())?;
    let credentials = StoredGrants::new(broker, grants, api, server, GuardedClient::new(guard)?);
    Ok(credentials.connect_url(|_| "https://broker.example.com/connect/crm".into()))
}

#[expect(clippy::print_stdout, reason = "the output of the example")]
fn print(text: &str) {
    println!("{text}");
}
