//! Processes that are killed while they begin a segment: no open request loses its result.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::Value;

use super::{
    folder_tests::{Folder, TINY, name, use_a_credential},
    tests::intent,
    *,
};

/// A folder as a process leaves it that was killed with a request, a token request and a job open,
/// after the batch that began its last segment.
async fn killed_with_open_work() -> Folder {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    let (trail, _terminal) = Trail::begin(&log, Default::default()).unwrap();
    trail.intent(intent()).await.unwrap().used().unwrap();
    let _receipt = trail.token_request(GrantType::RefreshToken, intent()).await.unwrap();
    let job = log.job("grants.refresh_ahead").unwrap();
    job.trail().intent(intent()).await.unwrap().used().unwrap();
    use_a_credential(&log).await.unwrap();
    log.flush().await.unwrap();
    folder.killed()
}

fn last_segment(folder: &Folder) -> std::path::PathBuf {
    folder.segments("broker-1").pop().unwrap()
}

/// The beginnings of a segment that a killed process can leave: each number of lines, whole and
/// with half of the next one.
fn beginnings(segment: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(segment).unwrap();
    let mut beginnings = vec![Vec::new()];
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let before = beginnings.last().unwrap().clone();
        beginnings.push([&before, &line[..line.len() / 2]].concat());
        beginnings.push([&before, line].concat());
    }
    beginnings
}

fn with(folder: &Folder, segment: &Path, content: &[u8]) -> Folder {
    let copy = folder.killed();
    fs::write(copy.path().join(segment.file_name().unwrap()), content).unwrap();
    copy
}

/// Runs a process, and returns the folder as it is after its first batch.
async fn killed_after_its_start(folder: &Folder) -> Folder {
    let folder = folder.killed();
    let log = folder.opened("broker-1", SegmentLimits::default());
    log.flush().await.unwrap();
    folder.killed()
}

/// The number of results of each request, job and token request that has an intent or was sent.
fn results(folder: &Folder) -> BTreeMap<String, usize> {
    let segments = folder.segments("broker-1").into_iter();
    let text: String = segments.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut results = BTreeMap::new();
    for line in text.lines() {
        let record: Value = line.parse().unwrap();
        let id = record.get("request").or(record.get("job")).map(Value::to_string);
        let Some(id) = id else { continue };
        let token_request = format!("{id} {}", record["token_request"]);
        match record["kind"].as_str().unwrap() {
            "intent" => drop(results.entry(id).or_insert(0)),
            "token_request" => drop(results.entry(token_request).or_insert(0)),
            "result" | "job_result" => *results.get_mut(&id).unwrap() += 1,
            "token_result" => *results.get_mut(&token_request).unwrap() += 1,
            _ => {}
        }
    }
    results
}

/// Runs a process, and checks that everything has one result, and that the chain holds.
async fn is_settled(folder: &Folder, limits: SegmentLimits, what: &str) {
    folder.run("broker-1", limits, 1).await;
    let results = results(folder);
    assert!(results.len() >= 4, "{what}: {results:?}");
    assert!(results.values().all(|count| *count == 1), "{what}: {results:?}");
    let report = folder.verified();
    assert!(report.is_whole(), "{what}: {report:?}");
}

#[tokio::test]
async fn p387_a_half_begun_segment_loses_no_result() {
    let folder = killed_with_open_work().await;
    let segment = last_segment(&folder);
    for (number, content) in beginnings(&segment).iter().enumerate() {
        for limits in [SegmentLimits::default(), TINY] {
            let killed = with(&folder, &segment, content);
            is_settled(&killed, limits, &format!("killed at {number}")).await;
        }
    }
}

