//! The folder of segments under the log: how they end and begin, faults, and removal.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use super::{
    segment::Listing,
    tests::{intent, opened},
    verify::{End, Fault, FolderReport, FolderVerification, Verification},
    *,
};
use crate::{
    clock::{Clock, Timestamp},
    principal::Initiator,
};

/// A folder of one test.
pub(super) struct Folder {
    root: tempfile::TempDir,
    pub(super) clock: Clock,
}

/// Each batch is longer.
pub(super) const TINY: SegmentLimits = SegmentLimits::DEFAULT.max_bytes(1);

pub(super) fn name(writer: &str) -> WriterName {
    WriterName::parse(writer).unwrap()
}

impl Folder {
    pub(super) fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_790_000_000));
        Self { root: tempfile::tempdir().unwrap(), clock }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    pub(super) fn opened(&self, writer: &str, limits: SegmentLimits) -> AuditLog {
        // The thread of a closed log releases the lock of its segment.
        let sink = loop {
            match AuditFolder::open_with(self.path(), &name(writer), limits) {
                Err(AuditFileError::InUse { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        AuditLog::start(sink, AuditOptions::new().with_clock(self.clock.clone()))
    }

    pub(super) fn refused(&self, writer: &str) -> AuditFileError {
        AuditFolder::open(self.path(), &name(writer)).unwrap_err()
    }

    pub(super) fn segments(&self, writer: &str) -> Vec<PathBuf> {
        let firsts = Listing::of(&self.path(), &name(writer)).unwrap();
        let path = |first: &u64| segment::SegmentName::path(&self.path(), &name(writer), *first);
        firsts.iter().map(path).collect()
    }

    pub(super) fn verified(&self) -> FolderReport {
        FolderVerification::new().run(&self.path()).unwrap()
    }

    /// Runs a process: this many requests, one after another, and an end in order.
    pub(super) async fn run(&self, writer: &str, limits: SegmentLimits, requests: usize) {
        let log = self.opened(writer, limits);
        for _ in 0..requests {
            use_a_credential(&log).await.unwrap();
            log.flush().await.unwrap();
        }
        log.close(Duration::from_secs(20)).await.unwrap();
    }

    /// The folder as a process leaves it that is killed now, in another folder.
    pub(super) fn killed(&self) -> Self {
        let copy = Self { root: tempfile::tempdir().unwrap(), clock: self.clock.clone() };
        fs::create_dir(copy.path()).unwrap();
        for file in fs::read_dir(self.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }
}

pub(super) async fn use_a_credential(log: &AuditLog) -> Result<(), AuditError> {
    let (trail, _terminal) = Trail::begin(log, Default::default())?;
    trail.intent(intent()).await?.used()
}

/// Returns the path of the segment that the next record begins.
async fn next_segment(folder: &Folder, log: &AuditLog) -> PathBuf {
    use_a_credential(log).await.unwrap();
    log.flush().await.unwrap();
    let last = folder.verified().chains[0].report.head.unwrap();
    // After the `close` of this one.
    segment::SegmentName::path(&folder.path(), &name("broker-1"), last.sequence + 2)
}

fn lines(path: &PathBuf) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn segments_end_with_close_and_continue_the_chain() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 3).await;
    let segments = folder.segments("broker-1");
    assert!(segments.len() > 3, "{segments:?}");
    let mut last: Option<serde_json::Value> = None;
    for (number, path) in segments.iter().enumerate() {
        let records = lines(path);
        let (first, end) = (&records[0], records.last().unwrap());
        assert_eq!(first["kind"], if number == 0 { "start" } else { "open" });
        assert_eq!(first["writer"], "broker-1");
        assert_eq!(first["chain"], lines(&segments[0])[0]["chain"]);
        assert_eq!(end["kind"], "close");
        let closes = records.iter().filter(|record| record["kind"] == "close").count();
        assert_eq!(closes, 1);
        assert_eq!(end["continues"] == true, number + 1 < segments.len());
        if let Some(last) = last {
            assert_eq!(first["prev"], last["hash"]);
        }
        last = Some(end.clone());
    }
    // One after another, they are one chain.
    let whole: Vec<u8> = segments.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let report = Verification::new().run(whole.as_slice()).unwrap();
    assert_eq!((report.found, report.requests, report.crashes), (Ok(End::Closed), 3, 0));
    let report = folder.verified();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.chains[0].report.requests, 3);
}

#[tokio::test]
async fn a_segment_ends_by_size_or_by_age() {
    let folder = Folder::new();
    let limits = SegmentLimits::default().max_bytes(3000).max_age(Duration::from_secs(60));
    let log = folder.opened("broker-1", limits);
    let count = || folder.segments("broker-1").len();
    log.flush().await.unwrap();
    while count() == 1 {
        use_a_credential(&log).await.unwrap();
        log.flush().await.unwrap();
    }
    let size = fs::metadata(&folder.segments("broker-1")[0]).unwrap().len();
    assert!((3000..6000).contains(&size), "{size}");
    // The age is that of the segment, not of the process.
    folder.clock.advance(Duration::from_secs(59));
    use_a_credential(&log).await.unwrap();
    log.flush().await.unwrap();
    assert_eq!(count(), 2);
    folder.clock.advance(Duration::from_secs(1));
    use_a_credential(&log).await.unwrap();
    assert_eq!(count(), 3);
    // The age remains known after a restart.
    log.close(Duration::from_secs(20)).await.unwrap();
    assert!(folder.verified().is_whole());
}

#[tokio::test]
async fn what_is_open_is_carried_into_the_next_segment() {
    let folder = Folder::new();
    let folder_log = folder.opened("broker-1", TINY);
    let (trail, terminal) = Trail::begin(&folder_log, Default::default()).unwrap();
    trail.intent(intent()).await.unwrap().used().unwrap();
    let receipt = trail.token_request(GrantType::RefreshToken, intent()).await.unwrap();
    let job = folder_log.job("grants.refresh_ahead").unwrap();
    job.trail().intent(intent()).await.unwrap().used().unwrap();
    for _ in 0..3 {
        use_a_credential(&folder_log).await.unwrap();
        folder_log.flush().await.unwrap();
    }
    let killed = folder.killed();
    let segments = killed.segments("broker-1");
    let records = lines(segments.last().unwrap());
    // Those three, and the request whose result begins the segment.
    assert_eq!(records[0]["carried"], 4);
    assert!(records[1..5].iter().all(|record| record["kind"] == "carried"), "{records:?}");
    // The next process needs the last segment only, and the `close` of the one before.
    let before = segments.len() - 2;
    segments[..before].iter().for_each(|path| fs::remove_file(path).unwrap());
    let log = killed.opened("broker-1", SegmentLimits::default());
    log.close(Duration::from_secs(20)).await.unwrap();
    let records = lines(killed.segments("broker-1").last().unwrap());
    let unknown = records.iter().filter(|record| record["outcome"] == "unknown");
    let kinds: BTreeSet<_> = unknown.map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["job_result", "result", "token_result"]));
    // What has ended is carried no longer.
    receipt.finish(TokenOutcome::Issued);
    job.complete();
    drop((trail, terminal));
    for _ in 0..2 {
        use_a_credential(&folder_log).await.unwrap();
        folder_log.flush().await.unwrap();
    }
    let records = lines(folder.segments("broker-1").last().unwrap());
    assert_eq!(records[0]["carried"], 1, "the request whose result begins the segment");
}

