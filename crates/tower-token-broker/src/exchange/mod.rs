//! Puts the caller's real upstream credential on a request, inside the broker, and keeps it from coming back.
//!
//! # Example
//!
//! A provider of your own, and a request that reaches the layer without the layers that should stand outside it:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use bytes::Bytes;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Secret,
//!     audit::Trail,
//!     exchange::{Credential, ExchangeLayer, CredentialError, ProvideCredential, Upstream},
//!     principal::{Principal, Scopes},
//! };
//!
//! /// One key for everybody.
//! struct OneKey {
//!     upstream: Upstream,
//!     key: String,
//! }
//!
//! impl ProvideCredential for OneKey {
//!     fn upstream(&self) -> &Upstream {
//!         &self.upstream
//!     }
//!
//!     async fn credential(&self, _: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
//!         Ok(Credential::vouch(Secret::from_text(self.key.clone()), self.upstream.origin().clone()))
//!     }
//!
//!     async fn refused(&self, _: &Credential) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let upstream = Upstream::parse("crm", "https://crm.example.com/mcp").unwrap();
//! let layer = ExchangeLayer::new(OneKey { upstream, key: "k-93b1".into() });
//! let proxy = service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())));
//!
//! // Nobody was authenticated, nothing was judged, no audit is open: refused, loudly, and never sent.
//! let answer = layer.layer(proxy).oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
//! # }
//! ```
//!
//! # Order
//! The innermost of the four: inside the scope filter, around your proxy. [`BrokerStack`](crate::BrokerStack) places it. The service inside is
//! given the real credential on its request, so it must be one that sends it on (`Proxy` of `token-broker-outbound`, or a client like it), and
//! never a handler that reads it. A handler goes with
//! [`credential_for_handler`](crate::BrokerStack::credential_for_handler): it gets a [`CallerHandle`], and this layer stands around its client.
//!
//! # Reads, writes
//! Reads the audit's `Trail`, the [`Principal`](crate::principal::Principal) and its `Standing`, and what was
//! [`Judged`](crate::scope_filter::Judged). Sends the very bytes that were judged to the provider's
//! [`Upstream`], with header fields that are built anew out of an allow-list, `Accept-Encoding: identity` and the
//! credential, marked sensitive. From the answer it takes the upstream's cookies, challenges and redirects, and masks any
//! echo of the credential in header fields, body and trailers.
//!
//! # Limits
//! A request waits at most 30 s for its credential ([`ExchangeLayer::credential_deadline`]). The guard holds back at most
//! one form of one credential's last 64 bytes; a credential that it can't look for is not sent. An echo is masked in plain, base64, hexadecimal, percent-encoded and
//! JSON-escaped form; an upstream that encrypts or compresses what it echoes is beyond it. Bytes that hyper copies into its
//! write buffer can't be zeroized.
//!
//! # Cancellation
//! Dropped before the send, the intent may stand in the audit, and the result says that nothing was sent. Dropped after it,
//! the upstream may have acted. What a provider must finish (a refresh) runs in its own task.
//!
//! # Refusals
//! [`Reason`](crate::refusal::Reason)`::{ConnectRequired, UpstreamScopeRequired, GrantRevoked, CredentialRefused,
//! AuthorizationServerPolicy, CredentialUnavailable, WrongOrigin, UpstreamFailed, AnswerUnreadable, AuditUnavailable,
//! Revoked, MissingLayer}`. A 401 of the upstream is never passed on: one forced refresh and one replay, where the request can
//! be sent again; else a refusal. Who must connect is told [where](ProvideCredential::connect_url). In gRPC the upstream's status 16
//! is its 401: in the head as just said; in the trailers, where the upstream may have acted, it becomes
//! [`Reason`](crate::refusal::Reason)`::CredentialRefused` (status 9).
//!
//! # Sources
//! MCP 2025-11-25 and 2026-07-28, "Authorization", on token passthrough; RFC 6750 §2.1; RFC 9110 §7.6.1.

mod credential;
#[cfg(feature = "grpc")]
mod grpc;
mod handler;
mod headers;
mod layer;
pub(crate) mod leak_guard;
mod provide;
mod service;

pub use credential::{Credential, Origin, Upstream, UpstreamError};
pub use handler::{CallerFuture, CallerHandle, CallerLayer, CallerService};
pub use layer::{ExchangeLayer, ForwardHeaderError};
pub use leak_guard::LeakGuardBody;
pub use provide::{CredentialError, ProvideCredential};
pub use service::{Exchange, Exchanged, ResponseFuture};
