//! Appends to a file that no other program may change: one write and one fdatasync per batch.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use super::{
    audit_sink::SinkError,
    file_error::{AuditFileError, Unreadable},
    file_identity::{Changed, FileIdentity},
};
use crate::alarm::Alarm;

/// Whether the file exists before it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum IsNew {
    /// It must not.
    Yes,
    /// It is created if it does not.
    Perhaps,
    /// It must.
    No,
}

/// The operations on the disk: a file, except in tests that observe or break it.
pub(super) trait Disk: fmt::Debug + Send {
    /// Truncates the file to this length, and continues there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        // On Unix, the file is opened for appending, so that no byte of another writer is
        // overwritten.
        self.seek(SeekFrom::Start(length)).map(drop)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A file that batches are appended to: each is in it once and whole, or not at all.
#[derive(Debug)]
pub(super) struct AppendedFile {
    disk: Box<dyn Disk>,
    /// `None` only in tests without a file.
    identity: Option<FileIdentity>,
    /// The length that is written and synced. Bytes after it belong to a failed batch.
    durable: u64,
    /// The length of the file if a batch has failed; `None` if it is not known.
    torn: Option<Torn>,
    /// Whether the alarm was raised.
    has_changed: bool,
}

/// The file after a failed batch.
#[derive(Clone, Copy, Debug)]
struct Torn {
    /// Its length; `None` if it is not known.
    length: Option<u64>,
}

impl AppendedFile {
    /// Opens the file for appending, or creates it (mode 0600 on Unix), and locks it.
    ///
    /// The caller reads it, and then calls [`AppendedFile::after`].
    pub(super) fn open(path: &Path, is_new: IsNew) -> Result<File, AuditFileError> {
        let file = Self::open_unlocked(path, is_new)?;
        Self::lock(&file, path)?;
        Ok(file)
    }

    /// Like [`AppendedFile::open`], without the lock.
    pub(super) fn open_unlocked(path: &Path, is_new: IsNew) -> Result<File, AuditFileError> {
        let mut options = OpenOptions::new();
        options.read(true).truncate(false);
        match is_new {
            IsNew::Yes => options.create_new(true),
            IsNew::Perhaps => options.create(true),
            IsNew::No => &mut options,
        };
        // Elsewhere, a file that is opened for appending cannot be truncated.
        if cfg!(unix) {
            options.append(true)
        } else {
            options.write(true)
        };
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Checked before it is opened: opening a pipe would wait for its other end.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(AuditFileError::NotAFile { path: path.to_owned() });
        }
        options.open(path).map_err(|error| Unreadable::from(error).at(path))
    }

    /// Locks the file for this process.
    pub(super) fn lock(file: &File, path: &Path) -> Result<(), AuditFileError> {
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(AuditFileError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(Unreadable::from(error).at(path)),
        }
    }

    /// Continues an open file after this many bytes, which must be all that it has.
    pub(super) fn after(file: File, path: &Path, durable: u64) -> Result<Self, AuditFileError> {
        let identity = Self::identify(&file, path, durable)?;
        Ok(Self::new(Box::new(file), Some(identity), durable))
    }

    /// Identifies an open file at its path, which must have this length.
    pub(super) fn identify(
        file: &File,
        path: &Path,
        length: u64,
    ) -> Result<FileIdentity, AuditFileError> {
        let io = |error: io::Error| Unreadable::from(error).at(path);
        let changed = |changed: Changed| match changed {
            Changed::Unreachable(kind) => io(kind.into()),
            Changed::Missing | Changed::Replaced | Changed::NotAFile | Changed::Length { .. } => {
                AuditFileError::Changed { path: path.to_owned() }
            }
        };
        let identity = FileIdentity::of(file, path).map_err(io)?.map_err(changed)?;
        identity.check(length).map_err(changed)?;
        Ok(identity)
    }

    pub(super) fn new(disk: Box<dyn Disk>, identity: Option<FileIdentity>, durable: u64) -> Self {
        Self { disk, identity, durable, torn: None, has_changed: false }
    }

    /// Returns the length that is written and synced.
    pub(super) const fn durable(&self) -> u64 {
        self.durable
    }

    #[cfg(test)]
    pub(super) fn replace_disk(&mut self, disk: Box<dyn Disk>) {
        self.disk = disk;
    }

    /// Appends a batch, and returns when it is durable.
    ///
    /// # Errors
    /// No part of the batch counts as written. The rest of it is removed before the next attempt.
    pub(super) fn append(&mut self, batch: &[u8]) -> Result<(), SinkError> {
        // P385: nothing is written to another file, and no batch is durable in one that is gone.
        self.is_unchanged(batch.len())?;
        let end = self.durable + batch.len() as u64;
        if let Err(error) = self.write(batch) {
            let length = self.identity.as_ref().and_then(|identity| identity.length().ok());
            self.torn = Some(Torn { length });
            return Err(SinkError::new(&error.kind().to_string()));
        }
        self.torn = Some(Torn { length: Some(end) });
        self.is_unchanged(batch.len())?;
        (self.torn, self.durable) = (None, end);
        Ok(())
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        // X17: remove the rest of a failed attempt first, so that a batch is in the file once and
        // whole.
        if self.torn.is_some() {
            self.disk.cut(self.durable)?;
        }
        self.disk.append(batch)?;
        self.disk.sync()
    }

    /// Checks that the path leads to the open file, with exactly what was written. Raises the alarm
    /// the first time it does not.
    fn is_unchanged(&mut self, batch: usize) -> Result<(), SinkError> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let checked = match self.torn {
            None => identity.check(self.durable),
            Some(Torn { length: Some(length) }) => identity.check(length),
            // The length could not be read after the failure: a part of the batch may be there.
            Some(Torn { length: None }) => identity.length().and_then(|found| {
                let longest = self.durable + batch as u64;
                let is_ours = (self.durable..=longest).contains(&found);
                let written = if found < self.durable { self.durable } else { longest };
                if is_ours { Ok(()) } else { Err(Changed::Length { found, written }) }
            }),
        };
        let Err(changed) = checked else {
            self.has_changed = false;
            return Ok(());
        };
        if !std::mem::replace(&mut self.has_changed, true) {
            tracing::error!(
                alarm = Alarm::AuditFileChanged.code(),
                path = %identity.path().display(),
                %changed,
                "the audit file is not as this process left it: every request is refused. Rotating \
                 it (rename or copytruncate) is not supported while the broker runs. Put the file \
                 back as it was, or restart the broker; keep what is there for the investigation"
            );
        }
        Err(SinkError::new(&format!("the file was changed by others: {changed}")))
    }
}

/// Makes the names in a folder durable.
// X17: the records of a new file are only as durable as its name in the folder.
pub(in crate::audit) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
