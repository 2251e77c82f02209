//! Files written by the real log, and manipulations of them.

use std::{fs, io::Write as _, path::Path, time::Duration};

use super::*;
use crate::{
    audit::{
        AuditFileError, AuditLog, Intent, JsonLines, Trail,
        reader::{ReadError, RecordReader},
        record::chain_hash,
    },
    principal::Scopes,
};

/// Runs the log on this file, with this many requests that use a credential, and closes it.
async fn run(path: &Path, requests: usize) {
    let log = AuditLog::from(JsonLines::append(path).unwrap());
    call(&log, requests).await;
    log.close(Duration::from_secs(20)).await.unwrap();
    drop(log);
    // The writer's thread releases the lock of the file.
    while matches!(JsonLines::append(path), Err(AuditFileError::InUse { .. })) {
        tokio::task::yield_now().await;
    }
}

async fn call(log: &AuditLog, requests: usize) {
    let scopes = Scopes::parse("read").unwrap();
    for _ in 0..requests {
        let (trail, terminal) = Trail::for_test(log);
        trail
            .intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None))
            .await
            .unwrap()
            .used()
            .unwrap();
        drop(terminal);
    }
}

/// `start`, three times `intent` and `result`, `close`.
async fn written() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&path, 3).await;
    lines(&fs::read_to_string(path).unwrap())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| format!("{line}\n")).collect()
}

fn half(line: &str) -> &str {
    line.split_at(line.len() / 2).0
}

fn verified(text: impl AsRef<[u8]>) -> Report {
    Verification::new().run(text.as_ref()).unwrap()
}

fn wrong(text: impl AsRef<[u8]>) -> (u64, Fault) {
    let wrong = verified(text).found.unwrap_err();
    (wrong.sequence, wrong.fault)
}

/// A manipulation by an insider who can write the file: the whole chain with new hashes.
fn rechained(lines: &[String]) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut previous = [0; 32];
    let rewritten = lines.iter().enumerate().map(|(number, line)| {
        let (own, _) = line.split_once(",\"prev\":\"").unwrap();
        let members = own.split_once(',').unwrap().1;
        let head = format!("{{\"seq\":{number},{members},\"prev\":\"{}\"", hex(&previous));
        previous = chain_hash(&previous, head.as_bytes());
        format!("{head},\"hash\":\"{}\"}}\n", hex(&previous))
    });
    rewritten.collect()
}

#[tokio::test]
async fn a_written_file_is_whole_and_counted() {
    let lines = written().await;
    let report = verified(lines.concat());
    assert_eq!(report.found, Ok(End::Closed));
    assert_eq!((report.records, report.requests, report.unknown, report.crashes), (8, 3, 0, 0));
    assert_eq!(report.bytes, lines.concat().len() as u64);
    let last: serde_json::Value = lines[7].parse().unwrap();
    assert_eq!(report.head.unwrap().to_string(), format!("7:{}", last["hash"].as_str().unwrap()));
    assert_eq!(report.time.unwrap().to_string(), last["time"].as_str().unwrap());
    let first: serde_json::Value = lines[0].parse().unwrap();
    assert_eq!(report.chain.as_deref(), first["chain"].as_str());
    // A log that is in use.
    assert_eq!(verified(lines[..7].concat()).found, Ok(End::Open));
}

