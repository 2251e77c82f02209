//! A file of JSON lines: one record per line, one write and one fdatasync per batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    audit_sink::{AuditSink, Resumed, SinkError},
    file_identity::{Changed, FileIdentity},
};
use crate::{
    alarm::Alarm,
    audit::{
        reader::{Lines, Next, StoredRecord},
        record::{Head, Member, OpenWork, RecordKind, Records},
    },
};

/// A file, written by one broker process: the file is locked while it is open.
///
/// Before and after each batch, the path must lead to the open file, with exactly the bytes that
/// were written. If the file was deleted, renamed, replaced, truncated or written to by another
/// program, the log closes and requests are refused, until the file is back as it was or the
/// process is restarted. So programs that rotate logs must not touch the file.
#[derive(Debug)]
pub struct JsonLines {
    state: Mutex<State>,
}

/// The operations on the disk: a file, except in tests that observe or break it.
trait Disk: fmt::Debug + Send {
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

#[derive(Debug)]
struct State {
    disk: Box<dyn Disk>,
    /// `None` only in tests without a file.
    identity: Option<FileIdentity>,
    /// The length that is written and synced. Bytes after it belong to a failed batch.
    durable: u64,
    /// The length of the file if a batch has failed; `None` if it is not known.
    torn: Option<Torn>,
    /// Whether the alarm was raised.
    has_changed: bool,
    last: Option<Head>,
    resumed: Resumed,
}

/// The file after a failed batch.
#[derive(Clone, Copy, Debug)]
struct Torn {
    /// Its length; `None` if it is not known.
    length: Option<u64>,
}

/// A file that cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFileError {
    /// The file cannot be opened, read or truncated.
    #[error(
        "the audit file {} cannot be opened: {source}; check the path and its permissions",
        path.display()
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
        "the audit file {} is being written already; give each broker a file of its own",
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
        "the audit file {} is damaged at line {line}; keep it for the investigation, and start a \
         new one",
        path.display()
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The first wrong line, from 1 on.
        line: u64,
    },
}

/// An [`AuditFileError`] before its path is added.
enum Unreadable {
    Io(io::Error),
    Damaged { line: u64 },
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Unreadable {
    fn at(self, path: &Path) -> AuditFileError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => AuditFileError::Io { path, source },
            Self::Damaged { line } => AuditFileError::Damaged { path, line },
        }
    }
}

impl JsonLines {
    /// Continues the file, or creates it (mode 0600 on Unix). The whole chain is verified. A torn
    /// last line, which a crash leaves, is removed, and the next record reports its length.
    ///
    /// # Errors
    /// See [`AuditFileError`].
    pub fn append(path: impl AsRef<Path>) -> Result<Self, AuditFileError> {
        let mut options = OpenOptions::new();
        options.read(true).create(true).truncate(false);
        // Elsewhere, a file that is opened for appending cannot be truncated.
        if cfg!(unix) {
            options.append(true)
        } else {
            options.write(true)
        };
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = path.as_ref();
        // Checked before it is opened: opening a pipe would wait for its other end.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(AuditFileError::NotAFile { path: path.to_owned() });
        }
        let io = |error: io::Error| Unreadable::from(error).at(path);
        let file = options.open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AuditFileError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let (resumed, durable) = read(&file).map_err(|error| error.at(path))?;
        #[cfg(unix)]
        if resumed.last.is_none() {
            // X17: the records of a new file are only as durable as its name in the folder.
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let changed = || AuditFileError::Changed { path: path.to_owned() };
        let identity = FileIdentity::of(&file, path).map_err(io)?.map_err(|_changed| changed())?;
        identity.check(durable).map_err(|_changed| changed())?;
        Ok(Self { state: Mutex::new(State::new(Box::new(file), Some(identity), durable, resumed)) })
    }
}

impl AuditSink for JsonLines {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(self.state.lock().resumed.clone())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        // Only the thread of the log waits here: the lock is never contended.
        let mut state = self.state.lock();
        // With two writers, or a sink used by two logs, one of the chains would be broken.
        if !records.follow(state.last) {
            return Err(SinkError::new("the records do not follow the last one of the file"));
        }
        state.append(records.as_json_lines())?;
        state.last = records.last().or(state.last);
        Ok(())
    }
}

impl State {
    fn new(
        disk: Box<dyn Disk>,
        identity: Option<FileIdentity>,
        durable: u64,
        resumed: Resumed,
    ) -> Self {
        let last = resumed.last;
        Self { disk, identity, durable, torn: None, has_changed: false, last, resumed }
    }

