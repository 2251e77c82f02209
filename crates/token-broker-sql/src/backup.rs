//! A copy of a SQLite store.

use std::path::{Path, PathBuf};

use crate::{database::CopyError, store::SqlStore};

/// The reason why no backup was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store is in PostgreSQL.
    #[error("the store is in PostgreSQL: back it up by `pg_dump --format=custom`")]
    Postgres,
    /// The file exists, or cannot be written.
    #[error("{} cannot be written: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: Box<str>,
    },
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(Box<str>),
}

pub(crate) async fn sqlite(store: &SqlStore, to: &Path) -> Result<(), BackupError> {
    let file = |reason: String| BackupError::File { path: to.to_owned(), reason: reason.into() };
    // Without the timeout of a request: a large store takes longer.
    store.database.copy_to(to).await.map_err(|error| match error {
        CopyError::Postgres => BackupError::Postgres,
        CopyError::Name => file("the path is not UTF-8".to_owned()),
        CopyError::File(error) => file(error.to_string()),
        CopyError::Store(failure) => BackupError::Store(failure.to_string().into()),
    })
}