#[tokio::test]
async fn p291_the_first_wrong_record_is_named() {
    let (lines, others) = (written().await, written().await);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        lines.concat()
    };
    let edit = |line: &str| line.replacen("\"uses\":1", "\"uses\":0", 1);
    let renumber = |line: &str| line.replacen("\"seq\":4", "\"seq\":9", 1);
    for (what, text, sequence, fault) in [
        ("edited", with(&|l| l[4] = edit(&l[4])), 4, Fault::Edited),
        ("its number edited", with(&|l| l[4] = renumber(&l[4])), 4, Fault::Edited),
        ("its kind edited", with(&|l| l[7] = l[7].replace("close", "start")), 7, Fault::Edited),
        ("cut out", with(&|l| drop(l.remove(3))), 3, Fault::Missing { until: 4 }),
        ("the first cut off", with(&|l| drop(l.remove(0))), 0, Fault::Missing { until: 1 }),
        ("three cut out", with(&|l| drop(l.drain(2..5))), 2, Fault::Missing { until: 5 }),
        ("swapped", with(&|l| l.swap(3, 4)), 3, Fault::Reordered { line: 5 }),
        ("moved to the end", with(&|l| l[3..].rotate_left(1)), 3, Fault::Reordered { line: 8 }),
        ("doubled", with(&|l| l.insert(4, l[3].clone())), 4, Fault::Repeated { sequence: 3 }),
        (
            "doubled further down",
            with(&|l| l.insert(6, l[2].clone())),
            6,
            Fault::Repeated { sequence: 2 },
        ),
        ("out of another chain", with(&|l| l[4] = others[4].clone()), 4, Fault::Unlinked),
        (
            "put in out of another chain",
            with(&|l| l.insert(4, others[4].clone())),
            4,
            Fault::Unlinked,
        ),
        (
            "the rest of another file",
            [&lines[..4], &others[4..]].concat().concat(),
            4,
            Fault::Unlinked,
        ),
        (
            "another file after it",
            [&lines[..], &others[..]].concat().concat(),
            8,
            Fault::Repeated { sequence: 0 },
        ),
        ("made up", with(&|l| l.insert(4, l[4].replace(":1", ":2"))), 4, Fault::Edited),
        (
            "foreign JSON",
            with(&|l| l.insert(4, "{\"level\":\"info\"}\n".into())),
            4,
            Fault::NotARecord,
        ),
        ("an array", with(&|l| l.insert(4, "[]\n".into())), 4, Fault::NotARecord),
        ("emptied", String::new(), 0, Fault::Empty),
    ] {
        assert_eq!(wrong(&text), (sequence, fault), "{what}");
    }
}

#[tokio::test]
async fn p291_lax_json_is_not_a_record() {
    use crate::json::JsonError;
    let lines = written().await;
    for (what, line, error) in [
        ("half a record", half(&lines[4]).to_owned() + "\n", JsonError::Syntax),
        ("a log line", "listening on 127.0.0.1:80\n".to_owned(), JsonError::Syntax),
        ("an empty line", "\n".to_owned(), JsonError::Syntax),
        (
            "a doubled member",
            lines[4].replacen("\"uses\":1", "\"uses\":1,\"uses\":1", 1),
            JsonError::DuplicateMember,
        ),
        ("a byte order mark", format!("\u{feff}{}", lines[4]), JsonError::NotUtf8),
    ] {
        let text = [&lines[..4], &[line], &lines[5..]].concat().concat();
        assert_eq!(wrong(text), (4, Fault::NotJson(error)), "{what}");
    }
    // Line breaks as an editor on another system writes them.
    assert_eq!(wrong(lines.concat().replace('\n', "\r\n")), (0, Fault::NotARecord));
    let long = format!("{}{}\n", lines[0], " ".repeat(2 * 1024 * 1024));
    assert_eq!(wrong(long), (1, Fault::TooLong));
}

