//! The trait of key-encryption keys, for a key management service.

use std::{fmt, pin::Pin, sync::Arc};

use tower_token_broker::Secret;

/// Wraps and unwraps data keys with a key-encryption key. [`KeyRing`](super::KeyRing) keeps such
/// keys in this process; implement the trait for a key management service.
///
/// An implementation that calls a service should bound each call. [`KeptKeys`](super::KeptKeys)
/// keeps what it unwrapped for a few minutes.
pub trait KeyWrap: Send + Sync + 'static {
    /// Returns the ID of the key that wraps. Rotation wraps with this key all that other keys have
    /// wrapped.
    fn current(&self) -> KeyId;

    /// Wraps a key of 32 octets with the current key. `context` is authenticated, and not stored.
    ///
    /// # Errors
    /// [`KeyWrapError::Unavailable`]
    ///
    /// # Cancellation
    /// The result is lost, and nothing depends on it.
    fn wrap(
        &self,
        key: &Secret,
        context: &[u8],
    ) -> impl Future<Output = Result<WrappedKey, KeyWrapError>> + Send;

    /// Unwraps a key that was wrapped with any key that is still available, in this context.
    ///
    /// # Errors
    /// [`KeyWrapError`]
    ///
    /// # Cancellation
    /// The result is lost, and nothing depends on it.
    fn unwrap(
        &self,
        wrapped: &WrappedKey,
        context: &[u8],
    ) -> impl Future<Output = Result<Secret, KeyWrapError>> + Send;
}

/// ID of a key-encryption key. It is no secret. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Creates an ID.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A data key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrappedKey {
    /// ID of the key that wrapped it.
    pub key_id: KeyId,
    /// Its octets, encrypted.
    pub bytes: Vec<u8>,
}

impl WrappedKey {
    /// Creates a wrapped key.
    pub const fn new(key_id: KeyId, bytes: Vec<u8>) -> Self {
        Self { key_id, bytes }
    }
}

/// The reason why a key was not wrapped or unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyWrapError {
    /// The key management service does not respond at the moment.
    #[error("the key-encryption key is unavailable at the moment")]
    Unavailable,
    /// The key that wrapped it is not among those that are available.
    #[error("key {key_id} is not available; add it to the key file again")]
    UnknownKey {
        /// ID of the key.
        key_id: KeyId,
    },
    /// The wrapped key was changed, or was wrapped in another context.
    #[error("a wrapped key was changed, or was wrapped for another place")]
    Unreadable,
}

impl KeyWrapError {
    /// Returns whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

/// A [`KeyWrap`] of any type, chosen by configuration. Clones share it.
#[derive(Clone)]
pub struct BoxKeyWrap(Arc<dyn DynKeyWrap>);

impl BoxKeyWrap {
    /// Erases the type of the keys.
    pub fn new(keys: impl KeyWrap) -> Self {
        Self(Arc::new(keys))
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyWrapError>> + Send + 'a>>;

/// [`KeyWrap`] with boxed futures, so that it can be a trait object.
trait DynKeyWrap: Send + Sync {
    fn current(&self) -> KeyId;
    fn wrap<'a>(&'a self, key: &'a Secret, context: &'a [u8]) -> BoxFuture<'a, WrappedKey>;
    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a [u8]) -> BoxFuture<'a, Secret>;
}

impl<K: KeyWrap> DynKeyWrap for K {
    fn current(&self) -> KeyId {
        KeyWrap::current(self)
    }

    fn wrap<'a>(&'a self, key: &'a Secret, context: &'a [u8]) -> BoxFuture<'a, WrappedKey> {
        Box::pin(KeyWrap::wrap(self, key, context))
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a [u8]) -> BoxFuture<'a, Secret> {
        Box::pin(KeyWrap::unwrap(self, wrapped, context))
    }
}

impl KeyWrap for BoxKeyWrap {
    fn current(&self) -> KeyId {
        self.0.current()
    }

    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
        self.0.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<Secret, KeyWrapError> {
        self.0.unwrap(wrapped, context).await
    }
}

impl fmt::Debug for BoxKeyWrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxKeyWrap").finish_non_exhaustive()
    }
}
