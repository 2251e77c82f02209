//! Your own credential source: a vault with a key for each user, which is rotated when the upstream
//! refuses it.
//!
//! Run: cargo run --release --bin your_own_credentials
//!
//! It prints its address and broker tokens for alice (who has a key) and bob (who has none). Try,
//! with a token:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" -d '{"jsonrpc":"2.0","id":1,
//!   "method":"tools/call","params":{"name":"get_contact","arguments":{}}}'
//! ```
//! alice's first key is stale: the upstream refuses it once, the vault rotates it, and the same
//! call passes. bob is refused: he must connect an account first. Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{collections::BTreeMap, env, error::Error};

use axum::Router;
use parking_lot::Mutex;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{server, upstream::Contacts};
use token_broker_outbound::{Guard, Proxy};
use tokio::net::TcpListener;
use tower_token_broker::{
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, UpstreamRefusal,
    },
    prelude::*,
    principal::GrantId,
};

/// One key for each user, with its version. A refusal concerns that version, and no later one.
struct Vault {
    upstream: Upstream,
    /// Issues new keys.
    issuer: Contacts,
    keys: Mutex<BTreeMap<String, (u64, String)>>,
}

impl Vault {
    fn credential_of(&self, caller: &Principal) -> Option<Credential> {
        let (version, key) = self.keys.lock().get(caller.subject()).cloned()?;
        let credential = Credential::vouch(Secret::from_text(key), self.upstream.origin().clone());
        Some(credential.from_grant(GrantId::new(caller.subject()), version))
    }
}

impl ProvideCredential for Vault {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The keys are in memory, so no request waits for one.
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.credential_of(request.caller)
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.credential_of(request.caller).ok_or(CredentialError::ConnectRequired)
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        let Some((user, version)) = refusal.credential.grant() else { return };
        // A hundred refusals of one version cause one rotation.
        let mut keys = self.keys.lock();
        if let Some(held) = keys.get_mut(user.as_str()).filter(|held| held.0 == version) {
            *held = (version + 1, self.issuer.issue_token());
        }
    }

    fn connect_url(&self, _: &Principal) -> Option<Box<str>> {
        Some("https://broker.example.com/connect".into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = Contacts::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);

    let stale = (1, "a-key-that-the-upstream-refuses".to_owned());
    let vault = Vault {
        upstream: Upstream::parse("crm", &crm.mcp_url())?,
        issuer: crm,
        keys: Mutex::new(BTreeMap::from([("alice".to_owned(), stale)])),
    };
    let audit = env::temp_dir().join(format!("your_own_credentials-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;
    let layer = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["get_*", "list_*", "watch_*"])))
        .exchange(vault)
        .build()?;
    let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?;

    println!("LISTENING {resource}\nAUDIT {}", audit.display());
    for user in ["alice", "bob"] {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        println!("TOKEN {user} {}", issuer.mint(mint)?.into_text());
    }
    let router = Router::new().route_service("/mcp", layer.layer(proxy));
    Ok(server::serve(&broker, listener, router).await?)
}
