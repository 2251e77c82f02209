//! A month of an audit folder: processes that are killed, files that are renamed, truncated,
//! deleted and edited, and full disks. Each gap is named, and no call passes while the log is
//! closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Lines},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use tower_token_broker::audit::verify::{End, FolderReport, FolderVerification, Head};

/// Number of records; `TOKEN_BROKER_AUDIT_RECORDS` overrides it.
const RECORDS: usize = 20_000;
/// Records of one request: an intent and a result.
const OF_A_REQUEST: usize = 2;
/// Processes in a round.
const OF_A_ROUND: usize = 9;
/// Requests of one process, about.
const REQUESTS: usize = 1100;
/// Segments of one process, about.
const SEGMENTS: usize = 8;
const RECORD_BYTES: usize = 350;
const TWO_DAYS: u64 = 2 * 24 * 60 * 60;

/// The folder, and what is expected of it.
struct Month {
    root: tempfile::TempDir,
    requests: usize,
    processes: u64,
    /// The requests that passed.
    passed: BTreeSet<String>,
    /// Copies of segments before they were truncated or deleted.
    evidence: Vec<PathBuf>,
    /// The fault that is expected of each file.
    faults: BTreeMap<PathBuf, &'static str>,
    /// The gaps that are expected of each writer.
    crashes: BTreeMap<String, u64>,
    lost_heads: Vec<Head>,
    counts: BTreeMap<&'static str, usize>,
}

