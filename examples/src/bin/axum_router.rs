//! One axum router: three MCP servers with three policies, one plain HTTP API, and a public page.
//! One audit log records all of it.
//!
//! Run: cargo run --release --bin axum_router
//!
//! It prints its address and two broker tokens for each route (a token is valid for one route):
//! TOKEN reads, WRITES has `crm:write` too. Try, with the address and a token of the route:
//! ```sh
//! curl -s ADDRESS/reader/mcp -H "authorization: Bearer TOKEN" \
//!   -H "content-type: application/json" -H "accept: application/json, text/event-stream" \
//!   -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//! curl -s ADDRESS/api/contacts -H "authorization: Bearer TOKEN"
//! curl -s ADDRESS/ ADDRESS/.well-known/oauth-protected-resource/reader/mcp
//! ```
//! `reader` lists and gets. `writer` creates too, with the scope `crm:write`; without it, 403 names
//! the scope. `nobody` may call nothing. The API is judged by method and path: GET /api/contacts
//! passes, every other request below /api is refused with 403. Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{env, error::Error};

use axum::{Router, routing::get};
use http::Method;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{policy, server, upstream::Contacts};
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tower_token_broker::{
    prelude::*,
    scope_filter::{Policy, http},
};

const WRITE: &str = "crm:read crm:write";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = Contacts::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let audit = env::temp_dir().join(format!("axum_router-{}.jsonl", std::process::id()));
    let keys = SigningKeys::generate(Algorithm::Es256)?;
    let routes = Routes {
        origin: format!("http://{}", listener.local_addr()?),
        secret: crm.issue_token(),
        broker: Broker::builder().audit(JsonLines::append(&audit)?).build()?,
        issuer: Issuer::new("https://authority.example.com", keys),
        proxy: Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?,
    };
    println!("LISTENING {}\nAUDIT {}", routes.origin, audit.display());
    // Each stack is on routes of its own. `Router::layer` would also take the fallback along.
    let router = Router::new()
        .merge(routes.mcp("/reader/mcp", &crm.mcp_url(), policy::reader())?)
        .merge(routes.mcp("/writer/mcp", &crm.mcp_url(), policy::writer())?)
        .merge(routes.mcp("/nobody/mcp", &crm.mcp_url(), Rules::new())?)
        .merge(routes.api(&crm.api_url())?)
        .merge(routes.broker.metadata_router())
        .route("/", get(async || "a page for everyone"));
    Ok(server::serve(&routes.broker, listener, router).await?)
}

struct Routes {
    origin: String,
    secret: String,
    broker: Broker,
    issuer: Issuer,
    proxy: Proxy,
}

impl Routes {
    /// An MCP server: exactly this path.
    fn mcp(&self, path: &str, url: &str, policy: impl Policy) -> Result<Router, Box<dyn Error>> {
        let layer = self
            .broker
            .protect(&self.resource(path)?)
            .metadata(ResourceMetadata::new().scopes(Scopes::parse(WRITE)?))
            .authenticate(JwtVerifier::new(self.issuer.name(), self.issuer.keys()))
            .scope_filter(policy)
            .exchange(self.credential(url)?)
            .build()?;
        Ok(Router::new().route_service(path, layer.layer(self.proxy.clone())))
    }

    /// A plain API: this path and all below it. `/api/contacts` is forwarded to `{url}/contacts`.
    fn api(&self, url: &str) -> Result<Router, Box<dyn Error>> {
        let layer = self
            .broker
            .protect(&self.resource("/api")?)
            .protocol(Protocol::Http)
            .authenticate(JwtVerifier::new(self.issuer.name(), self.issuer.keys()))
            .scope_filter(Rules::new().allow(http(Method::GET, "/api/contacts")))
            .exchange(self.credential(url)?)
            .build()?;
        Ok(Router::new().route_service("/api/{*rest}", layer.layer(self.proxy.clone())))
    }

    fn credential(&self, url: &str) -> Result<StaticSecret, Box<dyn Error>> {
        let upstream = Upstream::parse("crm", url)?;
        Ok(StaticSecret::new(Secret::from_text(self.secret.clone()), upstream)?)
    }

    /// Prints broker tokens for a path, and returns its resource URI.
    fn resource(&self, path: &str) -> Result<String, Box<dyn Error>> {
        let resource = Resource::parse(&format!("{}{path}", self.origin))?;
        let mint = Mint::for_user("alice").client("example").resource(&resource);
        for (kind, scopes) in [("TOKEN", "crm:read"), ("WRITES", WRITE)] {
            let token = self.issuer.mint(mint.clone().scopes(Scopes::parse(scopes)?))?;
            println!("{kind} {path} {}", token.into_text());
        }
        Ok(resource.as_str().to_owned())
    }
}
