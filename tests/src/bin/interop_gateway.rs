//! Gateway for the clients in `tests/interop`: the stack and the proxy in front of another
//! project's MCP server.
//!
//! Run: `UPSTREAM_TOKEN=… cargo run -p token-broker-tests --bin interop_gateway --
//! http://127.0.0.1:3400/mcp [PUBLIC ORIGIN] [--allow-origin ORIGIN]`
//!
//! Pages of the allowed origin may use it. The public origin is the one that clients see if there
//! is a proxy in front; it defaults to the listening address. The gateway prints its URL, the path
//! of its audit log, and the URL of its control server: `POST /token?user=U&scope=S` returns a
//! broker token, `POST /revoke?user=U` revokes all tokens of a user. Not published.

#![expect(clippy::expect_used, reason = "a test server may panic on failure")]

use std::{env, sync::Arc};

use axum::{Router, extract::Query, http::StatusCode, routing::post};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde::Deserialize;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_token_broker::{
    Broker, Secret,
    audit::JsonLines,
    authenticate::{HostAndOrigin, JwtVerifier},
    exchange::Upstream,
    principal::{Initiator, Resource, Scopes, User},
    revocation::RevocationTarget,
    scope_filter::{Rules, methods, prompts, resources, tools},
};

#[derive(Deserialize)]
struct Parameters {
    user: String,
    scope: Option<String>,
}

/// Denies `delete_*`; `update_*` needs another scope than the rest. The other names belong to the
/// conformance suite's server.
fn policy() -> Rules {
    let tested = ["test_*", "json_schema_*"];
    Rules::new()
        .allow(tools(["list_*", "get_*", "count_*", "watch_*", "ask_*"]).with_scope("items:read"))
        .allow(tools(["update_*"]).with_scope("items:write"))
        .allow(tools(tested).with_scope("items:read"))
        .allow(prompts(["*"]))
        .allow(resources(["*"]))
        .allow(methods(["logging/setLevel"]))
}

#[tokio::main]
async fn main() {
    let upstream = env::args().nth(1).expect("the upstream's URL as the first argument");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let origin = env::args().nth(2).filter(|argument| !argument.starts_with("--"));
    let origin = origin.unwrap_or_else(|| here.clone());
    let pages = env::args().skip_while(|argument| argument != "--allow-origin").nth(1);
    let hosts = HostAndOrigin::new();
    let hosts = pages.iter().fold(hosts, |hosts, origin| hosts.allow_origin(origin));
    let resource = Resource::parse(&format!("{origin}/mcp")).expect("a resource");
    let issuer =
        Arc::new(Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256).expect("keys")));
    let audit = env::temp_dir().join(format!("interop_gateway-{}.jsonl", std::process::id()));
    let sink = JsonLines::append(&audit).expect("an audit log");
    let broker = Broker::builder().audit(sink).build().expect("a broker");
    let upstream = Upstream::parse("items", &upstream).expect("an upstream");
    let layer = broker
        .protect(resource.as_str())
        .host_and_origin(hosts)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(policy())
        .exchange(StaticSecret::new(secret(), upstream).expect("a long secret"))
        .build()
        .expect("a stack");
    let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).expect("a proxy");
    let service =
        Router::new().merge(broker.metadata_router()).fallback_service(layer.layer(proxy));
    let tasks = broker.tasks().clone();

    let control_listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    print(&format!("LISTENING {here}/mcp\nAUDIT {}", audit.display()));
    print(&format!("CONTROL http://{}", control_listener.local_addr().expect("an address")));
    let control = control(issuer, resource, broker);
    drop(tasks.spawn("control", async move { axum::serve(control_listener, control).await }));
    loop {
        let (socket, peer) = listener.accept().await.expect("a connection");
        let from_peer = move |mut request: http::Request<_>| {
            request.extensions_mut().insert(peer);
            request
        };
        let service = TowerToHyperService::new(service.clone().map_request(from_peer));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        drop(tasks.spawn("connection", connection));
    }
}

/// Control server: lets a test act as authorization server and operator.
fn control(issuer: Arc<Issuer>, resource: Resource, broker: Broker) -> Router {
    let name = issuer.name().to_owned();
    let token = post(async move |Query(parameters): Query<Parameters>| {
        let scopes = Scopes::parse(&parameters.scope.unwrap_or_default())
            .map_err(|_| StatusCode::BAD_REQUEST)?;
        let mint =
            Mint::for_user(&parameters.user).client("interop").resource(&resource).scopes(scopes);
        issuer.mint(mint).map(|token| token.into_text()).map_err(|_| StatusCode::BAD_REQUEST)
    });
    let revoke = post(async move |Query(parameters): Query<Parameters>| {
        let user = RevocationTarget::User(User::new(name.as_str(), parameters.user));
        let revoked = broker.revoke(user, &Initiator::operator("interop")).await;
        revoked.map(drop).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    });
    Router::new().route("/token", token).route("/revoke", revoke)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the secret is passed in the environment, not on the command line"
)]
fn secret() -> Secret {
    Secret::from_text(env::var("UPSTREAM_TOKEN").expect("the upstream's token in UPSTREAM_TOKEN"))
}

#[expect(clippy::print_stdout, reason = "the parent process reads the addresses")]
fn print(text: &str) {
    println!("{text}");
}
