//! The identity of the audit file: whether the path still leads to the file that is open.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
};

/// The path of an open file, and what identifies the file.
#[derive(Debug)]
pub(super) struct FileIdentity {
    path: PathBuf,
    /// Whether the path was a symbolic link when the file was opened. If not, it must not become
    /// one.
    is_link: bool,
    id: Id,
}

/// Device and inode.
#[cfg(unix)]
type Id = (u64, u64);

/// The time of creation. The standard library has no stable file ID on other systems.
#[cfg(not(unix))]
type Id = Option<std::time::SystemTime>;

/// The reason why the file must not be written to.
#[derive(Debug)]
pub(super) enum Changed {
    /// Nothing is at the path: the file or its folder was deleted or renamed.
    Missing,
    /// Another file is at the path.
    Replaced,
    /// The path became a symbolic link, a folder or a device.
    NotAFile,
    /// The file has another length than what was written.
    Length { found: u64, written: u64 },
    /// The path cannot be looked at, for instance because a permission of its folder was removed.
    Unreachable(io::ErrorKind),
}

impl FileIdentity {
    /// Identifies a file that was opened at this path.
    pub(super) fn of(file: &File, path: &Path) -> io::Result<Result<Self, Changed>> {
        // The process may change its working directory.
        let path = std::path::absolute(path)?;
        let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
        let identity = Self { path, is_link, id: id(&file.metadata()?) };
        // Replaced between the opening and the lock.
        Ok(identity.length().map(|_length| identity))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path was a symbolic link when the file was identified.
    pub(super) const fn is_link(&self) -> bool {
        self.is_link
    }

    /// Returns the length of the file, if the path leads to it.
    pub(super) fn length(&self) -> Result<u64, Changed> {
        let found =
            if self.is_link { fs::metadata(&self.path) } else { fs::symlink_metadata(&self.path) };
        let found = found.map_err(|error| {
            let kind = error.kind();
            let is_gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&kind);
            if is_gone { Changed::Missing } else { Changed::Unreachable(kind) }
        })?;
        if !found.is_file() {
            return Err(Changed::NotAFile);
        }
        // The open file keeps its inode: no other file can have the same one.
        if id(&found) == self.id { Ok(found.len()) } else { Err(Changed::Replaced) }
    }

    /// Checks that the path leads to the file, and that it has this length.
    pub(super) fn check(&self, written: u64) -> Result<(), Changed> {
        match self.length()? {
            found if found == written => Ok(()),
            found => Err(Changed::Length { found, written }),
        }
    }
}

#[cfg(unix)]
fn id(of: &Metadata) -> Id {
    use std::os::unix::fs::MetadataExt as _;
    (of.dev(), of.ino())
}

#[cfg(not(unix))]
fn id(of: &Metadata) -> Id {
    of.created().ok()
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing is at its path: it was deleted or renamed"),
            Self::Replaced => f.write_str("another file is at its path"),
            Self::NotAFile => f.write_str("its path is no regular file any more"),
            Self::Length { found, written } if found < written => {
                write!(f, "it was truncated from {written} to {found} bytes")
            }
            Self::Length { found, written } => {
                write!(f, "another program wrote to it: {found} bytes instead of {written}")
            }
            Self::Unreachable(kind) => write!(f, "its path cannot be looked at: {kind}"),
        }
    }
}
