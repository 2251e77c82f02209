//! When connections were last used.

use tower_token_broker::clock::Timestamp;

use crate::{
    GrantKey, StoreError,
    authority::{ClientId, limits},
};

/// The last use of a connection by one client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionUse {
    /// User, server and account.
    pub key: GrantKey,
    /// The client whose calls used it.
    pub client: ClientId,
    /// When, to within some minutes.
    pub last_used_at: Timestamp,
}

impl ConnectionUse {
    /// Creates the record of a use.
    pub const fn new(key: GrantKey, client: ClientId, last_used_at: Timestamp) -> Self {
        Self { key, client, last_used_at }
    }

    /// Checks what every store checks before it stores a use.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::key(&self.key)?;
        limits::client(self.client.as_str())
    }
}
