//! When connections were last used, written now and then.

use std::time::Duration;

use moka::sync::Cache;
use token_broker_store::{
    GrantKey,
    authority::ClientId,
    connect::{ConnectStore, ConnectionUse},
};
use tower_token_broker::{
    clock::{Clock, Timestamp},
    principal::Principal,
    tasks::Tasks,
};

use crate::cache_key::{Key, Parts};

/// A use within this time of the last one is not written.
const EVERY: Duration = Duration::from_secs(300);
const CAPACITY: u64 = 100_000;

/// The uses that were written lately.
pub(super) struct Uses {
    written: Cache<Key, Timestamp>,
    clock: Clock,
}

impl Uses {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { written: Cache::new(CAPACITY), clock: clock.clone() }
    }

    /// Notes a use. It is written by a task, at most once in five minutes for each client.
    pub(super) fn note<S: ConnectStore + Clone>(
        &self,
        (store, tasks): (&S, &Tasks),
        key: &GrantKey,
        caller: &Principal,
    ) {
        let now = self.clock.now();
        let client = caller.client();
        let parts = Parts::of("use").user(&key.user).part(&key.server);
        let entry = parts.part(key.account.as_str()).part(client).key();
        if self.written.get(&entry).is_some_and(|last| now < last.plus(EVERY)) {
            return;
        }
        self.written.insert(entry, now);
        let used = ConnectionUse::new(key.clone(), ClientId::new(client), now);
        let store = store.clone();
        // For the page only: a use that is not written is the next one's.
        drop(tasks.spawn("connection use", async move {
            store.mark_connection_used(&used).await.unwrap_or_default();
        }));
    }
}