#[tokio::test]
async fn p387_a_process_killed_between_two_segments_leaves_a_gap() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    let (trail, _terminal) = Trail::begin(&log, Default::default()).unwrap();
    trail.intent(intent()).await.unwrap().used().unwrap();
    use_a_credential(&log).await.unwrap();
    log.flush().await.unwrap();
    let last = folder.segments("broker-1").pop().unwrap();
    let first_line = fs::read_to_string(&last).unwrap().lines().next().unwrap().len();
    // The file of the next segment: not created, empty, with a part of its first record, or with
    // zeros.
    for (what, content) in [
        ("not created", None),
        ("empty", Some(Vec::new())),
        ("torn", Some(fs::read(&last).unwrap()[..first_line / 2].to_vec())),
        ("without its line break", Some(fs::read(&last).unwrap()[..first_line].to_vec())),
        ("zeros", Some(vec![0; 4096])),
    ] {
        let killed = folder.killed();
        let path = killed.segments("broker-1").pop().unwrap();
        let torn = content.as_ref().map_or(0, Vec::len);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let report = killed.verified();
        assert!(report.is_whole(), "{what}: {report:?}");
        assert_ne!(report.chains[0].report.found, Ok(End::Closed), "{what}");
        killed.run("broker-1", SegmentLimits::default(), 1).await;
        let report = killed.verified();
        assert!(report.is_whole(), "{what}: {report:?}");
        let chain = &report.chains[0].report;
        assert_eq!((chain.crashes, chain.found), (1, Ok(End::Closed)), "{what}");
        assert_eq!(chain.dropped_bytes, torn as u64, "{what}");
        assert_eq!(chain.unknown, 2, "one was open, one had its result in that segment: {what}");
    }
}

