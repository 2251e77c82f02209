//! Connects in progress.

use std::{fmt, sync::Arc};

use tower_token_broker::{Secret, clock::Timestamp};

use crate::{GrantKey, authority::SessionId};

/// ID of a connect, for records. It is not its `state`, and no secret. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectId(Arc<str>);

impl ConnectId {
    /// Creates an ID.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// Returns the ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connect that a user began, and whose browser has not come back yet. It is found by the keyed
/// hash of its `state` only. `Debug` does not print its content.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PendingConnect {
    /// ID, unique in a store.
    pub id: ConnectId,
    /// User, server and account that it is for.
    pub key: GrantKey,
    /// The browser session in which it was begun. It continues in no other.
    pub session: SessionId,
    /// PKCE verifier, client, authorization server and what else was decided when it began. Only
    /// the connect flow reads it; stores encrypt it.
    pub content: Secret,
    /// When it was begun.
    pub created_at: Timestamp,
    /// From this instant on, it is not found.
    pub expires_at: Timestamp,
}

impl PendingConnect {
    /// Creates a connect in progress.
    pub fn new(
        (id, key): (ConnectId, GrantKey),
        session: SessionId,
        content: Secret,
        (created_at, expires_at): (Timestamp, Timestamp),
    ) -> Self {
        Self { id, key, session, content, created_at, expires_at }
    }
}