#[tokio::test]
async fn p291_every_changed_byte_and_moved_line_is_found() {
    let lines = written().await;
    let text = lines.concat().into_bytes();
    let number = |place: usize| text[..place].iter().filter(|byte| **byte == b'\n').count() as u64;
    // Without its line break, the last record is torn.
    for place in 0..text.len() - 1 {
        for change in [1, 0x20, 0x80] {
            let mut text = text.clone();
            text[place] ^= change;
            assert_eq!(wrong(text).0, number(place), "byte {place} by {change}");
        }
    }
    for first in 0..lines.len() {
        for second in first + 1..lines.len() {
            let mut lines = lines.clone();
            lines.swap(first, second);
            let (sequence, fault) = wrong(lines.concat());
            assert_eq!(
                (sequence, fault),
                (first as u64, Fault::Reordered { line: second as u64 + 1 })
            );
        }
        for to in first + 1..=lines.len() {
            let mut lines = lines.clone();
            lines.insert(to, lines[first].clone());
            assert_eq!(
                wrong(lines.concat()),
                (to as u64, Fault::Repeated { sequence: first as u64 })
            );
        }
        for to in first + 1..lines.len() {
            let mut lines = lines.clone();
            lines.drain(first..to);
            assert_eq!(wrong(lines.concat()), (first as u64, Fault::Missing { until: to as u64 }));
        }
    }
}

#[tokio::test]
async fn p291_only_a_noted_head_shows_a_removed_tail() {
    let lines = written().await;
    let text = lines.concat();
    let noted = verified(&text).head.unwrap();
    for length in 1..text.len() {
        let cut = &text.as_bytes()[..length];
        let kept = cut.iter().filter(|byte| **byte == b'\n').count() as u64;
        let torn =
            (length - cut.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)) as u64;
        let unnoted = verified(cut);
        assert_eq!(unnoted.records, kept, "{length}");
        if kept == 0 {
            assert_eq!(unnoted.found.unwrap_err().fault, Fault::Empty, "{length}");
        } else {
            let end = if torn == 0 { End::Open } else { End::Torn { bytes: torn } };
            assert_eq!(unnoted.found, Ok(end), "{length}");
            let wrong = Verification::new().expect(noted).run(cut).unwrap().found.unwrap_err();
            assert_eq!(
                (wrong.sequence, wrong.fault),
                (kept, Fault::CutOff { noted: 7 }),
                "{length}"
            );
        }
    }
}

#[tokio::test]
async fn p291_only_a_noted_head_shows_a_rewritten_file() {
    let lines = written().await;
    let heads: Vec<_> =
        (1..=lines.len()).map(|end| verified(lines[..end].concat()).head.unwrap()).collect();
    let expecting = |heads: &[Head], text: &str| {
        let verification =
            heads.iter().fold(Verification::new(), |verification, head| verification.expect(*head));
        verification.run(text.as_bytes()).unwrap().found
    };
    // The file contains each of them, in whichever order they were noted.
    let reversed: Vec<_> = heads.iter().rev().copied().collect();
    assert_eq!(expecting(&reversed, &lines.concat()), Ok(End::Closed));

    let mut edited = lines.clone();
    edited[4] = edited[4].replacen("\"uses\":1", "\"uses\":0", 1);
    let mut without = lines.clone();
    without.drain(3..5);
    for (what, lines, first) in
        [("edited", edited, 4), ("cut out", without, 3), ("another file", written().await, 0)]
    {
        let rewritten = rechained(&lines).concat();
        assert_eq!(verified(&rewritten).found, Ok(End::Closed), "{what}");
        for head in &heads {
            let found = expecting(&[*head], &rewritten);
            if head.sequence < first {
                assert_eq!(
                    found,
                    Ok(End::Closed),
                    "{what}, {head}: the records before are the same"
                );
            } else {
                let wrong = found.unwrap_err();
                let is_shown = matches!(wrong.fault, Fault::Rewritten | Fault::CutOff { .. });
                assert!(is_shown && wrong.sequence <= head.sequence, "{what}, {head}: {wrong}");
            }
        }
    }
}