#[tokio::test]
async fn a_process_that_was_killed_is_continued_in_its_segment() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", SegmentLimits::default());
    use_a_credential(&log).await.unwrap();
    log.flush().await.unwrap();
    let killed = folder.killed();
    killed.run("broker-1", SegmentLimits::default(), 1).await;
    assert_eq!(killed.segments("broker-1").len(), 1);
    // One that ended in order is not.
    killed.run("broker-1", SegmentLimits::default(), 1).await;
    assert_eq!(killed.segments("broker-1").len(), 2);
    let report = killed.verified();
    assert!(report.is_whole());
    assert_eq!(report.chains[0].report.crashes, 1);
}

#[tokio::test]
async fn p293_p387_a_writer_name_is_used_by_one_process() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    log.flush().await.unwrap();
    assert!(matches!(folder.refused("broker-1"), AuditFileError::InUse { .. }));
    use_a_credential(&log).await.unwrap();
    assert!(matches!(folder.refused("broker-1"), AuditFileError::InUse { .. }));
    folder.run("broker-2", TINY, 1).await;
    // One that has ended in order is not in use, and its last segment is locked by the next one
    // before it writes.
    let sink = AuditFolder::open(folder.path(), &name("broker-2"));
    assert!(matches!(folder.refused("broker-2"), AuditFileError::InUse { .. }));
    drop(sink);
    assert_eq!(folder.verified().chains.len(), 2);
}

#[tokio::test]
async fn p385_a_file_in_the_place_of_the_next_segment_closes_the_log() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    let path = next_segment(&folder, &log).await;
    fs::write(&path, "").unwrap();
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
    assert!(!log.is_open());
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
    assert_eq!(fs::read(&path).unwrap(), b"");
    fs::rename(&path, folder.path().join("evidence")).unwrap();
    opened(&log).await;
    use_a_credential(&log).await.unwrap();
    log.close(Duration::from_secs(20)).await.unwrap();
    let report = folder.verified();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.others, [folder.path().join("evidence")]);
}

#[cfg(unix)]
#[tokio::test]
async fn p385_a_changed_segment_closes_the_log() {
    type Change = fn(&PathBuf);
    let changes: [(&str, Change); 8] = [
        ("deleted", |at| fs::remove_file(at).unwrap()),
        ("renamed", |at| fs::rename(at, at.with_extension("old")).unwrap()),
        ("rotated by copying", |at| {
            fs::copy(at, at.with_extension("old")).unwrap();
            fs::write(at, "").unwrap();
        }),
        ("replaced by a copy", |at| {
            fs::copy(at, at.with_extension("copy")).unwrap();
            fs::rename(at.with_extension("copy"), at).unwrap();
        }),
        ("shorter by a byte", |at| {
            let file = fs::OpenOptions::new().write(true).open(at).unwrap();
            file.set_len(fs::metadata(at).unwrap().len() - 1).unwrap();
        }),
        ("longer", |at| {
            let longer = [fs::read(at).unwrap(), b"\n".to_vec()].concat();
            fs::write(at, longer).unwrap();
        }),
        ("a link", |at| {
            fs::rename(at, at.with_extension("old")).unwrap();
            std::os::unix::fs::symlink(at.with_extension("old"), at).unwrap();
        }),
        ("in a folder that was renamed", |at| {
            let folder = at.parent().unwrap();
            fs::rename(folder, folder.with_extension("old")).unwrap();
        }),
    ];
    for (what, change) in changes {
        for limits in [SegmentLimits::default(), TINY] {
            let folder = Folder::new();
            let log = folder.opened("broker-1", limits);
            use_a_credential(&log).await.unwrap();
            log.flush().await.unwrap();
            change(&folder.segments("broker-1").pop().unwrap());
            assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError, "{what}");
            assert!(!log.is_open(), "{what}");
            assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError, "{what}");
        }
    }
}

