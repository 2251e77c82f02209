//! All that any crate of the process logs, at trace level, for whoever looks through it.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

/// The lines so far. Tests that share a process share them; each looks at what was written since
/// its own [`Captured::mark`].
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

/// Begins to capture, the first time it is called: from all threads, the audit's writer too.
///
/// # Panics
/// If somebody else listens already.
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
    /// Where the next line will stand.
    pub fn mark(&self) -> usize {
        self.0.lock().len()
    }

    /// What was written from there on.
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
