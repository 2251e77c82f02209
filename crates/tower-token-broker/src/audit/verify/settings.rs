//! The settings of a verification, of a file and of a folder.

use std::fmt;

use crate::audit::record::Head;

/// The settings of a verification, before it is run.
pub(super) struct Settings<'p> {
    /// The heads that were noted elsewhere.
    pub(super) noted: Vec<Head>,
    /// Called with the number of bytes read so far.
    pub(super) progress: Box<dyn FnMut(u64) + 'p>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { noted: Vec::new(), progress: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("noted", &self.noted).finish_non_exhaustive()
    }
}
