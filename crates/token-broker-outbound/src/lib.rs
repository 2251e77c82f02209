//! The only way out of the broker: what it fetches and what it proxies goes through one guard.
//!
//! A broker holds tokens and follows URLs that others wrote: an upstream's, an authorization server's, a client's. So
//! each URL is read once and each address is looked at before anything is sent: `https` alone, no private, loopback,
//! link-local or metadata address in any spelling, no redirect, no proxy from the environment, bounds on size and time.
//!
//! - [`Guard`] says where requests may go; what lies inside a private network is allowed by name, one by one.
//! - [`GuardedClient`] fetches a document of bounded size: keys, metadata, a token endpoint's answer.
//! - [`Proxy`] sends a request on to an upstream and streams the answer back.
//! - [`GuardedConnector`] is the proxy's connector, for who builds a client on hyper-util.
//!
//! # Example
//! ```
//! use token_broker_outbound::{FetchError, Guard};
//!
//! let guard = Guard::new().allow_loopback("127.0.0.1:8080").allow_private_host("keys.corp.example");
//! assert!(guard.check("https://login.example.com/token").is_ok());
//! assert!(guard.check("http://127.0.0.1:8080/token").is_ok());
//! assert_eq!(guard.check("https://169.254.169.254/latest"), Err(FetchError::BlockedAddress));
//! assert_eq!(guard.check("https://2130706433/"), Err(FetchError::BlockedAddress));
//! assert_eq!(guard.check("http://login.example.com/token"), Err(FetchError::Scheme));
//! ```

mod address;
mod client;
mod connector;
mod error;
mod guard;
pub mod proxy;
mod resolve;
mod tls;

pub use client::{FetchFuture, FetchLimits, GuardedClient};
pub use connector::{Connecting, GuardedConnector};
pub use error::{FetchError, OutboundError, Sent};
pub use guard::Guard;
pub use proxy::{Proxy, ProxyBody, ProxyBodyError};
pub use resolve::Resolve;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wire;
