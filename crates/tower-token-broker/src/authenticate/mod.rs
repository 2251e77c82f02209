//! Authenticates requests with broker tokens issued for this resource and removes the token.
//!
//! # Example
//! ```
//! # #[cfg(feature = "test-util")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker,
//!     audit::{AuditLayer, InMemory},
//!     authenticate::{AuthenticateLayer, TestTokens},
//!     principal::{Initiator, Principal},
//!     revocation::RevocationTarget,
//!     stack::StackConfig,
//! };
//!
//! let broker = Broker::builder().audit(InMemory::new()).build()?;
//! let config = StackConfig::new("https://broker.example.com/crm/mcp")?;
//! // In production: a `JwtVerifier`.
//! let tokens = TestTokens::new().user("alices-token", "alice", &config.resource);
//! let service = ServiceBuilder::new()
//!     .layer(AuditLayer::new(&broker, &config))
//!     .layer(AuthenticateLayer::new(&broker, &config, tokens)?)
//!     .service(service_fn(async |request: Request<String>| {
//!         let caller = request.extensions().get::<Principal>().ok_or("not authenticated")?;
//!         assert!(!request.headers().contains_key("authorization"));
//!         Ok::<_, &str>(Response::new(format!("hello {}", caller.subject())))
//!     }));
//! let request = |authorization: &str| {
//!     Request::post("/crm/mcp")
//!         .header("host", "broker.example.com")
//!         .header("authorization", authorization)
//!         .body(String::new())
//! };
//! let with_token = service.clone().oneshot(request("Bearer alices-token")?).await?;
//! assert_eq!(with_token.status(), 200);
//! let with_another = service.clone().oneshot(request("Bearer upstream-token")?).await?;
//! assert_eq!(with_another.status(), 401);
//! broker.revoke(RevocationTarget::Everything, &Initiator::operator("olga")).await?;
//! let revoked = service.oneshot(request("Bearer alices-token")?).await?;
//! assert_eq!(revoked.status(), 401);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "test-util"))]
//! # fn main() {}
//! ```
//!
//! # Order
//! Outside of the scope filter, inside of audit; [`BrokerStack`](crate::stack::BrokerStack) places
//! it. Without the audit layer outside of it, it refuses all requests with 500. Mount the metadata
//! ([`Broker::metadata`](crate::Broker::metadata)) next to it, not inside.
//!
//! # Reads, writes
//! - Refuses requests over its limits: 128 headers, 64 KiB of headers, 16 KiB of path and query.
//! - Checks `Host`, the target's authority, and `Origin`. A request that names no host is refused.
//! - Reads and removes `Authorization`. Removes `Cookie`, `Proxy-Authorization` and every header
//!   that contains a copy of the token (of 16 bytes or more). Refuses `access_token`, or the token
//!   itself, in the query.
//! - Inserts a [`Principal`](crate::principal::Principal) and a
//!   [`Standing`](crate::revocation::Standing) into the extensions, and removes forged ones. Adds
//!   the caller to the trail.
//! - Ends the response body as soon as the token is revoked or expires: an event stream after its
//!   last whole event (at most 64 KiB of an unfinished one are held back), any other body with
//!   [`BodyError::Cut`](crate::body::BodyError::Cut). A body that is not polled is cut at its next
//!   poll.
//! - Refuses `CONNECT` and a response with status 101, and removes `Upgrade`: no revocation would
//!   end a connection that speaks another protocol.
//!
//! RFC 6750 leaves open, and we chose: the scheme in any case, then exactly one space. Whitespace
//! at the end is ignored; a tab, a second space or a byte beyond visible ASCII is malformed (400).
//! A scheme without a token, and another scheme, are refused like a missing token (401 without
//! `error`).
//!
//! # Limits
//! Token ≤ 16 KiB. A good verdict is cached for at most 60 s, never past `exp` and
//! [`LEEWAY`](crate::clock::LEEWAY), and never past its epoch; a bad one for 5 s; 100 000 of each
//! by default ([`verdict_cache_capacity`](crate::stack::BrokerBuilder::verdict_cache_capacity)). A
//! verdict of an older epoch is looked up by its IDs, without another verification. A verification
//! takes at most [`verify_timeout`](crate::limits::Limits::verify_timeout). A token is valid for at
//! most 24 hours, and has at most 8 actors.
//!
//! # Cancellation
//! Safe at every await: verification has no side effects.
//!
//! # Refusals
//! - 421 `req.host_not_allowed`, 403 `req.origin_not_allowed`, 431 `req.headers_too_large`.
//! - 401 without `error`: [`Reason::Missing`](crate::refusal::Reason::Missing),
//!   `UnsupportedScheme`, `QueryToken`, `EmptyToken`.
//! - 400: `Malformed`, `DuplicateHeader`, `QueryAndHeader`, `TokenTooLarge`.
//! - 401 `invalid_token`, all alike: the reasons of the verifier, `WrongResource`, `Revoked`,
//!   `Blocked`, `JwtExpired`, `JwtLifetime`, `JwtClaimType` (too many actors).
//! - 503: `KeysUnavailable`, `IntrospectionUnavailable`, `VerifierTimeout`, `RevocationStale`,
//!   `ShuttingDown`.
//! - 405: `HttpMethod` (`CONNECT`). 502: `UpstreamFailed` (status 101).
//! - 500: `MissingLayer`.
//! - While the response is awaited, also 403 `GrantRevoked`.
//!
//! # Sources
//! RFC 6750 §2 and 3, RFC 9068 §4, RFC 8707 §2, RFC 9728 §3 and 5.1, RFC 9110 §5.5, 7.2 and 11.4;
//! MCP 2025-11-25 "Authorization" and "Transports" (DNS rebinding), MCP 2026-07-28
//! `basic/authorization`.

mod bearer;
mod body;
mod cors;
mod future;
#[cfg(feature = "grpc")]
mod grpc_end;
mod head_limits;
mod host_and_origin;
#[cfg(feature = "jwt")]
pub mod introspection;
#[cfg(feature = "jwt")]
pub mod jwt;
mod layer;
mod refuser;
mod service;
#[cfg(any(test, feature = "test-util"))]
mod test_tokens;
#[cfg(test)]
#[cfg(feature = "jwt")]
mod tests;
mod verdict_cache;
mod verify;

pub use body::CutBody;
pub use future::ResponseFuture;
pub use host_and_origin::{HostAndOrigin, HostAndOriginError};
#[cfg(feature = "jwt")]
pub use jwt::JwtVerifier;
pub use layer::AuthenticateLayer;

pub(crate) use layer::Config;
pub use service::Authenticate;
#[cfg(any(test, feature = "test-util"))]
pub use test_tokens::TestTokens;
pub use verify::{BoxVerifyToken, PresentedToken, VerifyError, VerifyRequest, VerifyToken};
