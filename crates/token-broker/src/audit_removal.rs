//! The command `token-broker audit remove FOLDER`: removes old segments, and signs off on it.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use tower_token_broker::{
    audit::{
        AuditError, AuditFileError, AuditFolder, AuditLog, Removal, RemovalError, WriterName,
        WriterNameError, verify::Head,
    },
    clock::{Clock, Timestamp},
    principal::Initiator,
};

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
    let before = Clock::system().now().minus(DAY.saturating_mul(older_than_days));
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
