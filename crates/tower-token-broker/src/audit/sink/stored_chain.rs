//! Reads back a file that an earlier process wrote: its last record, and what was open then.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
};

use super::{audit_sink::Resumed, file_error::Unreadable};
use crate::{
    audit::{
        reader::{Lines, MAX_LINE, Next, StoredRecord},
        record::{Head, Member, OpenWork, Record, RecordKind},
    },
    clock::Timestamp,
    hex,
};

/// The end of a chain, read from its file or from its last segment.
#[derive(Debug, Default)]
pub(super) struct StoredChain {
    /// The record before the first one in the file.
    pub(super) before: Option<Head>,
    pub(super) last: Option<Head>,
    pub(super) is_closed: bool,
    /// The time of the first record in the file.
    pub(super) begun: Option<Timestamp>,
    /// Name and writer of the chain, from the first record in the file.
    pub(super) chain: Option<[u8; 16]>,
    pub(super) writer: Option<Box<str>>,
    /// Length of the whole records.
    pub(super) bytes: u64,
    /// Length of a torn last line.
    pub(super) torn: u64,
    pub(super) open: OpenAtEnd,
    repeats: Repeats,
}

/// Whether a file names all work that was open at its beginning, or has its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Repeats {
    /// Not known before the first record.
    #[default]
    Nothing,
    /// The segment begins with so many `carried` that have not been read.
    Missing(u64),
    /// A process has started, and records an unknown result for all work that was open before. The
    /// results are written together with `open`, so the last of them is known by what follows.
    Settling,
    All,
}

impl StoredChain {
    /// Reads a file whose first record has this sequence number. Later records must follow.
    pub(super) fn read(file: &File, first: u64) -> Result<Self, Unreadable> {
        Self::default().take_all(file, first)
    }

    /// Reads the next segment from its beginning, with the work that is open at the end of this
    /// one.
    pub(super) fn followed_by(self, mut file: &File, first: u64) -> Result<Self, Unreadable> {
        file.rewind()?;
        let Self { last, is_closed, chain, writer, open, .. } = self;
        let next = Self { last, is_closed, chain, writer, open, ..Self::default() };
        next.take_all(file, first)
    }

    /// Returns whether the file has a whole record.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether `open` is all that is open, without the segment before this one. It is not
    /// if a process was killed while it began the segment.
    pub(super) fn knows_what_is_open(&self) -> bool {
        self.repeats == Repeats::All
    }

    fn take_all(self, file: &File, first: u64) -> Result<Self, Unreadable> {
        let mut lines = Lines::new(BufReader::new(file));
        let mut chain = self;
        loop {
            match lines.next()? {
                Next::Line => {}
                Next::End => return Ok(chain),
                Next::TooLong if !lines.rest_is_zeros()? => {
                    return Err(Unreadable::Damaged { line: lines.number });
                }
                // X17, X18: a crash tears only the last line, for which no caller was promised
                // anything.
                Next::Torn | Next::TooLong => {
                    chain.torn = lines.bytes - chain.bytes;
                    return Ok(chain);
                }
            }
            let read = StoredRecord::read(&lines.line).ok();
            let followed = read.and_then(|record| chain.take(&record, first));
            followed.ok_or(Unreadable::Damaged { line: lines.number })?;
            chain.bytes = lines.bytes;
        }
    }

    /// Removes a torn last line.
    pub(super) fn cut(&self, file: &File) -> io::Result<()> {
        if self.torn == 0 { Ok(()) } else { file.set_len(self.bytes) }
    }

    /// Returns where the chain continues, and what is open there.
    pub(super) fn into_resumed(self) -> (Resumed, OpenAtEnd) {
        let mut resumed = Resumed::after(self.last);
        resumed.dropped_bytes = self.torn;
        (resumed.open, resumed.open_token_requests) = self.open.to_lists();
        (resumed, self.open)
    }

    /// Takes the next record, if it follows.
    fn take(&mut self, record: &StoredRecord<'_>, first: u64) -> Option<()> {
        if self.begun.is_none() {
            // A segment names the record before it. Whether that one exists, its caller checks.
            self.before = first
                .checked_sub(1)
                .map(|sequence| Head { sequence, hash: *record.previous_hash() });
            self.last = self.last.or(self.before);
            self.begun = Some(record.time());
            self.chain = record.text(Member::Chain).and_then(|chain| hex::decode(chain.as_bytes()));
            self.writer = record.text(Member::Writer).map(Box::from);
        }
        if !record.follows(self.last) {
            return None;
        }
        self.last = Some(record.head());
        self.is_closed = record.kind() == Some(RecordKind::Close);
        if let Some(kind) = record.kind() {
            self.repeats = self.repeats.after(kind, record);
            self.open.take(kind, record);
        }
        Some(())
    }
}

