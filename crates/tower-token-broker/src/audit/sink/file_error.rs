//! The reasons why an audit file cannot be continued.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A file that cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFileError {
    /// The file cannot be opened, read or truncated.
    #[error(
        "the audit file {} cannot be opened: {source}; {}",
        path.display(),
        advice(source)
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A device, a pipe or a folder: records written there are not kept, or cannot be read again.
    #[error(
        "the audit file {} is not a regular file: nothing written there could be verified; name a \
         file",
        path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another process has it open, or this one has already.
    #[error(
        "the audit file {} is being written already; give each broker a file, or a writer name, of \
         its own",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Another file is at the path than the one that was opened.
    #[error(
        "the audit file {} was replaced or changed while it was opened; let no other program \
         rename, delete or write it",
        path.display()
    )]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// A record was changed, or one is missing.
    #[error(
        "the audit file {} is damaged at line {line}{}; keep it for the investigation, and start a \
         new one (in a folder: use another writer name)",
        path.display(),
        if *line == 1 { ", or is not an audit file" } else { "" }
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The first wrong line, from 1 on.
        line: u64,
    },
    /// A segment does not end with the record that the next one continues.
    #[error(
        "the audit segment {} is not followed by the next one: it was changed, or one was removed; \
         keep the segments for the investigation, and use another writer name or folder",
        path.display()
    )]
    SegmentsDoNotFollow {
        /// The path of the earlier segment.
        path: PathBuf,
    },
    /// A process was killed while it began the segment, and the one before it, which names the
    /// requests that were open, is gone.
    #[error(
        "the audit segment {} was begun and not completed, and the one before it is gone: that one \
         names the requests that were open. Put it back, or use another writer name",
        path.display()
    )]
    SegmentBeforeGone {
        /// The path of the later segment.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error(
        "the audit folder {} cannot be used: {source}; check the path and its permissions",
        path.display()
    )]
    Folder {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Returns what to do about a file that cannot be opened. A missing file would be created, so it is
/// its folder that is missing.
fn advice(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::NotFound {
        "create its folder, or check the path"
    } else {
        "check the path and its permissions"
    }
}

impl AuditFileError {
    /// Returns the cause without the path, for an error of the sink.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Io { source, .. } | Self::Folder { source, .. } => source.kind().to_string(),
            Self::NotAFile { .. } => "it is not a regular file".to_owned(),
            Self::InUse { .. } => "it is being written already".to_owned(),
            Self::Changed { .. } => "it was replaced while it was opened".to_owned(),
            Self::Damaged { .. } | Self::SegmentsDoNotFollow { .. } => "it is damaged".to_owned(),
            Self::SegmentBeforeGone { .. } => "the segment before it is gone".to_owned(),
        }
    }
}

/// An [`AuditFileError`] before its path is added.
pub(super) enum Unreadable {
    Io(io::Error),
    Damaged { line: u64 },
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Unreadable {
    pub(super) fn at(self, path: &Path) -> AuditFileError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => AuditFileError::Io { path, source },
            Self::Damaged { line } => AuditFileError::Damaged { path, line },
        }
    }
}
