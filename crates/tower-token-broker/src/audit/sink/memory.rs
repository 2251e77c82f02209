//! A sink for tests: keeps the records in memory, and fails or hangs on demand.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::audit_sink::{AuditSink, Resumed, SinkError};
use crate::audit::record::Records;

/// A sink that keeps its records in memory. Clones share them. See
/// [`AuditLog::in_memory`](crate::audit::AuditLog::in_memory).
#[derive(Clone, Debug)]
pub struct InMemory(Arc<State>);

#[derive(Debug)]
struct State {
    records: Mutex<Records>,
    groups: Mutex<usize>,
    calls: watch::Sender<usize>,
    mode: watch::Sender<Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Works,
    Fails,
    Hangs,
    Panics,
}

impl InMemory {
    /// Creates an empty one.
    pub fn new() -> Self {
        let mode = watch::Sender::new(Mode::Works);
        Self(Arc::new(State {
            records: Mutex::default(),
            groups: Mutex::default(),
            calls: watch::Sender::new(0),
            mode,
        }))
    }

    /// Returns the records so far.
    pub fn records(&self) -> Records {
        self.0.records.lock().clone()
    }

    /// Returns the lines of the records so far.
    ///
    /// # Panics
    /// Never: records are UTF-8.
    pub fn lines(&self) -> Vec<String> {
        let records = self.0.records.lock();
        records
            .iter()
            .map(|record| String::from_utf8(record.line().to_vec()).expect("records are UTF-8"))
            .collect()
    }

    /// Returns the number of batches that were written.
    pub fn groups(&self) -> usize {
        *self.0.groups.lock()
    }

    /// Returns how many writes were started, retries included.
    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// Waits until this many writes were started.
    ///
    /// # Cancellation
    /// Nothing has happened.
    pub async fn called(&self, times: usize) {
        // The sender lives in `self`, so the wait can't fail.
        drop(self.0.calls.subscribe().wait_for(|calls| *calls >= times).await);
    }

    /// Makes every write panic before anything is kept, until [`InMemory::work`].
    pub fn panic(&self) {
        self.0.mode.send_replace(Mode::Panics);
    }

    /// Makes every write fail, until [`InMemory::work`].
    pub fn fail(&self) {
        self.0.mode.send_replace(Mode::Fails);
    }

    /// Makes every write hang, until [`InMemory::work`] or [`InMemory::fail`].
    pub fn hang(&self) {
        self.0.mode.send_replace(Mode::Hangs);
    }

    /// Makes writes succeed again, including those that hang.
    pub fn work(&self) {
        self.0.mode.send_replace(Mode::Works);
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl AuditSink for InMemory {
    async fn resume(&self) -> Result<Resumed, SinkError> {
        Ok(Resumed::nothing_kept())
    }

    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        self.0.calls.send_modify(|calls| *calls += 1);
        let mut mode = self.0.mode.subscribe();
        let mode = mode.wait_for(|mode| *mode != Mode::Hangs).await.map(|mode| *mode);
        assert!(!matches!(mode, Ok(Mode::Panics)), "told to panic");
        if !matches!(mode, Ok(Mode::Works)) {
            return Err(SinkError::new("told to fail"));
        }
        *self.0.groups.lock() += 1;
        self.0.records.lock().extend(records);
        Ok(())
    }
}