impl Repeats {
    fn after(self, kind: RecordKind, record: &StoredRecord<'_>) -> Self {
        match (self, kind) {
            (Self::All, _) => Self::All,
            (Self::Nothing, RecordKind::Start) if record.sequence() == 0 => Self::All,
            (_, RecordKind::Open) => match record.number(Member::Carried) {
                Some(carried) => Self::missing(carried),
                None => Self::Settling,
            },
            (Self::Missing(carried), RecordKind::Carried) => {
                Self::missing(carried.saturating_sub(1))
            }
            (Self::Settling, kind) if !may_settle(kind, record) => Self::All,
            (Self::Nothing | Self::Missing(_) | Self::Settling, _) => self,
        }
    }

    const fn missing(carried: u64) -> Self {
        if carried == 0 { Self::All } else { Self::Missing(carried) }
    }
}

/// Whether a record may be one that a process writes together with its `open`.
fn may_settle(kind: RecordKind, record: &StoredRecord<'_>) -> bool {
    let is_result =
        matches!(kind, RecordKind::Result | RecordKind::JobResult | RecordKind::TokenResult);
    is_result && record.text(Member::Outcome).as_deref() == Some("unknown")
}

/// Returns the last record of a file, if its last line is one that is unchanged.
pub(in crate::audit) fn record_at_end(mut file: File) -> io::Result<Option<AtEnd>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE)))?;
    let mut end = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut end)?;
    let Some((b'\n', lines)) = end.split_last() else { return Ok(None) };
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let record = StoredRecord::read(line).ok().filter(StoredRecord::is_whole);
    Ok(record.map(|record| AtEnd {
        head: record.head(),
        is_close: record.kind() == Some(RecordKind::Close),
        time: record.time(),
    }))
}

/// The last record of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) struct AtEnd {
    pub(in crate::audit) head: Head,
    pub(in crate::audit) is_close: bool,
    pub(in crate::audit) time: Timestamp,
}

/// Requests, jobs and token requests without a result.
#[derive(Debug, Default)]
pub(super) struct OpenAtEnd {
    work: BTreeSet<OpenWork>,
    token_requests: BTreeMap<u64, OpenWork>,
}

impl OpenAtEnd {
    /// Returns requests and jobs, and token requests.
    pub(super) fn to_lists(&self) -> (Vec<OpenWork>, Vec<(OpenWork, u64)>) {
        let token_requests = self.token_requests.iter();
        (
            self.work.iter().cloned().collect(),
            token_requests.map(|(number, work)| (work.clone(), *number)).collect(),
        )
    }

    /// Takes a record that was written.
    pub(super) fn written(&mut self, record: Record<'_>) {
        if Self::concerns(record.kind())
            && let Ok(stored) = StoredRecord::read(record.line())
        {
            self.take(record.kind(), &stored);
        }
    }

    const fn concerns(kind: RecordKind) -> bool {
        matches!(
            kind,
            RecordKind::Carried
                | RecordKind::Intent
                | RecordKind::Result
                | RecordKind::JobResult
                | RecordKind::TokenRequest
                | RecordKind::TokenResult
        )
    }

    fn take(&mut self, kind: RecordKind, record: &StoredRecord<'_>) {
        let number = record.number(Member::TokenRequest);
        match (kind, record.work()) {
            // An intent after its request has ended has its result already.
            (RecordKind::Intent, Some(work)) if !record.flag(Member::Late) => {
                self.work.insert(work);
            }
            (RecordKind::Carried, Some(work)) if number.is_none() => {
                self.work.insert(work);
            }
            (RecordKind::Result | RecordKind::JobResult, Some(work)) => {
                self.work.remove(&work);
            }
            // Each process numbers its token requests from 0. At its start, it settled those of the
            // one before.
            (RecordKind::TokenRequest | RecordKind::Carried, Some(work)) => {
                self.token_requests.extend(number.map(|number| (number, work)));
            }
            (RecordKind::TokenResult, _) => {
                number.map(|number| self.token_requests.remove(&number));
            }
            _ => {}
        }
    }
}
