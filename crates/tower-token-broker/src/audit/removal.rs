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
    sink::{AtEnd, record_at_end, sync_folder},
    verify::{self, ChainReport, End, FolderReport, FolderVerification},
};
use crate::{clock::Timestamp, hex, principal::Initiator};

/// Segments of one chain that are old enough to be removed. Planned, it has changed nothing.
///
/// Removal goes from the oldest segment on. A chain keeps its last segment and the one before it
/// unless it was closed in order (a process that starts may need both), and each segment with a
/// record that signs off an earlier removal (`segments_removed`) which verification still needs.
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
    /// The folder cannot be read. No segment was removed.
    #[error(
        "the audit folder cannot be read, so no segment was removed: {0}; check the path and its \
         permissions"
    )]
    Io(#[from] io::Error),
    /// A segment cannot be removed. Those before it are removed, and recorded.
    #[error(
        "the segment {} cannot be removed: {source}; those before it are removed and recorded. \
         Check its permissions, and run it again",
        path.display()
    )]
    NotRemoved {
        /// The path of the segment.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The folder has no segment of this writer.
    #[error(
        "the folder has no segment of writer {writer}; use a name that the names of the segments \
         begin with, or check the path of the folder"
    )]
    NoSuchWriter {
        /// The writer.
        writer: WriterName,
    },
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
    #[error(
        "the removal of audit segments could not be recorded, so none was removed: {0}; check the \
         disk and the permissions of the audit folder, and run it again"
    )]
    NotRecorded(#[from] AuditError),
    /// The log writes elsewhere. No segment was removed.
    #[error(
        "the log that records a removal must write to the same audit folder; no segment was removed"
    )]
    OtherFolder,
}

impl Removal {
    /// Verifies the folder, and returns the segments of this writer whose last record is older than
    /// `before`; `None` if none of them is. Reads all segments of the folder.
    ///
    /// # Errors
    /// The folder cannot be read, it has no segment of the writer, or a record of the chain is
    /// wrong.
    pub fn plan(
        folder: impl AsRef<Path>,
        writer: &WriterName,
        before: Timestamp,
    ) -> Result<Option<Self>, RemovalError> {
        let folder = std::path::absolute(folder)?;
        let report = FolderVerification::new().run(&folder)?;
        let Some(found) = report.chains.iter().find(|chain| chain.writer == *writer) else {
            return Err(RemovalError::NoSuchWriter { writer: writer.clone() });
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
        removal.keep_needed(&report, &Listing::read(&removal.folder)?);
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
            // X17: in this order also after a power failure.
            fs::remove_file(&segment.path).and_then(|()| sync_folder(&self.folder)).map_err(
                |source| RemovalError::NotRemoved { path: segment.path.clone(), source },
            )?;
        }
        Ok(self.segments.len())
    }

    /// Keeps each segment with the record of a removal that explains where another chain, or the
    /// rest of this one, begins. It names segments that are still there if that removal was
    /// interrupted.
    // P386.
    fn keep_needed(&mut self, report: &FolderReport, listing: &Listing) {
        let is_removed_too = |writer: &WriterName, first: u64| {
            *writer == self.writer && self.segments.iter().any(|segment| segment.first == first)
        };
        let is_needed = |note: &verify::RemovedSegments| {
            let explained = note.from..=note.until.sequence.saturating_add(1);
            let Ok(writer) = WriterName::parse(&note.writer) else { return false };
            let mut there = listing.segments.get(&writer).into_iter().flatten();
            there.any(|first| explained.contains(first) && !is_removed_too(&writer, *first))
        };
        let notes = report.removed.iter().filter(|note| note.recorded_by == self.writer);
        let needed = notes.filter(|note| is_needed(note));
        if let Some(first_needed) = needed.map(|note| note.sequence).min() {
            self.segments.retain(|segment| segment.last.sequence < first_needed);
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
    let firsts: Vec<u64> = Listing::of(folder, &chain.writer)?.into_iter().collect();
    // P387: the last segment of a process that did not end in order may be empty or half begun; the
    // next process then needs the one before it, too.
    let kept = if end == End::Closed { 0 } else { 2 };
    let (mut segments, mut lock) = (Vec::new(), None);
    for first in firsts.get(..firsts.len().saturating_sub(kept)).unwrap_or_default() {
        let path = SegmentName::path(folder, &chain.writer, *first);
        let file = File::open(&path)?;
        let is_last = firsts.last() == Some(first);
        if is_last {
            match file.try_lock() {
                Ok(()) => lock = Some(file.try_clone()?),
                Err(TryLockError::WouldBlock) => {
                    segments.pop();
                    break;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        match record_at_end(file)? {
            Some(AtEnd { head, is_close: true, time }) if time < before => {
                segments.push(Closed { path, first: *first, last: head });
            }
            Some(AtEnd { is_close: true, .. }) => break,
            // A process has begun it since the folder was verified.
            Some(AtEnd { is_close: false, .. }) | None => {
                if is_last {
                    segments.pop();
                }
                break;
            }
        }
    }
    Ok((segments, lock))
}
