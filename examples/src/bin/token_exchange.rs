//! Token exchange (RFC 8693): the broker signs an assertion about its caller and obtains an
//! upstream token of that user. No user connects an account.
//!
//! Run: cargo run --release --bin token_exchange
//!
//! It prints its address, broker tokens for alice and mallory, and later each request to the
//! authorization server. Try, with a token:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" -d '{"jsonrpc":"2.0","id":1,
//!   "method":"tools/call","params":{"name":"get_contact","arguments":{}}}'
//! ```
//! alice's first call causes one exchange, later calls none. mallory is refused: the authorization
//! server knows no such user. Its substitute here trusts each assertion; a real one verifies them
//! by the broker's JWKS. Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{collections::BTreeMap, env, error::Error, sync::Arc};

use axum::{Form, Json, Router, routing::post};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Value, json};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{server, upstream::Contacts};
use token_broker_upstream::{Assertion, SignError, prelude::*};
use tokio::net::TcpListener;
use tower_token_broker::{prelude::*, tasks::Tasks};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = Contacts::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Arc::new(Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?));
    let guard = Guard::new().allow_loopback("127.0.0.1");
    let audit = env::temp_dir().join(format!("token_exchange-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;

    let signer = Arc::clone(&issuer);
    let sign = move |claims: &str| signer.sign_jwt(claims).map_err(|_| SignError);
    let client = ClientAuthentication::basic("broker", Secret::from_text("from a file".into()));
    let endpoint = token_endpoint(&crm).await?.parse()?;
    let server = AuthorizationServer::new("https://login.crm.example", endpoint, client)
        .scopes(Scopes::parse("contacts:read")?)
        .resource(&crm.mcp_url());
    let exchange = TokenExchange::new(
        &broker,
        Assertion::of_caller(&origin, sign),
        Upstream::parse("crm", &crm.mcp_url())?,
        server,
        GuardedClient::new(&guard)?,
    );
    let layer = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["get_*", "list_*", "watch_*"])))
        .exchange(exchange)
        .build()?;

    println!("LISTENING {resource}\nAUDIT {}", audit.display());
    for user in ["alice", "mallory"] {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        println!("TOKEN {user} {}", issuer.mint(mint)?.into_text());
    }
    let router = Router::new().route_service("/mcp", layer.layer(Proxy::new(&guard)?));
    Ok(server::serve(&broker, listener, router).await?)
}

/// Starts the substitute for the authorization server, and returns the URL of its token endpoint.
async fn token_endpoint(crm: &Contacts) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let crm = crm.clone();
    let token = async move |Form(form): Form<BTreeMap<String, String>>| {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (assertion, scope) = (of("subject_token"), of("scope"));
        let claims = assertion.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = String::from_utf8(claims.unwrap_or_default()).unwrap_or_default();
        let claims = claims.parse::<Value>().unwrap_or_default();
        let user = claims.get("sub").cloned().unwrap_or_default();
        println!("REQUEST for {user}, scope {scope}, resource {}", of("resource"));
        if user != "alice" {
            return (StatusCode::BAD_REQUEST, Json(json!({"error": "access_denied"})));
        }
        let response = json!({
            "access_token": crm.issue_token(), "token_type": "Bearer",
            "expires_in": 600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"
        });
        (StatusCode::OK, Json(response))
    };
    let serving = axum::serve(listener, Router::new().route("/token", post(token)));
    drop(Tasks::new().spawn("token endpoint", async move { serving.await }));
    Ok(url)
}
