//! Upstream credentials of the broker: what it sends to an upstream in the place of a broker token.
//!
//! - [`StoredGrants`] provides each user's own access token from a stored grant, and refreshes it:
//!   one refresh at a time per grant, in a task that no caller can cancel, with the scopes of the
//!   operator.
//! - [`TokenExchange`] provides each user's own access token in exchange for a token that
//!   identifies the user (RFC 8693): an [`Assertion`] that the broker signs, or a token from your
//!   [`ProvideToken`].
//! - [`ClientCredentials`] provides one access token for all callers, which the broker requests as
//!   itself (RFC 6749 §4.4).
//! - [`StaticSecret`] provides one configured secret for all callers: an API key, the token of a
//!   service account.
//! - [`UserSecrets`] provides a secret of each user's own: a personal access token.
//!
//! All of them implement
//! [`ProvideCredential`](tower_token_broker::exchange::ProvideCredential). Grants are kept in a
//! [`GrantStore`](token_broker_store::GrantStore) of `token-broker-store`.
//!
//! # Example
//! ```
//! use token_broker_upstream::prelude::*;
//! use tower_token_broker::prelude::*;
//!
//! # fn credentials(broker: &Broker) -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp")?;
//! let client_secret = Secret::from_text("from a file".into());
//! let server = AuthorizationServer::new(
//!     "https://login.crm.example",
//!     "https://login.crm.example/token".parse()?,
//!     ClientAuthentication::basic("broker", client_secret),
//! )
//! .scopes(Scopes::parse("crm:read")?);
//! let client = GuardedClient::new(&Guard::new())?;
//! let grants = StoredGrants::new(broker, MemoryGrants::new(), upstream, server, client);
//! # drop(grants);
//! # Ok(())
//! # }
//! ```
//!
//! # Accounts
//! A user can hold several accounts at one upstream; the broker token names the account. Each
//! account has a grant of its own, and what is cached or refreshed for one account is never used
//! for another. [`TokenExchange`] and [`UserSecrets`] keep one for each account, too.
//! [`ClientCredentials`] and
//! [`StaticSecret`] are the same for all accounts.

mod authorization_server;
mod cache_key;
mod client_credentials;
mod connect;
mod connect_url;
mod lifetime;
mod on_demand;
mod places;
pub mod prelude;
mod principal_id;
mod scopes;
mod short_secret;
mod signing;
mod single_flight;
mod static_secret;
mod stored;
#[cfg(test)]
mod test_endpoint;
pub mod token_exchange;
mod user_secrets;

pub use authorization_server::{AuthorizationServer, ClientAuthentication};
pub use client_credentials::ClientCredentials;
pub use connect::{ConnectServer, Connector, ReservedParameter, ResourceParameter};
pub use short_secret::ShortSecretError;
pub use signing::{SignError, SignJwt};
pub use static_secret::StaticSecret;
pub use stored::StoredGrants;
pub use token_exchange::{
    Assertion, ProvideToken, SecurityToken, TokenExchange, TokenSource, TokenType,
};
pub use user_secrets::UserSecrets;
