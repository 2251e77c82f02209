//! Verifies access tokens that are signed JWTs, with keys of the process or from a remote JWKS: the
//! broker's own (ES256 or EdDSA), and those of an identity provider.
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
//! JSON. `alg` is one that the keys are for, by default ES256 or EdDSA; `typ` is `at+jwt` or
//! `application/at+jwt` in any case (RFC 9068 §4). `crit`, `b64` and `zip` are refused, as is a
//! key, or a reference to one, in the header. `iss`, `aud`, `exp`, `iat`, `jti`, `client_id` and
//! `sub` are required and typed. `scope`, `act` (RFC 8693 §4.1, at most eight levels) and
//! `token_family` (our own: the ID under which a whole authorization is revoked) are optional.
//! Where the standards leave a choice, this is ours:
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
//! # Identity providers
//! A [`TokenProfile`] is the form of another issuer's access tokens, and what distinguishes them
//! from its ID tokens. Other algorithms, RSA among them, are accepted if they are named
//! ([`RemoteKeys::algorithms`], [`Keys::parse_for`]). A key is bound to its algorithm when the set
//! is read, and a token decides nothing about that. [`RemoteKeys::discover`] finds the keys by the
//! issuer's metadata.
//!
//! # Limits
//! Token ≤ 16 KiB; key set ≤ 64 KiB and 100 keys; `kid` and `jti` ≤ 256 bytes, `sub` ≤ 1 KiB,
//! `client_id` ≤ 2 KiB.
//!
//! # Sources
//! RFC 7515, RFC 7517, RFC 7518 §3.3 to 3.5, RFC 7519, RFC 8037, RFC 8725, RFC 9068, RFC 8693 §4.1;
//! OpenID Connect Core §2, 3.1.3.6 and 5.6.2, OpenID Connect Discovery §4, RFC 8414 §3. The
//! providers' documentation of their access tokens, 2026.

mod algorithm;
pub(super) mod claims;
mod discovery;
#[cfg(test)]
mod discovery_tests;
mod ed25519;
mod key;
#[cfg(test)]
mod key_set_tests;
mod keys;
#[cfg(test)]
mod outage_tests;
pub(super) mod profile;
#[cfg(test)]
mod profile_tests;
mod remote_keys;
mod rsa;
#[cfg(test)]
mod signature_vectors;
mod signed;
#[cfg(test)]
pub(super) mod test_issuer;
#[cfg(test)]
pub(super) mod tests;
mod verifier;

pub use algorithm::{Algorithm, Algorithms};
pub use discovery::EndpointError;
pub use key::KeyError;
pub use keys::{Keys, KeysError};
pub use profile::TokenProfile;
pub use remote_keys::{KeySource, RemoteKeys};
pub use signed::SignedJwt;
pub(super) use signed::object;
pub use verifier::JwtVerifier;
