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
