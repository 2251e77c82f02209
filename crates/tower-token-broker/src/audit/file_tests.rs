//! The file under the log: deleted, renamed, replaced, changed by others.

#![cfg(unix)]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
};

use super::{
    tests::{intent, note_revoked, opened},
    *,
};

/// A log that has written its first record to a file in a folder of its own.
struct Written {
    _root: tempfile::TempDir,
    folder: std::path::PathBuf,
    file: std::path::PathBuf,
    log: AuditLog,
}

async fn written() -> Written {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&file).unwrap());
    log.flush().await.unwrap();
    Written { _root: root, folder, file, log }
}

/// Tries to use a credential.
async fn use_a_credential(log: &AuditLog) -> Result<(), AuditError> {
    let (trail, _terminal) = Trail::begin(log, Default::default())?;
    trail.intent(intent()).await?.used()
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn p385_a_changed_file_closes_the_log() {
    type Change = fn(&Written);
    let changes: [(&str, Change); 14] = [
        ("deleted", |at| fs::remove_file(&at.file).unwrap()),
        ("renamed", |at| fs::rename(&at.file, at.folder.join("audit.jsonl.1")).unwrap()),
        ("rotated by renaming", |at| {
            fs::rename(&at.file, at.folder.join("audit.jsonl.1")).unwrap();
            fs::write(&at.file, "").unwrap();
        }),
        ("rotated by copying", |at| {
            fs::copy(&at.file, at.folder.join("audit.jsonl.1")).unwrap();
            OpenOptions::new().write(true).truncate(true).open(&at.file).unwrap();
        }),
        ("replaced by a copy", |at| {
            let copy = at.folder.join("copy");
            fs::copy(&at.file, &copy).unwrap();
            fs::rename(copy, &at.file).unwrap();
        }),
        ("emptied", |at| fs::write(&at.file, "").unwrap()),
        ("shorter by a byte", |at| {
            let file = OpenOptions::new().write(true).open(&at.file).unwrap();
            file.set_len(fs::metadata(&at.file).unwrap().len() - 1).unwrap();
        }),
        ("longer by a byte", |at| append(&at.file, "\n")),
        ("with a record of another writer", |at| {
            let line = fs::read_to_string(&at.file).unwrap();
            append(&at.file, &line);
        }),
        ("a link to the same file", |at| {
            let moved = at.folder.join("moved");
            fs::rename(&at.file, &moved).unwrap();
            symlink(moved, &at.file).unwrap();
        }),
        ("a link to a device", |at| {
            fs::remove_file(&at.file).unwrap();
            symlink("/dev/null", &at.file).unwrap();
        }),
        ("a folder", |at| {
            fs::remove_file(&at.file).unwrap();
            fs::create_dir(&at.file).unwrap();
        }),
        ("in a folder that was deleted", |at| fs::remove_dir_all(&at.folder).unwrap()),
        ("in a folder that cannot be reached", |at| {
            fs::rename(&at.folder, at.folder.with_extension("old")).unwrap();
            symlink(&at.folder, &at.folder).unwrap();
        }),
    ];
    for (what, change) in changes {
        let at = written().await;
        use_a_credential(&at.log).await.unwrap();
        at.log.flush().await.unwrap();
        change(&at);
        let before = fs::read(&at.file).ok();
        assert_eq!(use_a_credential(&at.log).await.unwrap_err(), AuditError, "{what}");
        assert!(!at.log.is_open(), "{what}");
        // Refused at once from now on.
        assert_eq!(use_a_credential(&at.log).await.unwrap_err(), AuditError, "{what}");
        assert_eq!(fs::read(&at.file).ok(), before, "nothing is written there: {what}");
    }
}

#[tokio::test]
async fn p385_a_file_that_is_back_is_continued() {
    let at = written().await;
    use_a_credential(&at.log).await.unwrap();
    at.log.flush().await.unwrap();
    let aside = at.folder.join("aside");
    fs::rename(&at.file, &aside).unwrap();
    use_a_credential(&at.log).await.unwrap_err();
    fs::rename(&aside, &at.file).unwrap();
    opened(&at.log).await;
    use_a_credential(&at.log).await.unwrap();
    at.log.flush().await.unwrap();
    let report = verify::Verification::new().run(&*fs::read(&at.file).unwrap()).unwrap();
    // Three requests, and their records once each.
    assert_eq!((report.found, report.requests), (Ok(verify::End::Open), 3));
}

#[tokio::test]
async fn p385_notes_are_refused_too() {
    let at = written().await;
    fs::remove_file(&at.file).unwrap();
    assert_eq!(note_revoked(&at.log).await, Err(AuditError));
}

#[tokio::test]
async fn p385_a_link_that_the_operator_made_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let (target, link) = (root.path().join("target.jsonl"), root.path().join("audit.jsonl"));
    fs::write(&target, "").unwrap();
    symlink(&target, &link).unwrap();
    let log = AuditLog::from(JsonLines::append(&link).unwrap());
    use_a_credential(&log).await.unwrap();
    // Not to another file.
    let other = root.path().join("other.jsonl");
    fs::copy(&target, &other).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
}

