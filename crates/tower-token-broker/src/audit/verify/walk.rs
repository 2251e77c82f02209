//! Reads a file up to the first wrong record.

use std::io::{self, BufRead};

use super::{
    report::{End, Fault, Gap, MAX_GAPS, Report, Wrong},
    settings::Settings,
};
use crate::audit::{
    reader::{Lines, Next, StoredRecord, Unreadable},
    record::{Head, Member, RecordKind, hash_before, sequence_after},
};

/// Bytes between two reports of progress.
const PROGRESS: u64 = 1024 * 1024;

/// A verification, before it is run.
#[derive(Debug, Default)]
#[must_use = "nothing is verified until it is run"]
pub struct Verification<'p> {
    settings: Settings<'p>,
}

impl<'p> Verification<'p> {
    /// Creates a verification of the chain only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a head that was noted elsewhere: the file must contain that record, and may continue
    /// after it. If called several times, it must contain each.
    pub fn expect(mut self, head: Head) -> Self {
        self.settings.noted.push(head);
        self
    }

    /// Sets a function that is called with the number of bytes read, once per MiB.
    pub fn on_progress(mut self, report: impl FnMut(u64) + 'p) -> Self {
        self.settings.progress = Box::new(report);
        self
    }

    /// Reads the file once, from its start.
    ///
    /// # Errors
    /// The file cannot be read. A file with a wrong record is not an error: the report names it.
    pub fn run(self, file: impl BufRead) -> io::Result<Report> {
        let Settings { mut noted, progress } = self.settings;
        noted.sort_unstable();
        let mut watched = WatchedLines { lines: Lines::new(file), reported: 0, progress };
        let mut walk = Walk::new(&noted);
        let found = loop {
            let next = watched.next()?;
            let is_torn = match next {
                Next::Torn => true,
                Next::TooLong => watched.lines.rest_is_zeros()?,
                Next::Line | Next::End => false,
            };
            let fault = match next {
                Next::End => break walk.ends(),
                Next::Torn | Next::TooLong if is_torn => {
                    let bytes = watched.lines.bytes - walk.report.bytes;
                    match walk.torn(&watched.lines.line, bytes) {
                        Ok(end) => break walk.cut_off().map_or(Ok(end), Err),
                        Err(fault) => fault,
                    }
                }
                Next::Torn | Next::TooLong => Fault::TooLong,
                Next::Line => match walk.line(&watched.lines.line) {
                    Ok(()) => {
                        walk.report.bytes = watched.lines.bytes;
                        continue;
                    }
                    Err(fault) => fault,
                },
            };
            break Err(walk.wrong(watched.lines.number, fault));
        };
        let Walk { mut report, .. } = walk;
        report.found = found;
        // P291: a record that is not in its place was removed or moved. The rest of the file shows
        // which.
        if let Err(Wrong { fault: fault @ Fault::Missing { .. }, .. }) = &mut report.found
            && let Some(line) = watched.find_after(report.head)?
        {
            *fault = Fault::Reordered { line };
        }
        Ok(report)
    }
}

/// The lines of the file, with reports of progress.
struct WatchedLines<'p, R> {
    lines: Lines<R>,
    reported: u64,
    progress: Box<dyn FnMut(u64) + 'p>,
}

impl<R: BufRead> WatchedLines<'_, R> {
    fn next(&mut self) -> io::Result<Next> {
        let next = self.lines.next()?;
        if self.lines.bytes - self.reported >= PROGRESS {
            self.reported = self.lines.bytes;
            (self.progress)(self.lines.bytes);
        }
        Ok(next)
    }

    /// Finds the line further down that has the record after `last`.
    fn find_after(&mut self, last: Option<Head>) -> io::Result<Option<u64>> {
        let start = format!("{{\"seq\":{},", sequence_after(last));
        while !matches!(self.next()?, Next::End) {
            let line = &self.lines.line;
            if line.starts_with(start.as_bytes())
                && StoredRecord::read(line).is_ok_and(|record| record.follows(last))
            {
                return Ok(Some(self.lines.number));
            }
        }
        Ok(None)
    }
}

/// Takes the records of one chain.
pub(super) struct Walk<'n> {
    pub(super) report: Report,
    ended: Ended,
    /// The noted heads that have not been reached, in the order of the chain.
    noted: &'n [Head],
}

/// Whether the last record ends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Nothing,
    /// `close` of a segment: its process continues in the next one.
    Segment,
    /// `close` in order.
    Process,
    /// `close` of one of both, in a segment that is not there.
    Unknown,
}

pub(super) fn parsed(line: &[u8]) -> Result<StoredRecord<'_>, Fault> {
    StoredRecord::read(line).map_err(|error| match error {
        Unreadable::NotJson(error) => Fault::NotJson(error),
        Unreadable::NotARecord => Fault::NotARecord,
    })
}

impl<'n> Walk<'n> {
    pub(super) const fn new(noted: &'n [Head]) -> Self {
        Self { report: Report::empty(), ended: Ended::Nothing, noted }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.record(&parsed(line)?)
    }

    pub(super) fn record(&mut self, record: &StoredRecord<'_>) -> Result<(), Fault> {
        if !record.follows(self.report.head) {
            return Err(self.why_not(record));
        }
        self.meets(record.head())?;
        self.marks(record)?;
        self.report.take(record);
        Ok(())
    }

