//! Noted heads after removals: those that a removal explains, and those that it does not.

use std::{fs, time::Duration};

use super::*;
use crate::audit::{
    AuditLog, SegmentLimits,
    folder_tests::{Folder, TINY, removed},
};

/// One writer that ended in order, all heads of its segments, and the log of commands.
async fn ended() -> (Folder, Vec<Head>, AuditLog) {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 3).await;
    let heads: Vec<Head> = folder.segments("broker-1").iter().map(|path| last_of(path)).collect();
    assert!(heads.len() > 3, "{heads:?}");
    folder.clock.advance(Duration::from_secs(60));
    let commands = folder.opened("commands", SegmentLimits::default());
    // An empty file would be a fault.
    commands.flush().await.unwrap();
    (folder, heads, commands)
}

fn last_of(segment: &std::path::Path) -> Head {
    let text = fs::read_to_string(segment).unwrap();
    let last: serde_json::Value = text.lines().last().unwrap().parse().unwrap();
    format!("{}:{}", last["seq"], last["hash"].as_str().unwrap()).parse().unwrap()
}

fn verified(folder: &Folder, noted: &[Head]) -> FolderReport {
    let verification = FolderVerification::new();
    let verification = noted.iter().fold(verification, |all, head| all.expect(*head));
    verification.run(&folder.path()).unwrap()
}

fn verdict(folder: &Folder, noted: Head) -> Verdict {
    let report = verified(folder, &[noted]);
    assert_eq!(report.fault_count, 0, "{report:?}");
    // Each noted head is in a chain, or in one of the two lists.
    assert!(report.removed_heads.len() + report.missing_heads.len() <= 1, "{report:?}");
    report.verdict()
}

fn other_hash(head: Head) -> Head {
    Head { hash: [7; 32], ..head }
}

#[tokio::test]
async fn p519_the_last_removed_record_is_no_missing_head() {
    let (folder, heads, commands) = ended().await;
    let last = *heads.last().unwrap();
    assert_eq!(removed(&folder, &commands, "broker-1").await, heads.len());
    let report = verified(&folder, &[last]);
    assert_eq!(report.verdict(), Verdict::Whole, "{report:?}");
    assert!(report.is_whole() && report.missing_heads.is_empty());
    let found = &report.removed_heads[0];
    assert_eq!((found.head, found.is_compared), (last, true));
    assert_eq!(&*found.removal.initiator, "operator olga");
    assert_eq!(found.removal.until, last);
    // Also after the writer has begun another chain at 0.
    folder.run("broker-1", TINY, 9).await;
    assert_eq!(verdict(&folder, last), Verdict::Whole);
}

#[tokio::test]
async fn p519_a_head_among_removed_records_decides_nothing() {
    let (folder, heads, commands) = ended().await;
    removed(&folder, &commands, "broker-1").await;
    for head in
        [heads[0], heads[1], other_hash(heads[0]), other_hash(Head { sequence: 0, ..heads[0] })]
    {
        let report = verified(&folder, &[head]);
        assert_eq!(report.verdict(), Verdict::Undecided, "{report:?}");
        assert!(!report.is_whole());
        assert!(!report.removed_heads[0].is_compared);
    }
    // It hides nothing else.
    let last = *heads.last().unwrap();
    let report = verified(&folder, &[heads[0], other_hash(last)]);
    assert_eq!(report.verdict(), Verdict::NotWhole);
    assert_eq!(report.missing_heads, [other_hash(last)]);
}

#[tokio::test]
async fn p519_no_removal_explains_another_head() {
    let (folder, heads, commands) = ended().await;
    removed(&folder, &commands, "broker-1").await;
    let last = *heads.last().unwrap();
    let later = Head { sequence: last.sequence + 1, ..last };
    for head in [other_hash(last), later, other_hash(later), Head { sequence: u64::MAX, ..last }] {
        assert_eq!(verdict(&folder, head), Verdict::NotWhole, "{head}");
    }
}

