//! The result of a verification.

use std::fmt;

use crate::{audit::record::Head, clock::Timestamp, json::JsonError};

/// The number of gaps that a report lists. It counts all of them.
pub const MAX_GAPS: usize = 100;

/// The result of verifying a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The random name of the chain, from its first record.
    pub chain: Option<Box<str>>,
    /// The number of records before the first wrong one.
    pub records: u64,
    /// The number of requests that ended in those records: the sum of their counts.
    pub requests: u64,
    /// The number of requests with unknown outcome, because their process ended.
    pub unknown: u64,
    /// The last of those records, for the operator to note elsewhere.
    pub head: Option<Head>,
    /// The time of that record.
    pub time: Option<Timestamp>,
    /// The number of bytes up to the end of that record.
    pub bytes: u64,
    /// The number of processes that ended without `close`.
    pub crashes: u64,
    /// Bytes of torn lines that were removed after those.
    pub dropped_bytes: u64,
    /// The first [`MAX_GAPS`] of those places.
    pub gaps: Vec<Gap>,
    /// How the file ends, or the first wrong record.
    pub found: Result<End, Wrong>,
}

impl Report {
    /// Returns whether all records are as they were written.
    pub const fn is_whole(&self) -> bool {
        self.found.is_ok()
    }
}

/// The place where a process ended without `close` and the next one started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The sequence number of the `open` record.
    pub sequence: u64,
    /// The time of the `open` record.
    pub time: Timestamp,
    /// Bytes of the torn line that was removed.
    pub dropped_bytes: u64,
}

/// The end of a file without a wrong record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// With `close`: no request was open.
    Closed,
    /// After a record: the file is in use, its process was killed, or its end was removed.
    Open,
    /// In the middle of a record: the process was killed or is writing it now, or the end was
    /// removed.
    Torn {
        /// Bytes of that line.
        bytes: u64,
    },
}

impl End {
    /// Returns the code. Codes are permanent.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Torn { .. } => "torn",
        }
    }

    /// Returns the bytes of a torn last line; 0 if there is none.
    pub const fn torn_bytes(self) -> u64 {
        match self {
            Self::Closed | Self::Open => 0,
            Self::Torn { bytes } => bytes,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed in order"),
            Self::Open => f.write_str(
                "after a record, without `close`: in use, killed, or its end was removed",
            ),
            Self::Torn { bytes } => {
                write!(f, "torn, {bytes} bytes into a record: killed, being written, or cut")
            }
        }
    }
}

/// The first wrong record. All records before it are as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wrong {
    /// The sequence number of the record that is expected there.
    pub sequence: u64,
    /// The number of the line, from 1 on.
    pub line: u64,
    /// The fault of the line.
    pub fault: Fault,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (line {}) {}", self.sequence, self.line, self.fault)
    }
}

/// The reason why a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The file has no record.
    Empty,
    /// Its line is not JSON.
    NotJson(JsonError),
    /// Its line does not have the form of a record.
    NotARecord,
    /// Its line is longer than any record.
    TooLong,
    /// Its hash is not that of its bytes.
    Edited,
    /// It is unchanged, and does not follow from the record before it.
    Unlinked,
    /// It is not in the file. A later one is in its place.
    Missing {
        /// The sequence number of that one.
        until: u64,
    },
    /// It is further down.
    Reordered {
        /// The number of its line, from 1 on.
        line: u64,
    },
    /// An earlier record is there a second time, or another one with its sequence number.
    Repeated {
        /// That sequence number.
        sequence: u64,
    },
    /// A process started there without the record `start` (in a new file) or `open`.
    Unmarked,
    /// The file ends before a noted head.
    CutOff {
        /// The sequence number of that head.
        noted: u64,
    },
    /// A head with this sequence number was noted with another hash.
    Rewritten,
    /// The name of its file does not belong to it: the file was renamed, or is a copy.
    Misnamed,
}

impl Fault {
    /// Returns the code. Codes are permanent.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotJson(_) => "not_json",
            Self::NotARecord => "not_a_record",
            Self::TooLong => "too_long",
            Self::Edited => "edited",
            Self::Unlinked => "unlinked",
            Self::Missing { .. } => "missing",
            Self::Reordered { .. } => "reordered",
            Self::Repeated { .. } => "repeated",
            Self::Unmarked => "unmarked",
            Self::CutOff { .. } => "cut_off",
            Self::Rewritten => "rewritten",
            Self::Misnamed => "misnamed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is missing: the file was never started, or was emptied"),
            Self::NotJson(error) => write!(f, "is broken, or not a record of this log: {error}"),
            Self::NotARecord => {
                f.write_str("is not as the log writes it: it was changed, or is not a record")
            }
            Self::TooLong => f.write_str("is not a record of this log: its line is too long"),
            Self::Edited => {
                f.write_str("was edited or invented: its hash is not that of its bytes")
            }
            Self::Unlinked => f.write_str(
                "does not follow from the one before it: it belongs to another chain, or the \
                 records before it were replaced",
            ),
            Self::Missing { until } => write!(f, "was removed: record {until} is in its place"),
            Self::Reordered { line } => {
                write!(f, "is further down, in line {line}: the order was changed")
            }
            Self::Repeated { sequence } => write!(
                f,
                "has a second record {sequence} in its place: a duplicate, an insertion, or a \
                 record of another chain"
            ),
            Self::Unmarked => f.write_str(
                "lacks a mark before it: a process starts with `start` (new file) or `open`",
            ),
            Self::CutOff { noted } => {
                write!(f, "is missing, although record {noted} was noted: the end was removed")
            }
            Self::Rewritten => {
                f.write_str("is not the one that was noted: the file was replaced or rewritten")
            }
            Self::Misnamed => f.write_str(
                "is not in this file, whose name belongs to it: a record of another writer or \
                 place is, or the name is none of a segment; it was renamed or copied",
            ),
        }
    }
}
