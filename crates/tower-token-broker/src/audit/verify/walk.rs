//! Walks a file from its first line to the first wrong one.

use std::{
    fmt,
    io::{self, BufRead},
};

use super::{
    super::chain::{LONGEST_LINE, Link, Unreadable, hash_before, next_behind},
    End, Fault, Gap, Head, MAX_GAPS, Report, Wrong,
};

/// Bytes between two words of progress.
const PROGRESS: u64 = 1024 * 1024;

/// A verification that is being described.
#[must_use = "nothing is verified until it is run"]
pub struct Verification<'p> {
    noted: Vec<Head>,
    progress: Box<dyn FnMut(u64) + 'p>,
}

impl Default for Verification<'_> {
    fn default() -> Self {
        Self { noted: Vec::new(), progress: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification").field("noted", &self.noted).finish_non_exhaustive()
    }
}

impl<'p> Verification<'p> {
    /// Of the chain alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// This head was noted elsewhere: the file must have it, and may go on behind it. Of several,
    /// each.
    pub fn expect(mut self, head: Head) -> Self {
        self.noted.push(head);
        self
    }

    /// Tells how many bytes were read, once a MiB.
    pub fn on_progress(mut self, tell: impl FnMut(u64) + 'p) -> Self {
        self.progress = Box::new(tell);
        self
    }

    /// Reads the file from its beginning, once.
    ///
    /// # Errors
    /// It can't be read. That it is not whole is in the report.
    pub fn run(mut self, file: impl BufRead) -> io::Result<Report> {
        self.noted.sort_unstable();
        let mut lines =
            Lines { file, line: Vec::new(), number: 0, bytes: 0, told: 0, progress: self.progress };
        let mut walk = Walk { report: Report::empty(), is_closed: false, noted: &self.noted };
        let found = loop {
            let fault = match lines.next()? {
                Next::End => break walk.ends(),
                Next::Torn => match walk.torn(&lines.line) {
                    Ok(end) => break walk.cut_off().map_or(Ok(end), Err),
                    Err(fault) => fault,
                },
                Next::TooLong => Fault::TooLong,
                Next::Line => match walk.line(&lines.line) {
                    Ok(()) => {
                        walk.report.bytes = lines.bytes;
                        continue;
                    }
                    Err(fault) => fault,
                },
            };
            break Err(walk.wrong(lines.number, fault));
        };
        let Walk { mut report, .. } = walk;
        report.found = found;
        // P291: what is not in its place may have been cut out or put elsewhere: the rest of the
        // file says which.
        if let Err(Wrong { fault: fault @ Fault::Missing { .. }, .. }) = &mut report.found
            && let Some(line) = lines.find_behind(report.head)?
        {
            *fault = Fault::Reordered { line };
        }
        Ok(report)
    }
}

/// What comes next in the file.
enum Next {
    Line,
    /// A last line without its end.
    Torn,
    TooLong,
    End,
}

struct Lines<'p, R> {
    file: R,
    /// The last one, without its line break.
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    told: u64,
    progress: Box<dyn FnMut(u64) + 'p>,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> io::Result<Next> {
        self.line.clear();
        let length =
            io::Read::take(&mut self.file, LONGEST_LINE).read_until(b'\n', &mut self.line)? as u64;
        self.bytes += length;
        if self.bytes - self.told >= PROGRESS {
            self.told = self.bytes;
            (self.progress)(self.bytes);
        }
        if length == 0 {
            return Ok(Next::End);
        }
        self.number += 1;
        Ok(match self.line.last() {
            Some(b'\n') => {
                self.line.pop();
                Next::Line
            }
            _ if length == LONGEST_LINE => Next::TooLong,
            _ => Next::Torn,
        })
    }

    /// The line further down in which the record behind `last` stands.
    fn find_behind(&mut self, last: Option<Head>) -> io::Result<Option<u64>> {
        let begins = format!("{{\"seq\":{},", next_behind(last));
        while !matches!(self.next()?, Next::End) {
            if self.line.starts_with(begins.as_bytes())
                && Link::read(&self.line).is_ok_and(|link| link.follows(last))
            {
                return Ok(Some(self.number));
            }
        }
        Ok(None)
    }
}