#[tokio::test]
async fn p519_segments_removed_without_a_record_are_missing() {
    let (folder, heads, _commands) = ended().await;
    for path in folder.segments("broker-1") {
        fs::remove_file(path).unwrap();
    }
    for head in heads {
        assert_eq!(verdict(&folder, head), Verdict::NotWhole, "{head}");
    }
}

#[tokio::test]
async fn p519_a_removal_of_the_beginning_does_not_explain_a_removed_end() {
    let folder = Folder::new();
    let log = folder.opened("broker-1", TINY);
    for _ in 0..4 {
        crate::audit::folder_tests::use_a_credential(&log).await.unwrap();
        log.flush().await.unwrap();
    }
    folder.clock.advance(Duration::from_secs(60));
    let heads: Vec<Head> = folder.segments("broker-1").iter().map(|path| last_of(path)).collect();
    let commands = folder.opened("commands", SegmentLimits::default());
    let count = removed(&folder, &commands, "broker-1").await;
    assert!(count >= 2 && count < heads.len(), "{count}");
    log.close(Duration::from_secs(20)).await.unwrap();
    // The last of the removed ones is named twice: by the removal and by what follows.
    assert_eq!(verdict(&folder, heads[count - 1]), Verdict::Whole);
    assert_eq!(verdict(&folder, other_hash(heads[count - 1])), Verdict::NotWhole);
    assert_eq!(verdict(&folder, heads[0]), Verdict::Undecided);
    // The next one is in the chain, until the end is cut off.
    assert_eq!(verdict(&folder, heads[count]), Verdict::Whole);
    assert_eq!(verdict(&folder, other_hash(heads[count])), Verdict::NotWhole);
    let end = last_of(folder.segments("broker-1").last().unwrap());
    fs::remove_file(folder.segments("broker-1").pop().unwrap()).unwrap();
    assert_eq!(verdict(&folder, end), Verdict::NotWhole);
}

#[tokio::test]
async fn p519_an_interrupted_removal_explains_only_what_is_gone() {
    let (folder, heads, commands) = ended().await;
    let (all, copy) = (folder.segments("broker-1"), folder.killed());
    let last = *heads.last().unwrap();
    removed(&folder, &commands, "broker-1").await;
    let with = |kept: &[std::path::PathBuf]| {
        let folder = folder.killed();
        for path in kept {
            let file = path.file_name().unwrap();
            fs::copy(copy.path().join(file), folder.path().join(file)).unwrap();
        }
        folder
    };
    // Two segments are gone. The rest continues the second one.
    let two_gone = with(&all[2..]);
    assert_eq!(verdict(&two_gone, heads[0]), Verdict::Undecided);
    assert_eq!(verdict(&two_gone, heads[1]), Verdict::Whole);
    assert_eq!(verdict(&two_gone, other_hash(heads[1])), Verdict::NotWhole);
    assert_eq!(verdict(&two_gone, heads[2]), Verdict::Whole);
    assert_eq!(verdict(&two_gone, last), Verdict::Whole);
    assert_eq!(verdict(&two_gone, other_hash(heads[2])), Verdict::NotWhole);
    // The oldest are removed first: an end that is gone while they are there was not removed so.
    let end_gone = with(&all[..2]);
    assert_eq!(verdict(&end_gone, heads[1]), Verdict::Whole);
    for head in [heads[2], last, other_hash(heads[0])] {
        assert_eq!(verdict(&end_gone, head), Verdict::NotWhole, "{head}");
    }
}

#[tokio::test]
async fn p519_a_changed_record_of_a_removal_explains_nothing() {
    let (folder, heads, commands) = ended().await;
    removed(&folder, &commands, "broker-1").await;
    commands.close(Duration::from_secs(20)).await.unwrap();
    let path = &folder.segments("commands")[0];
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("olga", "olaf", 1)).unwrap();
    let last = *heads.last().unwrap();
    let report = verified(&folder, &[last]);
    assert_eq!(report.verdict(), Verdict::NotWhole);
    assert_eq!((report.fault_count, report.missing_heads), (1, vec![last]));
}
