//! The command `token-broker audit remove FOLDER`: removes old segments, and signs off on it.

use std::{fmt, path::Path, time::Duration};

use tower_token_broker::{
    audit::{
        AuditError, AuditFileError, AuditFolder, AuditLog, Removal, RemovalError, WriterName,
        WriterNameError, verify::Head,
    },
    clock::Clock,
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
    /// The chain of commands cannot be continued.
    #[error(transparent)]
    Folder(#[from] AuditFileError),
    /// The chain of commands cannot have this name.
    #[error(transparent)]
    Name(#[from] WriterNameError),
    /// The segments were removed, and the end of the chain of commands could not be written.
    #[error("the record of the removal could not be closed: {0}")]
    NotClosed(AuditError),
}

/// Removes the segments of a writer whose last record is older than this, after the whole folder
/// was verified and the removal was recorded.
///
/// # Errors
/// A segment of the writer is wrong, the folder cannot be read, or the removal cannot be recorded:
/// none was removed. Or a file cannot be removed: those before it were.
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
    if *writer == commands {
        // The plan has locked the chain that is about to be continued.
        drop(removal);
        let log = AuditLog::from(AuditFolder::open(folder, &commands)?);
        let Some(again) = Removal::plan(folder, writer, before)? else { return Ok(nothing()) };
        return run(again, &log, operator).await;
    }
    run(removal, &AuditLog::from(AuditFolder::open(folder, &commands)?), operator).await
}

async fn run(
    removal: Removal,
    log: &AuditLog,
    operator: &str,
) -> Result<RemovedFiles, RemoveError> {
    let (until, writer) = (removal.until(), removal.writer().clone());
    let count = removal.run(log, &Initiator::operator(operator)).await?;
    log.close(CLOSE_TIMEOUT).await.map_err(RemoveError::NotClosed)?;
    Ok(RemovedFiles { count, until, writer })
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
