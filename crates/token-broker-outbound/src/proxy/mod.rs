//! Sends a request on to its upstream and streams the answer back: the innermost service of a gateway.
//!
//! # Example
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Empty;
//! use token_broker_outbound::{Guard, Proxy};
//! use tower_service::Service;
//!
//! let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! let uri = format!("http://{}/mcp", upstream.local_addr().unwrap());
//! # let served = async { use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! #   let (mut stream, _) = upstream.accept().await.unwrap();
//! #   let mut read = [0; 1024];
//! #   assert!(stream.read(&mut read).await.unwrap() > 0);
//! #   stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
//! # };
//!
//! // Without a broker, for once: around it, the exchange layer says where a request goes.
//! let mut proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap().dangerous_without_exchange();
//! let answered = proxy.call(Request::get(&uri).body(Empty::<Bytes>::new()).unwrap());
//! # let (answered, ()) = tokio::join!(answered, served);
//! assert_eq!(answered.unwrap().status(), 204);
//!
//! let mut strict = Proxy::new(&Guard::new()).unwrap().dangerous_without_exchange();
//! let refused = strict.call(Request::get(&uri).body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
//! assert_eq!(refused.status(), 502); // a loopback address that nobody allowed
//!
//! let mut around = Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
//! let refused = around.call(Request::get(&uri).body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
//! assert_eq!(refused.status(), 500); // it did not come through the exchange layer
//! # });
//! ```
//!
//! # Order
//! Inside of all layers. The exchange layer has set scheme, authority and path to the upstream's; the proxy goes nowhere else.
//!
//! # Reads, writes
//! [`Proxy::new`] speaks HTTP/1.1, and HTTP/2 where the upstream's TLS offers it; [`Proxy::grpc`] speaks HTTP/2 alone, by prior knowledge
//! where there is no TLS. Takes off what belongs to one connection (RFC 9110 §7.6.1: the known fields, and those that `Connection` names), in
//! both directions, and the extensions; sets `Host` from the URI. Body, trailers and all other fields pass as they are.
//!
//! # Limits
//! Connection 10 s ([`Guard::connect_timeout`](crate::Guard::connect_timeout)), header of the answer 60 s, 5 min between two
//! frames of its body.
//!
//! # Cancellation
//! Dropped, the stream is reset or the connection closed; the upstream may have seen the request.
//!
//! # Refusals
//! [`Reason::UpstreamFailed`], [`Reason::UpstreamTimeout`] (502); [`Reason::HttpMethod`] for `CONNECT`;
//! [`Reason::MissingLayer`] (500) for what did not come through the exchange layer. The answer carries
//! the [`Reason`] in its extensions. An `Upgrade` is not passed on, as RFC 9110 §7.8 allows; `101` is a failed upstream.
//! A redirect is passed to the client as any answer: nobody here follows it.
//!
//! # Sources
//! RFC 9110 §7.6, RFC 9113 §8.2.2.
//!
//! [`Reason`]: tower_token_broker::refusal::Reason
//! [`Reason::UpstreamFailed`]: tower_token_broker::refusal::Reason::UpstreamFailed
//! [`Reason::UpstreamTimeout`]: tower_token_broker::refusal::Reason::UpstreamTimeout
//! [`Reason::MissingLayer`]: tower_token_broker::refusal::Reason::MissingLayer
//! [`Reason::HttpMethod`]: tower_token_broker::refusal::Reason::HttpMethod

mod body;
mod hop_by_hop;
mod service;

#[cfg(test)]
mod tests;

pub use body::{ProxyBody, ProxyBodyError};
pub use service::{Proxy, ProxyFuture};
