//! Outbound client code of the broker: everything that it fetches and proxies passes one guard.
//!
//! A broker holds tokens, and it follows URLs that other parties wrote: upstreams, authorization
//! servers, clients. So each URL is parsed once, and each address is checked before anything is
//! sent. Only `https` is allowed; no private, loopback, link-local or metadata address in any
//! spelling; no redirects, and no proxy from the environment. Size and time are bounded.
//!
//! - [`Guard`] defines where requests may go. Hosts in a private network, and those that use plain
//!   `http`, are allowed by name, one by one.
//! - [`GuardedClient`] fetches a document of bounded size: keys, metadata, the response of a token
//!   endpoint.
//! - [`Proxy`] forwards a request to an upstream and streams the response. Inside a broker's stack
//!   it applies the caller's credential.
//! - [`GuardedConnector`] is the connector of the proxy, for clients built on hyper-util.
//!
//! # Example
//! ```
//! use token_broker_outbound::{BlockedAddress, FetchError, Guard};
//!
//! let guard = Guard::new()
//!     .allow_loopback("127.0.0.1:8080")
//!     .allow_private_host("keys.corp.example")
//!     .dangerous_allow_http("mcp.crm.svc.cluster.local", 8080);
//! assert!(guard.check("https://login.example.com/token").is_ok());
//! assert!(guard.check("http://127.0.0.1:8080/token").is_ok());
//! assert!(guard.check("http://mcp.crm.svc.cluster.local:8080/mcp").is_ok());
//! for (url, address) in [
//!     ("https://169.254.169.254/latest", BlockedAddress::Never),
//!     ("https://2130706433/", BlockedAddress::Loopback),
//!     ("https://10.1.2.3/", BlockedAddress::Private),
//! ] {
//!     assert_eq!(guard.check(url), Err(FetchError::BlockedAddress(address)));
//! }
//! assert_eq!(guard.check("http://login.example.com/token"), Err(FetchError::Scheme));
//! let other_port = guard.check("http://mcp.crm.svc.cluster.local/mcp");
//! assert_eq!(other_port, Err(FetchError::BlockedAddress(BlockedAddress::Private)));
//! ```

mod address;
mod client;
mod closable_stream;
mod connector;
mod content_coding;
mod error;
mod guard;
pub mod proxy;
mod resolve;
mod tls;
mod user_agent;

pub use client::{FetchFuture, FetchLimits, Fetched, GuardedClient};
pub use closable_stream::ClosableStream;
pub use connector::{Connecting, GuardedConnector};
pub use error::{BlockedAddress, CertificateProblem, FetchError, OutboundError, Sent};
pub use guard::Guard;
pub use proxy::{Proxy, ProxyBody, ProxyBodyError};
pub use resolve::Resolve;

#[cfg(test)]
mod test_servers;
#[cfg(test)]
mod tests;
