//! The broker in front of a gRPC server that exists already and wants each user's own OAuth token: stack and proxy, streamed both ways.
//!
//! Run:   UPSTREAM_TOKEN=alices-token cargo run --release --bin grpc_gateway -- --upstream http://127.0.0.1:50051
//! Alone: cargo run --release --bin grpc_gateway          (starts a health service of its own to stand before)
//!
//! It prints where it listens and broker tokens of alice (whose account is connected) and bob (who must connect his first). Try, with those:
//! ```sh
//! grpcurl -plaintext -import-path . -proto health.proto -H "authorization: Bearer TOKEN" ADDRESS grpc.health.v1.Health/Check
//! ```
//! `Check` passes, `Watch` needs the scope `health:watch` (status 7 says so), everything else is status 7; MCP services are judged by what
//! they carry: `list_*` and `get_*` pass, `create_*` needs `crm:write`. Without a token: 16. bob: 9, with the page where he connects.

use std::{env, error::Error, sync::LazyLock, time::Duration};

use axum::Router;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_store::{AccessToken, Account, Grant, GrantKey, MemoryGrants};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, transport::Server};
use tower::Layer as _;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::JsonLines,
    authenticate::JwtVerifier,
    clock::Clock,
    exchange::Upstream,
    principal::{GrantId, Resource, Scopes, User},
    scope_filter::grpc,
    tasks::Tasks,
};

#[path = "../policy.rs"]
mod policy;

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = env::args().skip_while(|argument| argument != "--upstream").nth(1);
    let (upstream, token) = match upstream {
        Some(url) => (url, environment("UPSTREAM_TOKEN")?),
        None => own_server("tbm-a-token-of-alices-own").await?,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let guard = Guard::new().allow_loopback("127.0.0.1");

    // alice has allowed the broker to act for her, and a token that is good for an hour; afterwards it would be refreshed.
    let (now, scopes) = (Clock::system().now(), Scopes::parse("health")?);
    let held = AccessToken::new(Secret::from_text(token), scopes.clone(), now, now.plus(Duration::from_secs(3600)));
    let (login, alice) = ("https://login.upstream.example", User::new(issuer.name(), "alice"));
    let grants = MemoryGrants::new();
    let key = GrantKey::new(alice, "upstream", Account::default_account());
    let grant = Grant::new(GrantId::new("alice-1"), key, login).granted(scopes.clone());
    grants.insert(grant.access_token(held))?;
    let authentication = ClientAuthentication::basic("broker", Secret::from_text("from a file".into()));
    let server = AuthorizationServer::new(login, format!("{login}/token").parse()?, authentication).scopes(scopes);
    let credentials =
        StoredGrants::new(grants, Upstream::parse("upstream", &upstream)?, server, GuardedClient::new(&guard)?)
            .connect_url(|_| "https://broker.example.com/connect/upstream".into());

    let audit = env::temp_dir().join(format!("grpc_gateway-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .grpc()
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(
            policy::writer()
                .allow(grpc("grpc.health.v1.Health", ["Check"]).with_scope("crm:read"))
                .allow(grpc("grpc.health.v1.Health", ["Watch"]).with_scope("health:watch")),
        )
        .exchange(credentials)
        .build()?;
    say(&format!("LISTENING {origin}\nAUDIT {}", audit.display()));
    for user in ["alice", "bob"] {
        let mint = Mint::for_user(user).client("example").resource(&resource).scopes(Scopes::parse("crm:read")?);
        say(&format!("TOKEN {user} {}", issuer.mint(mint)?.into_text()));
    }
    // axum's server speaks HTTP/2 by prior knowledge; tonic's would do as well.
    Ok(axum::serve(listener, Router::new().fallback_service(broker.layer(Proxy::grpc(&guard)?))).await?)
}

/// A server to stand before: it takes alice's token and no other.
async fn own_server(token: &'static str) -> Result<(String, String), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    let expected = format!("Bearer {token}");
    let door = move |request: Request<()>| match request.metadata().get("authorization") {
        Some(value) if value.as_bytes() == expected.as_bytes() => Ok(request),
        _ => Err(Status::unauthenticated("not a token of ours")),
    };
    let server = Server::builder().layer(tonic::service::InterceptorLayer::new(door)).add_service(health);
    drop(TASKS.spawn("server", server.serve_with_incoming(TcpListenerStream::new(listener))));
    Ok((url, token.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the secret's one way in, so that it stands on no command line")]
fn environment(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("set {name} to alice's token for the upstream"))
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
