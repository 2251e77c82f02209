//! The upstream credentials of the broker: what a user allowed it to hold, kept fresh, and shown to nobody.
//!
//! - [`StoredGrants`] gives each user's own access token for one upstream, and refreshes it: one refresh at a time per
//!   grant, in a task that no caller can end, with the scopes of the operator.
//! - [`TokenExchange`] gives each user's own access token in exchange for a token that says who it is (RFC 8693): an
//!   [`Assertion`] that the broker signs, or one that your [`ProvideToken`] gives.
//! - [`ClientCredentials`] gives one access token for all, which the broker gets as itself (RFC 6749 §4.4).
//! - [`StaticSecret`] gives one secret of the operator's for all: an API key, a service account's token.
//!
//! Grants are kept in a [`GrantStore`](token_broker_store::GrantStore) of `token-broker-store`.
//!
//! # Example
//! ```
//! use token_broker_outbound::{Guard, GuardedClient};
//! use token_broker_store::MemoryGrants;
//! use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
//! use tower_token_broker::{Secret, exchange::Upstream, principal::Scopes};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     "https://login.crm.example/token".parse()?,
//!     ClientAuthentication::basic("broker", Secret::from_text("from a file".into())),
//! )
//! .scopes(Scopes::parse("crm:read")?);
//! let client = GuardedClient::new(&Guard::new())?;
//! let credentials = StoredGrants::new(MemoryGrants::new(), upstream, server, client);
//! # drop(credentials);
//! # Ok(())
//! # }
//! ```

mod authorization_server;
mod client_credentials;
mod connect;
#[cfg(test)]
mod endpoint;
mod key;
mod lifetime;
mod requested;
mod scopes;
mod signing;
mod single_flight;
mod static_secret;
mod stored;
pub mod token_exchange;

pub use authorization_server::{AuthorizationServer, ClientAuthentication};
pub use client_credentials::ClientCredentials;
pub use signing::{SignError, SignJwt};
pub use static_secret::StaticSecret;
pub use stored::StoredGrants;
pub use token_exchange::{Assertion, ProvideToken, SecurityToken, TokenExchange, TokenSource, TokenType};
