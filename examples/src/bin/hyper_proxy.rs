//! The broker in front of an MCP server that exists already: hyper, the four layers, and the proxy, streamed both ways.
//!
//! Run:   UPSTREAM_TOKEN=the-servers-token cargo run --release --bin hyper_proxy -- --upstream http://127.0.0.1:3400/mcp
//! Alone: cargo run --release --bin hyper_proxy          (starts an MCP server of its own to stand before)
//!
//! It prints where it listens and a broker token. Try, with those two:
//! ```sh
//! curl -s URL -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//! ```
//! Tools named `list_*`, `get_*`, `count_*` and `watch_*` are there; `delete_*` is neither listed nor called (-32602). Without the token: 401.

use std::{env, error::Error, sync::LazyLock};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use token_broker::demo::upstream::Upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};
use tower_token_broker::{
    BrokerStack, Secret,
    audit::JsonLines,
    authenticate::JwtVerifier,
    exchange,
    principal::{Resource, Scopes},
    scope_filter::{Rules, methods, prompts, resources, tools},
    tasks::Tasks,
};

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let option = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    let (upstream, secret) = match option("--upstream") {
        Some(url) => (url, environment("UPSTREAM_TOKEN")?),
        None => {
            let own = Upstream::start("contacts", &TASKS).await?;
            (own.mcp_url(), own.raw_access_token("contacts:read"))
        }
    };

    let listener = TcpListener::bind(option("--listen").as_deref().unwrap_or("127.0.0.1:0")).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);
    let token = issuer
        .mint(Mint::for_user("alice").client("example").resource(&resource).scopes(Scopes::parse("items:read")?))?;

    let guard = Guard::new().allow_loopback("127.0.0.1");
    let audit = env::temp_dir().join(format!("hyper_proxy-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(
            Rules::new()
                .allow(tools(["list_*", "get_*", "count_*", "watch_*"]).with_scope("items:read"))
                .allow(prompts(["*"]))
                .allow(resources(["*"]))
                .allow(methods(["logging/setLevel"])),
        )
        .exchange(StaticSecret::new(Secret::from_text(secret), exchange::Upstream::parse("items", &upstream)?))
        .build()?;
    let service = broker.layer(Proxy::new(&guard)?);

    say(&format!("LISTENING {resource}\nTOKEN {}\nAUDIT {}", token.into_text(), audit.display()));
    loop {
        let (socket, peer) = listener.accept().await?;
        // The audit names who called from where.
        let from_peer = move |mut request: http::Request<_>| {
            request.extensions_mut().insert(peer);
            request
        };
        let service = TowerToHyperService::new(service.clone().map_request(from_peer));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        drop(TASKS.spawn("connection", connection));
    }
}

#[expect(clippy::disallowed_methods, reason = "the secret's one way in, so that it stands on no command line")]
fn environment(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("set {name} to the token that the upstream wants"))
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
