//! The broker in front of an existing gRPC server that takes each user's own OAuth token: the stack
//! and the proxy, streamed both ways.
//!
//! Run:   UPSTREAM_TOKEN=alices-token cargo run --release --bin grpc_gateway -- \
//!            --upstream http://127.0.0.1:50051
//! Run it: cargo run --release --bin grpc_gateway          (starts a health service of its own)
//!
//! It prints its address and broker tokens of alice (whose account is connected) and bob (who must
//! connect his first), and last a token of alice that may watch. Try, with those:
//! ```sh
//! grpcurl -plaintext -import-path . -proto health.proto -H "authorization: Bearer TOKEN" \
//!   ADDRESS grpc.health.v1.Health/Check
//! ```
//! `Check` passes. `Watch` needs the scope `health:watch` (status 7 names it). Every other method
//! is refused with status 7. MCP services are judged by their messages: `list_*` and `get_*` pass,
//! `create_*` needs `crm:write`. Without a token: 16. bob: 9, with the page where he connects.
//! Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{env, error::Error};

use axum::Router;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{grants, policy, server};
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, transport::Server};
use tower_token_broker::{limits::GrpcOptions, prelude::*, scope_filter::grpc, tasks::Tasks};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().skip_while(|argument| argument != "--upstream").nth(1);
    let (url, token) = match url {
        Some(url) => (url, environment("UPSTREAM_TOKEN")?),
        None => own_server("tbm-a-token-of-alices-own").await?,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let guard = Guard::new().allow_loopback("127.0.0.1");
    let audit = env::temp_dir().join(format!("grpc_gateway-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;

    let upstream = Upstream::parse("upstream", &url)?;
    let credentials = grants::of_alice(&broker, issuer.name(), token, upstream, &guard)?;
    let layer = broker
        .protect(resource.as_str())
        .protocol(Protocol::Grpc(GrpcOptions::default()))
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(
            policy::writer()
                .allow(grpc("grpc.health.v1.Health", ["Check"]).with_scope("crm:read"))
                .allow(grpc("grpc.health.v1.Health", ["Watch"]).with_scope("health:watch")),
        )
        .exchange(credentials)
        .build()?;
    println!("LISTENING {origin}\nAUDIT {}", audit.display());
    for (line, user, scopes) in [
        ("TOKEN alice", "alice", "crm:read"),
        ("TOKEN bob", "bob", "crm:read"),
        ("WATCHES", "alice", "crm:read health:watch"),
    ] {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        println!("{line} {}", issuer.mint(mint.scopes(Scopes::parse(scopes)?))?.into_text());
    }
    // A method is a path. This server speaks HTTP/2 by prior knowledge; tonic's would do as well.
    let router = Router::new().route_service("/{*method}", layer.layer(Proxy::grpc(&guard)?));
    Ok(server::serve(&broker, listener, router).await?)
}

/// Starts a health service that accepts alice's token and no other.
async fn own_server(token: &'static str) -> Result<(String, String), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (_, health) = tonic_health::server::health_reporter();
    let expected = format!("Bearer {token}");
    let check = move |request: Request<()>| match request.metadata().get("authorization") {
        Some(value) if value.as_bytes() == expected.as_bytes() => Ok(request),
        _ => Err(Status::unauthenticated("not a token of this server")),
    };
    let server = Server::builder()
        .layer(tonic::service::InterceptorLayer::new(check))
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(listener));
    drop(Tasks::new().spawn("server", server));
    Ok((url, token.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "secrets do not belong on the command line")]
fn environment(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("set {name} to alice's token for the upstream"))
}
