//! Captures the log lines of all crates in the process, at trace level.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, OnceLock},
    thread::{self, ThreadId},
};

use parking_lot::Mutex;

/// The captured lines. Tests in one process share them; each reads its own since its
/// [`Captured::mark`].
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    /// The thread of each line, and where the line ends.
    ends: Vec<(ThreadId, usize)>,
    /// Threads of tests: those that have set a mark.
    tests: HashSet<ThreadId>,
}

/// A position in the captured lines, of the test that runs in one thread.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    line: usize,
    test: ThreadId,
}

/// Starts capturing on the first call, from all threads including the audit writer's.
///
/// # Panics
/// Panics if another subscriber is set.
pub fn capture() -> &'static Captured {
    static CAPTURED: OnceLock<Captured> = OnceLock::new();
    CAPTURED.get_or_init(|| {
        let captured = Captured::default();
        let writer = captured.clone();
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new("trace"))
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .try_init()
            .expect("the only subscriber of the process");
        captured
    })
}

impl Captured {
    /// Returns the position of the next line of the test in this thread.
    pub fn mark(&self) -> Mark {
        let test = thread::current().id();
        let mut lines = self.0.lock();
        lines.tests.insert(test);
        Mark { line: lines.ends.len(), test }
    }

    /// Returns the lines from a position on, without those of other tests: lines of the test's
    /// thread, and of threads that belong to no test, such as the audit writer's.
    pub fn since(&self, mark: Mark) -> Vec<u8> {
        let lines = self.0.lock();
        let mut from = match mark.line.checked_sub(1) {
            Some(before) => lines.ends[before].1,
            None => 0,
        };
        let mut own = Vec::new();
        for (thread, end) in &lines.ends[mark.line..] {
            if *thread == mark.test || !lines.tests.contains(thread) {
                own.extend_from_slice(&lines.text[from..*end]);
            }
            from = *end;
        }
        own
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock();
        lines.text.extend_from_slice(bytes);
        let end = lines.text.len();
        lines.ends.push((thread::current().id(), end));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
