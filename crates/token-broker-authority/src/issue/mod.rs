//! Issues broker tokens: JWT access tokens (RFC 9068), signed with ES256 or EdDSA, valid for one
//! resource and a short time.
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
