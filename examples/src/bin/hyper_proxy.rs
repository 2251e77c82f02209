//! The broker in front of an existing MCP server: hyper, the four layers, and the proxy, streamed
//! both ways.
//!
//! Run:   UPSTREAM_TOKEN=the-servers-token cargo run --release --bin hyper_proxy -- \
//!            --upstream http://127.0.0.1:3400/mcp
//! Run it: cargo run --release --bin hyper_proxy          (starts an MCP server of its own)
//!
//! It prints its address and a broker token. Try, with those two:
//! ```sh
//! curl -s URL -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" \
//!   -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//! ```
//! Tools named `list_*`, `get_*`, `count_*` and `watch_*` pass. Refused: `delete_*`, which is
//! neither listed nor called (-32602); any request without the token (401); another path (404).
//! Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{env, error::Error};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{server::HEADER_TIMEOUT, shutdown, upstream::Contacts};
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_token_broker::{prelude::*, tasks::Tasks};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let option =
        |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    let (url, secret) = match option("--upstream") {
        Some(url) => (url, environment("UPSTREAM_TOKEN")?),
        None => {
            let own = Contacts::start().await?;
            (own.mcp_url(), own.issue_token())
        }
    };

    let listener =
        TcpListener::bind(option("--listen").as_deref().unwrap_or("127.0.0.1:0")).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let mint = Mint::for_user("alice").client("example").resource(&resource);
    let token = issuer.mint(mint.scopes(Scopes::parse("items:read")?))?;

    let audit = env::temp_dir().join(format!("hyper_proxy-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;
    let rules = Rules::new()
        .allow(tools(["list_*", "get_*", "count_*", "watch_*"]).with_scope("items:read"))
        .allow(prompts(["*"]))
        .allow(resources(["*"]))
        .allow(methods(["logging/setLevel"]));
    let items = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(rules)
        .exchange(StaticSecret::new(Secret::from_text(secret), Upstream::parse("items", &url)?)?)
        .build()?;
    let service = items.layer(Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?);

    println!("LISTENING {resource}\nTOKEN {}\nAUDIT {}", token.into_text(), audit.display());
    let (connections, tasks) = (GracefulShutdown::new(), Tasks::new());
    let server = async {
        loop {
            let (socket, peer) = tokio::select! {
                // Either may be dropped: a client retries a connection that is not accepted.
                accepted = listener.accept() => accepted?,
                () = shutdown::signal() => break,
            };
            // The audit log records the address of the peer.
            let from_peer = move |mut request: http::Request<_>| {
                request.extensions_mut().insert(peer);
                request
            };
            let service = TowerToHyperService::new(service.clone().map_request(from_peer));
            let connection = http1::Builder::new()
                // A client that sends half of its headers is disconnected.
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            drop(tasks.spawn("connection", connections.watch(connection)));
        }
        connections.shutdown().await;
        Ok(())
    };
    Ok(shutdown::serve(&broker, server).await?)
}

#[expect(clippy::disallowed_methods, reason = "secrets do not belong on the command line")]
fn environment(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("set {name} to the token that the upstream accepts"))
}
