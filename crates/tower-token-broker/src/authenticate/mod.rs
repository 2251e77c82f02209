//! Lets a request in only with a broker token made for this resource, and takes the token off it.
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
//!         let caller = request.extensions().get::<Principal>().ok_or("authenticate puts it there")?;
//!         assert!(!request.headers().contains_key("authorization"));
//!         Ok::<_, &str>(Response::new(format!("hello {}", caller.subject())))
//!     }));
//! let request = |authorization: &str| {
//!     Request::post("/crm/mcp").header("host", "broker.example.com").header("authorization", authorization).body(String::new())
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
//! it. Without the audit layer outside of it, it refuses everything with 500. The metadata
//! ([`Broker::metadata`](crate::Broker::metadata)) stands beside it, not inside.
//!
//! # Reads, writes
//! Refuses a head over its limits (128 fields, 64 KiB of them, 16 KiB of path and query). Judges
//! `Host`, the target's authority and `Origin`. Reads and removes `Authorization`; removes
//! `Cookie`, `Proxy-Authorization` and every field that holds a copy of the token (of 16 bytes or
//! more); refuses `access_token`, or the token itself, in the query. Puts a
//! [`Principal`](crate::principal::Principal) and a [`Standing`](crate::revocation::Standing) into
//! the extensions, and removes any that were there. Tells the trail who it is. The answer's body
//! ends as soon as what it rests on is revoked or has expired: an event stream after its last whole
//! event (at most 64 KiB of an unfinished one are held back), any other body with
//! [`BodyError::Cut`](crate::body::BodyError::Cut). A body that nobody polls is cut when it is
//! polled next.
//!
//! What RFC 6750 leaves open: the scheme in any case, then one space; whitespace at the end is
//! ignored, a tab, a second space or a byte beyond visible ASCII is malformed (400); a scheme with
//! nothing behind it is answered like no token (401 without `error`), and so is another scheme. A
//! request that names no host at all is refused.
//!
//! # Limits
//! Token ≤ 16 KiB. A good verdict is kept for at most 60 s, never past `exp` and
//! [`LEEWAY`](crate::clock::LEEWAY), and never past its epoch; a bad one for 5 s; 100 000 of each
//! by default ([`verdict_cache_capacity`](crate::stack::BrokerBuilder::verdict_cache_capacity)). A
//! verdict whose epoch has passed is looked up by its ids, and not verified again.
//!
//! # Cancellation
//! Dropped at any await, nothing has happened: verification has no side effect.
//!
//! # Refusals
//! `req.host_not_allowed` (421), `req.origin_not_allowed` (403);
//! [`Reason::Missing`](crate::refusal::Reason::Missing), `UnsupportedScheme`, `QueryToken`,
//! `EmptyToken` (401 without `error`); `Malformed`, `DuplicateHeader`, `TokenTooLarge` (400);
//! whatever the verifier says, `WrongResource`, `Revoked`, `Blocked`, `JwtExpired` (401
//! `invalid_token`, all alike); `KeysUnavailable`, `RevocationStale`, `ShuttingDown` (503);
//! `MissingLayer` (500). While the answer's head is awaited: `GrantRevoked` (403), too.
//!
//! # Sources
//! RFC 6750 §2 and 3, RFC 9068 §4, RFC 8707 §2, RFC 9728 §3 and 5.1, RFC 9110 §5.5, 7.2 and 11.4;
//! MCP 2025-11-25 "Authorization" and "Transports" (DNS rebinding), MCP 2026-07-28
//! `basic/authorization`.

mod bearer;
mod body;
mod future;
#[cfg(feature = "grpc")]
mod grpc_end;
mod head_limits;
mod host_and_origin;
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