struct Walk<'n> {
    report: Report,
    /// The last record is `close`.
    is_closed: bool,
    /// What is still to be met, in the order of the chain.
    noted: &'n [Head],
}

impl Walk<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let link = Link::read(line).map_err(|error| match error {
            Unreadable::NotJson(error) => Fault::NotJson(error),
            Unreadable::NotARecord => Fault::NotARecord,
        })?;
        if !link.follows(self.report.head) {
            return Err(self.why_not(&link));
        }
        self.meets(link.head())?;
        self.marks(&link)?;
        self.report.take(link);
        Ok(())
    }

    fn why_not(&self, link: &Link<'_>) -> Fault {
        let expected = next_behind(self.report.head);
        let is_whole = link.is_whole();
        let says_so = link.previous == hash_before(self.report.head);
        if link.sequence > expected && (is_whole || !says_so) {
            Fault::Missing { until: link.sequence }
        } else if !is_whole {
            Fault::Edited
        } else if link.sequence < expected {
            Fault::Repeated { sequence: link.sequence }
        } else {
            Fault::Foreign
        }
    }

    /// P293: a process that begins says so.
    fn marks(&mut self, link: &Link<'_>) -> Result<(), Fault> {
        let is_marked = match &*link.kind {
            "start" => self.report.head.is_none(),
            "open" => self.report.head.is_some(),
            _ => self.report.head.is_some() && !self.is_closed,
        };
        if !is_marked {
            return Err(Fault::Unmarked);
        }
        if &*link.kind == "open" && !self.is_closed {
            self.report.gap(link);
        }
        self.is_closed = &*link.kind == "close";
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

    fn ends(&self) -> Result<End, Wrong> {
        if let Some(wrong) = self.cut_off() {
            return Err(wrong);
        }
        match self.report.records {
            0 => Err(Wrong { sequence: 0, line: 1, fault: Fault::Empty }),
            _ if self.is_closed => Ok(End::Closed),
            _ => Ok(End::Open),
        }
    }

    /// X17: half a line is no record, and a crash leaves the beginning of the next one; or zeros,
    /// where the disk had not got the bytes yet.
    fn torn(&self, line: &[u8]) -> Result<End, Fault> {
        if self.report.head.is_none() {
            return Err(Fault::Empty);
        }
        let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let written = line.get(..end).unwrap_or_default();
        let begins = format!("{{\"seq\":{},\"time\":\"", next_behind(self.report.head));
        let is_beginning =
            written.iter().zip(begins.as_bytes()).all(|(found, expected)| found == expected);
        if is_beginning && written.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            Ok(End::Torn { bytes: line.len() as u64 })
        } else {
            Err(Fault::NotARecord)
        }
    }

    /// The file has ended, and a head that was noted has not come.
    fn cut_off(&self) -> Option<Wrong> {
        let noted = self.noted.first()?;
        Some(self.wrong(self.report.records + 1, Fault::CutOff { noted: noted.sequence }))
    }

    fn wrong(&self, line: u64, fault: Fault) -> Wrong {
        Wrong { sequence: next_behind(self.report.head), line, fault }
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

    fn take(&mut self, link: Link<'_>) {
        let ended = link.count.filter(|_| &*link.kind == "result").unwrap_or_default();
        self.requests = self.requests.saturating_add(ended);
        if link.outcome.as_deref() == Some("unknown") {
            self.unknown = self.unknown.saturating_add(ended);
        }
        self.records += 1;
        self.head = Some(link.head());
        self.chain = self.chain.take().or(link.chain);
        self.time = Some(link.time);
    }

    fn gap(&mut self, open: &Link<'_>) {
        let dropped_bytes = open.dropped_bytes.unwrap_or_default();
        self.crashes += 1;
        self.dropped_bytes = self.dropped_bytes.saturating_add(dropped_bytes);
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(Gap { sequence: open.sequence, time: open.time.clone(), dropped_bytes });
        }
    }
}
