//! When connections were last used.

use tower_token_broker::clock::Timestamp;

use crate::{GrantKey, authority::ClientId};

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
}
