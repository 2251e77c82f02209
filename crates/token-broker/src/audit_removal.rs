//! The command `token-broker audit remove FOLDER`: removes old segments, and signs off on it.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tower_token_broker::{
    audit::{
        AuditError, AuditFileError, AuditFolder, AuditLog, Removal, RemovalError, WriterName,
        WriterNameError,
        verify::{FolderVerification, Head},
    },
    clock::{Clock, Timestamp},
    principal::Initiator,
};

use crate::escaped::escaped;

/// The writer of the chain in which commands record what they do.
const WRITER: &str = "commands";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the record may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The segments that were removed.
#[derive(Debug)]
pub struct RemovedFiles {
    count: usize,
    until: Option<Head>,
    writer: WriterName,
}

/// The reason why no segment was removed, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// See the error.
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// Another command writes to the chain of commands. No segment was removed.
    #[error(
        "another command writes to the audit folder {}; no segment was removed. Run it again when \
         that one has ended",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The chain of commands cannot be continued. No segment was removed.
    #[error("no segment was removed: {0}")]
    Folder(AuditFileError),
    /// The chain of commands cannot have this name.
    #[error(transparent)]
    Name(#[from] WriterNameError),
    /// The end of the chain of commands could not be written.
    #[error(
        "what was removed is recorded, and the end of the chain of writer `{WRITER}` could not be \
         written: {0}; check the disk, and run `token-broker audit verify`. The next command \
         records the gap"
    )]
    NotClosed(AuditError),
}

/// The segments that would be removed.
#[derive(Debug)]
pub struct PlannedFiles {
    files: Vec<PathBuf>,
    writer: WriterName,
}

/// Returns the segments that [`remove`] would remove now. Changes and records nothing.
///
/// # Errors
/// The folder has no segment of the writer, one of them is wrong, or the folder cannot be read.
pub fn plan(
    folder: &Path,
    writer: &WriterName,
    older_than_days: u32,
) -> Result<PlannedFiles, RemoveError> {
    let removal = Removal::plan(folder, writer, before(older_than_days))?;
    let mut files: Vec<PathBuf> =
        removal.iter().flat_map(Removal::files).map(Path::to_owned).collect();
    // The command continues this chain, so it keeps the segment that is the last one now.
    if *writer == WriterName::parse(WRITER)? && files.len() == segments(folder)? {
        files.pop();
    }
    Ok(PlannedFiles { files, writer: writer.clone() })
}

/// Returns the number of segments of the chain of commands.
fn segments(folder: &Path) -> Result<usize, RemoveError> {
    let report = FolderVerification::new().run(folder).map_err(RemovalError::from)?;
    let commands = report.chains.iter().find(|chain| chain.writer.as_str() == WRITER);
    Ok(commands.map_or(0, |chain| chain.segments))
}

fn before(older_than_days: u32) -> Timestamp {
    Clock::system().now().minus(DAY.saturating_mul(older_than_days))
}

/// Removes the segments of a writer whose last record is older than this, after the whole folder
/// was verified and the removal was recorded.
///
/// # Errors
/// The folder has no segment of the writer, one of them is wrong, the folder cannot be read, or the
/// removal cannot be recorded: none was removed. Or a file cannot be removed: those before it were.
///
/// # Cancellation
/// If dropped, the record may be in the folder, and its chain has a gap. It can be run again.
pub async fn remove(
    folder: &Path,
    writer: &WriterName,
    older_than_days: u32,
    operator: &str,
) -> Result<RemovedFiles, RemoveError> {
    let before = before(older_than_days);
    let nothing = || RemovedFiles { count: 0, until: None, writer: writer.clone() };
    let Some(removal) = Removal::plan(folder, writer, before)? else { return Ok(nothing()) };
    let commands = WriterName::parse(WRITER)?;
    // The plan may have locked the chain that is about to be continued.
    let removal = (*writer != commands).then_some(removal);
    let sink = AuditFolder::open(folder, &commands).map_err(|error| {
        if matches!(error, AuditFileError::InUse { .. }) {
            RemoveError::InUse { folder: folder.to_owned() }
        } else {
            RemoveError::Folder(error)
        }
    })?;
    let log = AuditLog::from(sink);
    let removed = match removal {
        Some(removal) => run(removal, &log, operator).await,
        None => plan_and_run(folder, writer, before, &log, operator).await,
    };
    // On each path: a chain without its end has a gap.
    let closed = log.close(CLOSE_TIMEOUT).await;
    let removed = removed?;
    closed.map_err(RemoveError::NotClosed)?;
    Ok(removed.unwrap_or_else(nothing))
}

/// Plans the removal of segments of the chain that `log` writes.
async fn plan_and_run(
    folder: &Path,
    writer: &WriterName,
    before: Timestamp,
    log: &AuditLog,
    operator: &str,
) -> Result<Option<RemovedFiles>, RemovalError> {
    // The folder is verified: the first record must be in it, whole.
    log.flush().await?;
    match Removal::plan(folder, writer, before)? {
        Some(removal) => run(removal, log, operator).await,
        None => Ok(None),
    }
}

async fn run(
    removal: Removal,
    log: &AuditLog,
    operator: &str,
) -> Result<Option<RemovedFiles>, RemovalError> {
    let (until, writer) = (removal.until(), removal.writer().clone());
    let count = removal.run(log, &Initiator::operator(operator)).await?;
    Ok(Some(RemovedFiles { count, until, writer }))
}

impl fmt::Display for PlannedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.files.is_empty() {
            return write!(f, "no segment of {} is old enough", self.writer);
        }
        write!(f, "{} segments of {} would be removed:", self.files.len(), self.writer)?;
        self.files.iter().try_for_each(|file| write!(f, "\n  {}", escaped(file.display())))
    }
}

impl fmt::Display for RemovedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => write!(
                f,
                "{} segments of {} removed, up to record {until}",
                self.count, self.writer
            ),
            None => write!(f, "no segment of {} is old enough", self.writer),
        }
    }
}
