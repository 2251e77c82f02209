//! The authorization server of token-broker: for now its keys, and the broker tokens that it issues.
//!
//! ```
//! use std::time::Duration;
//!
//! use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
//! use tower_token_broker::{
//!     authenticate::jwt::JwtVerifier,
//!     principal::{Resource, Scopes},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::new("https://broker.example.com", SigningKeys::generate(Algorithm::Es256)?);
//! let crm = Resource::parse("https://broker.example.com/crm/mcp")?;
//! let token = issuer.mint(
//!     Mint::for_user("alice").client("inspector").resource(&crm).scopes(Scopes::parse("crm:read")?),
//! )?;
//! // The verifier shares the keys: a rotation reaches it at once.
//! let verifier = JwtVerifier::new(issuer.name(), issuer.keys());
//! // A token without a resource, or for longer than a revocation is remembered, is not minted.
//! assert!(issuer.mint(Mint::for_user("alice").client("inspector")).is_err());
//! let days = Duration::from_secs(48 * 60 * 60);
//! assert!(issuer.mint(Mint::for_user("alice").client("inspector").resource(&crm).lifetime(days)).is_err());
//! # drop((token, verifier));
//! # Ok(())
//! # }
//! ```

pub mod issue;