#[tokio::test]
async fn p293_x18_a_crash_leaves_one_marked_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&path, 1).await;
    // A process that ends without `close`: its file is copied while it is in use.
    let copy = folder.path().join("copy.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    call(&log, 1).await;
    let (trail, _open) = Trail::for_test(&log);
    let scopes = Scopes::none();
    trail
        .intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None))
        .await
        .unwrap()
        .used()
        .unwrap();
    log.flush().await.unwrap();
    fs::copy(&path, &copy).unwrap();
    let before = verified(fs::read(&copy).unwrap());
    assert_eq!((before.found, before.crashes), (Ok(End::Open), 0), "opened in order after `close`");
    let begun = format!("{{\"seq\":{},\"ti", before.records);
    fs::OpenOptions::new().append(true).open(&copy).unwrap().write_all(begun.as_bytes()).unwrap();
    let torn = verified(fs::read(&copy).unwrap());
    assert_eq!(
        (torn.found, torn.records),
        (Ok(End::Torn { bytes: begun.len() as u64 }), before.records)
    );

    run(&copy, 1).await;
    let text = fs::read_to_string(&copy).unwrap();
    let after = verified(&text);
    assert_eq!(
        (after.found, after.crashes, after.dropped_bytes),
        (Ok(End::Closed), 1, begun.len() as u64)
    );
    let open: serde_json::Value =
        lines(&text)[usize::try_from(before.records).unwrap()].parse().unwrap();
    assert_eq!(open["kind"], "open");
    assert_eq!(
        (after.gaps[0].sequence, after.gaps[0].time.to_string().as_str()),
        (before.records, open["time"].as_str().unwrap())
    );
    assert_eq!((after.requests, after.unknown), (4, 1));
}

#[tokio::test]
async fn p293_a_process_without_a_mark_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&path, 1).await;
    run(&path, 1).await;
    let whole = lines(&fs::read_to_string(&path).unwrap());
    let kinds = ["start", "intent", "result", "close", "open", "intent", "result", "close"];
    let starts = |line: &String| line.replacen("\"kind\":\"close\"", "\"kind\":\"start\"", 1);
    for (what, lines, sequence) in [
        ("no `open`", [&whole[..4], &whole[5..]].concat(), 4),
        ("no `start`", whole[1..].to_vec(), 0),
        ("only `open`", whole[4..].to_vec(), 0),
        ("a second `start`", [&whole[..7], &[starts(&whole[7])]].concat(), 7),
        ("a second `close`", [&whole[..8], &whole[7..]].concat(), 8),
    ] {
        assert!(
            whole
                .iter()
                .zip(kinds)
                .all(|(line, kind)| line.contains(&format!("\"kind\":\"{kind}\"")))
        );
        assert_eq!(wrong(rechained(&lines).concat()), (sequence, Fault::Unmarked), "{what}");
    }
}

#[tokio::test]
async fn x17_only_a_started_record_counts_as_torn() {
    let lines = written().await;
    let next = lines[7].trim_end();
    for (what, tail, is_honest) in [
        ("its first byte", "{".to_owned(), true),
        ("all but its line break", next.to_owned(), true),
        ("zeros", "\0\0\0".to_owned(), true),
        ("half of it, and zeros", half(next).to_owned() + "\0\0", true),
        ("an earlier one", half(&lines[6]).to_owned(), false),
        ("foreign", "restarted by hand".to_owned(), false),
        ("not printable", half(next).to_owned() + "\u{7f}", false),
        ("zeros in its midst", half(next).to_owned() + "\0" + half(next), false),
    ] {
        let found = verified([&lines[..7], std::slice::from_ref(&tail)].concat().concat()).found;
        if is_honest {
            assert_eq!(found, Ok(End::Torn { bytes: tail.len() as u64 }), "{what}");
        } else {
            assert_eq!(found.unwrap_err().fault, Fault::NotARecord, "{what}");
        }
    }
    // Also in a file without a whole record.
    assert_eq!(wrong("{\"keys\":[]}"), (0, Fault::NotARecord));
    assert_eq!(wrong("{\"seq\":0,\"time\":\"2026-"), (0, Fault::Empty));
}

