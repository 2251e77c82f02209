//! Removes old segments from an audit folder, whole ones only, and records it first.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use super::{
    log::{AuditError, AuditLog},
    reader::{Lines, Next, StoredRecord},
    record::{Head, Member, Note, RecordKind, RemovedSegments},
    segment::{Listing, SegmentName, WriterName},
    sink::{AtEnd, record_at_end},
    verify::{ChainReport, End, FolderReport, FolderVerification},
};
use crate::{clock::Timestamp, hex, principal::Initiator};

/// Segments of one chain that are old enough to be removed. Planned, it has changed nothing.
///
/// Removal goes from the oldest segment on. A chain keeps the segment that is written to, its last
/// one unless that was closed in order, and each segment with a record that signs off an earlier
/// removal (`segments_removed`) which verification still needs.
#[derive(Debug)]
#[must_use = "nothing is removed until it is run"]
pub struct Removal {
    folder: PathBuf,
    writer: WriterName,
    chain: [u8; 16],
    segments: Vec<Closed>,
    /// The lock of the last segment, if the whole chain is removed: no process may continue it.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Closed {
    path: PathBuf,
    first: u64,
    last: Head,
}

/// The reason why segments are not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemovalError {
    /// The folder cannot be read, or a segment cannot be removed. The segments before it are
    /// removed, and recorded.
    #[error("the segments of an audit folder cannot be removed: {0}")]
    Io(#[from] io::Error),
    /// A record of the chain is wrong: it is evidence, and stays.
    #[error(
        "the chain of writer {writer} has a wrong record; keep its segments for the investigation \
         (`token-broker audit verify`)"
    )]
    NotWhole {
        /// The writer of the chain.
        writer: WriterName,
    },
    /// The removal could not be recorded. No segment was removed.
    #[error("the removal of audit segments could not be recorded, so none was removed: {0}")]
    NotRecorded(#[from] AuditError),
    /// The log writes elsewhere. No segment was removed.
    #[error(
        "the log that records a removal must write to the same audit folder; no segment was removed"
    )]
    OtherFolder,
}

impl Removal {
    /// Verifies the folder, and returns the segments of this writer whose last record is older than
    /// `before`; `None` if there is none. Reads all segments of the folder.
    ///
    /// # Errors
    /// The folder cannot be read, or a record of the chain is wrong.
    pub fn plan(
        folder: impl AsRef<Path>,
        writer: &WriterName,
        before: Timestamp,
    ) -> Result<Option<Self>, RemovalError> {
        let folder = std::path::absolute(folder)?;
        let report = FolderVerification::new().run(&folder)?;
        let Some(found) = report.chains.iter().find(|chain| chain.writer == *writer) else {
            return Ok(None);
        };
        let Ok(end) = found.report.found else {
            return Err(RemovalError::NotWhole { writer: writer.clone() });
        };
        let chain = found.report.chain.as_deref();
        let Some(chain) = chain.and_then(|chain| hex::decode(chain.as_bytes())) else {
            return Ok(None);
        };
        let (segments, lock) = old_segments(&folder, found, end, before)?;
        let mut removal = Self { folder, writer: writer.clone(), chain, segments, _lock: lock };
        removal.keep_needed(&report);
        Ok((!removal.segments.is_empty()).then_some(removal))
    }

    /// Returns the writer of the segments.
    pub const fn writer(&self) -> &WriterName {
        &self.writer
    }

