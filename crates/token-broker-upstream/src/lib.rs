//! The upstream credentials of the broker: what a person allowed it to hold, kept fresh, and shown to nobody.
//!
//! - [`StoredGrants`] gives each person's own access token for one upstream, and refreshes it: one refresh at a time per
//!   grant, in a task that no caller can end, with the scopes of the operator.
//! - [`StaticSecret`] gives one secret of the operator's for all: an API key, a service account's token.
//! - [`GrantStore`] is where grants live; [`MemoryGrants`] keeps them in the memory of this process.
//!
//! # Example
//! ```
//! use token_broker_outbound::{Guard, GuardedClient};
//! use token_broker_upstream::{AuthorizationServer, ClientAuthentication, MemoryGrants, StoredGrants};
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
mod grant;
mod memory;
mod static_secret;
mod store;
mod stored;

pub use authorization_server::{AuthorizationServer, ClientAuthentication};
pub use grant::{AccessToken, Grant, GrantState};
pub use memory::MemoryGrants;
pub use static_secret::StaticSecret;
pub use store::{GrantStore, Lease, Leased, Renewal, StoreError, Tried};
pub use stored::StoredGrants;
