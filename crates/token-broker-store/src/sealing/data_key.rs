//! Data keys: each seals the secrets of one row.

use aws_lc_rs::rand;
use tower_token_broker::Secret;
use zeroize::Zeroizing;

use super::{
    SealingContext,
    aead::{KEY, SealingKey},
    key_wrap::{BoxKeyWrap, KeyWrap as _, KeyWrapError, WrappedKey},
};

/// Key that seals the secrets of one row. It is stored only as a [`WrappedKey`].
#[derive(Debug)]
#[must_use = "what it seals is lost unless it is wrapped and stored"]
pub struct DataKey {
    secret: Secret,
    key: SealingKey,
}

impl DataKey {
    /// Creates a random key.
    ///
    /// # Panics
    /// The system's random number generator fails.
    pub fn generate() -> Self {
        let mut octets = Zeroizing::new([0; KEY]);
        rand::fill(&mut *octets)
            .expect("the system's source of randomness does not fail once it is seeded");
        Self::of(&octets)
    }

    fn of(octets: &[u8; KEY]) -> Self {
        Self { secret: Secret::new(octets.to_vec()), key: SealingKey::derive(octets, "data key") }
    }

    /// Seals a value.
    pub fn seal(&self, context: &SealingContext, content: &Secret) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "the value that is encrypted")]
        self.key.seal(context, content.expose())
    }

    /// Opens a value.
    ///
    /// # Errors
    /// [`UnsealError`] unless this key sealed it in this context, and no bit has changed since.
    pub fn open(&self, context: &SealingContext, sealed: &[u8]) -> Result<Secret, UnsealError> {
        self.key.open(context, sealed).ok_or(UnsealError)
    }

    /// Wraps this key with the key-encryption key, to be stored.
    ///
    /// # Errors
    /// [`KeyWrapError`]
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn wrap(
        &self,
        keys: &BoxKeyWrap,
        context: &SealingContext,
    ) -> Result<WrappedKey, KeyWrapError> {
        keys.wrap(&self.secret, context.as_bytes()).await
    }

    /// Unwraps a stored key.
    ///
    /// # Errors
    /// [`KeyWrapError`]
    ///
    /// # Cancellation
    /// Changes nothing.
    pub async fn unwrap(
        keys: &BoxKeyWrap,
        wrapped: &WrappedKey,
        context: &SealingContext,
    ) -> Result<Self, KeyWrapError> {
        let secret = keys.unwrap(wrapped, context.as_bytes()).await?;
        #[expect(clippy::disallowed_methods, reason = "the key that is used")]
        let octets = secret.expose().try_into().map_err(|_| KeyWrapError::Unreadable)?;
        Ok(Self::of(octets))
    }

    /// Returns the octets of the key, for keys that another component uses.
    pub fn into_secret(self) -> Secret {
        self.secret
    }
}

/// A sealed value does not open: it was changed, or moved here from another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value was changed, or was sealed for another place")]
#[non_exhaustive]
pub struct UnsealError;
