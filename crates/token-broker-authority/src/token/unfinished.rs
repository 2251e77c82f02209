//! Redemptions whose outcome the store did not return.

use std::collections::VecDeque;

use parking_lot::Mutex;
use token_broker_store::authority::LookupHash;
use tower_token_broker::clock::Timestamp;

/// Codes of which this process does not know whether it redeemed them, because the store failed.
/// Their client may complete the redemption as long as it could have redeemed them.
#[derive(Debug, Default)]
pub(crate) struct Unfinished(Mutex<VecDeque<Attempt>>);

/// An attempt to redeem a code.
#[derive(Debug)]
struct Attempt {
    code: LookupHash,
    /// The time with which the store was called: if the code was redeemed then, it was this
    /// attempt.
    at: Timestamp,
    until: Timestamp,
}

/// Largest number of attempts. Beyond it, the oldest one cannot be completed.
const MAX: usize = 10_000;

impl Unfinished {
    /// Notes an attempt at this instant, which can be completed until another one.
    pub(super) fn note(&self, code: LookupHash, at: Timestamp, until: Timestamp) {
        let mut attempts = self.0.lock();
        attempts.retain(|attempt| at < attempt.until);
        if attempts.len() >= MAX {
            attempts.pop_front();
        }
        attempts.push_back(Attempt { code, at, until });
    }

    /// Returns whether the redemption of a code at this instant can be completed.
    pub(super) fn has(&self, code: &LookupHash, at: Timestamp, now: Timestamp) -> bool {
        let attempts = self.0.lock();
        attempts
            .iter()
            .any(|attempt| attempt.code == *code && attempt.at == at && now < attempt.until)
    }

    /// Forgets a code whose tokens are being returned, or that was replayed.
    pub(super) fn forget(&self, code: &LookupHash) {
        self.0.lock().retain(|attempt| attempt.code != *code);
    }
}
