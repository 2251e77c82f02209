//! Windows that several credentials have in common, and so are no secret of any.

use std::collections::{HashSet, VecDeque};

/// Most windows that are remembered as common to several credentials.
const MOST_COMMON: usize = 8192;

/// Hashes of windows that several credentials have in common. The oldest leave.
#[derive(Default)]
pub(super) struct Common {
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Common {
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }

    pub(super) fn add(&mut self, hash: u64) {
        if !self.hashes.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > MOST_COMMON
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }
}
