//! Reads all chains of a folder, segment by segment.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use super::{
    folder_report::{ChainReport, FolderReport, RemovedSegments},
    report::{End, Fault, Report, Wrong},
    settings::Settings,
    walk::{Walk, parsed},
};
use crate::{
    audit::{
        reader::{Lines, Next, StoredRecord},
        record::{Head, Member, RecordKind},
        segment::{Listing, SegmentName, WriterName},
    },
    hex,
};

/// A verification of an audit folder, before it is run.
///
/// A fault in one segment does not hide those in others: each segment is read up to its first wrong
/// record, and compared with the one before it.
#[derive(Debug, Default)]
#[must_use = "nothing is verified until it is run"]
pub struct FolderVerification<'p> {
    settings: Settings<'p>,
}

impl<'p> FolderVerification<'p> {
    /// Creates a verification of the chains only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a head that was noted elsewhere: one of the chains must contain that record, and may
    /// continue after it, or a recorded removal must name it as its last record. If called several
    /// times, each must be found.
    pub fn expect(mut self, head: Head) -> Self {
        self.settings.noted.push(head);
        self
    }

    /// Sets a function that is called with the number of bytes read, after each segment.
    pub fn on_progress(mut self, report: impl FnMut(u64) + 'p) -> Self {
        self.settings.progress = Box::new(report);
        self
    }

    /// Reads each segment that is in the folder now once.
    ///
    /// # Errors
    /// The folder or a segment cannot be read; the error names the file. A wrong record is not an
    /// error: the report names it.
    pub fn run(self, folder: &Path) -> io::Result<FolderReport> {
        let Settings { noted, mut progress } = self.settings;
        let listing = Listing::read(folder).map_err(|error| named(folder, &error))?;
        let mut report = FolderReport::default();
        let mut missing: BTreeSet<Head> = noted.into_iter().collect();
        let (mut begins, mut bytes) = (Vec::new(), 0);
        for (writer, segments) in listing.segments {
            let mut chain = Chain::new(folder, &writer, &mut report, &mut missing);
            for first in &segments {
                chain.segment(*first, segments.last() == Some(first))?;
                progress(bytes + chain.bytes);
            }
            bytes += chain.bytes;
            begins.push(chain.finish(segments.len()));
        }
        for begin in begins.into_iter().flatten() {
            begin.judge(&mut report);
        }
        for file in listing.others {
            match begins_with_a_record(&file).map_err(|error| named(&file, &error))? {
                true => report.fault(file, Wrong { sequence: 0, line: 1, fault: Fault::Misnamed }),
                false => report.others.push(file),
            }
        }
        for head in missing {
            report.sort_missing(head);
        }
        Ok(report)
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether a file that has the name of no segment contains records: a segment that was renamed.
fn begins_with_a_record(file: &Path) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"{\"seq\":";
    if !fs::symlink_metadata(file)?.is_file() {
        return Ok(false);
    }
    let mut found = Vec::new();
    File::open(file)?.take(BEGINNING.len() as u64).read_to_end(&mut found)?;
    Ok(found == BEGINNING)
}

/// One chain, while it is read.
struct Chain<'r> {
    folder: &'r Path,
    writer: &'r WriterName,
    report: &'r mut FolderReport,
    missing: &'r mut BTreeSet<Head>,
    walk: Walk<'static>,
    /// The first wrong record.
    wrong: Option<Wrong>,
    end: Option<End>,
    /// Whether a segment was read up to a wrong record, so that its last record is not known.
    is_lost: bool,
    begin: Option<Head>,
    closes: BTreeSet<Head>,
    bytes: u64,
}

/// The beginning of a chain whose first segments are not in the folder.
struct Begin {
    index: usize,
    before: Head,
    closes: BTreeSet<Head>,
    file: PathBuf,
}

impl<'r> Chain<'r> {
    fn new(
        folder: &'r Path,
        writer: &'r WriterName,
        report: &'r mut FolderReport,
        missing: &'r mut BTreeSet<Head>,
    ) -> Self {
        Self {
            folder,
            writer,
            report,
            missing,
            walk: Walk::new(&[]),
            wrong: None,
            end: None,
            is_lost: false,
            begin: None,
            closes: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn segment(&mut self, first: u64, is_last: bool) -> io::Result<()> {
        let path = SegmentName::path(self.folder, self.writer, first);
        let file = fs::symlink_metadata(&path).map_err(|error| named(&path, &error))?;
        if !file.is_file() {
            self.is_lost = true;
            self.fault(&path, Wrong { sequence: first, line: 1, fault: Fault::Misnamed });
            return Ok(());
        }
        let file = File::open(&path).map_err(|error| named(&path, &error))?;
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, file));
        let before = self.bytes;
        let found = self.records(&path, &mut lines, first, is_last);
        let found = found.map_err(|error| named(&path, &error))?;
        self.bytes = before + lines.bytes;
        self.walk.report.bytes = self.bytes;
        self.is_lost = found.is_err();
        match found {
            Ok(end) => self.end = Some(end),
            Err(fault) => self.fault(&path, self.walk.wrong(lines.number.max(1), fault)),
        }
        Ok(())
    }

    /// Reads a segment up to its first wrong record.
    fn records(
        &mut self,
        path: &Path,
        lines: &mut Lines<BufReader<File>>,
        first: u64,
        is_last: bool,
    ) -> io::Result<Result<End, Fault>> {
        let mut whole = 0;
        loop {
            let fault = match lines.next()? {
                Next::Line => match self.line(path, lines, first) {
                    Ok(()) => {
                        whole = lines.bytes;
                        continue;
                    }
                    Err(fault) => fault,
                },
                Next::End => return Ok(self.at_end(first, whole, is_last)),
                Next::TooLong if !lines.rest_is_zeros()? => Fault::TooLong,
                // X17: only the last segment is written to.
                Next::Torn | Next::TooLong if is_last => {
                    let bytes = lines.bytes - whole;
                    return Ok(self.walk.torn(&lines.line, bytes));
                }
                Next::Torn | Next::TooLong => Fault::NotARecord,
            };
            return Ok(Err(fault));
        }
    }

