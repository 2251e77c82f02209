//! Credentials of your own: a vault with a key for each user, and a new one when the upstream refuses the old.
//!
//! Run: cargo run --release --bin your_own_credentials
//!
//! It prints where it listens and broker tokens for alice (who has a key) and bob (who has none). Try, with a token:
//! ```sh
//! curl -s ADDRESS/mcp -H "authorization: Bearer TOKEN" -H "content-type: application/json" \
//!   -H "accept: application/json, text/event-stream" \
//!   -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_contact","arguments":{}}}'
//! ```
//! alice's first key is stale: the upstream refuses it once, the vault rotates it, the same call goes through. bob is refused: he must connect first.

use std::{collections::BTreeMap, env, error::Error, sync::LazyLock};

use axum::{Router, routing::any_service};
use parking_lot::Mutex;
use token_broker::demo::upstream;
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_outbound::{Guard, Proxy};
use tokio::net::TcpListener;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::{JsonLines, Trail},
    authenticate::JwtVerifier,
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{GrantId, Principal, Resource, Scopes},
    scope_filter::{Rules, tools},
    tasks::Tasks,
};

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);

/// One key a user, with its version: what is refused is that version, and no later one.
struct Vault {
    upstream: Upstream,
    /// Where new keys come from.
    issuer: upstream::Upstream,
    keys: Mutex<BTreeMap<String, (u64, String)>>,
}

impl ProvideCredential for Vault {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, caller: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
        let (version, key) =
            self.keys.lock().get(caller.subject()).cloned().ok_or(CredentialError::ConnectRequired {
                connect_url: Some("https://broker.example.com/connect".into()),
            })?;
        let credential = Credential::vouch(Secret::from_text(key), self.upstream.origin().clone());
        Ok(credential.from_grant(GrantId::new(caller.subject()), version))
    }

    async fn refused(&self, credential: &Credential) {
        let Some((user, version)) = credential.grant() else { return };
        // A hundred refusals of one version are one rotation.
        if let Some(held) = self.keys.lock().get_mut(user.as_str()).filter(|held| held.0 == version) {
            *held = (version + 1, self.issuer.raw_access_token("contacts:read"));
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crm = upstream::Upstream::start("crm", &TASKS).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/mcp"))?;
    let issuer = Issuer::new(&origin, SigningKeys::generate(Algorithm::Es256)?);

    let vault = Vault {
        upstream: Upstream::parse("crm", &crm.mcp_url())?,
        issuer: crm,
        keys: Mutex::new(BTreeMap::from([("alice".to_owned(), (1, "a-key-that-is-no-longer-good".to_owned()))])),
    };
    let audit = env::temp_dir().join(format!("your_own_credentials-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(&origin, issuer.keys()))
        .scope_filter(Rules::new().allow(tools(["get_*", "list_*"])))
        .exchange(vault)
        .build()?;
    let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?;

    say(&format!("LISTENING {resource}"));
    for user in ["alice", "bob"] {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        say(&format!("TOKEN {user} {}", issuer.mint(mint)?.into_text()));
    }
    Ok(axum::serve(listener, Router::new().route("/mcp", any_service(proxy)).layer(broker)).await?)
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
