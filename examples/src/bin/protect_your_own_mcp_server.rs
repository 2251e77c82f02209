//! Your own MCP server (rmcp) inside the stack: its tool calls an upstream API for its caller, and never sees the caller's token.
//!
//! Run: cargo run --release --bin protect_your_own_mcp_server
//!
//! It prints where it listens and a broker token. Try, with the two:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" \
//!   -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_contacts","arguments":{}}}'
//! ```
//! Refused: without the token (401); `delete_contact`, which no rule allows (-32602). The audit file has an intent for each use of the token.

use std::{env, error::Error, sync::LazyLock};

use axum::Router;
use bytes::Bytes;
use http::{Request, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, model,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ListToolsResult},
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use token_broker::demo::upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};
use tower_token_broker::{
    BrokerStack, Secret,
    audit::JsonLines,
    authenticate::JwtVerifier,
    exchange::{CallerHandle, Exchange, ExchangeLayer, Upstream},
    principal::Resource,
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

/// The MCP server. Its client puts the caller's credential on every request that is stamped.
#[derive(Clone)]
struct Contacts {
    api: Exchange<Proxy, StaticSecret>,
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
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = ["list_contacts", "delete_contact"]
            .map(|name| model::Tool::new(name, "Contacts", model::JsonObject::new()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let failed = || ErrorData::internal_error("the upstream could not be asked", None);
        // rmcp passes the HTTP request's parts on; the stack put the caller there.
        let caller = context
            .extensions
            .get::<Parts>()
            .and_then(|parts| parts.extensions.get::<CallerHandle>())
            .ok_or_else(failed)?;
        let mut request = Request::get(&self.url).body(Empty::<Bytes>::new()).map_err(|_| failed())?;
        caller.stamp(&mut request);
        let Ok(answer) = self.api.clone().oneshot(request).await;
        let body = answer.into_body().collect().await.map_err(|_| failed())?.to_bytes();
        let text = String::from_utf8(body.to_vec()).map_err(|_| failed())?;
        Ok(CallToolResult::success(vec![model::ContentBlock::text(text)]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = upstream::Upstream::start("crm", &TASKS).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let secret = Secret::from_text(crm.raw_access_token("contacts:read"));
    let credential = StaticSecret::new(secret, Upstream::parse("crm", &crm.api_url())?);
    let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?;
    let contacts = Contacts { api: ExchangeLayer::new(credential).layer(proxy), url: crm.api_url() };
    let server = StreamableHttpService::new(
        move || Ok(contacts.clone()),
        LocalSessionManager::default().into(),
        StreamableHttpServerConfig::default().with_legacy_session_mode(false),
    );
    let audit = env::temp_dir().join(format!("protect_your_own_mcp_server-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["list_*"])))
        .credential_for_handler()
        .build()?;
    let token = issuer.mint(Mint::for_user("alice").client("example").resource(&resource))?;
    say(&format!("LISTENING {resource}\nTOKEN {}\nAUDIT {}", token.into_text(), audit.display()));
    Ok(axum::serve(listener, Router::new().route_service("/mcp", broker.layer(server))).await?)
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
