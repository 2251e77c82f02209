//! The command `token-broker audit verify FOLDER`: verifies all chains of a folder.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tower_token_broker::audit::verify::{
    ChainReport, FolderReport, FolderVerification, Head, RemovedHead, RemovedSegments,
    SegmentFault, Verdict,
};

use crate::{
    audit::{FileObject, percents},
    escaped::escaped,
    gateway::MARK_SUFFIX,
};

/// The result of verifying a folder: `Display` prints it for people, [`VerifiedFolder::to_json`]
/// for programs.
#[derive(Debug)]
pub struct VerifiedFolder {
    folder: PathBuf,
    noted: Vec<Head>,
    report: FolderReport,
}

/// Verifies a folder. Calls `progress` with each percent once, so at most a hundred times.
///
/// # Errors
/// The folder or a file in it cannot be read.
pub fn verify_folder(
    folder: &Path,
    noted: &[Head],
    progress: impl FnMut(u64),
) -> io::Result<VerifiedFolder> {
    let mut length = 0;
    for file in std::fs::read_dir(folder)? {
        length += file?.metadata()?.len();
    }
    let verification = FolderVerification::new().on_progress(percents(length, progress));
    let verification =
        noted.iter().fold(verification, |verification, head| verification.expect(*head));
    let mut report = verification.run(folder)?;
    // The gateway's own notes are no records.
    report.others.retain(|path| !path.to_str().is_some_and(|path| path.ends_with(MARK_SUFFIX)));
    Ok(VerifiedFolder { folder: folder.to_owned(), noted: noted.to_vec(), report })
}

impl VerifiedFolder {
    /// Returns the report.
    pub const fn report(&self) -> &FolderReport {
        &self.report
    }

    /// Returns 0 if all records are as they were written, 1 if one is not, and 3 if they are, but a
    /// noted head cannot be compared with a removed record.
    pub fn exit_code(&self) -> u8 {
        match self.report.verdict() {
            Verdict::Whole => 0,
            Verdict::NotWhole => 1,
            Verdict::Undecided => 3,
        }
    }

    /// Returns the result as one JSON object (`docs/audit.md`).
    pub fn to_json(&self) -> String {
        let report = &self.report;
        let name = |path: &Path| {
            path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned()
        };
        let object = Object {
            schema: 1,
            whole: match report.verdict() {
                Verdict::Whole => Some(true),
                Verdict::NotWhole => Some(false),
                Verdict::Undecided => None,
            },
            chains: report.chains.iter().map(Chain::of).collect(),
            fault_count: report.fault_count,
            faults: report.faults.iter().map(|fault| Fault::of(fault, name(&fault.file))).collect(),
            removed: report.removed.iter().map(Removed::of).collect(),
            others: report.others.iter().map(|path| name(path)).collect(),
            noted: self.noted.iter().map(ToString::to_string).collect(),
            removed_heads: report.removed_heads.iter().map(Noted::of).collect(),
            missing_heads: report.missing_heads.iter().map(ToString::to_string).collect(),
        };
        serde_json::to_string_pretty(&object).unwrap_or_default()
    }
}

/// The object of `--json` for a folder.
#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    whole: Option<bool>,
    chains: Vec<Chain<'a>>,
    fault_count: u64,
    faults: Vec<Fault>,
    removed: Vec<Removed<'a>>,
    others: Vec<String>,
    noted: Vec<String>,
    removed_heads: Vec<Noted<'a>>,
    missing_heads: Vec<String>,
}

#[derive(Serialize)]
struct Chain<'a> {
    writer: &'a str,
    segments: usize,
    removed_until: Option<String>,
    #[serde(flatten)]
    file: FileObject<'a>,
}

impl<'a> Chain<'a> {
    fn of(chain: &'a ChainReport) -> Self {
        Self {
            writer: chain.writer.as_str(),
            segments: chain.segments,
            removed_until: chain.removed_until.map(|head| head.to_string()),
            file: FileObject::of(&chain.report),
        }
    }
}

#[derive(Serialize)]
struct Fault {
    file: String,
    sequence: u64,
    line: u64,
    fault: &'static str,
    text: String,
}