#[tokio::test]
async fn p387_a_process_killed_while_it_settles_loses_no_result() {
    let folder = killed_with_open_work().await;
    let segment = last_segment(&folder);
    // `open` and one `carried`, or no file at all. Then the next process is killed while it records
    // the unknown results, and so is the one after it.
    for first in [Some(&beginnings(&segment)[4]), None] {
        let first = match first {
            Some(content) => with(&folder, &segment, content),
            None => {
                let killed = folder.killed();
                fs::remove_file(last_segment(&killed)).unwrap();
                killed
            }
        };
        let second = killed_after_its_start(&first).await;
        let segment = last_segment(&second);
        for (number, content) in beginnings(&segment).iter().enumerate() {
            let killed = with(&second, &segment, content);
            let third = killed_after_its_start(&killed).await;
            is_settled(&killed, SegmentLimits::default(), &format!("{number}")).await;
            // Half of what the third process wrote.
            let text = fs::read(last_segment(&third)).unwrap();
            let length = content.len().midpoint(text.len());
            let third = with(&third, &segment, text.get(..length).unwrap());
            is_settled(&third, TINY, &format!("{number}, then {length}")).await;
        }
    }
}

#[tokio::test]
async fn p387_a_needed_segment_that_is_gone_is_not_continued() {
    let folder = killed_with_open_work().await;
    let segment = last_segment(&folder);
    let beginnings = beginnings(&segment);
    // `open` and four `carried`, which are lines 1 to 5.
    let carried = 2 * 5;
    for (number, content) in beginnings.iter().enumerate() {
        let killed = with(&folder, &segment, content);
        let before = killed.segments("broker-1").into_iter().rev().skip(1);
        before.for_each(|path| fs::remove_file(path).unwrap());
        if number < carried {
            let refused = killed.refused("broker-1");
            assert!(matches!(refused, AuditFileError::SegmentBeforeGone { .. }), "{number}");
            assert!(refused.to_string().contains("Put it back"), "{refused}");
            assert_eq!(fs::read(last_segment(&killed)).unwrap(), *content, "nothing is removed");
        } else {
            killed.run("broker-1", SegmentLimits::default(), 1).await;
        }
    }
    // A process that began it and is known to have settled all needs no other one.
    let killed = with(&folder, &segment, &beginnings[4]);
    killed.run("broker-1", SegmentLimits::default().max_bytes(u64::MAX), 1).await;
    let before = killed.segments("broker-1").into_iter().rev().skip(1);
    before.for_each(|path| fs::remove_file(path).unwrap());
    killed.run("broker-1", SegmentLimits::default(), 1).await;
}

#[tokio::test]
async fn p387_a_needed_segment_that_was_changed_is_not_continued() {
    let folder = killed_with_open_work().await;
    let segment = last_segment(&folder);
    let beginnings = beginnings(&segment);
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 4] = [
        ("edited", |text| text.replacen("\"time\":\"2", "\"time\":\"3", 1)),
        ("its end cut", |text| text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n"),
        ("torn", |text| text + "{\"seq\":"),
        ("emptied", |_| String::new()),
    ];
    for (what, change) in changes {
        // Nothing, `open`, and `open` with one `carried`.
        for content in [&beginnings[0], &beginnings[2], &beginnings[4]] {
            let killed = with(&folder, &segment, content);
            let before = killed.segments("broker-1").into_iter().rev().nth(1).unwrap();
            fs::write(&before, change(fs::read_to_string(&before).unwrap())).unwrap();
            let refused = killed.refused("broker-1");
            let is_refused = matches!(
                refused,
                AuditFileError::SegmentsDoNotFollow { .. } | AuditFileError::Damaged { .. }
            );
            assert!(is_refused, "{what}: {refused}");
        }
    }
}

#[tokio::test]
async fn p293_an_empty_segment_is_not_taken_from_its_writer() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", SegmentLimits::default());
    use_a_credential(&log).await.unwrap();
    log.close(Duration::from_secs(20)).await.unwrap();
    // A process that is about to begin its next segment: created, and not locked yet.
    let sink = loop {
        match AuditFolder::open(folder.path(), &name("broker-1")) {
            Err(AuditFileError::InUse { .. }) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let last = folder.verified().chains[0].report.head.unwrap();
    let next = segment::SegmentName::path(&folder.path(), &name("broker-1"), last.sequence + 1);
    fs::write(&next, "").unwrap();
    assert!(matches!(folder.refused("broker-1"), AuditFileError::InUse { .. }));
    drop(sink);
    folder.run("broker-1", SegmentLimits::default(), 1).await;
    assert!(folder.verified().is_whole());
}
