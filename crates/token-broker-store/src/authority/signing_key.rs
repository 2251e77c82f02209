//! Keys that sign broker tokens.

use tower_token_broker::{Secret, clock::Timestamp};

use super::limits;
use crate::StoreError;

/// Times of a signing key. It is published before it signs, and after, as long as tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct KeyTimes {
    /// From when on it is published.
    pub published_from: Timestamp,
    /// From when on it signs.
    pub signs_from: Timestamp,
    /// Until when it signs; `None` while there is no successor.
    pub signs_until: Option<Timestamp>,
    /// Until when it is published; `None` while there is no successor.
    pub published_until: Option<Timestamp>,
}

impl KeyTimes {
    /// Creates the times of a key without a successor.
    pub const fn new(published_from: Timestamp, signs_from: Timestamp) -> Self {
        Self { published_from, signs_from, signs_until: None, published_until: None }
    }

    /// Sets the times at which the key stops to sign and to be published.
    #[must_use = "returns the changed times"]
    pub const fn until(mut self, signs: Timestamp, published: Timestamp) -> Self {
        self.signs_until = Some(signs);
        self.published_until = Some(published);
        self
    }
}

/// A key that signs broker tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SigningKey {
    /// ID (`kid`), unique in a store.
    pub id: Box<str>,
    /// Algorithm (`alg`, RFC 7518 §3.1), for example `ES256`.
    pub algorithm: Box<str>,
    /// Private key, PKCS #8.
    pub private_key: Secret,
    /// When it is used.
    pub times: KeyTimes,
}

impl SigningKey {
    /// Creates a key.
    pub fn new(id: &str, algorithm: &str, private_key: Secret, times: KeyTimes) -> Self {
        Self { id: id.into(), algorithm: algorithm.into(), private_key, times }
    }

    /// Checks what every store checks before it stores a key.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::id("the key ID", &self.id)?;
        limits::text("the algorithm", &self.algorithm, 32)?;
        limits::count("the private key", limits::octets(&self.private_key), 16 * 1_024)
    }
}

/// The signing keys of a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SigningKeySet {
    /// Generation; rises with each key that is added. 0 without keys.
    pub generation: u64,
    /// The keys, in the order of the octets of their IDs.
    pub keys: Vec<SigningKey>,
    /// IDs of keys that can't be decrypted: the key that wrapped them is missing, or the row was
    /// changed. They sign and verify nothing.
    pub unreadable: Vec<Box<str>>,
}

impl SigningKeySet {
    /// Creates a set. Only stores call this.
    pub const fn new(generation: u64, keys: Vec<SigningKey>) -> Self {
        Self { generation, keys, unreadable: Vec::new() }
    }
}

/// Request to add a signing key, and to set the times of others.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct AddSigningKey {
    /// Generation of the set that the caller has read.
    pub generation: u64,
    /// The key.
    pub key: SigningKey,
    /// Times of other keys from now on, by their IDs. Unknown IDs are ignored.
    pub times: Vec<(Box<str>, KeyTimes)>,
}

impl AddSigningKey {
    /// Creates a request that changes no other key.
    pub const fn new(generation: u64, key: SigningKey) -> Self {
        Self { generation, key, times: Vec::new() }
    }

    /// Adds new times of another key.
    pub fn times(mut self, id: &str, times: KeyTimes) -> Self {
        self.times.push((id.into(), times));
        self
    }
}

/// A store of signing keys.
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each.
pub trait SigningKeyStore: Send + Sync + 'static {
    /// Returns all keys. One that can't be decrypted does not keep the others from being used.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Reads only.
    fn signing_keys(&self) -> impl Future<Output = Result<SigningKeySet, StoreError>> + Send;

    /// Adds a key and sets the times of others, if the generation is still the one in the request,
    /// and returns whether it was. Of several calls with one generation, one adds its key.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::Exists`] if a key has this ID.
    ///
    /// # Cancellation
    /// The key is added or not: read the set again.
    fn add_signing_key(
        &self,
        request: &AddSigningKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes keys that were published until an instant before this one, and returns their number.
    /// The generation does not change.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each key is removed or not; a retry is safe.
    fn remove_signing_keys(
        &self,
        before: Timestamp,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
