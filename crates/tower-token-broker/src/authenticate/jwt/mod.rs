//! Verifies broker tokens that are signed JWTs: ES256 or EdDSA, with keys of the process or from a
//! remote JWKS.
//!
//! # Example
//! ```no_run
//! use tower_token_broker::authenticate::jwt::{JwtVerifier, Keys};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let jwks = b"";
//! let verifier = JwtVerifier::new("https://broker.example.com", Keys::parse(jwks)?);
//! // Accepted: `typ: at+jwt`, this `iss`, and exactly the resource as `aud`.
//! // Refused: `alg: none`, or the `aud` of another resource.
//! # drop(verifier);
//! # Ok(())
//! # }
//! ```
//!
//! # The profile
//! RFC 9068, narrowed. A token has three parts in canonical base64url; header and claims are strict
//! JSON. `alg` is one of two; `typ` is `at+jwt` or `application/at+jwt` in any case (RFC 9068 §4).
//! `crit`, `b64` and `zip` are refused, as is a key, or a reference to one, in the header. `iss`,
//! `aud`, `exp`, `iat`, `jti`, `client_id` and `sub` are required and typed. `scope`, `act` (RFC
//! 8693 §4.1, at most eight levels) and `token_family` (our own: the ID under which a whole
//! authorization is revoked) are optional. Where the standards leave a choice, this is ours:
//!
//! - `aud` is only this resource: a string, or an array of one. A token for two servers is refused
//!   by both.
//! - `nbf` is optional (RFC 9068 §2.2 does not require it). Without it, a token is valid from
//!   `iat`.
//! - Times are integers from 0 to 2⁵³, compared with a fixed [`LEEWAY`](crate::clock::LEEWAY). This
//!   also applies to an `iat` in the future. `exp` is at most
//!   [`Revocations::RETENTION`](crate::revocation::Revocations::RETENTION) after `iat`, because
//!   revocations are kept no longer.
//! - Without a `kid`, a token is verified with the only key of its algorithm; if there are several,
//!   it is refused.
//! - Ed25519 keys and commitments of small order, or with a non-canonical encoding, are refused, so
//!   that every replica has the same result.
//!
//! # Limits
//! Token ≤ 16 KiB; key set ≤ 64 KiB and 100 keys; `kid` and `jti` ≤ 256 bytes, `sub` ≤ 1 KiB,
//! `client_id` ≤ 2 KiB.
//!
//! # Sources
//! RFC 7515, RFC 7517, RFC 7518 §3.4, RFC 7519, RFC 8037, RFC 8725, RFC 9068, RFC 8693 §4.1.

mod claims;
mod ed25519;
mod keys;
mod remote_keys;
#[cfg(test)]
mod signature_vectors;
#[cfg(test)]
pub(super) mod tests;
mod verifier;

pub use keys::{Algorithm, KeyError, Keys, KeysError};
pub use remote_keys::{KeySource, RemoteKeys};
pub use verifier::JwtVerifier;
