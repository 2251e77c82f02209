//! Folders written by the real log, and manipulations of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::audit::{
    SegmentLimits,
    folder_tests::{Folder, TINY},
};

/// Two writers with several segments each.
async fn written() -> Folder {
    let folder = Folder::new();
    folder.run("broker-1", TINY, 5).await;
    folder.run("broker-2", TINY, 2).await;
    folder
}

fn edit(path: &Path, change: impl Fn(&str) -> String) {
    fs::write(path, change(&fs::read_to_string(path).unwrap())).unwrap();
}

fn without_last(text: &str) -> String {
    text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n"
}

#[tokio::test]
async fn p386_each_fault_is_named_with_its_segment() {
    type Change = fn(&[PathBuf]);
    let changes: [(&str, Change, usize, &str); 14] = [
        (
            "edited",
            |at| edit(&at[2], |text| text.replacen("\"uses\":1", "\"uses\":0", 1)),
            2,
            "edited",
        ),
        (
            "first record edited",
            |at| edit(&at[2], |text| text.replacen("carried\":", "carried\":1", 1)),
            2,
            "edited",
        ),
        ("deleted", |at| fs::remove_file(&at[2]).unwrap(), 3, "missing"),
        (
            "two deleted",
            |at| at[2..4].iter().for_each(|at| fs::remove_file(at).unwrap()),
            4,
            "missing",
        ),
        ("the first deleted", |at| fs::remove_file(&at[0]).unwrap(), 1, "missing"),
        ("its end cut", |at| edit(&at[2], without_last), 3, "missing"),
        (
            "torn",
            |at| edit(&at[2], |text| text.get(..text.len() - 9).unwrap().to_owned()),
            2,
            "not_a_record",
        ),
        ("emptied", |at| fs::write(&at[2], "").unwrap(), 2, "empty"),
        (
            "two exchanged",
            |at| {
                let (one, two) = (fs::read(&at[2]).unwrap(), fs::read(&at[3]).unwrap());
                fs::write(&at[2], two).unwrap();
                fs::write(&at[3], one).unwrap();
            },
            2,
            "misnamed",
        ),
        (
            "under the name of another writer",
            |at| {
                let name = at[2].to_str().unwrap().replace("broker-1", "broker-3");
                fs::copy(&at[2], name).unwrap();
            },
            usize::MAX,
            "misnamed",
        ),
        (
            "a copy under another number",
            |at| {
                let name = at[2].to_str().unwrap().replace(".jsonl", "");
                let (stem, digits) = name.rsplit_once('.').unwrap();
                let number = digits.parse::<u64>().unwrap() + 1;
                fs::copy(&at[2], format!("{stem}.{number:020}.jsonl")).unwrap();
            },
            usize::MAX,
            "misnamed",
        ),
        (
            "a copy under no name of a segment",
            |at| {
                fs::copy(&at[2], at[2].with_extension("jsonl.1")).unwrap();
            },
            usize::MAX,
            "misnamed",
        ),
        (
            "a record after its end",
            |at| edit(&at[2], |text| text.to_owned() + text.lines().next().unwrap() + "\n"),
            2,
            "repeated",
        ),
        (
            "a folder in its place",
            |at| {
                fs::remove_file(&at[2]).unwrap();
                fs::create_dir(&at[2]).unwrap();
            },
            2,
            "misnamed",
        ),
    ];
    for (what, change, segment, code) in changes {
        let folder = written().await;
        let segments = folder.segments("broker-1");
        assert!(folder.verified().is_whole());
        change(&segments);
        let report = folder.verified();
        assert!(!report.is_whole(), "{what}");
        let fault = &report.faults[0];
        assert_eq!(fault.wrong.fault.code(), code, "{what}: {report:?}");
        if let Some(path) = segments.get(segment) {
            assert_eq!(&fault.file, path, "{what}");
        }
        // The other chain is as it was.
        let other = report.chains.iter().find(|chain| chain.writer.as_str() == "broker-2");
        assert_eq!(other.unwrap().report.found, Ok(End::Closed), "{what}");
    }
}

#[tokio::test]
async fn p386_a_fault_hides_no_other_one() {
    let folder = written().await;
    let segments = folder.segments("broker-1");
    assert!(segments.len() >= 8, "{segments:?}");
    edit(&segments[1], |text| text.replacen("\"time\":\"2", "\"time\":\"3", 1));
    fs::remove_file(&segments[3]).unwrap();
    edit(&segments[6], |text| text.replacen("\"kind\":\"close\"", "\"kind\":\"start\"", 1));
    let others = folder.segments("broker-2");
    fs::remove_file(&others[1]).unwrap();
    let report = folder.verified();
    let found: Vec<_> =
        report.faults.iter().map(|fault| (&fault.file, fault.wrong.fault.code())).collect();
    assert_eq!(
        found,
        [
            (&segments[1], "edited"),
            (&segments[4], "missing"),
            (&segments[6], "edited"),
            (&others[2], "missing"),
        ]
    );
    // The missing records are named.
    let first = |path: &PathBuf| {
        let line: serde_json::Value =
            fs::read_to_string(path).unwrap().lines().next().unwrap().parse().unwrap();
        line["seq"].as_u64().unwrap()
    };
    let wrong = report.faults[1].wrong;
    assert_eq!(wrong.fault, Fault::Missing { until: first(&segments[4]) });
    let last_number = segments[3].to_str().unwrap().rsplit('.').nth(1).unwrap().to_owned();
    assert_eq!(wrong.sequence, last_number.parse::<u64>().unwrap());
}

#[tokio::test]
async fn p386_a_noted_head_shows_removed_ends() {
    let folder = written().await;
    let head = |writer: &str| {
        let report = folder.verified();
        let chain = report.chains.into_iter().find(|chain| chain.writer.as_str() == writer);
        chain.unwrap().report.head.unwrap()
    };
    let noted = [head("broker-1"), head("broker-2")];
    let verified = || {
        let verification = FolderVerification::new().expect(noted[0]).expect(noted[1]);
        verification.run(&folder.path()).unwrap()
    };
    assert!(verified().is_whole());
    fs::remove_file(folder.segments("broker-1").pop().unwrap()).unwrap();
    assert!(folder.verified().is_whole(), "the chains alone do not show it");
    assert_ne!(folder.verified().chains[0].report.found, Ok(End::Closed));
    let report = verified();
    assert!(!report.is_whole());
    assert_eq!(report.missing_heads, [noted[0]]);
}

#[tokio::test]
async fn a_folder_in_use_is_verified() {
    let folder = written().await;
    let log = folder.opened("broker-3", SegmentLimits::default());
    crate::audit::folder_tests::use_a_credential(&log).await.unwrap();
    fs::write(folder.path().join("README"), "segments of the audit log").unwrap();
    let report = folder.verified();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.chains[2].report.found, Ok(End::Open));
    assert_eq!(report.others, [folder.path().join("README")]);
}

#[test]
fn an_empty_folder_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!FolderVerification::new().run(folder.path()).unwrap().is_whole());
    let nowhere = folder.path().join("nowhere");
    let error = FolderVerification::new().run(&nowhere).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
