//! A folder of segments: files of JSON lines, each of which continues the chain of the last one.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    appended_file::{AppendedFile, IsNew, sync_folder},
    audit_sink::{AuditSink, Resumed, SegmentEnd, SegmentedChain, SinkError},
    file_error::{AuditFileError, Unreadable},
    file_identity::FileIdentity,
    stored_chain::{OpenAtEnd, StoredChain, record_at_end},
};
use crate::{
    alarm::Alarm,
    audit::{
        record::{Head, RecordKind, Records, Run},
        segment::{Listing, SegmentName, WriterName},
    },
    clock::Timestamp,
};

/// A folder that several broker processes write to, each one a chain of its own, in segments.
///
/// A segment is a file of JSON lines, `WRITER.SEQ.jsonl`, with the sequence number of its first
/// record. It begins with `start` or `open`, and ends with `close`; the next one begins with the
/// hash of that record. It repeats what is open at its beginning (`carried`), so a process that
/// starts reads the last segment only, or the last two if a process was killed while it began the
/// last one. Older segments may be archived as they are, or removed
/// ([`Removal`](super::super::Removal)).
///
/// The segment that is written to is locked, and checked as [`JsonLines`](super::JsonLines) checks
/// its file: if another program deletes, renames, replaces, truncates or writes to it, the log
/// closes and requests are refused. `verify` finds changes of the segments before it.
///
/// # Example
/// ```
/// use tower_token_broker::audit::{AuditFolder, AuditLog, WriterName, verify::FolderVerification};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = tempfile::tempdir()?;
/// # let folder = root.path().join("audit");
/// let log = AuditLog::from(AuditFolder::open(&folder, &WriterName::parse("broker-1")?)?);
/// // A second process under the same name is refused.
/// assert!(AuditFolder::open(&folder, &WriterName::parse("broker-1")?).is_err());
/// log.close(std::time::Duration::from_secs(20)).await?;
///
/// let report = FolderVerification::new().run(&folder)?;
/// assert!(report.is_whole());
/// let segment = folder.join("broker-1.00000000000000000000.jsonl");
/// std::fs::write(&segment, std::fs::read_to_string(&segment)?.replace("close", "start"))?;
/// let report = FolderVerification::new().run(&folder)?;
/// assert_eq!(report.faults[0].wrong.sequence, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AuditFolder {
    state: Mutex<State>,
    resumed: Resumed,
}

/// When a segment ends. Checked before each batch, so a segment is longer by at most one batch,
/// and a log that records nothing keeps its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until a folder is opened with them"]
pub struct SegmentLimits {
    max_bytes: u64,
    max_age: Duration,
}

impl Default for SegmentLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl SegmentLimits {
    /// 64 MiB and one day.
    pub const DEFAULT: Self =
        Self { max_bytes: 64 * 1024 * 1024, max_age: Duration::from_secs(24 * 60 * 60) };

    /// Sets the length in bytes after which a segment ends. What it repeats at its beginning does
    /// not count. A process that starts reads one segment. Default: 64 MiB.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the age after which a segment ends, by the clock of the log. Default: one day.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    writer: WriterName,
    limits: SegmentLimits,
    segment: Segment,
    /// Whether the name of the segment may not be durable yet.
    is_new: bool,
    last: Option<Head>,
    /// Whether the last record is `close`: the next one begins a segment.
    is_closed: bool,
    open: OpenAtEnd,
    /// The file of the next segment, if it was created and could not be taken into use.
    created: Option<Created>,
    /// Whether the alarm for a file in the place of the next segment was raised.
    has_alarmed: bool,
}

/// A segment that is being begun.
#[derive(Debug)]
struct Created {
    first: u64,
    file: File,
    is_locked: bool,
}

/// The segment that is written to, or was last.
#[derive(Debug)]
struct Segment {
    first: u64,
    file: AppendedFile,
    /// Bytes of the records that it repeats.
    repeated: u64,
    begun: Option<Timestamp>,
}