    /// Returns the paths of the segments, the oldest first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.segments.iter().map(|segment| segment.path.as_path())
    }

    /// Returns the last record that would be removed.
    pub fn until(&self) -> Option<Head> {
        self.segments.last().map(|segment| segment.last)
    }

    /// Records the removal (`segments_removed`) with the one who does it, then removes the
    /// segments. Returns their number. `log` must write to the same folder, under any writer name.
    ///
    /// # Errors
    /// The record is not durable, or not in the folder: no segment was removed. Or a segment could
    /// not be removed: those before it were.
    ///
    /// # Cancellation
    /// If dropped, the record may be in the log, and no segment was removed. It can be planned
    /// again.
    pub async fn run(self, log: &AuditLog, initiator: &Initiator) -> Result<usize, RemovalError> {
        let (Some(first), Some(until)) = (self.segments.first(), self.until()) else {
            return Ok(0);
        };
        let removed = RemovedSegments {
            writer: self.writer.as_str(),
            chain: &self.chain,
            from: first.first,
            until,
        };
        // P386: recorded first.
        log.note(initiator, Note::segments_removed(removed)).await?;
        if !self.is_recorded(until)? {
            return Err(RemovalError::OtherFolder);
        }
        // The oldest first: an interrupted removal leaves no gap in the chain.
        for segment in &self.segments {
            fs::remove_file(&segment.path)?;
        }
        Ok(self.segments.len())
    }

    /// Keeps each segment with the record of a removal that explains where another chain, or the
    /// rest of this one, begins.
    fn keep_needed(&mut self, report: &FolderReport) {
        let ends = self.segments.iter().map(|segment| segment.last.sequence);
        let ends: Vec<u64> = ends.collect();
        let notes = report.removed.iter().filter(|note| note.recorded_by == self.writer);
        let is_needed = |writer: &str, until: Head| {
            let next = until.sequence.saturating_add(1);
            let Ok(writer) = WriterName::parse(writer) else { return false };
            let path = SegmentName::path(&self.folder, &writer, next);
            let is_removed_too = self.segments.iter().any(|segment| segment.path == path);
            path.exists() && !is_removed_too
        };
        let needed = notes.filter(|note| is_needed(&note.writer, note.until));
        let first_needed = needed.map(|note| note.sequence).min();
        if let Some(first_needed) = first_needed {
            let kept = ends.iter().filter(|end| **end < first_needed).count();
            self.segments.truncate(kept);
        }
    }

    /// Looks for the record in the segments that are written to.
    fn is_recorded(&self, until: Head) -> io::Result<bool> {
        for (writer, segments) in Listing::read(&self.folder)?.segments {
            // The log may have begun another segment since.
            for first in segments.iter().rev().take(2) {
                let file = File::open(SegmentName::path(&self.folder, &writer, *first))?;
                let mut lines = Lines::new(BufReader::with_capacity(1 << 16, file));
                while matches!(lines.next()?, Next::Line) {
                    if self.is_the_note(&lines.line, until) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn is_the_note(&self, line: &[u8], until: Head) -> bool {
        const KIND: &[u8] = b"\"kind\":\"segments_removed\"";
        let begins = line.get(..128.min(line.len())).unwrap_or_default();
        begins.windows(KIND.len()).any(|part| part == KIND)
            && StoredRecord::read(line).is_ok_and(|record| {
                let hash = record.text(Member::UntilHash);
                record.kind() == Some(RecordKind::SegmentsRemoved)
                    && record.text(Member::Writer).as_deref() == Some(self.writer.as_str())
                    && hash.and_then(|hash| hex::decode(hash.as_bytes())) == Some(until.hash)
            })
    }
}

/// Returns the segments that ended before this time, from the oldest one on, and the lock of the
/// last one of the chain if it is among them.
fn old_segments(
    folder: &Path,
    chain: &ChainReport,
    end: End,
    before: Timestamp,
) -> io::Result<(Vec<Closed>, Option<File>)> {
    let firsts = Listing::of(folder, &chain.writer)?;
    let (mut segments, mut lock) = (Vec::new(), None);
    for first in &firsts {
        let path = SegmentName::path(folder, &chain.writer, *first);
        let file = File::open(&path)?;
        if firsts.last() == Some(first) {
            if end != End::Closed {
                break;
            }
            match file.try_lock() {
                Ok(()) => lock = Some(file.try_clone()?),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        match record_at_end(file)? {
            Some(AtEnd { head, is_close: true, time }) if time < before => {
                segments.push(Closed { path, first: *first, last: head });
            }
            Some(_) | None => break,
        }
    }
    Ok((segments, lock))
}