    fn append(&mut self, batch: &[u8]) -> Result<(), SinkError> {
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

/// Reads the whole chain: its last record, and what was open then.
fn read(file: &File) -> Result<(Resumed, u64), Unreadable> {
    let mut lines = Lines::new(BufReader::new(file));
    let (mut resumed, mut durable) = (Resumed::after(None), 0);
    let mut open = BTreeSet::new();
    let mut token_requests = BTreeMap::new();
    loop {
        match lines.next()? {
            Next::Line => {}
            Next::End => break,
            Next::TooLong if lines.rest_is_zeros()? => {
                resumed.dropped_bytes = lines.bytes - durable;
                file.set_len(durable)?;
                break;
            }
            Next::TooLong => return Err(Unreadable::Damaged { line: lines.number }),
            Next::Torn => {
                // X17, X18: a crash tears only the last line, for which no caller was promised
                // anything.
                resumed.dropped_bytes = lines.bytes - durable;
                file.set_len(durable)?;
                break;
            }
        }
        let record = StoredRecord::read(&lines.line).ok();
        let record = record.filter(|record| record.follows(resumed.last));
        let record = record.ok_or(Unreadable::Damaged { line: lines.number })?;
        resumed.last = Some(record.head());
        durable = lines.bytes;
        let number = || record.number(Member::TokenRequest);
        match (record.kind(), record.work()) {
            // An intent after its request has ended has its result already.
            (Some(RecordKind::Intent), Some(work)) if !record.flag(Member::Late) => {
                open.insert(work);
            }
            (Some(RecordKind::Result | RecordKind::JobResult), Some(work)) => {
                open.remove(&work);
            }
            // Each process numbers its token requests from 0. At its start, it settled those of the
            // one before.
            (Some(RecordKind::TokenRequest), Some(work)) => {
                token_requests.extend(number().map(|number| (number, work)));
            }
            (Some(RecordKind::TokenResult), _) => {
                number().map(|number| token_requests.remove(&number));
            }
            _ => {}
        }
    }
    resumed.open = open.into_iter().collect::<Vec<OpenWork>>();
    resumed.open_token_requests =
        token_requests.into_iter().map(|(number, work)| (work, number)).collect();
    Ok((resumed, durable))
}

#[cfg(test)]
impl JsonLines {
    /// With a disk that fails every tenth append after writing more than the batch.
    pub(in crate::audit) fn flaky(path: &Path) -> Self {
        #[derive(Debug)]
        struct Flaky(File, u32);
        impl Disk for Flaky {
            fn cut(&mut self, length: u64) -> io::Result<()> {
                self.0.cut(length)
            }
            fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.1 += 1;
                if self.1.is_multiple_of(10) {
                    // The next attempt must not leave a rest of this one after its bytes.
                    Disk::append(&mut self.0, &bytes.repeat(2)[..bytes.len() * 3 / 2])?;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Disk::append(&mut self.0, bytes)
            }
            fn sync(&mut self) -> io::Result<()> {
                self.0.sync()
            }
        }
        let sink = Self::append(path).expect("a file of the test's own");
        sink.state.lock().disk =
            Box::new(Flaky(File::options().write(true).open(path).expect("the same"), 0));
        sink
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::{AuditLog, Intent, Trail};

    /// Records the calls, and keeps nothing.
    #[derive(Debug, Default, Clone)]
    struct Watched(Arc<Mutex<Vec<&'static str>>>);

    impl Disk for Watched {
        fn cut(&mut self, _: u64) -> io::Result<()> {
            self.0.lock().push("cut");
            Ok(())
        }
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            self.0.lock().push("append");
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            self.0.lock().push("sync");
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_batch_that_does_not_follow_is_refused() {
        let group = |sequence: u64, previous: [u8; 32]| {
            let mut records = Records::default();
            records.append(RecordKind::Close, b",\"kind\":\"close\"", sequence, &previous);
            records
        };
        let folder = tempfile::tempdir().unwrap();
        let sink = JsonLines::append(folder.path().join("audit.jsonl")).unwrap();
        assert!(sink.write(&group(1, [0; 32])).await.is_err(), "not the first");
        assert!(sink.write(&group(0, [1; 32])).await.is_err(), "of another chain");
        let first = group(0, [0; 32]);
        sink.write(&first).await.unwrap();
        let hash = *first.iter().next().unwrap().hash();
        assert!(sink.write(&first).await.is_err(), "again");
        assert!(sink.write(&group(2, hash)).await.is_err(), "a gap");
        assert!(sink.write(&group(1, [9; 32])).await.is_err(), "another record before it");
        sink.write(&group(1, hash)).await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_is_one_append_and_one_sync() {
        let disk = Watched::default();
        let state = State::new(Box::new(disk.clone()), None, 0, Resumed::after(None));
        let log = AuditLog::from(JsonLines { state: Mutex::new(state) });
        log.flush().await.unwrap();
        disk.0.lock().clear();
        let (trail, terminal) = Trail::for_test(&log);
        let scopes = crate::principal::Scopes::none();
        let intent =
            || trail.intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None));
        intent().await.unwrap().used().unwrap();
        assert_eq!(*disk.0.lock(), ["append", "sync"]);
        disk.0.lock().clear();
        drop(terminal);
        // Many in one batch: one sync per batch.
        let together: Vec<_> = (0..100).map(|_| Box::pin(intent())).collect();
        for one in together {
            one.await.unwrap().used().unwrap();
        }
        let calls = disk.0.lock().clone();
        assert!(calls.chunks(2).all(|pair| pair == ["append", "sync"]), "{calls:?}");
    }
}
