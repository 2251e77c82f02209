//! Token exchange: the broker signs for whom it asks, and gets each user's own upstream token (RFC 8693). Nobody connects an account.
//!
//! Run: cargo run --release --bin token_exchange
//!
//! It prints where it listens and broker tokens for alice and mallory; then, for each exchange, what the authorization server was asked. Try, with a token:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" \
//!   -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_contact","arguments":{}}}'
//! ```
//! alice's first call is one exchange, the next ones none. mallory is refused: the authorization server knows no such user. Its stand-in here
//! believes whoever it hears; a real one verifies the assertion by the broker's JWKS.

use std::{collections::BTreeMap, env, error::Error, sync::Arc, sync::LazyLock};

use axum::{
    Form, Json, Router,
    routing::{any_service, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Value, json};
use token_broker::demo::upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, GuardedClient, Proxy};
use token_broker_upstream::{Assertion, AuthorizationServer, ClientAuthentication, SignError, TokenExchange};
use tokio::net::TcpListener;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::JsonLines,
    authenticate::JwtVerifier,
    exchange::Upstream,
    principal::{Resource, Scopes},
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = Arc::new(upstream::Upstream::start("crm", &TASKS).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Arc::new(Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?));
    let guard = Guard::new().allow_loopback("127.0.0.1");

    let signer = Arc::clone(&issuer);
    let sign = move |claims: &str| signer.sign_jwt(claims).map_err(|_| SignError);
    let client = ClientAuthentication::basic("broker", Secret::from_text("from a file".into()));
    let server = AuthorizationServer::new("https://login.crm.example", token_endpoint(&crm).await?.parse()?, client)
        .scopes(Scopes::parse("contacts:read")?)
        .resource(&crm.mcp_url());
    let exchange = TokenExchange::new(
        Assertion::of_caller(&origin, sign),
        Upstream::parse("crm", &crm.mcp_url())?,
        server,
        GuardedClient::new(&guard)?,
    );
    let audit = env::temp_dir().join(format!("token_exchange-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["get_*", "list_*"])))
        .exchange(exchange)
        .build()?;

    say(&format!("LISTENING {resource}\nAUDIT {}", audit.display()));
    for user in ["alice", "mallory"] {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        say(&format!("TOKEN {user} {}", issuer.mint(mint)?.into_text()));
    }
    let proxy = Proxy::new(&guard)?;
    Ok(axum::serve(listener, Router::new().route("/mcp", any_service(proxy)).layer(broker)).await?)
}

/// The stand-in's URL.
async fn token_endpoint(crm: &Arc<upstream::Upstream>) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let crm = Arc::clone(crm);
    let token = async move |Form(form): Form<BTreeMap<String, String>>| {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        let claims = of("subject_token").split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims = String::from_utf8(claims.unwrap_or_default()).unwrap_or_default();
        let user = claims.parse::<Value>().ok().and_then(|claims| claims.get("sub").cloned()).unwrap_or_default();
        say(&format!("ASKED for {user}, scope {}, resource {}", of("scope"), of("resource")));
        if user != "alice" {
            return (StatusCode::BAD_REQUEST, Json(json!({"error": "access_denied"})));
        }
        let answer = json!({
            "access_token": crm.raw_access_token(&of("scope")), "token_type": "Bearer", "expires_in": 600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"
        });
        (StatusCode::OK, Json(answer))
    };
    let serving = axum::serve(listener, Router::new().route("/token", post(token)));
    drop(TASKS.spawn("token endpoint", async move { serving.await }));
    Ok(url)
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
