//! Authorization server of the broker. So far: signing keys, and the broker tokens that it issues.
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
//! use tower_token_broker::{
//!     authenticate::JwtVerifier,
//!     principal::{Resource, Scopes},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = SigningKeys::generate(Algorithm::Es256)?;
//! let issuer = Issuer::new("https://broker.example.com", keys);
//! let crm = Resource::parse("https://broker.example.com/crm/mcp")?;
//! let alice = || Mint::for_user("alice").client("inspector");
//! let token = issuer.mint(alice().resource(&crm).scopes(Scopes::parse("crm:read")?))?;
//!
//! // A verifier in this process shares the keys, so a rotation takes effect at once.
//! let verifier = JwtVerifier::new(issuer.name(), issuer.keys());
//!
//! // A token must have a resource, and must not outlive the record of its revocation.
//! assert!(issuer.mint(alice()).is_err());
//! let days = Duration::from_secs(48 * 60 * 60);
//! assert!(issuer.mint(alice().resource(&crm).lifetime(days)).is_err());
//! # drop((token, verifier));
//! # Ok(())
//! # }
//! ```

pub mod authorize;
pub mod issue;
