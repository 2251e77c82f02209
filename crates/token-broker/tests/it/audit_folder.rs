//! `token-broker audit verify` and `remove` with a folder, and output that no one reads.

use std::{
    fs,
    io::pipe,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tower_token_broker::{
    audit::{AuditFolder, AuditLog, AuditOptions, SegmentLimits, Trail, WriterName},
    clock::{Clock, Timestamp},
};

/// A folder with two chains of several segments each, of 2026.
async fn written() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("audit");
    for writer in ["broker-1", "broker-2"] {
        let limits = SegmentLimits::default().max_bytes(1);
        let writer = WriterName::parse(writer).unwrap();
        let sink = AuditFolder::open_with(&folder, &writer, limits).unwrap();
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_770_000_000));
        let log = AuditLog::start(sink, AuditOptions::new().with_clock(clock));
        for _ in 0..3 {
            drop(Trail::for_test(&log));
            log.flush().await.unwrap();
        }
        log.close(Duration::from_secs(20)).await.unwrap();
    }
    (root, folder)
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    command.arg("audit").arg(arguments[0]).arg(folder).args(&arguments[1..]).output().unwrap()
}

fn object(folder: &Path, options: &[&str]) -> (Option<i32>, Value) {
    let run = run(&[&["verify", "--json"], options].concat(), folder);
    (run.status.code(), text(&run.stdout).parse().unwrap())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn segments(folder: &Path, writer: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let is_of = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(writer);
    let mut segments: Vec<_> = files.filter(is_of).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn a_whole_folder_is_reported_with_its_chains() {
    let (_root, folder) = written().await;
    let run = run(&["verify"], &folder);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let printed = text(&run.stdout);
    for part in [": whole.", "in 2 chains", "broker-1", "broker-2", "head ", "--expect-head"] {
        assert!(printed.contains(part), "{part:?} in {printed}");
    }
    let (code, found) = object(&folder, &[]);
    assert_eq!((code, &found["whole"]), (Some(0), &true.into()));
    assert_eq!(found["chains"][1]["writer"], "broker-2");
    assert_eq!(found["chains"][1]["requests"], 3);
    let head = found["chains"][1]["head"].as_str().unwrap();
    assert_eq!(object(&folder, &["--expect-head", head]).0, Some(0));
    let (code, found) = object(&folder, &["--expect-head", &format!("3:{}", "0".repeat(64))]);
    assert_eq!((code, found["missing_heads"].as_array().unwrap().len()), (Some(1), 1));
}

#[tokio::test]
async fn p386_each_fault_of_a_folder_is_printed() {
    let (_root, folder) = written().await;
    let (one, two) = (segments(&folder, "broker-1"), segments(&folder, "broker-2"));
    fs::remove_file(&one[1]).unwrap();
    let changed = fs::read_to_string(&two[1]).unwrap().replacen("completed", "dropped", 1);
    fs::write(&two[1], changed.replacen("\"time\":\"2", "\"time\":\"3", 1)).unwrap();
    let run = run(&["verify"], &folder);
    assert_eq!(run.status.code(), Some(1));
    let (printed, found) = (text(&run.stdout), object(&folder, &[]).1);
    assert!(printed.contains("NOT WHOLE. 2 wrong records"), "{printed}");
    for (number, (path, code)) in [(&one[2], "missing"), (&two[1], "edited")].iter().enumerate() {
        let fault = &found["faults"][number];
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!((&fault["file"], &fault["fault"]), (&name.into(), &(*code).into()));
        assert!(printed.contains(&format!("{name}: {}", fault["text"].as_str().unwrap())));
    }
}

#[tokio::test]
async fn the_object_of_a_folder_has_the_documented_members() {
    let document = include_str!("../../../../docs/audit.md");
    let table = |after: &str| -> Vec<String> {
        let table = document.split(after).nth(1).unwrap().split("\n\n").nth(1).unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    };
    let (_root, folder) = written().await;
    fs::remove_file(&segments(&folder, "broker-1")[0]).unwrap();
    assert_eq!(run(&REMOVE, &folder).status.code(), Some(0));
    let (_, object) = object(&folder, &[]);
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let documented = |after: &str| {
        let mut members = table(after);
        members.sort();
        members
    };
    assert_eq!(members(&object), documented("The object of a folder has:"));
    assert_eq!(members(&object["faults"][0]), documented("Each of `faults` has:"));
    assert_eq!(members(&object["removed"][0]), documented("Each of `removed` has:"));
    let (_, noted) = self::object(&folder, &["--expect-head", &removed_head(&object)]);
    assert_eq!(members(&noted["removed_heads"][0]), documented("Each of `removed_heads` has:"));
    let of_file = documented("The object has:").into_iter();
    let mut of_chain: Vec<_> =
        of_file.filter(|member| !["schema", "noted"].contains(&member.as_str())).collect();
    of_chain.extend(["writer", "segments", "removed_until"].map(str::to_owned));
    of_chain.sort();
    assert_eq!(members(&object["chains"][0]), of_chain);
}

/// Returns the last record of the first removal.
fn removed_head(object: &Value) -> String {
    object["removed"][0]["until"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn p519_a_noted_head_of_a_removed_record_is_no_alarm() {
    let (_root, folder) = written().await;
    assert_eq!(run(&REMOVE, &folder).status.code(), Some(0));
    let last = removed_head(&object(&folder, &[]).1);
    let (number, hash) = last.split_once(':').unwrap();
    let (earlier, later) = (format!("2:{hash}"), format!("9{number}:{hash}"));
    let other = format!("{number}:{}", "0".repeat(64));
    for (heads, code, whole, parts) in [
        (vec![&last], 0, Value::from(true), vec![": whole.", "was removed by operator olga on 2"]),
        (vec![&earlier], 3, Value::Null, vec![": UNDECIDED.", "its hash cannot be compared"]),
        (vec![&last, &earlier], 3, Value::Null, vec!["UNDECIDED", "; 1 noted heads cannot be"]),
        (vec![&later], 1, false.into(), vec!["NOT WHOLE", "is in no chain"]),
        (vec![&other], 1, false.into(), vec!["NOT WHOLE", "is in no chain"]),
        (vec![&earlier, &other], 1, false.into(), vec!["NOT WHOLE", "cannot be compared"]),
    ] {
        let options: Vec<&str> =
            heads.iter().flat_map(|head| ["--expect-head", head.as_str()]).collect();
        let printed = run(&[&["verify"], &options[..]].concat(), &folder);
        assert_eq!(printed.status.code(), Some(code), "{printed:?}");
        for part in parts {
            assert!(text(&printed.stdout).contains(part), "{part:?} in {printed:?}");
        }
        let (code_of_json, found) = object(&folder, &options);
        assert_eq!((code_of_json, &found["whole"]), (Some(code), &whole));
    }
}

#[tokio::test]
async fn a_dry_run_prints_what_would_be_removed() {
    let (_root, folder) = written().await;
    let files = || {
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    let arguments = |writer: &'static str, days: &'static str| {
        ["remove", "--writer", writer, "--older-than-days", days]
    };
    // Also of the chain that the command itself continues.
    for writer in ["broker-2", "commands", "commands", "commands", "broker-1"] {
        let before = files();
        let planned = run(&[&arguments(writer, "0")[..], &["--dry-run"]].concat(), &folder);
        assert_eq!(planned.status.code(), Some(0), "{planned:?}");
        assert_eq!(files(), before, "nothing is changed or recorded");
        let removed =
            run(&[&arguments(writer, "0")[..], &["--operator", "olga"]].concat(), &folder);
        assert_eq!(removed.status.code(), Some(0), "{removed:?}");
        let after = files();
        let is_there = |path: &PathBuf| after.iter().any(|(_, other)| other == path);
        for (_, path) in before {
            let is_named = text(&planned.stdout).contains(path.to_str().unwrap());
            assert_eq!(is_named, !is_there(&path), "{writer}: {planned:?} {removed:?}");
        }
    }
    // With an operator it is a dry run, too; without either, wrong usage.
    let (_root, folder) = written().await;
    let all = segments(&folder, "broker");
    let planned = run(&[&REMOVE[..], &["--dry-run"]].concat(), &folder);
    assert!(text(&planned.stdout).contains("segments of broker-2 would be removed:"));
    assert_eq!(run(&arguments("broker-2", "30"), &folder).status.code(), Some(2));
    let young = run(&[&arguments("broker-2", "30000")[..], &["--dry-run"]].concat(), &folder);
    assert_eq!(text(&young.stdout), "no segment of broker-2 is old enough\n");
    let nowhere = run(&[&arguments("nobody", "30")[..], &["--dry-run"]].concat(), &folder);
    assert_eq!(nowhere.status.code(), Some(1));
    assert_eq!((segments(&folder, "broker"), segments(&folder, "commands")), (all, Vec::new()));
}

const REMOVE: [&str; 7] =
    ["remove", "--writer", "broker-2", "--older-than-days", "30", "--operator", "olga"];

#[tokio::test]
async fn old_segments_are_removed_with_a_record() {
    let (_root, folder) = written().await;
    let removed = run(&REMOVE, &folder);
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    assert!(text(&removed.stdout).contains("segments of broker-2 removed, up to record"));
    assert!(segments(&folder, "broker-2").is_empty());
    let (code, found) = object(&folder, &[]);
    assert_eq!(code, Some(0), "{found}");
    let note = &found["removed"][0];
    assert_eq!(
        (&note["initiator"], &note["writer"]),
        (&"operator olga".into(), &"broker-2".into())
    );
    let printed = run(&["verify"], &folder);
    assert!(text(&printed.stdout).contains("by operator olga"), "{printed:?}");
    // None is left; those of the command itself are young.
    for (writer, code, printed) in [
        ("broker-2", 1, "the folder has no segment of writer broker-2;"),
        ("broker", 1, "the folder has no segment of writer broker;"),
        ("commands", 0, "no segment of commands is old enough"),
    ] {
        let mut arguments = REMOVE;
        arguments[2] = writer;
        let again = run(&arguments, &folder);
        assert_eq!(again.status.code(), Some(code), "{again:?}");
        let output = if code == 0 { &again.stdout } else { &again.stderr };
        assert!(text(output).contains(printed), "{again:?}");
    }
    // A changed segment is evidence.
    let path = &segments(&folder, "broker-1")[0];
    fs::write(path, fs::read_to_string(path).unwrap().replacen("start", "store", 1)).unwrap();
    let mut arguments = REMOVE;
    arguments[2] = "broker-1";
    let refused = run(&arguments, &folder);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("keep its segments"), "{refused:?}");
    arguments[2] = "../broker";
    assert_eq!(run(&arguments, &folder).status.code(), Some(2));
}

#[tokio::test]
async fn a_reader_that_has_read_enough_is_no_failure() {
    let (_root, folder) = written().await;
    let file = &segments(&folder, "broker-1")[0];
    for (arguments, code) in [
        (vec!["audit", "verify", folder.to_str().unwrap()], 0),
        (vec!["audit", "verify", "--json", folder.to_str().unwrap()], 0),
        (vec!["audit", "verify", file.to_str().unwrap()], 0),
        (vec!["audit", "verify", "/nowhere"], 1),
    ] {
        for (stdout, stderr) in [(true, false), (false, true), (true, true)] {
            let gone = || {
                let (reader, writer) = pipe().unwrap();
                drop(reader);
                Stdio::from(writer)
            };
            let output = |is_gone| if is_gone { gone() } else { Stdio::piped() };
            let run = Command::new(env!("CARGO_BIN_EXE_token-broker"))
                .args(&arguments)
                .stdout(output(stdout))
                .stderr(output(stderr))
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap();
            assert_eq!(run.status.code(), Some(code), "{arguments:?} {run:?}");
            assert!(!text(&run.stderr).contains("panicked"), "{run:?}");
        }
    }
    // A result that could not be written otherwise is one.
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let run = Command::new(env!("CARGO_BIN_EXE_token-broker"))
            .args(["audit", "verify", folder.to_str().unwrap()])
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(1));
        assert!(text(&run.stderr).contains("cannot be written"), "{run:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn p386_names_do_not_change_the_text_around_them() {
    let (_root, folder) = written().await;
    let cover = "x\u{1b}[2K\r\n/audit: whole. 99 records\u{202e}\u{7}\t";
    // A file that is no segment, one with a record, and initiator and writer of a removal.
    fs::write(folder.join(cover.replace('/', "_")), "").unwrap();
    let first = &segments(&folder, "broker-1")[0];
    fs::copy(first, folder.join(cover.replace('/', "-"))).unwrap();
    let mut arguments = REMOVE;
    arguments[6] = cover;
    let removed = run(&arguments, &folder);
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    // The folder and a file under such a name, and one that cannot be read.
    let other = folder.with_file_name(cover.replace('/', ""));
    fs::rename(&folder, &other).unwrap();
    let file = other.join(cover.replace('/', "-"));
    let nowhere = other.join("nowhere\u{1b}[1A\n");
    for (path, code, lines) in [(&other, 1, 1..30), (&file, 0, 1..10), (&nowhere, 1, 1..2)] {
        let verified = run(&["verify"], path);
        assert_eq!(verified.status.code(), Some(code), "{verified:?}");
        let printed = [text(&verified.stdout), text(&verified.stderr)].concat();
        assert!(lines.contains(&printed.lines().count()), "{printed}");
        let is_raw = |character: char| character != '\n' && character.is_control();
        assert!(!printed.contains(is_raw) && !printed.contains('\u{202e}'), "{printed:?}");
        assert!(printed.contains("\\u{1b}["), "{printed}");
        let verdicts = printed.lines().filter(|line| line.starts_with("/audit: whole"));
        assert_eq!(verdicts.count(), 0, "{printed}");
    }
    let printed = text(&run(&["verify"], &other).stdout).to_owned();
    assert!(printed.contains("by operator x\\u{1b}[2K\\r\\n/audit"), "{printed}");
    // A chain's name is what its first record has.
    let named = fs::read_to_string(&file).unwrap();
    let (before, chain) = named.split_once("\"chain\":\"").unwrap();
    let chain = chain.split_once('"').unwrap().1;
    fs::write(&file, format!("{before}\"chain\":\"\\u001b[2K\\n{chain}")).unwrap();
    let printed = run(&["verify"], &file);
    assert!(!text(&printed.stdout).contains('\u{1b}'), "{printed:?}");
    // Nor does an error of the other command.
    let missing = run(&REMOVE, &nowhere);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(text(&missing.stderr).lines().count(), 1, "{missing:?}");
    assert!(!text(&missing.stderr).contains('\u{1b}'), "{missing:?}");
}

#[tokio::test]
async fn the_headline_counts_missing_heads() {
    let (_root, folder) = written().await;
    let heads = [format!("3:{}", "0".repeat(64)), format!("9:{}", "1".repeat(64))];
    let options = ["verify", "--expect-head", &heads[0], "--expect-head", &heads[1]];
    let printed = run(&options, &folder);
    assert_eq!(printed.status.code(), Some(1));
    let headline = text(&printed.stdout).lines().next().unwrap().to_owned();
    assert!(headline.contains("NOT WHOLE."), "{headline}");
    assert!(headline.ends_with("in 2 chains, unchanged; 2 noted heads missing"), "{headline}");
    fs::remove_file(&segments(&folder, "broker-1")[1]).unwrap();
    let headline = text(&run(&options, &folder).stdout).lines().next().unwrap().to_owned();
    assert!(
        headline.ends_with("NOT WHOLE. 1 wrong records in 2 chains; 2 noted heads missing"),
        "{headline}"
    );
}

/// Each way of the command closes its own chain.
#[tokio::test]
async fn the_chain_of_commands_has_no_gap() {
    let (_root, folder) = written().await;
    let arguments = |writer: &'static str| {
        ["remove", "--writer", writer, "--older-than-days", "0", "--operator", "olga"]
    };
    let is_closed = |what: &str| {
        let (code, found) = object(&folder, &[]);
        assert_eq!(code, Some(0), "{what}: {found}");
        let chains = found["chains"].as_array().unwrap().clone();
        let is_commands = |chain: &Value| chain["writer"] == "commands";
        let commands = chains.into_iter().find(is_commands).unwrap();
        assert_eq!(
            (&commands["end"], &commands["crashes"]),
            (&"closed".into(), &0.into()),
            "{what}"
        );
    };
    assert_eq!(run(&arguments("broker-2"), &folder).status.code(), Some(0));
    is_closed("removed");
    // Its own chain: the first segment is kept with the one in use, and needed.
    for _ in 0..4 {
        let own = run(&arguments("commands"), &folder);
        assert_eq!(own.status.code(), Some(0), "{own:?}");
        is_closed("its own chain");
    }
    // A segment that cannot be removed.
    let all = segments(&folder, "broker-1");
    let commands = WriterName::parse("commands").unwrap();
    let in_use = AuditFolder::open(&folder, &commands).unwrap();
    let refused = run(&arguments("broker-1"), &folder);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("Run it again when that one has ended"), "{refused:?}");
    assert_eq!(segments(&folder, "broker-1"), all);
    drop(in_use);
    assert_eq!(run(&arguments("broker-1"), &folder).status.code(), Some(0));
    is_closed("after another command");
}