impl AuditFolder {
    /// Continues the chain of this writer, or starts it, with the default limits. Creates the
    /// folder if its parent exists (mode 0700 on Unix).
    ///
    /// Reads the last segment and the last record of the one before it; all of that one if a
    /// process was killed while it began the last one. A torn last line, which a crash leaves, is
    /// removed, and the next record reports its length.
    ///
    /// # Errors
    /// See [`AuditFileError`]. Among them: another process writes under this name.
    pub fn open(folder: impl AsRef<Path>, writer: &WriterName) -> Result<Self, AuditFileError> {
        Self::open_with(folder, writer, SegmentLimits::default())
    }

    /// Like [`AuditFolder::open`], with other limits.
    ///
    /// # Errors
    /// See [`AuditFileError`].
    pub fn open_with(
        folder: impl AsRef<Path>,
        writer: &WriterName,
        limits: SegmentLimits,
    ) -> Result<Self, AuditFileError> {
        let folder = folder.as_ref();
        let failed = |source: io::Error| AuditFileError::Folder { path: folder.to_owned(), source };
        create(folder).map_err(failed)?;
        // The process may change its working directory.
        let folder = std::path::absolute(folder).map_err(failed)?;
        let before = Listing::of(&folder, writer).map_err(failed)?;
        let first = before.last().copied().unwrap_or(0);
        let path = SegmentName::path(&folder, writer, first);
        // The whole chain may have been removed since: a new file in its place would be a segment
        // without the one before it.
        let is_new = if before.is_empty() { IsNew::Perhaps } else { IsNew::No };
        let file = AppendedFile::open(&path, is_new).map_err(|error| {
            let is_gone = matches!(&error, AuditFileError::Io { source, .. }
                if source.kind() == io::ErrorKind::NotFound);
            if is_gone { AuditFileError::InUse { path: path.clone() } } else { error }
        })?;
        // P293, P387: another process may have begun the next segment before this one was locked.
        if Listing::of(&folder, writer).map_err(failed)?.last() != Some(&first) {
            return Err(AuditFileError::InUse { path });
        }
        let stored = StoredChain::read(&file, first).map_err(|error| error.at(&path))?;
        if !stored.is_empty() && !is_of(&stored, writer) {
            return Err(AuditFileError::Damaged { path, line: 1 });
        }
        let previous = before.iter().rev().nth(1).copied();
        let stored = match previous {
            // P387: a process was killed before all records that begin the segment were written.
            Some(previous) if !stored.knows_what_is_open() => {
                let previous_path = SegmentName::path(&folder, writer, previous);
                let ended = ended(&previous_path, previous, writer, (first, &stored))?;
                ended.followed_by(&file, first).map_err(|error| error.at(&path))?
            }
            Some(previous) => {
                precedes(&SegmentName::path(&folder, writer, previous), stored.before)?;
                stored
            }
            // The segments before it may have been removed, but not while they are needed.
            None if first > 0 && !stored.knows_what_is_open() => {
                return Err(AuditFileError::SegmentBeforeGone { path });
            }
            None => stored,
        };
        stored.cut(&file).map_err(|error| Unreadable::from(error).at(&path))?;
        let file = AppendedFile::after(file, &path, stored.bytes)?;
        let is_new = stored.is_empty();
        let segment = Segment { first, file, repeated: 0, begun: stored.begun };
        Ok(Self::of(
            stored,
            State {
                folder,
                writer: writer.clone(),
                limits,
                segment,
                is_new,
                last: None,
                is_closed: false,
                open: OpenAtEnd::default(),
                created: None,
                has_alarmed: false,
            },
        ))
    }

    fn of(stored: StoredChain, mut state: State) -> Self {
        let segmented = SegmentedChain { writer: state.writer.clone(), name: stored.chain };
        state.is_closed = stored.is_closed;
        state.last = stored.last;
        let (resumed, open) = stored.into_resumed();
        state.open = open;
        let resumed = Resumed { segmented: Some(segmented), ..resumed };
        Self { state: Mutex::new(state), resumed }
    }
}

