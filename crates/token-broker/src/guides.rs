//! What the guides show, for doc tests: each block as it stands there, with hidden lines around it. `tests/it` compares the two.
//!
//! # The first program
//! ```no_run
//! use std::{error::Error, fs, time::Duration};
//!
//! use axum::{Router, routing::any_service};
//! use token_broker_outbound::{Guard, Proxy};
//! use token_broker_upstream::StaticSecret;
//! use tower_token_broker::{
//!     BrokerStack, Secret,
//!     audit::{AuditLog, JsonLines},
//!     authenticate::{JwtVerifier, jwt::Keys}, resource_metadata::ProtectedResourceMetadata,
//!     clock::Clock,
//!     exchange::Upstream,
//!     principal::{Resource, Scopes},
//!     revocation::Revocations,
//!     scope_filter::{Rules, tools},
//! };
//!
//! const RESOURCE: &str = "https://broker.example.com/crm/mcp"; // what broker tokens have as `aud`
//! const ISSUER: &str = "https://login.example.com"; // and as `iss`
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let mut key = fs::read_to_string("crm.key")?;
//!     key.truncate(key.trim_end().len()); // the line break at the file's end is no part of the secret
//!     let crm = StaticSecret::new(Secret::from_text(key), Upstream::parse("crm", "https://mcp.crm.example/mcp")?);
//!     let audit = AuditLog::from(JsonLines::append("audit.jsonl")?);
//!     let revocations = Revocations::new(Clock::system()); // keep a clone where you revoke
//!     let broker = BrokerStack::for_resource(RESOURCE)
//!         .revocations(revocations.clone())
//!         .audit(audit.clone())
//!         .authenticate(JwtVerifier::new(ISSUER, Keys::parse(&fs::read("jwks.json")?)?))
//!         .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read")))
//!         .exchange(crm)
//!         .build()?;
//!     let metadata = ProtectedResourceMetadata::new()
//!         .resource(&Resource::parse(RESOURCE)?, [ISSUER], &Scopes::parse("crm:read")?, None)?;
//!     let app = Router::new()
//!         .route("/crm/mcp", any_service(Proxy::new(&Guard::new())?))
//!         .layer(broker)
//!         .route_service("/.well-known/oauth-protected-resource/{*path}", metadata);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?; // behind what ends TLS
//!     let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//!     axum::serve(listener, app).with_graceful_shutdown(stop).await?;
//!     audit.close(Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Mounting
//! ```no_run
//! # use axum::{Router, routing::any_service};
//! # use token_broker_outbound::{GuardedClient, Proxy};
//! # use token_broker_store::MemoryGrants;
//! # use token_broker_upstream::{AuthorizationServer, StoredGrants};
//! # use tower_token_broker::{
//! #     BrokerStack, audit::JsonLines, authenticate::{JwtVerifier, jwt::Keys}, exchange::Upstream,
//! #     resource_metadata::ProtectedResourceMetadata,
//! #     revocation::Revocations, scope_filter::{Rules, tools},
//! # };
//! # fn app(
//! #     keys: &Keys, store: MemoryGrants, upstream: Upstream, authorization_server: AuthorizationServer, client: GuardedClient, proxy: Proxy,
//! #     revocations: &Revocations, metadata: ProtectedResourceMetadata,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
//!     .revocations(revocations.clone())
//!     .audit(JsonLines::append("audit.jsonl")?)
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys))
//!     .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read")))
//!     .exchange(StoredGrants::new(store, upstream, authorization_server, client))
//!     .build()?;
//! let app = Router::new()
//!     .route("/crm/mcp", any_service(proxy))
//!     .layer(broker)
//!     .route_service("/.well-known/oauth-protected-resource/{*path}", metadata);
//! # Ok(app)
//! # }
//! ```
//!
//! # Tokens it takes
//! ```no_run
//! # use std::fs;
//! # use token_broker_outbound::{Guard, GuardedClient};
//! # use tower_token_broker::{authenticate::{JwtVerifier, jwt::{Keys, RemoteKeys}}, tasks::Tasks};
//! # const ISSUER: &str = "https://login.example.com";
//! # fn verifiers() -> Result<[JwtVerifier; 2], Box<dyn std::error::Error>> {
//! let from_a_file = JwtVerifier::new(ISSUER, Keys::parse(&fs::read("jwks.json")?)?);
//! let client = GuardedClient::new(&Guard::new())?;
//! let fetched = JwtVerifier::new(ISSUER, RemoteKeys::new(client, "https://login.example.com/jwks".parse()?, &Tasks::new()));
//! # Ok([from_a_file, fetched])
//! # }
//! ```
//!
//! # A closure as a policy
//! ```no_run
//! # use tower_token_broker::{principal::Principal, scope_filter::{Call, Decision, Policy, PolicyExt as _, Rules, tools}};
//! # fn policy() -> impl Policy {
//! let kiosk = |caller: &Principal, call: &Call<'_>| match call {
//!     Call::Tool { name, .. } if caller.client() == "kiosk" && !name.starts_with("list_") => Decision::deny(call),
//!     _ => Decision::allow(),
//! };
//! let policy = kiosk.and(Rules::new().allow(tools(["list_*", "get_*"])));
//! # policy
//! # }
//! ```
//!
//! # A test
//! ```no_run
//! # use tower_token_broker::{
//! #     BrokerStack, audit::AuditLog, authenticate::TestTokens, exchange::ProvideCredential, principal::{Resource, Scopes}, scope_filter::Policy,
//! # };
//! # const RESOURCE: &str = "https://broker.example.com/crm/mcp";
//! # fn stack(resource: Resource, policy: impl Policy, provider: impl ProvideCredential) -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TestTokens::new().user_with_scopes("a-token", "alice", &resource, Scopes::parse("crm:read")?);
//! let (log, records) = AuditLog::in_memory();
//! let stack = BrokerStack::for_resource(RESOURCE).audit(log).authenticate(tokens).scope_filter(policy).exchange(provider).build()?;
//! # drop((stack, records));
//! # Ok(())
//! # }
//! ```
//!
//! # Grants
//! ```no_run
//! # use token_broker_store::{Account, Grant, GrantKey, GrantStore as _, MemoryGrants};
//! # use tower_token_broker::{Secret, principal::GrantId, principal::{User, Scopes}};
//! # async fn connected(refresh_token: Secret) -> Result<(), Box<dyn std::error::Error>> {
//! let (store, id) = (MemoryGrants::new(), GrantId::new("7c1f")); // a new id for each grant
//! let alice = User::new("https://login.example.com", "alice"); // `iss` and `sub` of her broker token
//! let key = GrantKey::new(alice, "crm", Account::default_account()); // one grant for each key
//! let grant = Grant::new(id, key, "https://login.crm.example").granted(Scopes::parse("crm:read")?);
//! store.put(grant.refresh_token(refresh_token)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A revoke
//! ```no_run
//! # use tower_token_broker::{audit::AuditLog, principal::User, revocation::{Revocations, RevocationTarget}};
//! # async fn revoke(revocations: Revocations, audit: AuditLog) -> Result<(), Box<dyn std::error::Error>> {
//! let what = RevocationTarget::User(User::new("https://login.example.com", "alice"));
//! revocations.revoke(what.clone());
//! audit.note_revoked(&what).await?;
//! # Ok(())
//! # }
//! ```