#[tokio::test]
async fn p291_a_damaged_end_is_not_continued() {
    for (what, change) in [
        ("edited", (|text: String| text.replacen("\"uses\":1", "\"uses\":0", 1)) as fn(_) -> _),
        ("of another writer", |text: String| text.replacen("broker-1", "broker-2", 1)),
        ("without its first record", |text: String| text.split_once('\n').unwrap().1.to_owned()),
        ("not a record", |text: String| format!("hello\n{text}")),
    ] {
        let folder = Folder::new();
        folder.run("broker-1", TINY, 3).await;
        let segments = folder.segments("broker-1");
        let path = segments.iter().rev().nth(1).unwrap();
        let last = segments.last().unwrap();
        let changed = change(fs::read_to_string(path).unwrap());
        fs::write(last, &changed).unwrap();
        assert!(
            matches!(folder.refused("broker-1"), AuditFileError::Damaged { line: 1.., .. }),
            "{what}"
        );
        // The one before the last: its end is read.
        folder.run("broker-2", TINY, 3).await;
        let segments = folder.segments("broker-2");
        let previous = segments.iter().rev().nth(1).unwrap();
        let cut = fs::read_to_string(previous).unwrap();
        fs::write(previous, cut.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n").unwrap();
        let error = folder.refused("broker-2");
        assert!(matches!(error, AuditFileError::SegmentsDoNotFollow { .. }), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_new_process_reads_the_last_segment_only() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 4).await;
    let segments = folder.segments("broker-1");
    // What is in the others is not read: their end follows, and verification finds the rest.
    for path in &segments[..segments.len() - 2] {
        fs::write(path, "hello").unwrap();
    }
    folder.run("broker-1", TINY, 1).await;
    let report = folder.verified();
    assert_eq!(report.fault_count, segments.len() as u64 - 2, "{report:?}");
}

#[tokio::test]
async fn a_full_disk_between_two_segments_loses_nothing() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    // Its next segment cannot be created. (An account that may write anywhere is not stopped by a
    // permission.)
    let next = next_segment(&folder, &log).await;
    fs::create_dir(&next).unwrap();
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
    // The end of the segment before is written once, however often the next one is tried.
    while log.is_open() {
        tokio::task::yield_now().await;
    }
    fs::remove_dir(&next).unwrap();
    opened(&log).await;
    use_a_credential(&log).await.unwrap();
    log.close(Duration::from_secs(20)).await.unwrap();
    let report = folder.verified();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.chains[0].report.crashes, 0);
}

#[tokio::test]
async fn two_sinks_end_their_segments_at_the_same_record() {
    let (folder, other) = (Folder::new(), Folder::new());
    let one = AuditFolder::open_with(folder.path(), &name("broker-1"), TINY).unwrap();
    let two = AuditFolder::open(other.path(), &name("broker-1")).unwrap();
    let lines = JsonLines::append(folder.root.path().join("audit.jsonl")).unwrap();
    let log = AuditLog::from(BoxAuditSink::new(one.and(two).and(lines)));
    for _ in 0..3 {
        use_a_credential(&log).await.unwrap();
    }
    log.close(Duration::from_secs(20)).await.unwrap();
    assert!(folder.verified().is_whole() && other.verified().is_whole());
    let names = |of: &Folder| {
        let segments = of.segments("broker-1").into_iter();
        segments.map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&folder), names(&other));
    assert!(names(&folder).len() > 2);
    let whole = fs::read(folder.root.path().join("audit.jsonl")).unwrap();
    assert!(Verification::new().run(whole.as_slice()).unwrap().is_whole());
}

