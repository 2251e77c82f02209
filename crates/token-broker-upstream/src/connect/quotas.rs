//! Limits on connects that begin.

use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use tower_token_broker::{
    clock::{Clock, Timestamp},
    principal::User,
};

use crate::cache_key::{Key, Parts};

/// Most connects of one user at one server that begin within [`WINDOW`].
const MOST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(600);
/// Most users and servers that are counted.
const CAPACITY: u64 = 100_000;

/// Counts the connects that begin.
// E123: each one is a row of the store, and may be a registration.
pub(super) struct Quotas {
    begun: Cache<Key, std::sync::Arc<Mutex<Window>>>,
    clock: Clock,
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    count: u32,
}

impl Quotas {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { begun: Cache::new(CAPACITY), clock: clock.clone() }
    }

    /// Counts a connect, and returns whether it may begin.
    pub(super) fn admits(&self, user: &User, server: &str) -> bool {
        let now = self.clock.now();
        let key = Parts::of("connects").user(user).part(server).key();
        let begun = self
            .begun
            .get_with(key, || std::sync::Arc::new(Mutex::new(Window { since: now, count: 0 })));
        let mut window = begun.lock();
        if now >= window.since.plus(WINDOW) {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e123_each_user_has_a_limit_at_each_server() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let quotas = Quotas::new(&clock);
        let (alice, bob) = (User::new("https://b", "alice"), User::new("https://b", "bob"));
        for _ in 0..MOST {
            assert!(quotas.admits(&alice, "crm"));
        }
        assert!(!quotas.admits(&alice, "crm"), "E123");
        assert!(quotas.admits(&alice, "hr") && quotas.admits(&bob, "crm"));
        clock.advance(WINDOW);
        assert!(quotas.admits(&alice, "crm"));
    }
}
