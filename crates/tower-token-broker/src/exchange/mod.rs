//! Puts the caller's real upstream credential on a request, inside the broker, and keeps it from
//! coming back.
//!
//! # Example
//!
//! A provider of your own, and a request that reaches the layer without the layers that should
//! stand outside it:
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use bytes::Bytes;
//! use tower::{ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker, Secret,
//!     exchange::{
//!         Credential, CredentialError, CredentialRequest, ExchangeLayer, ProvideCredential, Upstream,
//!         UpstreamRefusal,
//!     },
//!     stack::StackConfig,
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
//!     async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
//!         Ok(Credential::vouch(Secret::from_text(self.key.clone()), self.upstream.origin().clone()))
//!     }
//!
//!     async fn refused(&self, _: &UpstreamRefusal<'_>) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let upstream = Upstream::parse("crm", "https://crm.example.com/mcp").unwrap();
//! # let broker = Broker::builder().audit(tower_token_broker::audit::TracingSink::new()).build().unwrap();
//! let config = StackConfig::new("https://broker.example.com/crm/mcp").unwrap();
//! let one_key = OneKey { upstream, key: "k-93b1".into() };
//! let layer = ExchangeLayer::new(&broker, &config, one_key).unwrap();
//! let proxy = service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new())));
//!
//! // Nobody was authenticated, nothing was judged, no audit is open: refused, loudly, and never sent.
//! let answer = layer.layer(proxy).oneshot(Request::new(Empty::<Bytes>::new())).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
//! # }
//! ```
//!
//! # Order
//! The innermost of the four: inside the scope filter, around your proxy.
//! [`BrokerStack`](crate::stack::BrokerStack) places it. Nothing inside sees the credential but the
//! one that sends the request: it finds an [`OutgoingCredential`] in the extensions and
//! [applies](OutgoingCredential::apply) it. `Proxy` of `token-broker-outbound` does;
//! [`ApplyCredentialLayer`] does it for a client of your own, and everything inside that layer sees
//! the credential. Where nobody applies it, the response passes, the record says `uses` 0, and one
//! alarm (`exchange.credential_unused`) is logged.
//!
//! A handler goes with
//! [`credential_for_handler`](crate::stack::BrokerStack::credential_for_handler): it gets a
//! [`CallerHandle`], and this layer stands around its client ([`ExchangeLayer::for_handler`]).
//!
//! # Reads, writes
//! Reads the audit's `Trail`, the [`Principal`](crate::principal::Principal) and its `Standing`,
//! and what was [`Judged`](crate::scope_filter::Judged). Sends the very bytes that were judged to
//! the provider's [`Upstream`], with header fields that are built anew out of an allow-list and
//! `Accept-Encoding: identity`; puts an [`OutgoingCredential`] into the extensions, which sets the
//! credential, marked sensitive. The path of plain HTTP and gRPC is the upstream's own, and after
//! it the judged path without the mount path. The upstream's query is sent as it is; a client's
//! query is never merged with it. From the answer it takes the upstream's cookies, challenges and
//! redirects, and masks any echo of the credential in header fields, body and trailers.
//!
//! # Limits
//! A request waits at most 30 s for its credential ([`Limits`](crate::limits::Limits)). The guard
//! holds back at most one form of one credential's last 64 bytes; a credential that it can't look
//! for is not sent. An echo is masked in plain, base64, hexadecimal, percent-encoded and
//! JSON-escaped form; an upstream that encrypts or compresses what it echoes is beyond it. Bytes
//! that hyper copies into its write buffer can't be zeroized.
//!
//! # Cancellation
//! Dropped before the send, the intent may stand in the audit, and the result says that nothing was
//! sent. Dropped after it, the upstream may have acted. What a provider must finish (a refresh)
//! runs in its own task.
//!
//! # Refusals
//! [`Reason`](crate::refusal::Reason)`::{ConnectRequired, UpstreamScopeRequired, GrantRevoked,
//! CredentialRefused, AuthorizationServerPolicy, CredentialUnavailable, CredentialTaken,
//! WrongOrigin, RequestDenied, UpstreamFailed, AnswerUnreadable, AuditUnavailable, Revoked,
//! MissingLayer}`. A 401 of the upstream to a request that carried the credential is never passed
//! on: one forced refresh and one replay, where the request can be sent again; else a refusal. Who
//! must connect is told [where](ProvideCredential::connect_url). In gRPC the upstream's status 16
//! is its 401: in the head as just said; in the trailers, where the upstream may have acted, it
//! becomes [`Reason`](crate::refusal::Reason)`::CredentialRefused` (status 9).
//!
//! # Sources
//! MCP 2025-11-25 and 2026-07-28, "Authorization", on token passthrough; RFC 6750 §2.1; RFC 9110
//! §7.6.1.

mod apply;
mod caller;
mod context;
mod credential;
#[cfg(feature = "grpc")]
mod grpc;
pub(crate) mod headers;
mod layer;
pub(crate) mod leak_guard;
mod outgoing;
mod provide;
mod send;
mod service;
#[cfg(test)]
mod tests;
mod upstream_request;
mod upstream_response;

pub use apply::{ApplyCredential, ApplyCredentialLayer, ApplyFuture};
pub use caller::{CallerFuture, CallerHandle, CallerLayer, CallerService};
pub use credential::{Credential, Origin, Upstream, UpstreamError};
pub use layer::{ExchangeLayer, ForwardHeaderError};
pub use leak_guard::LeakGuardBody;
pub use outgoing::{ApplyError, OutgoingCredential};
pub use provide::{
    BoxProvideCredential, CredentialError, CredentialRequest, ProvideCredential, UpstreamRefusal,
};
pub use service::{Exchange, ResponseFuture};
