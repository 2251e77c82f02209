//! Issues broker tokens: JWT access tokens (RFC 9068), signed by ES256 or EdDSA, good for one resource and a short time.
//!
//! # What a token says
//! `iss`, `aud` (the one resource, as a string), `sub`, `client_id`, `jti` (128 random bits), `iat`, `nbf`, `exp`; `scope`
//! where there is one; `act` (RFC 8693 §4.1) where an agent acts for the user; `token_family` where the whole
//! authorization shall be revocable at once. Header: `alg`, `typ: at+jwt`, and `kid`, the key's thumbprint (RFC 7638).
//!
//! # Limits
//! A token lives for ten minutes unless it is told otherwise, and never longer than a revocation is remembered.
//!
//! # Sources
//! RFC 9068 §2, RFC 7638 §3, RFC 8037 §2.

mod keys;
mod mint;

pub use keys::{KeyError, SigningKey, SigningKeys};
pub use mint::{BrokerToken, Issuer, Mint, MintError};
pub use tower_token_broker::authenticate::jwt::Algorithm;