struct Process {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

#[test]
fn p385_x17_x18_each_gap_of_a_month_is_named() {
    let records = records();
    let rounds = (records / (OF_A_REQUEST * OF_A_ROUND * REQUESTS)).max(1);
    let mut month = Month::begin(records.div_ceil(OF_A_REQUEST * OF_A_ROUND * rounds));
    for round in 0..rounds {
        month.is_killed("broker-1");
        month.has_its_segment_renamed_and_back("broker-1");
        month.has_a_full_disk("broker-1");
        month.has_its_segment_rotated(&format!("rotated-{round}"));
        month.has_its_segment_truncated(&format!("truncated-{round}"));
        month.loses_a_segment(&format!("deleted-{round}"));
        month.has_a_record_edited(&format!("edited-{round}"));
    }
    month.judge(records);
}

#[expect(clippy::disallowed_methods, reason = "longer runs set a larger number")]
fn records() -> usize {
    std::env::var("TOKEN_BROKER_AUDIT_RECORDS")
        .map_or(RECORDS, |records| records.parse().expect("a number of records"))
}

impl Month {
    fn begin(requests: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("evidence")).unwrap();
        Self {
            root,
            requests,
            processes: 0,
            passed: BTreeSet::new(),
            evidence: Vec::new(),
            faults: BTreeMap::new(),
            crashes: BTreeMap::new(),
            lost_heads: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    fn start(&mut self, writer: &str) -> Process {
        self.processes += 1;
        let bytes = self.requests * OF_A_REQUEST * RECORD_BYTES / SEGMENTS;
        // A limit on the length of files sends a signal that would end the process.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_audit_writer")])
            .arg(self.folder())
            .args([writer.to_owned(), self.requests.to_string(), bytes.to_string()])
            .arg((1_770_000_000 + self.processes * TWO_DAYS).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, output }
    }

    /// Reads the output up to this line. Returns how many requests passed before it.
    fn read_to(&mut self, process: &mut Process, line: &str) -> usize {
        let mut passed = 0;
        loop {
            let read = process.output.next().expect("the process ended by itself").unwrap();
            match read.strip_prefix("use ") {
                Some(request) => {
                    passed += 1;
                    assert!(self.passed.insert(request.to_owned()));
                }
                None if read == line => return passed,
                None => {}
            }
        }
    }

    /// Reads until this many requests passed.
    fn read(&mut self, process: &mut Process, requests: usize) {
        for _ in 0..requests {
            let read = process.output.next().expect("the process ended by itself").unwrap();
            let request = read.strip_prefix("use ").expect("the log is open");
            assert!(self.passed.insert(request.to_owned()));
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn ends(&mut self, mut process: Process) {
        drop(process.child.stdin.take());
        self.read_to(&mut process, "done");
        assert!(process.child.wait().unwrap().success());
    }

    fn kill(&mut self, mut process: Process, writer: &str) {
        process.child.kill().unwrap();
        assert_eq!(process.child.wait().unwrap().signal(), Some(9));
        // What it printed before.
        for line in process.output.map_while(Result::ok) {
            if let Some(request) = line.strip_prefix("use ") {
                assert!(self.passed.insert(request.to_owned()));
            }
        }
        *self.crashes.entry(writer.to_owned()).or_default() += 1;
    }

    fn is_killed(&mut self, writer: &str) {
        let mut process = self.start(writer);
        // At another moment each time.
        let part =
            self.requests / 4 + usize::try_from(self.processes).unwrap() * 37 % (self.requests / 2);
        self.read(&mut process, part);
        self.kill(process, writer);
        self.count("kills");
    }

    /// Waits until the log is closed, and reads on while it refuses: no request passes.
    fn is_closed(&mut self, process: &mut Process) {
        self.read_to(process, "closed");
        for _ in 0..3 {
            assert_eq!(self.read_to(process, "refused"), 0, "one passed while it was closed");
        }
    }

    fn is_open_again(&mut self, process: &mut Process) {
        // The line comes after the first wave that passed as a whole.
        assert!(self.read_to(process, "open") > 0);
    }

    fn has_its_segment_renamed_and_back(&mut self, writer: &str) {
        let mut process = self.start(writer);
        self.read(&mut process, self.requests / 2);
        let aside = self.root.path().join("aside");
        let path = self.while_it_is_stopped(&mut process, writer, |path| {
            fs::rename(path, &aside).unwrap();
        });
        self.is_closed(&mut process);
        fs::rename(aside, path).unwrap();
        self.is_open_again(&mut process);
        self.ends(process);
        self.count("renames");
    }

    fn has_a_full_disk(&mut self, writer: &str) {
        let mut process = self.start(writer);
        self.read(&mut process, self.requests / 2);
        let limit = |process: &Process, bytes: &str| {
            let limit = Command::new("prlimit")
                .arg(format!("--pid={}", process.child.id()))
                .arg(format!("--fsize={bytes}:"))
                .status();
            assert!(limit.unwrap().success());
        };
        // A part of a batch may fit.
        let path = self.current(writer);
        limit(&process, &(fs::metadata(path).unwrap().len() + 1000).to_string());
        self.is_closed(&mut process);
        limit(&process, "unlimited");
        self.is_open_again(&mut process);
        self.ends(process);
        self.count("full disks");
    }

    /// The way of programs that rotate logs, and a restart.
    fn has_its_segment_rotated(&mut self, writer: &str) {
        let mut process = self.start(writer);
        self.read(&mut process, self.requests / 2);
        let path = self.while_it_is_stopped(&mut process, writer, |path| {
            fs::rename(path, path.with_extension("jsonl.1")).unwrap();
        });
        self.is_closed(&mut process);
        self.kill(process, writer);
        self.faults.insert(path.with_extension("jsonl.1"), "misnamed");
        let process = self.start(writer);
        self.ends(process);
        self.count("rotations");
    }

    fn has_its_segment_truncated(&mut self, writer: &str) {
        let mut process = self.start(writer);
        self.read(&mut process, self.requests / 2);
        let copy = self.root.path().join("evidence").join(writer);
        let path = self.while_it_is_stopped(&mut process, writer, |path| {
            let whole = fs::copy(path, &copy).unwrap();
            truncate(path, whole / 3);
        });
        self.is_closed(&mut process);
        self.kill(process, writer);
        // A process that was stopped after its check of the file, and before its write, has
        // appended a batch. None of it passed, and a log with a damaged line would not open.
        truncate(&path, fs::metadata(&copy).unwrap().len() / 3);
        self.lost_heads.push(head_of(&copy));
        self.evidence.push(copy);
        let process = self.start(writer);
        self.ends(process);
        self.count("truncations");
    }

    fn loses_a_segment(&mut self, writer: &str) {
        let process = self.start(writer);
        self.ends(process);
        let segments = self.segments(writer);
        let copy = self.root.path().join("evidence").join(writer);
        fs::copy(&segments[1], &copy).unwrap();
        fs::remove_file(&segments[1]).unwrap();
        self.evidence.push(copy);
        self.faults.insert(segments[2].clone(), "missing");
        self.count("deletions");
    }

    fn has_a_record_edited(&mut self, writer: &str) {
        let process = self.start(writer);
        self.ends(process);
        let path = self.segments(writer).swap_remove(2);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"time\":\"2", "\"time\":\"3", 1)).unwrap();
        self.faults.insert(path, "edited");
        self.count("edits");
    }

    fn segments(&self, writer: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder()).unwrap().map(|file| file.unwrap().path());
        let begins = format!("{writer}.");
        let is_of = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&begins) && name.ends_with(".jsonl")
        };
        let mut segments: Vec<_> = files.filter(is_of).collect();
        segments.sort();
        segments
    }

    fn current(&self, writer: &str) -> PathBuf {
        self.segments(writer).pop().expect("a process that has written")
    }

    /// Stops a process, and changes the segment that it writes to.
    fn while_it_is_stopped(
        &self,
        process: &mut Process,
        writer: &str,
        change: impl Fn(&Path),
    ) -> PathBuf {
        loop {
            signal(process, "STOP");
            while !is_stopped(process.child.id()) {
                std::thread::yield_now();
            }
            let path = self.current(writer);
            let text = fs::read(&path).unwrap();
            // Between two segments, the last one is not the current one.
            let last = text.split(|byte| *byte == b'\n').rev().nth(1).unwrap_or_default();
            let is_between = last.windows(14).any(|part| part == b"\"kind\":\"close\"");
            if !text.is_empty() && !is_between {
                change(&path);
                signal(process, "CONT");
                return path;
            }
            signal(process, "CONT");
            std::thread::yield_now();
        }
    }

    #[expect(clippy::print_stderr, reason = "shown with --nocapture")]
    fn judge(self, records: usize) {
        let mut verification = FolderVerification::new();
        for head in &self.lost_heads {
            verification = verification.expect(*head);
        }
        let report = verification.run(&self.folder()).unwrap();
        self.names_each_gap(&report);
        let written: u64 = report.chains.iter().map(|chain| chain.report.records).sum();
        let segments: usize = report.chains.iter().map(|chain| chain.segments).sum();
        assert!(usize::try_from(written).unwrap() >= records / 10 * 9, "{written} of {records}");

        let intents = self.intents();
        let unrecorded: Vec<_> = self.passed.difference(&intents).collect();
        assert!(unrecorded.is_empty(), "{} passed without a record", unrecorded.len());
        // The check itself fails if a file is missing.
        let without_evidence = intents_of(self.segments("broker-1").into_iter());
        assert!(!self.passed.is_subset(&without_evidence));
        eprintln!(
            "{written} records in {segments} segments of {} chains; {:?}; {} faults, each named; \
             {} calls passed, each with its intent",
            report.chains.len(),
            self.counts,
            report.fault_count,
            self.passed.len()
        );
    }

    fn names_each_gap(&self, report: &FolderReport) {
        let faults: BTreeMap<_, _> = report
            .faults
            .iter()
            .map(|fault| (fault.file.clone(), fault.wrong.fault.code()))
            .collect();
        assert_eq!(faults, self.faults);
        assert_eq!(report.fault_count, self.faults.len() as u64);
        let missing: BTreeSet<_> = report.missing_heads.iter().collect();
        assert_eq!(missing, self.lost_heads.iter().collect());
        for chain in &report.chains {
            let writer = chain.writer.as_str();
            let crashes = self.crashes.get(writer).copied().unwrap_or_default();
            assert_eq!(chain.report.crashes, crashes, "{writer}");
            let is_changed = writer.starts_with("deleted") || writer.starts_with("edited");
            assert_eq!(chain.report.found.is_err(), is_changed, "{writer}");
            assert!(is_changed || chain.report.found == Ok(End::Closed), "{writer}");
        }
    }

    /// The requests with an intent, in all files.
    fn intents(&self) -> BTreeSet<String> {
        let files = fs::read_dir(self.folder()).unwrap().map(|file| file.unwrap().path());
        intents_of(files.chain(self.evidence.iter().cloned()))
    }
}

fn intents_of(files: impl Iterator<Item = PathBuf>) -> BTreeSet<String> {
    const INTENT: &str = "\"kind\":\"intent\",\"request\":\"";
    let mut intents = BTreeSet::new();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let request = line.split_once(INTENT).and_then(|(_, rest)| rest.split('"').next());
            intents.extend(request.map(str::to_owned));
        }
    }
    intents
}

fn truncate(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// The last whole record of a file.
fn head_of(path: &Path) -> Head {
    let text = fs::read_to_string(path).unwrap();
    let whole = text.rsplit_once('\n').unwrap().0;
    let record: serde_json::Value = whole.lines().last().unwrap().parse().unwrap();
    format!("{}:{}", record["seq"], record["hash"].as_str().unwrap()).parse().unwrap()
}

fn signal(process: &Process, signal: &str) {
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
}

/// Whether each thread of a process is stopped.
fn is_stopped(process: u32) -> bool {
    fs::read_dir(format!("/proc/{process}/task")).unwrap().all(|thread| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    })
}
