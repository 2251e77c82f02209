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

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{env, error::Error};

use axum::Router;
use bytes::Bytes;
use http::{Request, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use rmcp::{
    ErrorData,
    handler::server::tool::Extension,
    model::ErrorCode,
    tool, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{grants, server, upstream::Contacts};
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_token_broker::{
    exchange::{Exchange, ExchangeLayer},
    prelude::*,
};

/// The MCP server. Its client sends every stamped request with the credential of the caller.
#[derive(Clone)]
struct Server {
    api: Exchange<Proxy, StoredGrants<MemoryGrants>>,
    url: String,
}

#[tool_router(server_handler)]
impl Server {
    /// Lists the contacts of the caller.
    #[tool]
    async fn list_contacts(&self, Extension(parts): Extension<Parts>) -> Result<String, ErrorData> {
        let failed = || ErrorData::internal_error("the API call failed", None);
        // rmcp passes the parts of the HTTP request on; the stack inserted the caller there.
        let caller = parts.extensions.get::<CallerHandle>().ok_or_else(failed)?;
        let request = Request::get(format!("{}/contacts", self.url)).body(Empty::<Bytes>::new());
        let mut request = request.map_err(|_| failed())?;
        caller.stamp(&mut request);
        let Ok(response) = self.api.clone().oneshot(request).await;
        // The broker refused, because bob has no account: the client learns where to connect one.
        if let Some(refused) = caller.refused_call(&response) {
            let data = refused.data.and_then(|json| json.parse().ok());
            return Err(ErrorData::new(ErrorCode(refused.code), refused.message, data));
        }
        if !response.status().is_success() {
            return Err(failed());
        }
        let body = response.into_body().collect().await.map_err(|_| failed())?.to_bytes();
        String::from_utf8(body.to_vec()).map_err(|_| failed())
    }

    /// Deletes a contact.
    #[tool]
    async fn delete_contact(&self) -> String {
        "never called: no rule allows it".to_owned()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = Contacts::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let name = format!("protect_your_own_mcp_server-{}.jsonl", std::process::id());
    let audit = env::temp_dir().join(name);
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;

    let guard = Guard::new().allow_loopback("127.0.0.1");
    let upstream = Upstream::parse("crm", &crm.api_url())?;
    let credentials =
        grants::of_alice(&broker, issuer.name(), crm.issue_token(), upstream, &guard)?;
    let api = ExchangeLayer::for_handler(&broker, credentials).layer(Proxy::new(&guard)?);
    let own = Server { api, url: crm.api_url() };
    let server = StreamableHttpService::new(
        move || Ok(own.clone()),
        LocalSessionManager::default().into(),
        // It accepts loopback hosts only. With a public name: `.with_allowed_hosts([..])`, or
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
    println!("LISTENING {resource}\nAUDIT {}", audit.display());
    for user in ["alice", "bob"] {
        let token = issuer.mint(Mint::for_user(user).client("example").resource(&resource))?;
        println!("TOKEN {user} {}", token.into_text());
    }
    let router = Router::new().route_service("/mcp", layer.layer(server));
    Ok(server::serve(&broker, listener, router).await?)
}
