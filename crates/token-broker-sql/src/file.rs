//! The identity of the file of a SQLite store.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A path, and which file was there.
#[derive(Clone, Debug)]
pub(crate) struct StoreFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl StoreFile {
    /// Returns the file that is at the path now.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Whether the same file is there.
    pub(crate) fn is_in_place(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|_| (0, 0))
}
