//! Issues broker tokens: JWT access tokens (RFC 9068), signed with ES256 or EdDSA, valid for one
//! resource and a short time.
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
//!
//! # Claims
//! `iss`, `aud` (the resource, as a string), `sub`, `client_id`, `jti` (128 random bits), `iat`,
//! `nbf`, `exp`. If set: `scope`; `act` (RFC 8693 §4.1), if an agent acts for the user;
//! `token_family`, if all tokens of one authorization must be revocable together. Header: `alg`,
//! `typ: at+jwt`, and `kid`, the thumbprint of the key (RFC 7638).
//!
//! # Limits
//! A token lives for ten minutes by default, and never longer than a revocation is kept.
//!
//! # Sources
//! RFC 9068 §2, RFC 7638 §3, RFC 8037 §2.

mod keys;
mod mint;

pub use keys::{KeyError, SigningKey, SigningKeys};
pub use mint::{BrokerToken, Issuer, Mint, MintError};
pub use tower_token_broker::authenticate::jwt::Algorithm;