impl AuditSink for AuditFolder {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(self.resumed.clone())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        // Only the thread of the log waits here: the lock is never contended.
        self.state.lock().write(records)
    }

    fn segment_end(&self, now: Timestamp) -> Option<SegmentEnd> {
        self.state.lock().segment_end(now)
    }

    fn location(&self) -> String {
        let state = self.state.lock();
        format!("{}, writer {}", state.folder.display(), state.writer)
    }
}

impl State {
    /// Writes each run of records to its segment. If one fails, those before it are written, and
    /// the next attempt begins with it.
    fn write(&mut self, records: &Records) -> Result<(), SinkError> {
        let runs: Vec<Run<'_>> = records.runs().collect();
        let written = runs.iter().rposition(|run| run.last() == self.last);
        for run in runs.iter().skip(written.map_or(0, |run| run + 1)) {
            // P293: with two writers, or a sink used by two logs, one of the chains would be
            // broken.
            if !run.follows(self.last) {
                return Err(SinkError::new("the records do not follow the last one of the chain"));
            }
            self.write_run(run)?;
        }
        Ok(())
    }

    fn write_run(&mut self, run: &Run<'_>) -> Result<(), SinkError> {
        let first = run.first_sequence().unwrap_or_default();
        if self.is_closed && self.segment.first != first {
            if !run.is_marked() {
                return Err(SinkError::new("a segment begins with another record than `open`"));
            }
            self.begin(first)?;
        }
        if self.is_new {
            let failed = |error: io::Error| SinkError::new(&error.kind().to_string());
            sync_folder(&self.folder).map_err(failed)?;
            self.is_new = false;
        }
        self.segment.file.append(run.as_json_lines())?;
        self.last = run.last().or(self.last);
        for record in run.iter() {
            self.open.written(record);
            self.is_closed = record.kind() == RecordKind::Close;
            if matches!(record.kind(), RecordKind::Open | RecordKind::Carried) {
                self.segment.repeated += record.line().len() as u64 + 1;
            }
        }
        Ok(())
    }

    /// Creates the next segment, and releases the one before it, in this order: one of them is
    /// locked at each moment.
    fn begin(&mut self, first: u64) -> Result<(), SinkError> {
        let path = SegmentName::path(&self.folder, &self.writer, first);
        let file = self.create(first, &path).map_err(|error| {
            let is_taken = matches!(&error, AuditFileError::Io { source, .. }
                if source.kind() == io::ErrorKind::AlreadyExists);
            if is_taken && !std::mem::replace(&mut self.has_alarmed, true) {
                tracing::error!(
                    alarm = Alarm::AuditFileChanged.code(),
                    path = %path.display(),
                    "another program created the next segment of the audit log: every request is \
                     refused. Move that file away, and keep it for the investigation"
                );
            }
            SinkError::new(&error.cause())
        })?;
        self.segment = Segment { first, file, repeated: 0, begun: None };
        (self.is_new, self.has_alarmed) = (true, false);
        Ok(())
    }

    /// Creates, locks and identifies the file of the next segment. If that fails on the way, the
    /// next attempt continues with the file that was created.
    fn create(&mut self, first: u64, path: &Path) -> Result<AppendedFile, AuditFileError> {
        let mut created = self.created.take().filter(|created| created.first == first);
        let taken = match &mut created {
            None => Err(AuditFileError::Changed { path: path.to_owned() }),
            Some(created) => created.take_into_use(path),
        };
        let taken = match taken {
            // P385: another file, or none, is in its place. It is put back, or a new one created.
            Err(AuditFileError::Changed { .. }) => AppendedFile::open_unlocked(path, IsNew::Yes)
                .and_then(|file| {
                    created.insert(Created { first, file, is_locked: false }).take_into_use(path)
                }),
            taken => taken,
        };
        match (taken, created) {
            (Ok(identity), Some(Created { file, .. })) => {
                Ok(AppendedFile::new(Box::new(file), Some(identity), 0))
            }
            (taken, created) => {
                self.created = created;
                Err(taken
                    .err()
                    .unwrap_or_else(|| AuditFileError::Changed { path: path.to_owned() }))
            }
        }
    }

