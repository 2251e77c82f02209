//! Captures the log lines of all crates in the process, at trace level.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

/// The captured lines.
///
/// Tests in one process share them; each reads those since its own [`Captured::mark`].
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

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
    /// Returns the position of the next line.
    pub fn mark(&self) -> usize {
        self.0.lock().len()
    }

    /// Returns the lines from a position on.
    pub fn since(&self, mark: usize) -> Vec<u8> {
        self.0.lock()[mark..].to_vec()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
