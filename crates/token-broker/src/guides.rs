//! Doc tests of the guides: each block as the guide shows it, with hidden lines around it.
//! `tests/it` compares the two.
//!
//! # The first program
//! ```no_run
//! use std::{error::Error, fs, time::Duration};
//!
//! use axum::Router;
//! use token_broker_upstream::prelude::*;
//! use tower_token_broker::prelude::*;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let broker = Broker::builder().audit(JsonLines::append("audit.jsonl")?).build()?;
//!     let keys = Keys::parse(&fs::read("jwks.json")?)?;
//!     let api_key = fs::read_to_string("crm.key")?.trim_end().to_owned();
//!     let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
//!     let crm = broker
//!         .protect("https://broker.example.com/crm/mcp") // the `aud` of broker tokens
//!         .authenticate(JwtVerifier::new("https://login.example.com", keys)) // their `iss`
//!         .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read")))
//!         .exchange(StaticSecret::new(Secret::from_text(api_key), upstream))
//!         .build()?;
//!     let app = Router::new()
//!         .route_service("/crm/mcp", crm.layer(Proxy::new(&Guard::new())?))
//!         .merge(broker.metadata_router()); // public: it names the authorization server
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?; // TLS ends before
//!     let stop = async move {
//!         tokio::signal::ctrl_c().await.unwrap_or_default();
//!         if let Err(error) = broker.shutdown(Duration::from_secs(10)).await {
//!             eprintln!("{error}");
//!         }
//!     };
//!     axum::serve(listener, app).with_graceful_shutdown(stop).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Mounting
//! ```no_run
//! # use axum::Router;
//! # use token_broker_upstream::prelude::*;
//! # use tower_token_broker::prelude::*;
//! # fn app(
//! #     broker: &Broker, keys: &Keys, store: MemoryGrants, upstream: Upstream,
//! #     authorization_server: AuthorizationServer, client: GuardedClient, proxy: Proxy,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! let crm = broker
//!     .protect("https://broker.example.com/crm/mcp")
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys))
//!     .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read")))
//!     .exchange(StoredGrants::new(&broker, store, upstream, authorization_server, client))
//!     .build()?;
//! let app = Router::new()
//!     .route_service("/crm/mcp", crm.layer(proxy))
//!     .merge(broker.metadata_router());
//! # Ok(app)
//! # }
//! ```
//!
//! # Tokens it takes
//! ```no_run
//! # use std::fs;
//! # use token_broker_upstream::prelude::*;
//! # use tower_token_broker::{authenticate::jwt::RemoteKeys, prelude::*};
//! # const ISSUER: &str = "https://login.example.com";
//! # fn verifiers(broker: &Broker) -> Result<[JwtVerifier; 2], Box<dyn std::error::Error>> {
//! let from_a_file = JwtVerifier::new(ISSUER, Keys::parse(&fs::read("jwks.json")?)?);
//! let client = GuardedClient::new(&Guard::new())?;
//! let url = "https://login.example.com/jwks".parse()?;
//! let fetched = JwtVerifier::new(ISSUER, RemoteKeys::new(&broker, client, url));
//! # Ok([from_a_file, fetched])
//! # }
//! ```
//!
//! # A closure as a policy
//! ```no_run
//! # use tower_token_broker::{
//! #     prelude::*, scope_filter::{Call, Decision, Policy, policy_fn},
//! # };
//! # fn policy() -> impl Policy {
//! let kiosk = policy_fn(|caller, call| match call {
//!     Call::Tool { name, .. } if caller.client() == "kiosk" && !name.starts_with("list_") => {
//!         Decision::deny(call)
//!     }
//!     _ => Decision::allow(),
//! });
//! let policy = kiosk.and(Rules::new().allow(tools(["list_*", "get_*"])));
//! # policy
//! # }
//! ```
//!
//! # A test
//! ```no_run
//! # use tower_token_broker::{
//! #     audit::InMemory, authenticate::TestTokens, exchange::ProvideCredential, prelude::*,
//! #     scope_filter::Policy,
//! # };
//! # fn stack(
//! #     resource: Resource, policy: impl Policy, provider: impl ProvideCredential,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TestTokens::new().user("a-token", "alice", &resource);
//! let records = InMemory::new();
//! let broker = Broker::builder().audit(records.clone()).build()?;
//! let layer = broker
//!     .protect(resource.as_str())
//!     .authenticate(tokens)
//!     .scope_filter(policy)
//!     .exchange(provider)
//!     .build()?;
//! # drop((layer, records));
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
//! # use tower_token_broker::prelude::*;
//! # async fn revoke(broker: &Broker) -> Result<(), Box<dyn std::error::Error>> {
//! let alice = User::new("https://login.example.com", "alice");
//! let revoked = broker.revoke(RevocationTarget::User(alice), &Initiator::operator("olga")).await?;
//! if !revoked.was_known() {
//!     println!("no user of that name was seen here: is there a typing error?");
//! }
//! # Ok(())
//! # }
//! ```
