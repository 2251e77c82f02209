//! A sink for tests: keeps the records, and fails or hangs as it is told.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    log::AuditLog,
    record::Records,
    sink::{AuditSink, Resumed, SinkError},
};

/// What an [`AuditLog::in_memory`] wrote. Clones share it.
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
    /// An empty one.
    pub fn new() -> Self {
        let mode = watch::Sender::new(Mode::Works);
        Self(Arc::new(State {
            records: Mutex::default(),
            groups: Mutex::default(),
            calls: watch::Sender::new(0),
            mode,
        }))
    }

    /// The records so far.
    pub fn records(&self) -> Records {
        self.0.records.lock().clone()
    }

    /// Their lines.
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

    /// How many groups were written.
    pub fn groups(&self) -> usize {
        *self.0.groups.lock()
    }

    /// How often a write was begun, also of a group that comes again.
    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// Waits until so many writes were begun.
    ///
    /// # Cancellation
    /// Nothing has happened.
    pub async fn called(&self, times: usize) {
        // The sender lives in `self`, so the wait can't fail.
        drop(self.0.calls.subscribe().wait_for(|calls| *calls >= times).await);
    }

    /// From now on every write panics before anything is kept, until [`InMemory::work`].
    pub fn panic(&self) {
        self.0.mode.send_replace(Mode::Panics);
    }

    /// From now on every write fails, until [`InMemory::work`].
    pub fn fail(&self) {
        self.0.mode.send_replace(Mode::Fails);
    }

    /// From now on every write hangs, until [`InMemory::work`] or [`InMemory::fail`].
    pub fn hang(&self) {
        self.0.mode.send_replace(Mode::Hangs);
    }

    /// Writes again, also what hangs.
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

impl AuditLog {
    /// A log that keeps its records in memory, for tests.
    pub fn in_memory() -> (Self, InMemory) {
        let sink = InMemory::new();
        (Self::from(sink.clone()), sink)
    }
}
