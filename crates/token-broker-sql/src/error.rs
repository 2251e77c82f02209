//! Errors of opening a store and of its keys.

use std::path::PathBuf;

use token_broker_store::{
    StoreError,
    sealing::{KeyId, KeyWrapError},
};
use tower_token_broker::revocation::RevocationStoreError;

use crate::{database::Failure, url::StoreUrl};

/// The reason why a store can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file can't be used.
    #[error("the store {} can't be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason, and what to do.
        reason: Box<str>,
    },
    /// The database does not respond, or refuses the connection.
    #[error("the store {url} can't be opened: {reason}")]
    Unreachable {
        /// The URL, without user and password.
        url: Box<str>,
        /// The reason.
        reason: Box<str>,
    },
    /// A newer version of the broker has changed the tables.
    #[error(
        "the store has schema version {found}, and this program supports versions up to \
         {supported}; use the program that last opened the store, or a newer one"
    )]
    NewerSchema {
        /// Version of the store.
        found: u64,
        /// Newest version that this program supports.
        supported: u64,
    },
    /// The tokens in the store were sealed with other keys.
    #[error(
        "the store was sealed with key {stored}, which was not given (the first given key is \
         {given}); use the key file that belongs to this store"
    )]
    WrongKey {
        /// ID of the key that is needed.
        stored: KeyId,
        /// ID of the key that was given and wraps.
        given: KeyId,
    },
    /// The keys of the store can't be opened, although their key is there.
    #[error("the keys in the store were changed; restore the store from a backup")]
    Damaged,
    /// The key management service does not respond.
    #[error("the key-encryption key is unavailable at the moment; try again")]
    KeyUnavailable,
}

impl OpenError {
    pub(crate) fn unreachable(url: &StoreUrl, failure: &Failure) -> Self {
        Self::Unreachable { url: url.to_string().into(), reason: failure.to_string().into() }
    }
}

/// The reason why a step on the keys or the mark of a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The store can't be reached at the moment, or failed.
    #[error("the store can't be reached")]
    Unreachable,
    /// A row is not as this program writes it.
    #[error("the store has a row that is not readable: it was changed, or is damaged")]
    Unreadable,
    /// A key was not wrapped or unwrapped.
    #[error(transparent)]
    Key(#[from] KeyWrapError),
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreadable => Self::Unreadable,
            Failure::Unreachable(_) | Failure::Taken | Failure::Deadlock => Self::Unreachable,
        }
    }
}

/// Failures of single rows are mapped where the row is known.
impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        tracing::debug!(%failure, "a step of the store failed");
        Self::Unreachable
    }
}

impl From<Failure> for RevocationStoreError {
    fn from(failure: Failure) -> Self {
        tracing::debug!(%failure, "a step of the store of revocations failed");
        Self::Unreachable
    }
}