    fn segment_end(&mut self, now: Timestamp) -> Option<SegmentEnd> {
        let written = self.segment.file.durable().saturating_sub(self.segment.repeated);
        if self.is_closed || written == 0 {
            return None;
        }
        let begun = *self.segment.begun.get_or_insert(now);
        let is_due = written >= self.limits.max_bytes || begun.until(now) >= self.limits.max_age;
        is_due.then(|| {
            let (open, open_token_requests) = self.open.to_lists();
            SegmentEnd::new(open, open_token_requests)
        })
    }
}

impl Created {
    /// Locks the file, and checks that it is the one at the path, and empty.
    fn take_into_use(&mut self, path: &Path) -> Result<FileIdentity, AuditFileError> {
        if !self.is_locked {
            AppendedFile::lock(&self.file, path)?;
            self.is_locked = true;
        }
        let identity = AppendedFile::identify(&self.file, path, 0)?;
        // It was created, so it was none.
        if identity.is_link() {
            return Err(AuditFileError::Changed { path: path.to_owned() });
        }
        Ok(identity)
    }
}

fn create(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// Whether a segment that is not empty begins a chain of this writer, or continues it.
fn is_of(stored: &StoredChain, writer: &WriterName) -> bool {
    stored.chain.is_some() && stored.writer.as_deref() == Some(writer.as_str())
}

/// Checks that a segment ends with this record, and that it is `close`.
fn precedes(path: &Path, expected: Option<Head>) -> Result<(), AuditFileError> {
    let io = |error: io::Error| Unreadable::from(error).at(path);
    let file = File::open(path).map_err(io)?;
    match record_at_end(file).map_err(io)? {
        Some(end) if end.is_close && Some(end.head) == expected => Ok(()),
        _ => Err(AuditFileError::SegmentsDoNotFollow { path: path.to_owned() }),
    }
}

/// Reads the segment before one that does not repeat all that was open.
fn ended(
    path: &Path,
    number: u64,
    writer: &WriterName,
    (next, begun): (u64, &StoredChain),
) -> Result<StoredChain, AuditFileError> {
    let io = |error: io::Error| Unreadable::from(error).at(path);
    let file = File::open(path).map_err(io)?;
    // P293: a process that has just created the next segment holds the lock of this one until it
    // holds that of the next.
    if begun.is_empty() {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AuditFileError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
    }
    let stored = StoredChain::read(&file, number).map_err(|error| error.at(path))?;
    let is_followed = stored.last.is_some_and(|last| {
        last.sequence.checked_add(1) == Some(next)
            && begun.before.is_none_or(|before| before == last)
    });
    if stored.torn == 0 && stored.is_closed && is_followed && is_of(&stored, writer) {
        Ok(stored)
    } else {
        Err(AuditFileError::SegmentsDoNotFollow { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain whose process is about to begin its next segment, and the path of that one.
    fn at_the_end_of_a_segment(folder: &Path) -> (AuditFolder, PathBuf, Records) {
        let writer = WriterName::parse("broker-1").unwrap();
        let first = SegmentName::path(folder, &writer, 0);
        let (mut begun, mut next) = (Records::default(), Records::default());
        let time = ",\"time\":\"2026-01-01T00:00:00.000Z\"";
        let chain = format!("\"chain\":\"{}\",\"writer\":\"broker-1\"", "0".repeat(32));
        let start = format!("{time},\"kind\":\"start\",\"schema\":2,{chain}");
        let hash = begun.append(RecordKind::Start, start.as_bytes(), 0, &[0; 32]);
        let close = format!("{time},\"kind\":\"close\"");
        let hash = begun.append(RecordKind::Close, close.as_bytes(), 1, &hash);
        fs::write(first, begun.as_json_lines()).unwrap();
        let open = format!("{time},\"kind\":\"open\",\"schema\":2,{chain},\"dropped_bytes\":0");
        next.append(RecordKind::Open, open.as_bytes(), 2, &hash);
        (AuditFolder::open(folder, &writer).unwrap(), SegmentName::path(folder, &writer, 2), next)
    }

    #[tokio::test]
    async fn p385_a_created_segment_is_taken_into_use_later() {
        let root = tempfile::tempdir().unwrap();
        let (sink, path, next) = at_the_end_of_a_segment(root.path());
        // Created; another handle has its lock.
        let file = AppendedFile::open_unlocked(&path, IsNew::Yes).unwrap();
        sink.state.lock().created = Some(Created { first: 2, file, is_locked: false });
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        for _ in 0..2 {
            assert!(sink.write(&next).await.is_err());
            let state = sink.state.lock();
            assert!(state.created.as_ref().is_some_and(|created| !created.is_locked));
            assert!(!state.has_alarmed, "no other program created it");
        }
        drop(other);
        sink.write(&next).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), next.as_json_lines());
        assert!(sink.state.lock().created.is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn p385_a_created_segment_that_was_replaced_is_not_used() {
        type Change = fn(&Path);
        let changes: [(&str, Change, bool); 4] = [
            ("deleted", |path| fs::remove_file(path).unwrap(), false),
            (
                "replaced",
                |path| {
                    fs::write(path.with_extension("new"), "").unwrap();
                    fs::rename(path.with_extension("new"), path).unwrap();
                },
                true,
            ),
            ("written", |path| fs::write(path, "hello").unwrap(), true),
            (
                "linked",
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    std::os::unix::fs::symlink(path.with_extension("old"), path).unwrap();
                },
                true,
            ),
        ];
        for (what, change, is_in_the_place) in changes {
            for is_locked in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let (sink, path, next) = at_the_end_of_a_segment(root.path());
                let file = AppendedFile::open_unlocked(&path, IsNew::Yes).unwrap();
                sink.state.lock().created = Some(Created { first: 2, file, is_locked });
                change(&path);
                let content = fs::read(&path).ok();
                for _ in 0..2 {
                    assert_eq!(sink.write(&next).await.is_err(), is_in_the_place, "{what}");
                }
                if is_in_the_place {
                    assert!(sink.state.lock().has_alarmed, "{what}");
                    assert_eq!(fs::read(&path).ok(), content, "{what}");
                    fs::rename(&path, root.path().join("evidence")).unwrap();
                    sink.write(&next).await.unwrap();
                }
                assert_eq!(fs::read(&path).unwrap(), next.as_json_lines(), "{what}");
            }
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn p385_a_created_segment_that_is_put_back_is_used() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("audit");
        fs::create_dir(&folder).unwrap();
        let (sink, path, next) = at_the_end_of_a_segment(&folder);
        let file = AppendedFile::open_unlocked(&path, IsNew::Yes).unwrap();
        sink.state.lock().created = Some(Created { first: 2, file, is_locked: false });
        // The folder cannot be looked into, for one reason or another; then another file is there.
        let (old, evidence) = (folder.with_extension("old"), folder.join("evidence"));
        fs::rename(&folder, &old).unwrap();
        assert!(sink.write(&next).await.is_err());
        fs::write(&folder, "").unwrap();
        assert!(sink.write(&next).await.is_err());
        fs::remove_file(&folder).unwrap();
        fs::rename(&old, &folder).unwrap();
        fs::rename(&path, &evidence).unwrap();
        fs::write(&path, "hello").unwrap();
        assert!(sink.write(&next).await.is_err());
        fs::rename(&evidence, &path).unwrap();
        sink.write(&next).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), next.as_json_lines());
    }
}
