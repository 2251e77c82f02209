//! The result of verifying a folder.

use std::path::PathBuf;

use super::report::{Report, Wrong};
use crate::{
    audit::{record::Head, segment::WriterName},
    clock::Timestamp,
};

/// The number of faults that a report of a folder lists. It counts all of them.
pub const MAX_FAULTS: usize = 1000;

/// The result of verifying a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderReport {
    /// The chains, by the names of their writers.
    pub chains: Vec<ChainReport>,
    /// The first [`MAX_FAULTS`] wrong records: at most the first one of each segment, and the first
    /// one of each segment that does not follow from the one before it.
    pub faults: Vec<SegmentFault>,
    /// The number of faults.
    pub fault_count: u64,
    /// Removals of segments that a chain in the folder records.
    pub removed: Vec<RemovedSegments>,
    /// Files that are no segments, and were not read.
    pub others: Vec<PathBuf>,
    /// Noted heads whose records were removed, or may be among those that were.
    pub removed_heads: Vec<RemovedHead>,
    /// Noted heads that no chain contains, and that no recorded removal explains.
    pub missing_heads: Vec<Head>,
}

impl FolderReport {
    /// Returns the verdict.
    pub fn verdict(&self) -> Verdict {
        if self.chains.is_empty() || self.fault_count > 0 || !self.missing_heads.is_empty() {
            return Verdict::NotWhole;
        }
        if self.removed_heads.iter().all(|removed| removed.is_compared) {
            Verdict::Whole
        } else {
            Verdict::Undecided
        }
    }

    /// Returns whether the verdict is [`Verdict::Whole`].
    pub fn is_whole(&self) -> bool {
        self.verdict() == Verdict::Whole
    }

    pub(super) fn fault(&mut self, file: PathBuf, wrong: Wrong) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(SegmentFault { file, wrong });
        }
    }
}

/// The verdict on a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must distinguish all three")]
pub enum Verdict {
    /// The folder has a chain, and all records of all chains are as they were written, or were
    /// removed as a chain records. Each noted head is one of them.
    Whole,
    /// So are they, but a noted head cannot be compared: it may be one of the removed records, of
    /// which only the hash of the last one is recorded.
    Undecided,
    /// A record is wrong, a noted head is missing, or there is no chain.
    NotWhole,
}

/// A noted head that no chain contains, and the recorded removal that explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedHead {
    /// The noted head.
    pub head: Head,
    /// The removal.
    pub removal: RemovedSegments,
    /// Whether the hash is that of the removed record. Otherwise the number is that of a removed
    /// record, and its hash is not known any more.
    pub is_compared: bool,
}

/// The result of verifying one chain in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainReport {
    /// Its writer.
    pub writer: WriterName,
    /// The number of its segments.
    pub segments: usize,
    /// The report over all segments. `chain` is its name, `found` its end or its first wrong
    /// record; `bytes` are those of all segments.
    pub report: Report,
    /// The last record that was removed with the segments before the first one.
    pub removed_until: Option<Head>,
}

/// A wrong record, and the segment that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentFault {
    /// The path of the segment.
    pub file: PathBuf,
    /// The record.
    pub wrong: Wrong,
}

/// A record that signs off the removal of segments (`segments_removed`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedSegments {
    /// The writer of the removed segments.
    pub writer: Box<str>,
    /// The random name of their chain.
    pub chain: Box<str>,
    /// The sequence number of the first removed record.
    pub from: u64,
    /// The last removed record.
    pub until: Head,
    /// Kind and name of the initiator.
    pub initiator: Box<str>,
    /// The time of the record.
    pub time: Timestamp,
    /// The writer of the chain that has the record.
    pub recorded_by: WriterName,
    /// The sequence number of the record there.
    pub sequence: u64,
}