pub(super) async fn removed(folder: &Folder, log: &AuditLog, writer: &str) -> usize {
    let plan = Removal::plan(folder.path(), &name(writer), folder.clock.now()).unwrap();
    match plan {
        Some(plan) => plan.run(log, &Initiator::operator("olga")).await.unwrap(),
        None => 0,
    }
}

#[tokio::test]
async fn old_segments_are_removed_and_signed_off() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    for round in 1..4 {
        for _ in 0..3 {
            use_a_credential(&log).await.unwrap();
            log.flush().await.unwrap();
        }
        // None is older than now, except the one that was kept with the one in use.
        let kept = usize::from(round > 1);
        assert_eq!(removed(&folder, &log, "broker-1").await, kept, "round {round}");
        let segments = folder.segments("broker-1");
        folder.clock.advance(Duration::from_secs(60));
        let count = removed(&folder, &log, "broker-1").await;
        assert!((1..segments.len()).contains(&count), "the last one stays");
        let report = folder.verified();
        assert!(report.is_whole(), "{report:?}");
        let note = report.removed.last().unwrap();
        assert_eq!((&*note.writer, &*note.initiator), ("broker-1", "operator olga"));
        assert_eq!(report.chains[0].removed_until, Some(note.until), "round {round}");
    }
    // A process continues what is left.
    log.close(Duration::from_secs(20)).await.unwrap();
    folder.run("broker-1", TINY, 1).await;
    assert!(folder.verified().is_whole());
}

#[tokio::test]
async fn p386_removed_segments_without_a_record_are_missing() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    for _ in 0..4 {
        use_a_credential(&log).await.unwrap();
        log.flush().await.unwrap();
    }
    folder.clock.advance(Duration::from_secs(60));
    assert!(removed(&folder, &log, "broker-1").await > 0);
    // One more than what was signed off.
    let segments = folder.segments("broker-1");
    fs::remove_file(&segments[0]).unwrap();
    let report = folder.verified();
    assert!(!report.is_whole());
    let wrong = report.faults[0].wrong;
    assert!(matches!(wrong.fault, Fault::Missing { .. }), "{report:?}");
    assert_eq!(report.faults[0].file, segments[1]);
    // And what is not whole is not removed.
    folder.clock.advance(Duration::from_secs(60));
    let plan = Removal::plan(folder.path(), &name("broker-1"), folder.clock.now());
    assert!(matches!(plan, Err(RemovalError::NotWhole { .. })));
}

