//! One axum router: three MCP servers with three policies, one plain HTTP API, and a page for everybody. One audit log sees it all.
//!
//! Run: cargo run --release --bin axum_router
//!
//! It prints where it listens and two broker tokens for each route (a token is good for one): TOKEN reads, WRITES has `crm:write` too.
//! Try, with the address and a route's token:
//! ```sh
//! curl -s ADDRESS/reader/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//! curl -s ADDRESS/api/contacts -H "authorization: Bearer TOKEN"
//! curl -s ADDRESS/ ADDRESS/.well-known/oauth-protected-resource/reader/mcp
//! ```
//! `reader` lists and gets; `writer` creates too, with the scope `crm:write` (403 and that scope without it); `nobody` may do nothing.
//! The API is judged by method and path: GET /api/contacts passes, everything else is 403.

use std::{env, error::Error, sync::LazyLock};

use axum::{
    Router,
    routing::{any_service, get},
};
use http::Method;
use token_broker::demo::upstream::Upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::{AuditLog, JsonLines},
    authenticate::JwtVerifier,
    exchange,
    principal::{Resource, Scopes},
    resource_metadata::ProtectedResourceMetadata,
    scope_filter::{Policy, Rules, http},
    tasks::Tasks,
};

const WRITE: &str = "crm:read crm:write";

#[path = "../policy.rs"]
mod policy;

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = Upstream::start("crm", &TASKS).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let audit = env::temp_dir().join(format!("axum_router-{}.jsonl", std::process::id()));
    let broker = Broker {
        origin: format!("http://{}", listener.local_addr()?),
        secret: upstream.raw_access_token("contacts:read contacts:write"),
        log: AuditLog::from(JsonLines::append(&audit)?),
        issuer: Issuer::new("https://authority.example.com", SigningKeys::generate(Algorithm::Es256)?),
        guard: Guard::new().allow_loopback("127.0.0.1"),
    };
    say(&format!("LISTENING {}\nAUDIT {}", broker.origin, audit.display()));
    let api = Rules::new().allow(http(Method::GET, "/api/contacts"));
    let root = format!("http://{}/", upstream.address());
    let router = Router::new()
        .merge(broker.mcp("/reader/mcp", &upstream, policy::reader())?)
        .merge(broker.mcp("/writer/mcp", &upstream, policy::writer())?)
        .merge(broker.mcp("/nobody/mcp", &upstream, Rules::new())?)
        .merge(broker.api("/api", &root, api)?)
        .route("/", get(async || "a page for everybody"));
    Ok(axum::serve(listener, router).await?)
}

struct Broker {
    origin: String,
    secret: String,
    log: AuditLog,
    issuer: Issuer,
    guard: Guard,
}

impl Broker {
    fn mcp(&self, path: &str, upstream: &Upstream, policy: impl Policy) -> Result<Router, Box<dyn Error>> {
        let resource = self.announce(path)?;
        let broker = BrokerStack::for_resource(resource.as_str())
            .audit(self.log.clone())
            .authenticate(JwtVerifier::new(self.issuer.name(), self.issuer.keys()))
            .scope_filter(policy)
            .exchange(self.credential(&upstream.mcp_url())?)
            .build()?;
        // Where a client learns which authorization server to ask: outside of authentication (RFC 9728).
        let metadata =
            ProtectedResourceMetadata::new().resource(&resource, [self.issuer.name()], &Scopes::parse(WRITE)?, None)?;
        let well_known = format!("/.well-known/oauth-protected-resource{path}");
        let routes = Router::new().route(path, any_service(Proxy::new(&self.guard)?)).layer(broker);
        Ok(routes.route_service(&well_known, metadata))
    }
    fn api(&self, path: &str, root: &str, policy: impl Policy) -> Result<Router, Box<dyn Error>> {
        let broker = BrokerStack::for_resource(self.announce(path)?.as_str())
            .plain_http()
            .audit(self.log.clone())
            .authenticate(JwtVerifier::new(self.issuer.name(), self.issuer.keys()))
            .scope_filter(policy)
            .exchange(self.credential(root)?)
            .build()?;
        Ok(Router::new().route(&format!("{path}/{{*rest}}"), any_service(Proxy::new(&self.guard)?)).layer(broker))
    }

    fn credential(&self, url: &str) -> Result<StaticSecret, Box<dyn Error>> {
        Ok(StaticSecret::new(Secret::from_text(self.secret.clone()), exchange::Upstream::parse("crm", url)?))
    }

    fn announce(&self, path: &str) -> Result<Resource, Box<dyn Error>> {
        let resource = Resource::parse(&format!("{}{path}", self.origin))?;
        let mint = Mint::for_user("alice").client("example").resource(&resource);
        for (kind, scopes) in [("TOKEN", "crm:read"), ("WRITES", WRITE)] {
            let token = self.issuer.mint(mint.clone().scopes(Scopes::parse(scopes)?))?;
            say(&format!("{kind} {path} {}", token.into_text()));
        }
        Ok(resource)
    }
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
