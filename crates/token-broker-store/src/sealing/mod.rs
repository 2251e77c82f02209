//! Envelope encryption of secrets in a store: data keys, and key-encryption keys that wrap them.
//!
//! Each grant has a [`DataKey`] of its own, which seals its tokens. The data key is stored next to
//! them, wrapped by a key-encryption key: one of a [`KeyRing`] (a file or an environment variable),
//! or of a key management service for which you implement [`KeyWrap`]. Without that key, a copy of
//! the database contains no usable token.
//!
//! The algorithm is AES-256-GCM-SIV (RFC 8452) with random nonces. Each sealed value is bound to
//! its [`SealingContext`]: it opens only as the same column of the same version of the same row.
//!
//! # Example
//! A value opens in its own context. A value that was moved to another row is refused.
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use token_broker_store::sealing::{BoxKeyWrap, DataKey, KeyRing, SealingContext};
//! # use tower_token_broker::Secret;
//! # #[expect(clippy::disallowed_methods, reason = "a new key of this example")]
//! # fn text(key: &Secret) -> &str { key.expose_text().unwrap() }
//!
//! let keys = BoxKeyWrap::new(KeyRing::parse(text(&KeyRing::generate_line())).unwrap());
//! let alice = SealingContext::new("refresh token").text("alice").number(7);
//! let bob = SealingContext::new("refresh token").text("bob").number(7);
//!
//! let data_key = DataKey::generate();
//! let sealed = data_key.seal(&alice, &Secret::from_text("1//0g".into()));
//! let wrapped = data_key.wrap(&keys, &alice).await.unwrap();
//!
//! let data_key = DataKey::unwrap(&keys, &wrapped, &alice).await.unwrap();
//! assert!(data_key.open(&alice, &sealed).is_ok());
//! assert!(data_key.open(&bob, &sealed).is_err());
//! assert!(DataKey::unwrap(&keys, &wrapped, &bob).await.is_err());
//! # });
//! ```

mod aead;
mod context;
mod data_key;
mod kept_keys;
mod key_ring;
mod key_strength;
mod key_wrap;
#[cfg(test)]
mod tests;

pub use context::SealingContext;
pub use data_key::{DataKey, UnsealError};
pub use kept_keys::KeptKeys;
pub use key_ring::{KeyRing, KeyRingError};
pub use key_strength::WeakKey;
pub use key_wrap::{BoxKeyWrap, KeyId, KeyWrap, KeyWrapError, WrappedKey};
