//! A point that callers pass only after two of them have come to it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// A point that callers pass only after two of them have come to it. So both act on what they read
/// before, whatever the scheduler does. A law that calls a racy store only once at a time hangs.
pub(crate) struct Meeting {
    arrived: AtomicUsize,
    two: Semaphore,
}

impl Meeting {
    pub(crate) const fn new() -> Self {
        Self { arrived: AtomicUsize::new(0), two: Semaphore::const_new(0) }
    }

    pub(crate) async fn wait(&self) {
        if self.arrived.fetch_add(1, Ordering::SeqCst) > 0 {
            self.two.close();
        }
        // It has no permits: this ends when it is closed.
        drop(self.two.acquire().await);
    }
}
