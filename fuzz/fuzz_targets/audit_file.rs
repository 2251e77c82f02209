//! Any bytes as an audit file, and any members in a complete chain: a file that is continued is a
//! chain of records to its last byte, and a file that is verified as complete can be continued.

#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aws_lc_rs::digest::{SHA256, digest};
use libfuzzer_sys::fuzz_target;
use token_broker_fuzz::{ready, text, theirs};
use tower_token_broker::audit::{
    AuditFileError, AuditSink as _, JsonLines,
    verify::{Head, Verification},
};

fuzz_target!(|input: (bool, &[u8])| {
    let (is_chained, bytes) = input;
    let file = if is_chained { chained(bytes) } else { bytes.to_vec() };
    let path = path();
    fs::write(path, &file).expect("a file of our own");
    let report = Verification::new().run(&*file).expect("memory can be read");
    let opened = JsonLines::append(path);
    let left = fs::read(path).expect("the same");
    let is_whole = report.found.is_ok();
    assert_eq!(report.head, head_of_a_chain(&file[..report.bytes as usize]));
    assert_eq!(report.records, report.head.map_or(0, |head| head.sequence + 1));
    match opened {
        Ok(sink) => {
            let resumed = ready(sink.resume()).expect("it was read");
            let whole = file.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert_eq!(left, file[..whole], "a torn line goes, all before it stays");
            assert_eq!(resumed.dropped_bytes, (file.len() - whole) as u64);
            assert_eq!(resumed.last, head_of_a_chain(&left));
            assert!(!is_whole || report.bytes == whole as u64);
        }
        Err(AuditFileError::Damaged { line, .. }) => {
            assert_eq!(left, file, "it is evidence");
            assert!(!is_whole, "{}", String::from_utf8_lossy(&file));
            assert!((1..=1 + bytes.split(|byte| *byte == b'\n').count() as u64).contains(&line));
            assert!(!(is_chained && is_sound(bytes)), "{}", String::from_utf8_lossy(&file));
        }
        Err(other) => panic!("{other}"),
    }
});

/// Writes each line between the number of a record and its place in the chain.
fn chained(lines: &[u8]) -> Vec<u8> {
    let (mut file, mut previous) = (Vec::new(), vec![0; 32]);
    for (number, members) in lines.split(|byte| *byte == b'\n').enumerate() {
        let head = [
            format!(r#"{{"seq":{number}"#).as_bytes(),
            members,
            format!(r#","prev":"{}""#, hex(&previous)).as_bytes(),
        ]
        .concat();
        let hash = digest(&SHA256, &[&*previous, &head].concat()).as_ref().to_vec();
        file.extend([&*head, format!(",\"hash\":\"{}\"}}\n", hex(&hash)).as_bytes()].concat());
        previous = hash;
    }
    file
}

/// Whether a record has the required members, each once.
fn is_sound(lines: &[u8]) -> bool {
    lines
        .split(|byte| *byte == b'\n')
        .all(|line| line == br#","time":"2026-11-25T00:00:00.000Z","kind":"intent""#)
}

/// Returns the last number and hash, if every line is JSON with the next number and the hash of
/// the lines before it.
fn head_of_a_chain(file: &[u8]) -> Option<Head> {
    let mut last: Option<Head> = None;
    for line in file.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
        let (sequence, previous) = last.map_or((0, [0; 32]), |head| (head.sequence + 1, head.hash));
        let head = &line[..line.len() - r#","hash":""}"#.len() - 64];
        let hash: [u8; 32] =
            digest(&SHA256, &[&previous, head].concat()).as_ref().try_into().expect("32 bytes");
        let record = theirs(line);
        assert_eq!(record["seq"].as_u64(), Some(sequence));
        assert_eq!(
            (text(&record, "prev"), text(&record, "hash")),
            (Some(&*hex(&previous)), Some(&*hex(&hash)))
        );
        assert!(text(&record, "kind").is_some());
        last = Some(Head { sequence, hash });
    }
    last
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::temp_dir().join(format!("token-broker-fuzz-{}.jsonl", std::process::id()))
    })
}