#[tokio::test]
async fn an_interrupted_removal_is_whole_and_can_be_repeated() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 4).await;
    folder.clock.advance(Duration::from_secs(60));
    let before = folder.killed();
    let commands = folder.opened("commands", SegmentLimits::default());
    let count = removed(&folder, &commands, "broker-1").await;
    assert!(count > 3 && folder.segments("broker-1").is_empty(), "the whole chain had ended");
    assert!(folder.verified().is_whole());
    // It was interrupted after the record, and after two of the files.
    let all = before.segments("broker-1");
    for kept in [&all[..], &all[2..], &all[all.len() - 1..]] {
        for path in kept {
            fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let report = folder.verified();
        assert!(report.is_whole(), "{} kept: {report:?}", kept.len());
        assert_eq!(removed(&folder, &commands, "broker-1").await, kept.len());
    }
    // Another chain under the name is none that was signed off.
    let other = Folder::new();
    other.run("broker-1", TINY, 4).await;
    for path in &other.segments("broker-1")[2..] {
        fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    assert!(!folder.verified().is_whole());
}

#[tokio::test]
async fn a_record_that_signs_off_is_kept_while_it_is_needed() {
    let folder = Folder::new();
    let broker = folder.opened("broker-1", TINY);
    for _ in 0..3 {
        use_a_credential(&broker).await.unwrap();
        broker.flush().await.unwrap();
    }
    folder.clock.advance(Duration::from_secs(60));
    let commands = folder.opened("commands", TINY);
    assert!(removed(&folder, &commands, "broker-1").await > 0);
    commands.close(Duration::from_secs(20)).await.unwrap();
    folder.clock.advance(Duration::from_secs(60));
    // The first segment of `commands` has no such record, the others have or follow.
    let count = folder.segments("commands").len();
    let second = folder.opened("second", TINY);
    let first = removed(&folder, &second, "commands").await;
    assert!(first < count, "{first} of {count}");
    assert!(folder.verified().is_whole());
    // Once the rest of that chain is removed, it is not needed any longer.
    broker.close(Duration::from_secs(20)).await.unwrap();
    drop(broker);
    folder.clock.advance(Duration::from_secs(60));
    while removed(&folder, &second, "broker-1").await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(removed(&folder, &second, "commands").await, count - first);
    assert!(folder.verified().is_whole());
}

#[tokio::test]
async fn p386_nothing_is_removed_without_a_record_in_the_folder() {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 3).await;
    folder.clock.advance(Duration::from_secs(60));
    let plan = || Removal::plan(folder.path(), &name("broker-1"), folder.clock.now());
    let count = folder.segments("broker-1").len();
    let (elsewhere, memory) = AuditLog::in_memory();
    let error = plan().unwrap().unwrap().run(&elsewhere, &Initiator::operator("olga")).await;
    assert!(matches!(error, Err(RemovalError::OtherFolder)));
    memory.fail();
    let error = plan().unwrap().unwrap().run(&elsewhere, &Initiator::operator("olga")).await;
    assert!(matches!(error, Err(RemovalError::NotRecorded(_))));
    memory.work();
    assert_eq!(folder.segments("broker-1").len(), count);
    // A process that runs keeps its segments.
    let log = folder.opened("broker-1", SegmentLimits::default());
    log.flush().await.unwrap();
    assert_eq!(removed(&folder, &log, "broker-1").await, count - 1);
    assert_eq!(folder.segments("broker-1").len(), 2, "and the one before the one in use");
}

#[cfg(unix)]
#[tokio::test]
async fn p386_a_segment_removed_while_it_is_opened_is_not_created() {
    // In the listing, and gone when it is opened: a link to nothing.
    let folder = Folder::new();
    folder.run("broker-1", TINY, 2).await;
    let last = folder.segments("broker-1").pop().unwrap();
    let nothing = folder.root.path().join("nothing");
    fs::remove_file(&last).unwrap();
    std::os::unix::fs::symlink(&nothing, &last).unwrap();
    for _ in 0..2 {
        assert!(matches!(folder.refused("broker-1"), AuditFileError::InUse { .. }));
        assert!(!nothing.exists());
    }
}

#[tokio::test]
async fn p293_two_folders_have_one_writer_name() {
    let folder = |writer: &str, other: &str| {
        let (one, two) = (Folder::new(), Folder::new());
        let sink = AuditFolder::open(one.path(), &name(writer)).unwrap();
        let other = AuditFolder::open(two.path(), &name(other)).unwrap();
        (sink.and(other), one, two)
    };
    let (two_names, _one, _two) = folder("broker-1", "broker-2");
    let error = two_names.resume().await.unwrap_err();
    assert!(error.to_string().contains("the same writer name"), "{error}");
    let (same, ..) = folder("broker-1", "broker-1");
    assert!(same.resume().await.unwrap().segmented.is_some());
    // With a third sink, and the other way round.
    let (two_names, _one, _two) = folder("broker-2", "broker-1");
    let third = Folder::new();
    let lines = JsonLines::append(third.root.path().join("audit.jsonl")).unwrap();
    assert!(lines.and(two_names).resume().await.is_err());
    let (same, _one, _two) = folder("broker-1", "broker-1");
    let other = AuditFolder::open(third.path(), &name("broker-2")).unwrap();
    assert!(same.and(other).resume().await.is_err());
    let log = AuditLog::from(folder("broker-1", "broker-2").0);
    while log.is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
}
