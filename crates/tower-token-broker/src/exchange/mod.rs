//! Sends requests to the upstream with the caller's credential, and masks it in responses.
//!
//! # Example
//! A credential source of your own, and a request that reaches the layer without its outer layers:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use tower::{ServiceExt, service_fn};
//! use tower_token_broker::{
//!     Broker, Secret,
//!     exchange::{
//!         Credential, CredentialError, CredentialRequest, ExchangeLayer, ProvideCredential,
//!         Upstream, UpstreamRefusal,
//!     },
//!     stack::StackConfig,
//! };
//!
//! /// One key for all callers.
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
//!     async fn credential(
//!         &self,
//!         _: &CredentialRequest<'_>,
//!     ) -> Result<Credential, CredentialError> {
//!         let origin = self.upstream.origin().clone();
//!         Ok(Credential::vouch(Secret::from_text(self.key.clone()), origin))
//!     }
//!
//!     async fn refused(&self, _: &UpstreamRefusal<'_>) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # use std::convert::Infallible;
//! # let sink = tower_token_broker::audit::TracingSink::new();
//! let upstream = Upstream::parse("crm", "https://crm.example.com/mcp").unwrap();
//! let broker = Broker::builder().audit(sink).build().unwrap();
//! let config = StackConfig::new("https://broker.example.com/crm/mcp").unwrap();
//! let one_key = OneKey { upstream, key: "k-93b1".into() };
//! let layer = ExchangeLayer::new(&broker, &config, one_key).unwrap();
//! let proxy = service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
//!
//! // No layer authenticated, judged or recorded the request: it is refused and not sent.
//! let request = Request::new(Empty::<Bytes>::new());
//! let refused = layer.layer(proxy).oneshot(request).await.unwrap();
//! assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
//! # }
//! ```
//!
//! # Order
//! The innermost of the four layers: inside the scope filter, around your proxy.
//! [`BrokerStack`](crate::stack::BrokerStack) places it.
//!
//! The layer passes an [`OutgoingCredential`] inward in the extensions, and the sender of the
//! request [applies](OutgoingCredential::apply) it; no other inner service sees the credential.
//! `Proxy` of `token-broker-outbound` applies it. [`ApplyCredentialLayer`] does so for a client of
//! your own, and everything inside that layer sees the credential. If it is not applied, the
//! response passes, the record has `uses` 0, and an alarm (`exchange.credential_unused`) is logged.
//!
//! For a handler, use
//! [`credential_for_handler`](crate::stack::BrokerStack::credential_for_handler): the handler
//! receives a [`CallerHandle`], and this layer wraps its client ([`ExchangeLayer::for_handler`]).
//!
//! # Reads, writes
//! Reads the audit's `Trail`, the [`Principal`](crate::principal::Principal) and its `Standing`,
//! and the [`Judged`](crate::scope_filter::Judged) request. Sends exactly the judged bytes to the
//! provider's [`Upstream`]. Headers are built from an allow-list, with `Accept-Encoding: identity`
//! ([`header_rules`](crate::header_rules)). Inserts an [`OutgoingCredential`] into the extensions,
//! which sets the credential, marked sensitive.
//!
//! For plain HTTP and gRPC, the path is the upstream's own, followed by the judged path without the
//! mount path. The upstream's query is sent unchanged and never merged with a client's query.
//!
//! Removes the upstream's cookies, challenges and redirects from the response, and masks the
//! credential, and each live credential of any user, in headers, body and trailers. A header whose
//! name contains one is removed.
//!
//! # Limits
//! A request waits at most 30 s for its credential ([`Limits`](crate::limits::Limits)). After a
//! credential was replaced because the upstream had refused it, and the new one was never
//! accepted, it is not replaced again for 30 s. A credential for which the guard cannot search is
//! not sent; one response may use 32 different ones. The guard masks a credential in plain,
//! base64, hexadecimal, percent-encoded, escaped and wrapped form, also within each other, but not
//! one that the upstream encrypts or compresses. It holds back the last run of token characters,
//! at most 4 KiB, and nothing at the end of an event or gRPC message. It remembers
//! [so many](crate::Broker::CREDENTIAL_REGISTRY_CAPACITY) credentials. Bytes that hyper copies into
//! its write buffer are not zeroized.
//!
//! # Cancellation
//! Dropped before the send, an intent may be in the audit, and the result states that nothing was
//! sent. Dropped after it, the upstream may have acted. Work that a provider must finish (a
//! refresh) runs in its own task.
//!
//! # Refusals
//! [`Reason`](crate::refusal::Reason)`::{ConnectRequired, UpstreamScopeRequired, GrantRevoked,
//! CredentialRefused, AuthorizationServerPolicy, CredentialUnavailable, CredentialTaken,
//! WrongOrigin, RequestDenied, UpstreamFailed, ResponseUnreadable, AuditUnavailable, Revoked,
//! Blocked, JwtExpired, RevocationStale, MissingLayer}`.
//!
//! An upstream's 401 to a request that carried the credential is never passed on. If the request
//! can be sent again, the credential is refreshed and the request replayed once; otherwise it is
//! refused. If the upstream refuses the fresh credential, too, or if there is no other (a static
//! secret), the response is 502 with `Retry-After: 30`, because connecting an account does not
//! help. A refusal for which the caller must connect names the
//! [page](ProvideCredential::connect_url).
//!
//! In gRPC, status 16 is the upstream's 401. In the headers it is handled as above. In the
//! trailers, where the upstream may have acted, it becomes
//! [`Reason`](crate::refusal::Reason)`::CredentialRefused` (status 9).
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
pub(crate) use layer::HeaderLists;
pub use layer::{ExchangeLayer, ForwardHeaderError};
pub use leak_guard::LeakGuardBody;
pub use outgoing::{ApplyError, OutgoingCredential};
pub use provide::{
    BoxProvideCredential, CredentialError, CredentialRequest, ProvideCredential, UpstreamRefusal,
};
pub use service::{Exchange, ResponseFuture};