    fn why_not(&self, record: &StoredRecord<'_>) -> Fault {
        let (sequence, expected) = (record.sequence(), sequence_after(self.report.head));
        let is_whole = record.is_whole();
        let names_the_last = *record.previous_hash() == hash_before(self.report.head);
        if sequence > expected && (is_whole || !names_the_last) {
            Fault::Missing { until: sequence }
        } else if !is_whole {
            Fault::Edited
        } else if sequence < expected {
            Fault::Repeated { sequence }
        } else {
            Fault::Unlinked
        }
    }

    /// A process that starts marks its start.
    // P293.
    fn marks(&mut self, record: &StoredRecord<'_>) -> Result<(), Fault> {
        let kind = record.kind();
        let is_next_segment =
            kind == Some(RecordKind::Open) && record.number(Member::Carried).is_some();
        let is_marked = match kind {
            Some(RecordKind::Start) => self.report.head.is_none(),
            Some(RecordKind::Open) if is_next_segment => {
                matches!(self.ended, Ended::Segment | Ended::Unknown)
            }
            Some(RecordKind::Open) => self.report.head.is_some(),
            _ => self.report.head.is_some() && self.ended == Ended::Nothing,
        };
        if !is_marked {
            return Err(Fault::Unmarked);
        }
        // P387: a process that was killed between two segments did not end in order, either.
        if kind == Some(RecordKind::Open) && !is_next_segment {
            let is_gap = match self.ended {
                Ended::Nothing | Ended::Segment => true,
                Ended::Process => false,
                Ended::Unknown => {
                    record.number(Member::DroppedBytes).is_some_and(|bytes| bytes > 0)
                }
            };
            if is_gap {
                self.report.gap(record);
            }
        }
        self.ended = match kind {
            Some(RecordKind::Close) if record.flag(Member::Continues) => Ended::Segment,
            Some(RecordKind::Close) => Ended::Process,
            _ => Ended::Nothing,
        };
        Ok(())
    }

    fn meets(&mut self, head: Head) -> Result<(), Fault> {
        while let Some((noted, rest)) = self.noted.split_first()
            && noted.sequence == head.sequence
        {
            if noted.hash != head.hash {
                return Err(Fault::Rewritten);
            }
            self.noted = rest;
        }
        Ok(())
    }

    /// Returns whether the last record is `close`.
    pub(super) fn is_closed(&self) -> bool {
        self.ended != Ended::Nothing
    }

    /// Continues with a segment whose first record has this previous one. Those between are
    /// missing, or were removed.
    pub(super) const fn resumes_after(&mut self, before: Head) {
        self.report.head = Some(before);
        self.ended = Ended::Unknown;
    }

    pub(super) fn ends(&self) -> Result<End, Wrong> {
        if let Some(wrong) = self.cut_off() {
            return Err(wrong);
        }
        match self.report.records {
            0 => Err(Wrong { sequence: 0, line: 1, fault: Fault::Empty }),
            _ if self.ended == Ended::Process => Ok(End::Closed),
            _ => Ok(End::Open),
        }
    }

    /// A crash leaves the beginning of the next record, or zeros where the disk had not
    /// received the bytes.
    // X17.
    pub(super) fn torn(&self, line: &[u8], bytes: u64) -> Result<End, Fault> {
        let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let written = line.get(..end).unwrap_or_default();
        let start = format!("{{\"seq\":{},\"time\":\"", sequence_after(self.report.head));
        let is_start =
            written.iter().zip(start.as_bytes()).all(|(found, expected)| found == expected);
        if is_start && self.report.head.is_none() {
            return Err(Fault::Empty);
        }
        if is_start && written.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            Ok(End::Torn { bytes })
        } else {
            Err(Fault::NotARecord)
        }
    }

    /// Returns the fault of a file that ends before a noted head.
    fn cut_off(&self) -> Option<Wrong> {
        let noted = self.noted.first()?;
        Some(self.wrong(self.report.records + 1, Fault::CutOff { noted: noted.sequence }))
    }

    pub(super) fn wrong(&self, line: u64, fault: Fault) -> Wrong {
        Wrong { sequence: sequence_after(self.report.head), line, fault }
    }
}

impl Report {
    const fn empty() -> Self {
        Self {
            chain: None,
            records: 0,
            requests: 0,
            unknown: 0,
            head: None,
            time: None,
            bytes: 0,
            crashes: 0,
            dropped_bytes: 0,
            gaps: Vec::new(),
            found: Ok(End::Open),
        }
    }

    fn take(&mut self, record: &StoredRecord<'_>) {
        let is_result = record.kind() == Some(RecordKind::Result);
        let ended = record.number(Member::Count).filter(|_| is_result).unwrap_or_default();
        self.requests = self.requests.saturating_add(ended);
        if record.text(Member::Outcome).as_deref() == Some("unknown") {
            self.unknown = self.unknown.saturating_add(ended);
        }
        self.records += 1;
        self.head = Some(record.head());
        self.chain = self.chain.take().or_else(|| record.text(Member::Chain).map(Box::from));
        self.time = Some(record.time());
    }

    fn gap(&mut self, open: &StoredRecord<'_>) {
        let dropped_bytes = open.number(Member::DroppedBytes).unwrap_or_default();
        self.crashes += 1;
        self.dropped_bytes = self.dropped_bytes.saturating_add(dropped_bytes);
        if self.gaps.len() < MAX_GAPS {
            let (sequence, time) = (open.sequence(), open.time());
            self.gaps.push(Gap { sequence, time, dropped_bytes });
        }
    }
}
