//! What a verification has found, as values; in words by `Display`.

use std::fmt;

use super::Head;
use crate::json::JsonError;

/// Gaps that a report lists; how many there are, it counts.
pub const MAX_GAPS: usize = 100;

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The chain's random name, as its first record has it.
    pub chain: Option<Box<str>>,
    /// Records that follow from each other, from the first on; none behind one that is wrong.
    pub records: u64,
    /// How many requests ended in those: the sum of their counts.
    pub requests: u64,
    /// How many of them ended with their process, so that nobody knows how.
    pub unknown: u64,
    /// The last of those records: what an operator notes elsewhere.
    pub head: Option<Head>,
    /// When it was written.
    pub time: Option<Box<str>>,
    /// Bytes up to the end of that record.
    pub bytes: u64,
    /// How often a process ended without `close`, and the next one said so.
    pub crashes: u64,
    /// Bytes of torn lines that were taken off then.
    pub dropped_bytes: u64,
    /// Where: the first [`MAX_GAPS`].
    pub gaps: Vec<Gap>,
    /// How the file ends; or the first record that is wrong, and why.
    pub found: Result<End, Wrong>,
}

impl Report {
    /// Whether all records stand as they were written.
    pub const fn is_whole(&self) -> bool {
        self.found.is_ok()
    }
}

/// What a crash left, and the next process marked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The number of the `open` that says so.
    pub sequence: u64,
    /// When it was written.
    pub time: Box<str>,
    /// Bytes of the torn line that was taken off.
    pub dropped_bytes: u64,
}

/// How a whole file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// With `close`: no request was open.
    Closed,
    /// Behind a record: it is in use, its process was killed, or its end was cut off there.
    Open,
    /// In the middle of a record: the process was killed, or is writing it now, or the end was cut
    /// off there.
    Torn {
        /// Bytes of that line.
        bytes: u64,
    },
}

impl End {
    /// Its code, kept for ever.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Torn { .. } => "torn",
        }
    }

    /// Bytes of a torn last line; 0 if there is none.
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
            Self::Open => {
                f.write_str("behind a record, without `close`: in use, killed, or cut off there")
            }
            Self::Torn { bytes } => {
                write!(
                    f,
                    "torn, {bytes} bytes into a record: killed, being written now, or cut off there"
                )
            }
        }
    }
}

/// The first wrong record. All before it stand as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wrong {
    /// The number of the record that should stand there.
    pub sequence: u64,
    /// The line, from 1 on.
    pub line: u64,
    /// What stands there instead.
    pub fault: Fault,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (line {}) {}", self.sequence, self.line, self.fault)
    }
}

/// Why a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The file has none.
    Empty,
    /// Its line is no JSON.
    NotJson(JsonError),
    /// Its line is JSON, or begins as such, and not a record of this log.
    NotARecord,
    /// Its line is longer than any record.
    TooLong,
    /// Its hash is not that of its bytes.
    Edited,
    /// It is whole, and does not follow from the record before it.
    Foreign,
    /// It is nowhere in the file, and a later one stands in its place.
    Missing {
        /// The number of that one.
        until: u64,
    },
    /// It stands further down.
    Reordered {
        /// Where, from 1 on.
        line: u64,
    },
    /// An earlier record stands there a second time, or another one of its number.
    Repeated {
        /// That number.
        sequence: u64,
    },
    /// A process begins or has ended there, and no `start` (first) or `open` (later) says so.
    Unmarked,
    /// A head was noted, and the file ends before it.
    CutOff {
        /// The number of that head.
        noted: u64,
    },
    /// A head of this number was noted with another hash.
    Rewritten,
}

impl Fault {
    /// Its code, kept for ever.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotJson(_) => "not_json",
            Self::NotARecord => "not_a_record",
            Self::TooLong => "too_long",
            Self::Edited => "edited",
            Self::Foreign => "foreign",
            Self::Missing { .. } => "missing",
            Self::Reordered { .. } => "reordered",
            Self::Repeated { .. } => "repeated",
            Self::Unmarked => "unmarked",
            Self::CutOff { .. } => "cut_off",
            Self::Rewritten => "rewritten",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is not there: the file was never begun, or was emptied"),
            Self::NotJson(error) => write!(f, "is broken or foreign: {error}"),
            Self::NotARecord => f.write_str("is foreign: its line has not the form of a record"),
            Self::TooLong => f.write_str("is foreign: its line is longer than any record"),
            Self::Edited => f.write_str("was edited or made up: its hash is not that of its bytes"),
            Self::Foreign => f.write_str(
                "does not follow from the one before it: it is of another chain, or what stands before was written anew",
            ),
            Self::Missing { until } => write!(f, "was cut out: record {until} stands in its place"),
            Self::Reordered { line } => write!(f, "stands further down, in line {line}: the order was changed"),
            Self::Repeated { sequence } => write!(
                f,
                "has a second record {sequence} in its place: it was doubled or put in, or is of another chain"
            ),
            Self::Unmarked => {
                f.write_str("goes on without a mark: where a process begins, `start` (first) or `open` (later) says so")
            }
            Self::CutOff { noted } => write!(f, "is not there, and record {noted} was noted: the end was cut off"),
            Self::Rewritten => {
                f.write_str("is not the one that was noted: the file was written anew, or is another one")
            }
        }
    }
}
