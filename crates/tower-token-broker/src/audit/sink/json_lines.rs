//! A file of JSON lines: one record per line, one write and one fdatasync per batch.

use std::{
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    appended_file::{AppendedFile, IsNew, sync_folder},
    audit_sink::{AuditSink, Resumed, SinkError},
    file_error::{AuditFileError, Unreadable},
    stored_chain::StoredChain,
};
use crate::audit::record::{Head, Records};

/// A file, written by one broker process: the file is locked while it is open.
///
/// Before and after each batch, the path must lead to the open file, with exactly the bytes that
/// were written. If the file was deleted, renamed, replaced, truncated or written to by another
/// program, the log closes and requests are refused, until the file is back as it was or the
/// process is restarted. So programs that rotate logs must not touch the file.
///
/// Its folder must exist: a mistyped path is an error.
///
/// The whole file is read at the start. For a log that grows over months, or several processes, use
/// [`AuditFolder`](super::AuditFolder).
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: AppendedFile,
    last: Option<Head>,
    resumed: Resumed,
}

impl JsonLines {
    /// Continues the file, or creates it (mode 0600 on Unix). The whole chain is verified. A torn
    /// last line, which a crash leaves, is removed, and the next record reports its length.
    ///
    /// # Errors
    /// See [`AuditFileError`].
    pub fn append(path: impl AsRef<Path>) -> Result<Self, AuditFileError> {
        // The process may change its working directory.
        let path = std::path::absolute(path.as_ref())
            .map_err(|error| Unreadable::from(error).at(path.as_ref()))?;
        let io = |error: io::Error| Unreadable::from(error).at(&path);
        let file = AppendedFile::open(&path, IsNew::Perhaps)?;
        let stored = StoredChain::read(&file, 0).map_err(|error| error.at(&path))?;
        stored.cut(&file).map_err(io)?;
        if stored.last.is_none() {
            path.parent().map_or(Ok(()), sync_folder).map_err(io)?;
        }
        let file = AppendedFile::after(file, &path, stored.bytes)?;
        Ok(Self::of(file, path, stored.into_resumed().0))
    }

    fn of(file: AppendedFile, path: PathBuf, resumed: Resumed) -> Self {
        Self { path, state: Mutex::new(State { file, last: resumed.last, resumed }) }
    }
}

impl AuditSink for JsonLines {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(self.state.lock().resumed.clone())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        // Only the thread of the log waits here: the lock is never contended.
        let mut state = self.state.lock();
        // With two writers, or a sink used by two logs, one of the chains would be broken.
        if !records.follow(state.last) {
            return Err(SinkError::new("the records do not follow the last one of the file"));
        }
        state.file.append(records.as_json_lines())?;
        state.last = records.last().or(state.last);
        Ok(())
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
impl JsonLines {
    /// With a disk that fails every tenth append after writing more than the batch.
    pub(in crate::audit) fn flaky(path: &Path) -> Self {
        use std::fs::File;

        use super::appended_file::Disk;

        #[derive(Debug)]
        struct Flaky(File, u32);
        impl Disk for Flaky {
            fn cut(&mut self, length: u64) -> io::Result<()> {
                self.0.cut(length)
            }
            fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.1 += 1;
                if self.1.is_multiple_of(10) {
                    // The next attempt must not leave a rest of this one after its bytes.
                    Disk::append(&mut self.0, &bytes.repeat(2)[..bytes.len() * 3 / 2])?;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Disk::append(&mut self.0, bytes)
            }
            fn sync(&mut self) -> io::Result<()> {
                self.0.sync()
            }
        }
        let sink = Self::append(path).expect("a file of the test's own");
        let same = File::options().write(true).open(path).expect("the same");
        sink.state.lock().file.replace_disk(Box::new(Flaky(same, 0)));
        sink
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::appended_file::Disk, *};
    use crate::audit::{AuditLog, Intent, RecordKind, Trail};

    /// Records the calls, and keeps nothing.
    #[derive(Debug, Default, Clone)]
    struct Watched(Arc<Mutex<Vec<&'static str>>>);

    impl Disk for Watched {
        fn cut(&mut self, _: u64) -> io::Result<()> {
            self.0.lock().push("cut");
            Ok(())
        }
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            self.0.lock().push("append");
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            self.0.lock().push("sync");
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_batch_that_does_not_follow_is_refused() {
        let group = |sequence: u64, previous: [u8; 32]| {
            let mut records = Records::default();
            records.append(RecordKind::Close, b",\"kind\":\"close\"", sequence, &previous);
            records
        };
        let folder = tempfile::tempdir().unwrap();
        let sink = JsonLines::append(folder.path().join("audit.jsonl")).unwrap();
        assert!(sink.write(&group(1, [0; 32])).await.is_err(), "not the first");
        assert!(sink.write(&group(0, [1; 32])).await.is_err(), "of another chain");
        let first = group(0, [0; 32]);
        sink.write(&first).await.unwrap();
        let hash = *first.iter().next().unwrap().hash();
        assert!(sink.write(&first).await.is_err(), "again");
        assert!(sink.write(&group(2, hash)).await.is_err(), "a gap");
        assert!(sink.write(&group(1, [9; 32])).await.is_err(), "another record before it");
        sink.write(&group(1, hash)).await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_is_one_append_and_one_sync() {
        let disk = Watched::default();
        let file = AppendedFile::new(Box::new(disk.clone()), None, 0);
        let log = AuditLog::from(JsonLines::of(file, PathBuf::new(), Resumed::after(None)));
        log.flush().await.unwrap();
        disk.0.lock().clear();
        let (trail, terminal) = Trail::for_test(&log);
        let scopes = crate::principal::Scopes::none();
        let intent =
            || trail.intent(Intent::new("crm", "https://crm.example.com:443", &scopes, None));
        intent().await.unwrap().used().unwrap();
        assert_eq!(*disk.0.lock(), ["append", "sync"]);
        disk.0.lock().clear();
        drop(terminal);
        // Many in one batch: one sync per batch.
        let together: Vec<_> = (0..100).map(|_| Box::pin(intent())).collect();
        for one in together {
            one.await.unwrap().used().unwrap();
        }
        let calls = disk.0.lock().clone();
        assert!(calls.chunks(2).all(|pair| pair == ["append", "sync"]), "{calls:?}");
    }
}
