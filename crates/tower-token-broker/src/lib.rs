//! Tower layers that keep upstream OAuth tokens away from MCP clients.
//!
//! A client holds a *broker token*, which is good for tool calls here and for nothing else. Four layers around any Tower
//! service verify it and take it off the request, judge each MCP message by your policy, put in the caller's real upstream
//! credential, and record every use of it. The upstream token never leaves.
//!
//! ```
//! use axum::{Router, routing::any_service};
//! use tower_token_broker::{
//!     BrokerStack,
//!     audit::JsonLines,
//!     authenticate::JwtVerifier,
//!     scope_filter::{Rules, tools},
//! };
//! # use axum::body::Body;
//! # use tower::util::BoxCloneSyncService;
//! # use tower_token_broker::{authenticate::jwt::Keys, exchange::ProvideCredential};
//!
//! # fn app(
//! #     keys: Keys,
//! #     grants: impl ProvideCredential,
//! #     proxy: BoxCloneSyncService<http::Request<Body>, http::Response<Body>, std::convert::Infallible>,
//! # ) -> Result<Router, Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("audit.jsonl");
//! let broker = BrokerStack::for_resource("https://broker.example.com/crm/mcp")
//!     .audit(JsonLines::append(path)?)                                     // outermost: refusals are seen too
//!     .authenticate(JwtVerifier::new("https://broker.example.com", keys))  // who is calling
//!     .scope_filter(Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read"))) // may they call this
//!     .exchange(grants)                                                    // with whose credential
//!     .build()?;
//! let app = Router::new().route("/crm/mcp", any_service(proxy)).layer(broker);
//! # Ok(app)
//! # }
//! ```
//!
//! What no rule allows is denied; what can't be read, recorded or verified is refused.
//!
//! # Where to go next
//! - [`BrokerStack`]: the four layers in their only right order. Each is a layer of its own, too:
//!   [`audit::AuditLayer`], [`authenticate::AuthenticateLayer`], [`scope_filter::ScopeFilterLayer`],
//!   [`exchange::ExchangeLayer`].
//! - The traits that you may implement: [`authenticate::VerifyToken`], [`scope_filter::Policy`],
//!   [`exchange::ProvideCredential`], [`audit::AuditSink`].
//! - [`refusal::Reason`]: why a request is not let through, and [`dialect`]: how that is said.
//! - [`revocation::Revocations`]: what ends a token, a grant or a user's access at once, open streams included.
//!
//! # Mounting
//! axum's `Router::layer` runs the layers bottom to top, `ServiceBuilder` top to bottom; a [`stack::Broker`] is one layer, so its
//! own order is fixed. `route_layer` does not see paths that match no route. The metadata under `/.well-known` stands outside:
//! axum's `layer` covers the routes that were added before it, and the fallback, so its route is added after.
//! Compression belongs outside of ours: what is compressed can't be filtered. Inside, a service gets
//! `Request<RequestBody<B>>`; middleware that is written for axum's body alone needs `axum_body` (feature `axum`) before it.
//!
//! # Features
//! `jwt` (default): broker tokens as JWT. `grpc`: the stack around gRPC services ([`BrokerStack::grpc`], module `grpc`). `axum`: a body map for axum's own middleware. `test-util`: what your tests need.

pub mod audit;
pub mod authenticate;
#[cfg(feature = "axum")]
pub mod axum_body;
pub mod body;
pub mod clock;
pub mod dialect;
pub mod exchange;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod json;
pub mod mcp;
pub mod principal;
#[cfg(feature = "test-util")]
pub mod readers;
pub mod refusal;
pub mod request_id;
pub mod resource_metadata;
pub mod revocation;
pub mod scope_filter;
pub mod sealing;
pub mod stack;
pub mod tasks;

mod percent;
mod secret;

pub use secret::Secret;
pub use stack::BrokerStack;
