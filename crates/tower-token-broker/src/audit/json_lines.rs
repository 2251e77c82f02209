//! A file of JSON lines: one record a line, one write and one fdatasync a group.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    chain::{Head, LONGEST_LINE, Link},
    record::Records,
    sink::{AuditSink, Resumed, SinkError},
};

/// The sink of one broker process: nobody else may write the file while it is open.
#[derive(Debug)]
pub struct JsonLines {
    state: Mutex<State>,
}

/// What is asked of the disk; a file, but for tests that watch or break it.
trait Disk: fmt::Debug + Send {
    /// Takes off what stands behind this length, and goes on there.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
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
    /// All before this is written and synced; what stands behind it is a group that failed.
    durable: u64,
    /// A group failed, so that something may stand behind.
    is_torn: bool,
    /// The number and hash of the last record.
    last: Option<(u64, [u8; 32])>,
    resumed: Resumed,
}

/// A file that cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFileError {
    /// It cannot be opened, read or truncated.
    #[error(
        "the audit file {} cannot be opened: {source}; check the path and its permissions",
        path.display()
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A device, a pipe or a folder: what is written there is not kept, or cannot be read again.
    #[error(
        "the audit file {} is not a regular file: nothing written there could be verified; name a \
         file",
        path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another process writes it, or this one does already.
    #[error(
        "the audit file {} is being written already; give each broker a file of its own",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A record is not what it was, or one is missing.
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

/// An error of a file whose path the caller knows.
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
    /// Goes on with the file, or begins it (mode 0600 on Unix). The whole chain is verified; a torn
    /// last line, which a crash leaves, is taken off and said so in the next record.
    ///
    /// # Errors
    /// See [`AuditFileError`].
    pub fn append(path: impl AsRef<Path>) -> Result<Self, AuditFileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = path.as_ref();
        // Looked at before it is opened: opening a pipe would wait for its other end.
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
            // X17: the records of a new file are as durable as its name, and that stands in the
            // folder.
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let (disk, last) = (Box::new(file), resumed.last);
        Ok(Self { state: Mutex::new(State { disk, durable, is_torn: true, last, resumed }) })
    }
}

impl AuditSink for JsonLines {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(self.state.lock().resumed.clone())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        // The log's own thread waits here, and nobody else: the lock has no second taker.
        let mut state = self.state.lock();
        // Two writers, or a sink that was given to a second log: one of the chains would be cut.
        if !records.follow(state.last) {
            return Err(SinkError::new("the records do not follow the last one of the file"));
        }
        let written = state.append(records.as_json_lines());
        written.map_err(|error| SinkError::new(&error.kind().to_string()))?;
        state.last = records.last().or(state.last);
        Ok(())
    }
}

impl State {
    fn append(&mut self, group: &[u8]) -> io::Result<()> {
        // X17: what a failed try left behind goes first: a group stands in the file once and whole.
        if self.is_torn {
            self.disk.cut(self.durable)?;
        }
        self.is_torn = true;
        self.disk.append(group)?;
        self.disk.sync()?;
        self.is_torn = false;
        self.durable += group.len() as u64;
        Ok(())
    }
}

/// Walks the whole chain: where it stops, and what was open then.
fn read(file: &File) -> Result<(Resumed, u64), Unreadable> {
    let mut lines = BufReader::new(file);
    let (mut resumed, mut durable, mut number) = (Resumed::after(None), 0, 0);
    let mut requests = BTreeSet::new();
    let mut refreshes = BTreeMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break;
        }
        number += 1;
        if length == LONGEST_LINE {
            return Err(Unreadable::Damaged { line: number });
        }
        if line.pop() != Some(b'\n') {
            // X17, X18: a crash tears the last line alone; it was promised to nobody.
            resumed.dropped_bytes = length;
            file.set_len(durable)?;
            break;
        }
        let last = resumed.last.map(|(sequence, hash)| Head { sequence, hash });
        let link = Link::read(&line).ok().filter(|link| link.follows(last));
        let link = link.ok_or(Unreadable::Damaged { line: number })?;
        resumed.last = Some((link.sequence, link.hash));
        durable += length;
        match (link.kind.as_ref(), link.request, link.refresh) {
            // A late one has its result already.
            ("intent", Some(request), _) if !link.is_late => {
                requests.insert(request);
            }
            ("result", Some(request), _) => {
                requests.remove(&request);
            }
            // A new process counts its refreshes anew; those of the one before were settled at its
            // start.
            ("refresh_intent", Some(request), Some(refresh)) => {
                refreshes.insert(refresh, request);
            }
            ("refresh_result", _, Some(refresh)) => {
                refreshes.remove(&refresh);
            }
            _ => {}
        }
    }
    resumed.open_requests = requests.into_iter().collect();
    resumed.open_refreshes =
        refreshes.into_iter().map(|(refresh, request)| (request, refresh)).collect();
    Ok((resumed, durable))
}

#[cfg(test)]
impl JsonLines {
    /// With a disk that fails each tenth append, with more than the group on it.
    pub(super) fn flaky(path: &Path) -> Self {
        #[derive(Debug)]
        struct Flaky(File, u32);
        impl Disk for Flaky {
            fn cut(&mut self, length: u64) -> io::Result<()> {
                self.0.cut(length)
            }
            fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.1 += 1;
                if self.1.is_multiple_of(10) {
                    // What the next try writes must not stand before a rest of this one.
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

    /// Writes down what it is asked, and keeps nothing.
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
    async fn a_group_that_does_not_follow_the_last_record_is_refused() {
        let group = |sequence: u64, previous: [u8; 32]| {
            let mut records = Records::default();
            records.append("close", b",\"kind\":\"close\"", sequence, &previous);
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
    async fn a_group_is_one_append_and_one_sync_and_known_to_be_durable_only_behind_it() {
        let disk = Watched::default();
        let state = State {
            disk: Box::new(disk.clone()),
            durable: 0,
            is_torn: false,
            last: None,
            resumed: Resumed::after(None),
        };
        let log = AuditLog::from(JsonLines { state: Mutex::new(state) });
        log.flush().await.unwrap();
        disk.0.lock().clear();
        let (trail, terminal) = Trail::for_test(&log);
        let scopes = crate::principal::Scopes::none();
        let intent =
            || trail.intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None));
        intent().await.unwrap().used();
        assert_eq!(*disk.0.lock(), ["append", "sync"]);
        disk.0.lock().clear();
        drop(terminal);
        // Many in one group: no more syncs than groups.
        let together: Vec<_> = (0..100).map(|_| Box::pin(intent())).collect();
        for one in together {
            one.await.unwrap().used();
        }
        let asked = disk.0.lock().clone();
        assert!(asked.chunks(2).all(|pair| pair == ["append", "sync"]), "{asked:?}");
    }
}