#[tokio::test]
async fn p385_a_relative_path_is_kept() {
    let at = written().await;
    drop(at.log);
    let name = at.folder.join("../logs/audit-2.jsonl");
    let log = AuditLog::from(JsonLines::append(&name).unwrap());
    use_a_credential(&log).await.unwrap();
    fs::remove_file(at.folder.join("audit-2.jsonl")).unwrap();
    assert_eq!(use_a_credential(&log).await.unwrap_err(), AuditError);
}

#[tokio::test]
async fn an_error_names_the_mistake_in_the_path() {
    let root = tempfile::tempdir().unwrap();
    let refused = |name: &str| JsonLines::append(root.path().join(name)).unwrap_err().to_string();
    for name in ["nowhere/audit.jsonl", "no/where/audit.jsonl"] {
        assert!(refused(name).contains("; create its folder, or check the path"), "{name}");
    }
    assert!(!root.path().join("nowhere").exists());
    let file = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
    file("notes", "# What to do\n");
    for name in ["notes/audit.jsonl", "notes/"] {
        assert!(refused(name).contains("; check the path and its permissions"), "{name}");
    }
    file("object.json", "{\"seq\": 0}\n");
    file("blank", "\n\n");
    for name in ["notes", "object.json", "blank"] {
        let text = refused(name);
        assert!(text.contains("is damaged at line 1, or is not an audit file; keep it"), "{text}");
    }
    // A file that begins with a record is one.
    let log = AuditLog::from(JsonLines::append(root.path().join("audit.jsonl")).unwrap());
    log.close(std::time::Duration::from_secs(20)).await.unwrap();
    drop(log);
    let text = fs::read_to_string(root.path().join("audit.jsonl")).unwrap();
    file("copy.jsonl", &text.replacen("\"close\"", "\"start\"", 1));
    let text = refused("copy.jsonl");
    assert!(text.contains("is damaged at line 2; keep it"), "{text}");
}

#[test]
fn a_sink_knows_its_place() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("audit.jsonl");
    let file = || JsonLines::append(&path).unwrap();
    let of_file = path.display().to_string();
    assert_eq!(file().location(), of_file);
    assert_eq!(BoxAuditSink::new(file()).location(), of_file);
    let writer = WriterName::parse("broker-1").unwrap();
    let folder = AuditFolder::open(root.path().join("audit"), &writer).unwrap();
    let of_folder = format!("{}, writer broker-1", root.path().join("audit").display());
    assert_eq!(folder.location(), of_folder);
    assert_eq!(file().and(folder).location(), format!("{of_file}; {of_folder}"));
    assert!(InMemory::new().location().contains("InMemory"));
    // A relative path is that of the working directory at the start.
    let missing = JsonLines::append("no-such-folder-here/audit.jsonl").unwrap_err().to_string();
    let here = std::env::current_dir().unwrap().join("no-such-folder-here/audit.jsonl");
    assert!(missing.contains(here.to_str().unwrap()), "{missing}");
}
