//! `token-broker audit verify`: what it prints, and its exit codes.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use http::{Request, Response};
use serde_json::Value;
use tempfile::TempDir;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_token_broker::{
    Broker,
    audit::{AuditFileError, AuditLayer, AuditLog, JsonLines},
    stack::StackConfig,
};

/// A file of `start`, so many results, and `close`.
async fn written(requests: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let broker = Broker::builder().audit(JsonLines::append(&path).unwrap()).build().unwrap();
    let config = StackConfig::new("https://broker.example.com/").unwrap();
    let service =
        AuditLayer::new(&broker, &config).layer(service_fn(async |_: Request<String>| {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
    for _ in 0..requests {
        drop(service.clone().oneshot(Request::new(String::new())).await.unwrap());
    }
    broker.shutdown(Duration::from_secs(20)).await.unwrap();
    drop((broker, service));
    is_released(&path).await;
    (folder, path)
}

async fn closed(log: AuditLog, path: &Path) {
    log.close(Duration::from_secs(20)).await.unwrap();
    drop(log);
    is_released(path).await;
}

/// The lock of the file goes with the writer's thread.
async fn is_released(path: &Path) {
    while matches!(JsonLines::append(path), Err(AuditFileError::InUse { .. })) {
        tokio::task::yield_now().await;
    }
}

fn verify(path: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    command.args(["audit", "verify"]).arg(path).args(options).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn object(path: &Path, options: &[&str]) -> (Option<i32>, Value) {
    let run = verify(path, &[options, &["--json"]].concat());
    (run.status.code(), text(&run.stdout).parse().unwrap())
}

#[tokio::test]
async fn a_whole_file_is_reported_with_its_head() {
    let (_folder, path) = written(2).await;
    let run = verify(&path, &[]);
    assert_eq!(run.status.code(), Some(0));
    assert!(run.stderr.is_empty(), "stderr is no terminal");
    let last: Value = fs::read_to_string(&path).unwrap().lines().last().unwrap().parse().unwrap();
    let head = format!("3:{}", last["hash"].as_str().unwrap());
    let printed = text(&run.stdout);
    for part in [
        ": whole. 4 records",
        "2 ended; 0 with unknown outcome",
        "closed in order",
        &head,
        "The chain does not show",
        "--expect-head",
    ] {
        assert!(printed.contains(part), "{part:?} in {printed}");
    }
    // The noted head is found, and the output explains what that shows.
    let run = verify(&path, &["--expect-head", &head]);
    assert_eq!(run.status.code(), Some(0));
    assert!(text(&run.stdout).contains("Up to record 3 it is the file that was noted."));
}

#[tokio::test]
async fn p291_a_damaged_file_has_exit_code_1() {
    let (_folder, path) = written(2).await;
    let whole = fs::read_to_string(&path).unwrap();
    let head = object(&path, &[]).1["head"].as_str().unwrap().to_owned();
    let last_line = whole.trim_end().rfind('\n').unwrap() + 1;
    for (changed, noted, sequence, fault) in [
        (whole.replacen("completed", "dropped", 1), None, 1, "edited"),
        (whole.split_inclusive('\n').rev().collect(), None, 0, "reordered"),
        (whole.split_at(last_line).0.to_owned(), Some(head.clone()), 3, "cut_off"),
        (whole.clone(), Some(format!("3:{}", "0".repeat(64))), 3, "rewritten"),
        (whole.clone() + "hello\n", None, 4, "not_json"),
        (String::new(), None, 0, "empty"),
    ] {
        fs::write(&path, changed).unwrap();
        let options = noted.iter().flat_map(|head| ["--expect-head", head]).collect::<Vec<_>>();
        let (code, object) = object(&path, &options);
        assert_eq!((code, &object["whole"]), (Some(1), &false.into()), "{fault}");
        assert_eq!(
            (&object["wrong"]["sequence"], &object["wrong"]["fault"]),
            (&sequence.into(), &fault.into())
        );
        assert_eq!(object["end"], Value::Null, "{fault}");
        let run = verify(&path, &options);
        assert_eq!(run.status.code(), Some(1), "{fault}");
        let printed = text(&run.stdout);
        assert!(
            printed.contains("NOT WHOLE")
                && printed.contains(object["wrong"]["text"].as_str().unwrap()),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn a_crash_is_a_gap_and_the_file_is_whole() {
    let (_folder, path) = written(2).await;
    let whole = fs::read_to_string(&path).unwrap();
    let (before, last) = whole.split_at(whole.trim_end().rfind('\n').unwrap() + 1);
    let torn = [before, last.split_at(20).0].concat();
    fs::write(&path, torn).unwrap();
    let (code, found) = object(&path, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&found["end"], &found["torn_bytes"], &found["crashes"]),
        (&"torn".into(), &20.into(), &0.into())
    );

    closed(AuditLog::from(JsonLines::append(&path).unwrap()), &path).await;
    let (code, found) = object(&path, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&found["end"], &found["dropped_bytes"], &found["crashes"]),
        (&"closed".into(), &20.into(), &1.into())
    );
    assert_eq!(
        (&found["gaps"][0]["sequence"], &found["gaps"][0]["dropped_bytes"]),
        (&3.into(), &20.into())
    );
    assert!(text(&verify(&path, &[]).stdout).contains("1 after a crash, each marked; 20 bytes"));
}

#[tokio::test]
async fn the_object_has_the_documented_members() {
    let document = include_str!("../../../../docs/audit.md");
    let table = document
        .split("The object has:")
        .nth(1)
        .and_then(|rest| rest.split("In a folder, ").next())
        .unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: std::collections::BTreeSet<_> = rows.collect();
    let (_folder, path) = written(1).await;
    let (_, object) = object(&path, &[]);
    assert_eq!(
        object
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect::<std::collections::BTreeSet<_>>(),
        documented
    );
    assert_eq!(
        (&object["schema"], &object["whole"], &object["records"], &object["requests"]),
        (&1.into(), &true.into(), &3.into(), &1.into())
    );
}

#[tokio::test]
async fn progress_is_printed_at_most_a_hundred_times() {
    let (_folder, path) = written(1).await;
    // The rest of a file is read to its end if its first record is missing.
    let whole = fs::read_to_string(&path).unwrap();
    let missing = whole.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&path, missing.repeat(4 * 1024 * 1024 / missing.len() + 1)).unwrap();
    let run = verify(&path, &["--progress"]);
    assert_eq!(run.status.code(), Some(1));
    let percents: Vec<u64> = text(&run.stderr)
        .lines()
        .map(|line| line.strip_suffix(" %").unwrap().parse().unwrap())
        .collect();
    assert!((3..=100).contains(&percents.len()) && percents.is_sorted(), "{percents:?}");
}

#[test]
fn a_fault_exits_with_1_and_wrong_use_with_2() {
    let nowhere = Path::new("/nowhere/audit.jsonl");
    let run = verify(nowhere, &[]);
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("cannot be read"), "{run:?}");
    assert!(run.stdout.is_empty());
    for options in [&["--expect-head", "7"][..], &["--expect-head", "7:abc"], &["--hash"]] {
        assert_eq!(verify(nowhere, options).status.code(), Some(2), "{options:?}");
    }
}