    fn at_end(&self, first: u64, whole: u64, is_last: bool) -> Result<End, Fault> {
        let next = self.walk.report.head.map(|head| head.sequence.saturating_add(1));
        if whole > 0 {
            // Each segment but the last one ends with `close`. If records after it are missing, the
            // next segment does not follow, and shows which.
            return if is_last {
                self.walk.ends().map_err(|wrong| wrong.fault)
            } else {
                Ok(End::Open)
            };
        }
        // A process was killed before it wrote the first record of its next segment.
        let is_begun = is_last && first > 0 && (self.is_lost || next == Some(first));
        if is_begun { Ok(End::Open) } else { Err(Fault::Empty) }
    }

    fn line(
        &mut self,
        path: &Path,
        lines: &Lines<BufReader<File>>,
        first: u64,
    ) -> Result<(), Fault> {
        let record = parsed(&lines.line)?;
        if lines.number == 1 {
            self.begins(path, &record, first)?;
        }
        self.walk.record(&record)?;
        self.missing.remove(&record.head());
        match record.kind() {
            Some(RecordKind::Close) => {
                self.closes.insert(record.head());
            }
            Some(RecordKind::SegmentsRemoved) => {
                let removed = removed(&record, self.writer);
                self.report.removed.extend(removed);
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the first record of a segment with its name, and with the end of the one before it.
    // P291, P386.
    fn begins(&mut self, path: &Path, record: &StoredRecord<'_>, first: u64) -> Result<(), Fault> {
        if !record.is_whole() {
            return Err(Fault::Edited);
        }
        let writer = record.text(Member::Writer);
        if record.sequence() != first || writer.as_deref() != Some(self.writer.as_str()) {
            return Err(Fault::Misnamed);
        }
        let before =
            first.checked_sub(1).map(|sequence| Head { sequence, hash: *record.previous_hash() });
        let Some(before) = before else { return Ok(()) };
        let last = self.walk.report.head;
        if last == Some(before) && self.walk.is_closed() {
            return Ok(());
        }
        if last.is_none() && !self.is_lost {
            self.begin = Some(before);
        } else if !self.is_lost {
            // The records between are missing, or a segment was replaced. This one is read all the
            // same.
            let fault = match last {
                Some(last) if last.sequence < before.sequence => Fault::Missing { until: first },
                Some(last) if last.sequence > before.sequence => {
                    Fault::Repeated { sequence: first }
                }
                Some(last) if last == before => Fault::Unmarked,
                Some(_) | None => Fault::Unlinked,
            };
            self.fault(path, self.walk.wrong(1, fault));
        }
        self.walk.resumes_after(before);
        Ok(())
    }

    fn fault(&mut self, path: &Path, wrong: Wrong) {
        self.wrong.get_or_insert(wrong);
        self.report.fault(path.to_owned(), wrong);
    }

    fn finish(self, segments: usize) -> Option<Begin> {
        let index = self.report.chains.len();
        let found = match (self.wrong, self.end) {
            (Some(wrong), _) => Err(wrong),
            (None, Some(end)) => Ok(end),
            (None, None) => Err(Wrong { sequence: 0, line: 1, fault: Fault::Empty }),
        };
        let report = Report { found, ..self.walk.report };
        let chain =
            ChainReport { writer: self.writer.clone(), segments, report, removed_until: None };
        self.report.chains.push(chain);
        self.begin.map(|before| Begin {
            index,
            before,
            closes: self.closes,
            file: SegmentName::path(self.folder, self.writer, before.sequence.saturating_add(1)),
        })
    }
}

impl Begin {
    /// Looks for the record that signs off the removal of what was before. If a removal was
    /// interrupted, some of the segments that it names are still there.
    fn judge(self, report: &mut FolderReport) {
        let Some(chain) = report.chains.get_mut(self.index) else { return };
        let is_signed_off = report.removed.iter().any(|removed| {
            *removed.writer == *chain.writer.as_str()
                && Some(&removed.chain) == chain.report.chain.as_ref()
                && (removed.until == self.before
                    || removed.from <= self.before.sequence.saturating_add(1)
                        && self.closes.contains(&removed.until))
        });
        // P386: removed without a record is missing.
        if is_signed_off {
            chain.removed_until = Some(self.before);
            return;
        }
        let until = self.before.sequence.saturating_add(1);
        let wrong = Wrong { sequence: 0, line: 1, fault: Fault::Missing { until } };
        chain.report.found = Err(wrong);
        report.fault(self.file, wrong);
    }
}

fn removed(record: &StoredRecord<'_>, recorded_by: &WriterName) -> Option<RemovedSegments> {
    let text = |member| record.text(member).map(Box::<str>::from);
    let hash = hex::decode(text(Member::UntilHash)?.as_bytes())?;
    let names = [Member::Initiator, Member::InitiatorName, Member::InitiatorSubject];
    let names: Vec<_> = names.into_iter().filter_map(|name| record.text(name)).collect();
    Some(RemovedSegments {
        writer: text(Member::Writer)?,
        chain: text(Member::Chain)?,
        from: record.number(Member::From)?,
        until: Head { sequence: record.number(Member::Until)?, hash },
        initiator: names.join(" ").into(),
        time: record.time(),
        recorded_by: recorded_by.clone(),
        sequence: record.sequence(),
    })
}
