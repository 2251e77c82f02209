//! The token-broker gateway. So far: its demo, and the verification of audit files.
//!
//! The layers are in `tower-token-broker`; this crate puts them together. The gateway with its configuration, its
//! authorization server and its store comes with later releases.
//!
//! How the layers are stacked, as the README shows it:
//!
//! ```no_run
//! # use axum::{Router, routing::any_service};
//! # use token_broker_outbound::{GuardedClient, Proxy};
//! # use token_broker_store::MemoryGrants;
//! # use token_broker_upstream::{AuthorizationServer, StoredGrants};
//! # use tower_token_broker::{
//! #     BrokerStack, audit::JsonLines, authenticate::{JwtVerifier, jwt::Keys}, resource_metadata::ProtectedResourceMetadata, exchange::Upstream,
//! #     revocation::Revocations, scope_filter::{Rules, tools},
//! # };
//! # fn app(
//! #     keys: &Keys, store: MemoryGrants, upstream: Upstream, authorization_server: AuthorizationServer, client: GuardedClient, proxy: Proxy,
//! #     revocations: &Revocations, metadata: ProtectedResourceMetadata,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
//!     .revocations(revocations.clone())                                    // without it, nothing can be revoked
//!     .audit(JsonLines::append("audit.jsonl")?)                            // outermost: refusals are seen too
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys))  // who is calling
//!     .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read"))) // may they call this
//!     .exchange(StoredGrants::new(store, upstream, authorization_server, client))          // with whose credential
//!     .build()?;
//! let app = Router::new().route("/crm/mcp", any_service(proxy)).layer(broker)
//!     .route_service("/.well-known/oauth-protected-resource/{*path}", metadata);           // outside: asked without a token
//! # Ok(app)
//! # }
//! ```

pub mod audit;
pub mod demo;
#[cfg(doctest)]
mod guides;