#[tokio::test]
async fn x17_zeros_of_any_length_are_a_torn_end() {
    let lines = written().await;
    let next = half(&lines[7]);
    let (start, megabyte) = (lines[..7].concat(), 1 << 20);
    for (what, written, zeros, after, is_honest) in [
        ("zeros", "", megabyte, "", true),
        ("one more", "", megabyte + 1, "", true),
        ("three megabytes", "", 3 * megabyte, "", true),
        ("half of it, and zeros", next, 3 * megabyte, "", true),
        ("half of it up to the limit", next, megabyte - next.len(), "", true),
        ("a byte after them", "", 3 * megabyte, "x", false),
        ("a line after them", next, 3 * megabyte, "\n", false),
        ("another text before them", "restarted by hand", megabyte, "", false),
    ] {
        let tail = format!("{written}{}{after}", "\0".repeat(zeros));
        let text = format!("{start}{tail}");
        let found = verified(text.clone()).found;
        let is_torn = found == Ok(End::Torn { bytes: tail.len() as u64 });
        assert_eq!(is_torn, is_honest, "{what}: {found:?}");
        // The reader and the log that continues the file agree, except about a text that no crash
        // leaves: only the verification compares it with the start of a record.
        let mut reader = RecordReader::new(text.as_bytes());
        for _ in 0..7 {
            assert!(matches!(reader.read(), Ok(Some(_))));
        }
        let is_torn = matches!(reader.read(), Err(ReadError::Torn { line: 8 }));
        assert_eq!(is_torn, after.is_empty(), "{what}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, text).unwrap();
        assert_eq!(JsonLines::append(&path).is_ok(), after.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn memory_is_bounded_and_progress_is_reported() {
    let mut told = Vec::new();
    let lines = written().await;
    let opens: Vec<_> = (0..8 * 1024)
        .map(
            |number| if number == 0 { lines[0].clone() } else { lines[7].replace("close", "open") },
        )
        .collect();
    let text = rechained(&opens).concat();
    let report =
        Verification::new().on_progress(|bytes| told.push(bytes)).run(text.as_bytes()).unwrap();
    assert_eq!(report.found, Ok(End::Open));
    assert_eq!((report.crashes, report.gaps.len()), (8 * 1024 - 1, MAX_GAPS));
    assert!(!told.is_empty() && told.len() as u64 <= text.len() as u64 / (1024 * 1024), "{told:?}");
    assert!(told.is_sorted() && told.last().is_some_and(|last| *last <= text.len() as u64));
}

#[tokio::test]
async fn p291_nothing_is_read_after_an_inserted_line() {
    let mut lines = written().await;
    lines.insert(1, lines[0].clone());
    let text: String = lines.concat();
    let mut reader = RecordReader::new(text.as_bytes());
    assert!(matches!(reader.read(), Ok(Some(_))));
    for _ in 0..3 {
        assert!(matches!(reader.read(), Err(ReadError::Damaged { line: 2 })));
    }
    assert_eq!(reader.head().map(|head| head.sequence), Some(0));
}

#[test]
fn each_fault_has_its_own_code() {
    use crate::json::JsonError;
    let faults = [
        Fault::Empty,
        Fault::NotJson(JsonError::Syntax),
        Fault::NotARecord,
        Fault::TooLong,
        Fault::Edited,
        Fault::Unlinked,
        Fault::Missing { until: 1 },
        Fault::Reordered { line: 1 },
        Fault::Repeated { sequence: 1 },
        Fault::Unmarked,
        Fault::CutOff { noted: 1 },
        Fault::Rewritten,
    ];
    let codes: std::collections::BTreeSet<_> = faults.iter().map(|fault| fault.code()).collect();
    assert_eq!(codes.len(), faults.len());
    let document = include_str!("../../../../../docs/audit.md");
    for fault in faults {
        assert!(document.contains(&format!("`{}`", fault.code())), "{}", fault.code());
    }
}
