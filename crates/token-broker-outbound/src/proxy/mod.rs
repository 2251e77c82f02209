//! Proxy: applies the caller's credential, forwards a request to its upstream and streams the
//! response. It is the innermost service of a gateway.
//!
//! # Example
//! A stack with a proxy inside. A request that bypasses the stack has no credential, and is not
//! sent.
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Empty;
//! use token_broker_outbound::{Guard, Proxy};
//! use tower::ServiceExt;
//! use tower_token_broker::{
//!     prelude::*,
//!     refusal::{Reason, Refused},
//! };
//! # use tower_token_broker::{authenticate::TestTokens, exchange::*, test_util::TestCall};
//! # const RESOURCE: &str = "https://broker.example.com/crm/mcp";
//! # let tokens = TestTokens::new().user("t1", "alice", &Resource::parse(RESOURCE)?);
//! # struct Grants(Upstream);
//! # impl ProvideCredential for Grants {
//! #     fn upstream(&self) -> &Upstream { &self.0 }
//! #     async fn credential(
//! #         &self, _: &CredentialRequest<'_>,
//! #     ) -> Result<Credential, CredentialError> {
//! #         let secret = Secret::from_text("upstream-token".into());
//! #         Ok(Credential::vouch(secret, self.0.origin().clone()))
//! #     }
//! #     async fn refused(&self, _: &UpstreamRefusal<'_>) {}
//! # }
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let uri = format!("http://{}/mcp", listener.local_addr()?);
//! # let grants = Grants(Upstream::parse("crm", &uri)?);
//! # let upstream = async { use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #   let (mut stream, _) = listener.accept().await.unwrap();
//! #   let mut read = [0; 1024];
//! #   let count = stream.read(&mut read).await.unwrap();
//! #   let text = String::from_utf8(read[..count].to_vec()).unwrap();
//! #   assert!(text.contains("authorization: Bearer upstream-token\r\n"));
//! #   stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
//! # };
//! # let broker = Broker::builder().audit(tower_token_broker::audit::InMemory::new()).build()?;
//!
//! let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?;
//! let crm = broker
//!     .protect("https://broker.example.com/crm/mcp")
//!     .authenticate(tokens)
//!     .scope_filter(Rules::new().allow(tools(["get_*"])))
//!     .exchange(grants)
//!     .build()?;
//!
//! // A tool call of alice.
//! # let request = TestCall::tool("get_item", "{}").requests(RESOURCE, "t1").next().unwrap();
//! # let request = request.map(http_body_util::Full::new);
//! let response = crm.layer(proxy.clone()).oneshot(request);
//! # let (response, ()) = tokio::join!(response, upstream);
//! # let response = response?;
//! assert_eq!(response.status(), 202);
//!
//! let bypass = Request::get(&uri).body(Empty::<Bytes>::new())?;
//! let response = proxy.oneshot(bypass).await?;
//! assert_eq!(response.status(), 500);
//! assert_eq!(Refused::of(&response).unwrap().reason(), Reason::MissingLayer);
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//! Inside all layers: `stack.layer(proxy)`. The exchange layer has set scheme, authority and path
//! to those of the upstream. The proxy sends requests nowhere else.
//!
//! # Reads, writes
//! Takes the [`OutgoingCredential`] of the exchange layer from the extensions, and applies it as
//! the last step before it sends the request. [`Proxy::dangerous_without_exchange`] also forwards
//! requests that have none.
//!
//! [`Proxy::new`] uses HTTP/1.1, and HTTP/2 where the upstream's TLS offers it. [`Proxy::grpc`]
//! uses only HTTP/2, with prior knowledge where there is no TLS.
//!
//! Users share HTTP/2 connections: up to 64 requests with 48 KiB of content in all, 8 of them of
//! one user; further ones use another connection. A request whose body is longer, or of unknown
//! length, shares its connection only with those of its user. Up to 512 KiB of each response wait
//! for their reader.
//!
//! Removes what belongs to one connection (RFC 9110 §7.6.1: the known fields, and those that
//! `Connection` names) in both directions, and all extensions. Sets `Host` from the URI. Body,
//! trailers and all other fields pass unchanged.
//!
//! # Limits
//! 10 s to connect ([`Guard::connect_timeout`](crate::Guard::connect_timeout)), 60 s for the
//! headers of the response, 5 min between two frames of its body.
//!
//! # Cancellation
//! The stream is reset or the connection closed. The upstream may have received the request.
//!
//! # Refusals
//! A refusal is a response that carries the marker
//! [`Refused`](tower_token_broker::refusal::Refused) with its reason. Nothing was sent with these:
//!
//! - [`Reason::MissingLayer`] (500): the request has no credential of an exchange layer.
//! - [`Reason::CredentialTaken`] (500): a clone of the request was sent before, or the exchange
//!   layer has already responded.
//! - [`Reason::WrongOrigin`] (500): the URI is not of the credential's origin.
//! - [`Reason::Revoked`], [`Reason::Blocked`], [`Reason::GrantRevoked`]: since the exchange layer,
//!   token, user or grant was revoked.
//! - [`Reason::HttpMethod`]: the method is `CONNECT`.
//!
//! An upstream that fails is [`Reason::UpstreamFailed`] or [`Reason::UpstreamTimeout`] (502). An
//! `Upgrade` is not forwarded, as RFC 9110 §7.8 allows, and `101` is a failed upstream. A redirect
//! is a response like any other; the proxy does not follow it.
//!
//! # Sources
//! RFC 9110 §7.6, RFC 9113 §8.2.2.
//!
//! [`OutgoingCredential`]: tower_token_broker::exchange::OutgoingCredential
//! [`Reason::Blocked`]: tower_token_broker::refusal::Reason::Blocked
//! [`Reason::CredentialTaken`]: tower_token_broker::refusal::Reason::CredentialTaken
//! [`Reason::GrantRevoked`]: tower_token_broker::refusal::Reason::GrantRevoked
//! [`Reason::HttpMethod`]: tower_token_broker::refusal::Reason::HttpMethod
//! [`Reason::MissingLayer`]: tower_token_broker::refusal::Reason::MissingLayer
//! [`Reason::Revoked`]: tower_token_broker::refusal::Reason::Revoked
//! [`Reason::UpstreamFailed`]: tower_token_broker::refusal::Reason::UpstreamFailed
//! [`Reason::UpstreamTimeout`]: tower_token_broker::refusal::Reason::UpstreamTimeout
//! [`Reason::WrongOrigin`]: tower_token_broker::refusal::Reason::WrongOrigin

mod body;
mod carrier;
mod peer;
mod service;
mod shared_connections;

#[cfg(test)]
mod credential_tests;
#[cfg(test)]
mod tests;

pub use body::{ProxyBody, ProxyBodyError};
pub use service::{Proxy, ProxyFuture};
