//! Tower layers that keep upstream OAuth tokens away from MCP clients.
//!
//! A client holds a *broker token*, which is only valid for calls to this broker. Four layers
//! around any Tower service verify the token and remove it, judge each MCP message by your policy,
//! add the caller's real upstream credential, and record every use of it. The upstream token never
//! leaves the broker.
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
//! #     proxy: BoxCloneSyncService<
//! #         http::Request<RequestBody<Body>>,
//! #         http::Response<Body>,
//! #         std::convert::Infallible,
//! #     >,
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
//!     .route_service("/crm/mcp", crm.layer(proxy)) // not `Router::layer`: see "Mounting"
//!     .merge(broker.metadata_router()); // RFC 9728, public
//! # Ok(app)
//! # }
//! # }
//! ```
//!
//! Calls that no rule allows are denied. Requests that cannot be read, recorded or verified are
//! refused.
//!
//! # Where to go next
//! - [`Broker`]: one per process. It owns the state that all stacks share, revokes, serves the
//!   metadata, and shuts down.
//! - [`stack::BrokerStack`]: the four layers in their only valid order. Each is also a layer of its
//!   own: [`audit::AuditLayer`], [`authenticate::AuthenticateLayer`],
//!   [`scope_filter::ScopeFilterLayer`], [`exchange::ExchangeLayer`].
//! - The traits that you may implement: [`authenticate::VerifyToken`], [`scope_filter::Policy`],
//!   [`exchange::ProvideCredential`], [`audit::AuditSink`], [`revocation::RevocationStore`].
//! - [`refusal::Reason`]: the reasons why a request is refused. [`refusal::Refused`]: its mark on a
//!   response. [`dialect`]: its form on the wire.
//!
//! # Mounting
//! Put the stack around the proxy, and the result onto its route: `route_service(path,
//! layer.layer(proxy))`.
//!
//! - axum's `Router::layer` and `merge` include the application's fallback, and `route_layer` does
//!   not see paths without a route. A stack refuses a path that is not its resource's with 404,
//!   before it reads the token.
//! - Behind a proxy that removes a prefix, set the path with
//!   [`mounted_at`](stack::BrokerStack::mounted_at). axum's `nest` needs no setting.
//! - `Router::layer` runs layers bottom to top, `ServiceBuilder` top to bottom. A
//!   [`stack::BrokerLayer`] is one layer, so the order inside it is fixed.
//! - The metadata under `/.well-known` is mounted outside of the stack.
//! - Compression belongs outside of the stack, because compressed bodies cannot be filtered.
//! - Inner services receive `Request<RequestBody<B>>`. Middleware that is written only for axum's
//!   body needs `AxumBodyLayer` (feature `axum`) before it.
//!
//! # Features
//! - `jwt` (default): broker tokens as JWTs.
//! - `grpc`: stacks around gRPC services ([`protocol`](stack::BrokerStack::protocol), module
//!   `grpc`).
//! - `axum`: extractors for handlers, the routes of the metadata, the peer and URI that axum
//!   recorded, and a body conversion for its middleware.
//! - `test-util`: helpers for your tests (module `test_util`).

pub mod alarm;
pub mod audit;
pub mod authenticate;
#[cfg(feature = "axum")]
pub mod axum_body;
#[cfg(feature = "axum")]
pub mod axum_extract;
pub mod bad_value;
pub mod body;
pub mod cause;
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
pub mod upload;

mod folding;
mod hex;
mod media_type;
mod percent;
mod secret;

pub use secret::Secret;
pub use stack::Broker;
