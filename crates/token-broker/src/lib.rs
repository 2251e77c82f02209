//! The token-broker gateway. So far: its demo, and the verification of audit files.
//!
//! The layers are in `tower-token-broker`; this crate puts them together. The gateway with its
//! configuration, its authorization server and its store comes with later releases.
//!
//! How the layers are stacked, as the README shows it:
//!
//! ```no_run
//! # use axum::Router;
//! # use token_broker_upstream::prelude::*;
//! # use tower_token_broker::prelude::*;
//! # fn app(
//! #     keys: &Keys, store: MemoryGrants, upstream: Upstream,
//! #     authorization_server: AuthorizationServer, client: GuardedClient, proxy: Proxy,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! let broker = Broker::builder().audit(JsonLines::append("audit.jsonl")?).build()?;
//! let rules = Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read"));
//! let crm = broker
//!     .protect("https://broker.example.com/crm/mcp")
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys)) // the caller
//!     .scope_filter(rules) // what the caller may do
//!     .exchange(StoredGrants::new(&broker, store, upstream, authorization_server, client))
//!     .build()?;
//! let app = Router::new()
//!     .route_service("/crm/mcp", crm.layer(proxy))
//!     .merge(broker.metadata_router()); // public: it names the authorization server
//! # Ok(app)
//! # }
//! ```

pub mod audit;
#[cfg(doctest)]
mod guides;
