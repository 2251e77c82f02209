//! The command `token-broker audit verify FILE`: verifies an audit file, and prints the result as
//! text or as one JSON object. See `docs/audit.md`.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tower_token_broker::audit::verify::{End, Head, Report, Verification};

use crate::escaped::escaped;

/// The result of verifying a file: `Display` prints it for people, [`Verified::to_json`] for
/// programs.
#[derive(Debug)]
pub struct Verified {
    file: PathBuf,
    noted: Vec<Head>,
    report: Report,
}

/// Verifies a file. Calls `progress` with each percent once, so at most a hundred times.
///
/// # Errors
/// The file cannot be read.
pub fn verify(file: &Path, noted: &[Head], progress: impl FnMut(u64)) -> io::Result<Verified> {
    let lines = File::open(file)?;
    // A pipe has no length, so there is no progress.
    let length = lines.metadata()?.len();
    let verification = Verification::new().on_progress(percents(length, progress));
    let verification =
        noted.iter().fold(verification, |verification, head| verification.expect(*head));
    let report = verification.run(BufReader::with_capacity(1 << 16, lines))?;
    Ok(Verified { file: file.to_owned(), noted: noted.to_vec(), report })
}

/// Turns numbers of bytes into calls with each percent of `length` once.
pub(crate) fn percents(length: u64, mut progress: impl FnMut(u64)) -> impl FnMut(u64) {
    let mut reported = 0;
    move |bytes| {
        let percent = bytes.saturating_mul(100).checked_div(length).unwrap_or_default().min(100);
        if percent > reported {
            reported = percent;
            progress(percent);
        }
    }
}

impl Verified {
    /// Returns the report.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Returns 0 if all records are as they were written, else 1.
    pub const fn exit_code(&self) -> u8 {
        if self.report.is_whole() { 0 } else { 1 }
    }

    /// Returns the result as one JSON object (`docs/audit.md`).
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&Object::of(self)).unwrap_or_default()
    }
}

/// The object of `--json`.
#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    #[serde(flatten)]
    file: FileObject<'a>,
    noted: Vec<String>,
}

/// The members that a chain of a folder has, too.
#[derive(Serialize)]
pub(crate) struct FileObject<'a> {
    whole: bool,
    chain: Option<&'a str>,
    records: u64,
    requests: u64,
    unknown: u64,
    head: Option<String>,
    time: Option<String>,
    bytes: u64,
    crashes: u64,
    dropped_bytes: u64,
    gaps: Vec<Gap>,
    end: Option<&'static str>,
    torn_bytes: u64,
    wrong: Option<Wrong>,
}

#[derive(Serialize)]
struct Gap {
    sequence: u64,
    time: String,
    dropped_bytes: u64,
}

#[derive(Serialize)]
struct Wrong {
    sequence: u64,
    line: u64,
    fault: &'static str,
    text: String,
}

impl<'a> Object<'a> {
    fn of(verified: &'a Verified) -> Self {
        Self {
            schema: 1,
            file: FileObject::of(&verified.report),
            noted: verified.noted.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> FileObject<'a> {
    pub(crate) fn of(report: &'a Report) -> Self {
        let end = report.found.ok();
        Self {
            whole: report.is_whole(),
            chain: report.chain.as_deref(),
            records: report.records,
            requests: report.requests,
            unknown: report.unknown,
            head: report.head.map(|head| head.to_string()),
            time: report.time.map(|time| time.to_string()),
            bytes: report.bytes,
            crashes: report.crashes,
            dropped_bytes: report.dropped_bytes,
            gaps: report
                .gaps
                .iter()
                .map(|gap| Gap {
                    sequence: gap.sequence,
                    time: gap.time.to_string(),
                    dropped_bytes: gap.dropped_bytes,
                })
                .collect(),
            end: end.map(End::code),
            torn_bytes: end.map_or(0, End::torn_bytes),
            wrong: report.found.err().map(|wrong| Wrong {
                sequence: wrong.sequence,
                line: wrong.line,
                fault: wrong.fault.code(),
                text: wrong.to_string(),
            }),
        }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, report) = (escaped(self.file.display()), &self.report);
        match &report.found {
            Ok(_) => writeln!(f, "{file}: whole. {} records, unchanged", report.records)?,
            Err(wrong) => {
                writeln!(f, "{file}: NOT WHOLE. {wrong}")?;
                writeln!(f, "  {:<10}{} unchanged before it", "records", report.records)?;
            }
        }
        if let Some(chain) = &report.chain {
            writeln!(f, "  {:<10}{}", "chain", escaped(chain))?;
        }
        writeln!(
            f,
            "  {:<10}{} ended; {} with unknown outcome",
            "requests", report.requests, report.unknown
        )?;
        self.gaps(f)?;
        if let Ok(end) = &report.found {
            writeln!(f, "  {:<10}{end}", "end")?;
        }
        if let (Some(head), Some(time)) = (&report.head, &report.time) {
            writeln!(f, "  {:<10}{head} of {time}", "head")?;
        }
        f.write_str(&self.what_it_does_not_show())
    }
}

impl Verified {
    fn gaps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        let report = &self.report;
        if report.crashes == 0 {
            return writeln!(f, "  {:<10}none", "gaps");
        }
        writeln!(
            f,
            "  {:<10}{} after a crash, each marked; {} bytes of torn lines were removed",
            "gaps", report.crashes, report.dropped_bytes
        )?;
        for gap in report.gaps.iter().take(SHOWN) {
            writeln!(
                f,
                "  {:<10}before record {} of {}: {} bytes",
                "", gap.sequence, gap.time, gap.dropped_bytes
            )?;
        }
        match report.crashes.saturating_sub(SHOWN as u64) {
            0 => Ok(()),
            more => writeln!(f, "  {:<10}and {more} more", ""),
        }
    }

    fn what_it_does_not_show(&self) -> String {
        const WITHOUT_HEAD: &str = "\
The chain does not show: records removed from the end, and a file that was rewritten or replaced.
Note the head where writers of the file cannot change it, and compare: --expect-head SEQ:HASH";
        if !self.report.is_whole() {
            return "Records after it were not checked. Keep the file as it is, and start a new one."
                .to_owned();
        }
        match self.noted.iter().map(|head| head.sequence).max() {
            None => WITHOUT_HEAD.to_owned(),
            Some(noted) => format!(
                "Up to record {noted} it is the file that was noted. Not shown: records after that \
                 one that were removed or rewritten."
            ),
        }
    }
}