impl Fault {
    fn of(fault: &SegmentFault, file: String) -> Self {
        let wrong = fault.wrong;
        Self {
            file,
            sequence: wrong.sequence,
            line: wrong.line,
            fault: wrong.fault.code(),
            text: wrong.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Removed<'a> {
    writer: &'a str,
    chain: &'a str,
    from: u64,
    until: String,
    initiator: &'a str,
    time: String,
    recorded_by: &'a str,
    sequence: u64,
}

impl<'a> Removed<'a> {
    fn of(removed: &'a RemovedSegments) -> Self {
        Self {
            writer: &removed.writer,
            chain: &removed.chain,
            from: removed.from,
            until: removed.until.to_string(),
            initiator: &removed.initiator,
            time: removed.time.to_string(),
            recorded_by: removed.recorded_by.as_str(),
            sequence: removed.sequence,
        }
    }
}

#[derive(Serialize)]
struct Noted<'a> {
    head: String,
    compared: bool,
    removal: Removed<'a>,
}

impl<'a> Noted<'a> {
    fn of(noted: &'a RemovedHead) -> Self {
        Self {
            head: noted.head.to_string(),
            compared: noted.is_compared,
            removal: Removed::of(&noted.removal),
        }
    }
}

impl fmt::Display for VerifiedFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let (folder, report) = (escaped(self.folder.display()), &self.report);
        let records: u64 = report.chains.iter().map(|chain| chain.report.records).sum();
        let chains = report.chains.len();
        let verdict = report.verdict();
        if verdict == Verdict::Whole {
            writeln!(f, "{folder}: whole. {records} records in {chains} chains, unchanged")?;
        } else if verdict == Verdict::Undecided {
            let heads = report.removed_heads.iter().filter(|noted| !noted.is_compared).count();
            writeln!(
                f,
                "{folder}: UNDECIDED. {records} records in {chains} chains, unchanged; {heads} \
                 noted heads cannot be compared"
            )?;
        } else if chains == 0 {
            writeln!(f, "{folder}: NOT WHOLE. It contains no segment of an audit log")?;
        } else {
            write!(f, "{folder}: NOT WHOLE. ")?;
            match report.fault_count {
                0 => write!(f, "{records} records in {chains} chains, unchanged")?,
                faults => write!(f, "{faults} wrong records in {chains} chains")?,
            }
            match report.missing_heads.len() {
                0 => writeln!(f)?,
                missing => writeln!(f, "; {missing} noted heads missing")?,
            }
        }
        for fault in report.faults.iter().take(SHOWN) {
            let file = fault.file.strip_prefix(&self.folder).unwrap_or(&fault.file);
            writeln!(f, "  {:<10}{}: {}", "fault", escaped(file.display()), fault.wrong)?;
        }
        more(f, report.fault_count.saturating_sub(SHOWN as u64))?;
        for head in &report.missing_heads {
            writeln!(f, "  {:<10}the noted head {head} is in no chain", "fault")?;
        }
        for noted in &report.removed_heads {
            print_removed_head(f, noted)?;
        }
        for chain in &report.chains {
            print_chain(f, chain)?;
        }
        for removed in report.removed.iter().rev().take(SHOWN) {
            writeln!(
                f,
                "  {:<10}{}, records {} to {}, by {}, {}: record {} of {}",
                "removed",
                escaped(&removed.writer),
                removed.from,
                removed.until.sequence,
                escaped(&removed.initiator),
                removed.time,
                removed.sequence,
                removed.recorded_by
            )?;
        }
        more(f, report.removed.len().saturating_sub(SHOWN) as u64)?;
        for file in report.others.iter().take(SHOWN) {
            writeln!(f, "  {:<10}{} (no segment)", "not read", escaped(file.display()))?;
        }
        more(f, report.others.len().saturating_sub(SHOWN) as u64)?;
        f.write_str(self.what_it_does_not_show())
    }
}

fn more(f: &mut fmt::Formatter<'_>, more: u64) -> fmt::Result {
    if more == 0 { Ok(()) } else { writeln!(f, "  {:<10}and {more} more", "") }
}

fn print_removed_head(f: &mut fmt::Formatter<'_>, noted: &RemovedHead) -> fmt::Result {
    let (head, removal) = (noted.head, &noted.removal);
    let (writer, initiator) = (escaped(&removal.writer), escaped(&removal.initiator));
    if noted.is_compared {
        return writeln!(
            f,
            "  {:<10}the record of head {head} was removed by {initiator} on {}, as recorded",
            "noted", removal.time
        );
    }
    writeln!(
        f,
        "  {:<10}head {head} is in no chain. {initiator} removed records {} to {} of {writer} on \
         {}:\n  {:<10}if it is one of them, its hash cannot be compared any more",
        "noted", removal.from, removal.until.sequence, removal.time, ""
    )
}

fn print_chain(f: &mut fmt::Formatter<'_>, chain: &ChainReport) -> fmt::Result {
    let report = &chain.report;
    let end =
        report.found.map_or_else(|_wrong| "wrong, see above".to_owned(), |end| end.to_string());
    writeln!(
        f,
        "  {:<10}{} segments, {} records; {} requests ended, {} with unknown outcome; {end}",
        chain.writer.as_str(),
        chain.segments,
        report.records,
        report.requests,
        report.unknown
    )?;
    if report.crashes > 0 {
        writeln!(
            f,
            "  {:<10}{} gaps after a crash, each marked; {} bytes of torn lines were removed",
            "", report.crashes, report.dropped_bytes
        )?;
    }
    if let Some(until) = chain.removed_until {
        writeln!(f, "  {:<10}records up to {} were removed, signed off", "", until.sequence)?;
    }
    match report.head {
        Some(head) => writeln!(f, "  {:<10}head {head}", ""),
        None => Ok(()),
    }
}

impl VerifiedFolder {
    fn what_it_does_not_show(&self) -> &'static str {
        match self.report.verdict() {
            Verdict::Whole => {}
            Verdict::NotWhole => {
                return "Keep the folder as it is. The rest of a segment after a wrong record was \
                        not checked.";
            }
            Verdict::Undecided => {
                return "\
Is this removal known to the one who is named? If so, note the heads above instead of those of
removed records. Verify without them to see the verdict on the records that are here.";
            }
        }
        "\
The chains do not show: records removed from the end of one, chains removed as a whole, and files
that were rewritten or replaced. Note the heads where writers of the folder cannot change them, and
compare: --expect-head SEQ:HASH"
    }
}
