//! Tower layers that keep upstream OAuth tokens away from MCP clients.
//!
//! A client holds a *broker token*, which is good for tool calls here and for nothing else. Four
//! layers around any Tower service verify it and take it off the request, judge each MCP message by
//! your policy, put in the caller's real upstream credential, and record every use of it. The
//! upstream token never leaves.
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # mod example {
//! # use axum::{Router, body::Body};
//! # use tower::util::BoxCloneSyncService;
//! use tower_token_broker::prelude::*;
//! # use tower_token_broker::{body::RequestBody, exchange::ProvideCredential};
//!
//! # fn app(
//! #     keys: Keys,
//! #     grants: impl ProvideCredential,
//! #     proxy: BoxCloneSyncService<http::Request<RequestBody<Body>>, http::Response<Body>, std::convert::Infallible>,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("audit.jsonl");
//! let broker = Broker::builder().audit(JsonLines::append(path)?).build()?;
//! let rules = Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read"));
//! let crm = broker
//!     .protect("https://broker.example.com/crm/mcp")
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys)) // who is calling
//!     .scope_filter(rules) // what they may call
//!     .exchange(grants) // with which credential
//!     .build()?;
//! let app = Router::new()
//!     .route_service("/crm/mcp", crm.layer(proxy)) // one route; `Router::layer` would take the fallback along
//!     .merge(broker.metadata_router()); // RFC 9728, public
//! # Ok(app)
//! # }
//! # }
//! ```
//!
//! What no rule allows is denied; what can't be read, recorded or verified is refused.
//!
//! # Where to go next
//! - [`Broker`]: one per deployment. It owns what all stacks share, revokes, serves the metadata,
//!   and shuts down.
//! - [`stack::BrokerStack`]: the four layers in their only right order. Each is a layer of its own,
//!   too: [`audit::AuditLayer`], [`authenticate::AuthenticateLayer`],
//!   [`scope_filter::ScopeFilterLayer`], [`exchange::ExchangeLayer`].
//! - The traits that you may implement: [`authenticate::VerifyToken`], [`scope_filter::Policy`],
//!   [`exchange::ProvideCredential`], [`audit::AuditSink`], [`revocation::RevocationStore`].
//! - [`refusal::Reason`]: why a request is not let through, [`refusal::Refused`]: its mark on a
//!   response, and [`dialect`]: how that is said.
//!
//! # Mounting
//! Put the stack around the proxy and the result onto its route: `route_service(path,
//! layer.layer(proxy))`. axum's `Router::layer` and `merge` take the application's fallback along,
//! and `route_layer` does not see paths that match no route: a stack that meets a path which is not
//! its resource's refuses it with 404 before it looks at the token. Behind a proxy that takes a
//! prefix off, say where the stack is mounted ([`mounted_at`](stack::BrokerStack::mounted_at));
//! axum's `nest` needs nothing. `Router::layer` runs the layers bottom to top, `ServiceBuilder` top
//! to bottom; a [`stack::BrokerLayer`] is one layer, so its own order is fixed. The metadata under
//! `/.well-known` stands outside. Compression belongs outside of ours: what is compressed can't be
//! filtered. Inside, a service gets `Request<RequestBody<B>>`; middleware that is written for
//! axum's body alone needs `axum_body` (feature `axum`) before it.
//!
//! # Features
//! `jwt` (default): broker tokens as JWT. `grpc`: the stack around gRPC services
//! ([`protocol`](stack::BrokerStack::protocol), module `grpc`). `axum`: extractors for handlers,
//! the routes of the metadata, the peer and URI that axum recorded, and a body map for its own
//! middleware. `test-util`: what your tests need (module `test_util`).

pub mod alarm;
pub mod audit;
pub mod authenticate;
#[cfg(feature = "axum")]
pub mod axum_body;
#[cfg(feature = "axum")]
pub mod axum_extract;
pub mod bad_value;
pub mod body;
pub mod clock;
pub mod dialect;
pub mod exchange;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod header_rules;
pub mod inbound;
pub mod json;
pub mod limits;
pub mod mcp;
pub mod prelude;
pub mod principal;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod readers;
pub mod refusal;
pub mod request_id;
pub mod resource_metadata;
pub mod revocation;
pub mod scope_filter;
pub mod sealing;
pub mod stack;
pub mod tasks;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;

mod hex;
mod media_type;
mod percent;
mod secret;

pub use secret::Secret;
pub use stack::Broker;
