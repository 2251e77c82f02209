//! Revocations and blocks in the memory of one process.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tower_token_broker::{
    clock::{Clock, LEEWAY, Moment},
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget,
        Revocations, Sequence,
    },
};

/// Revocations and blocks in the memory of one process: for several brokers in one process, and for
/// tests. Clones share them.
///
/// Entries that no longer count are dropped after the retention. The last change of each user's
/// block and of each grant stays.
#[derive(Clone, Debug)]
#[must_use = "does nothing unless it is used"]
pub struct MemoryRevocations {
    log: Arc<Mutex<Log>>,
    clock: Clock,
    retention: Duration,
}

#[derive(Debug)]
struct Log {
    /// Each with the moment at which it was appended.
    entries: BTreeMap<Sequence, (Moment, RevocationEntry)>,
    last: Sequence,
    /// Number of entries at which those that no longer count are dropped.
    compact_at: usize,
}

impl MemoryRevocations {
    /// Creates a store without entries.
    pub fn new() -> Self {
        let log = Log { entries: BTreeMap::new(), last: Sequence::START, compact_at: COMPACT_AT };
        Self {
            log: Arc::new(Mutex::new(log)),
            clock: Clock::system(),
            retention: retention(Revocations::RETENTION),
        }
    }

    /// Sets the clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the longest lifetime of a token that verifiers accept, if it is longer than
    /// [`Revocations::RETENTION`].
    pub fn retention(mut self, longest_lifetime: Duration) -> Self {
        self.retention = retention(longest_lifetime);
        self
    }
}

impl Default for MemoryRevocations {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    fn append(&mut self, entry: RevocationEntry, now: Moment, retention: Duration) -> Sequence {
        if self.entries.len() >= self.compact_at {
            self.compact(now, retention);
            self.compact_at = self.entries.len().saturating_mul(2).max(COMPACT_AT);
        }
        self.last = self.last.next();
        self.entries.insert(self.last, (now, entry));
        self.last
    }

    /// Drops entries that are older than the retention and no longer count.
    // N400: measured here, whatever the clock of the replica was that made the entry.
    fn compact(&mut self, now: Moment, retention: Duration) {
        let (mut users, mut grants, mut dropped) = (HashSet::new(), HashSet::new(), Vec::new());
        for (place, (appended, entry)) in self.entries.iter().rev() {
            let counts = match &entry.change {
                RevocationChange::Blocked(user) | RevocationChange::Unblocked(user) => {
                    users.insert(user)
                }
                RevocationChange::GrantRestored(grant)
                | RevocationChange::Revoked(RevocationTarget::Grant(grant)) => grants.insert(grant),
                RevocationChange::Revoked(_) => false,
                // Unknown here: kept.
                _ => true,
            };
            if !counts && appended.plus(retention) <= now {
                dropped.push(*place);
            }
        }
        for place in dropped {
            self.entries.remove(&place);
        }
    }
}

impl RevocationStore for MemoryRevocations {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        Ok(self.log.lock().append(entry.clone(), self.clock.moment(), self.retention))
    }

    async fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        let log = self.log.lock();
        let unread = log.entries.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(unread.take(limit).map(|(place, (_, entry))| (*place, entry.clone())).collect())
    }
}

/// Returns how long a revocation counts: `iat` may be a leeway ahead of the clock, a token is
/// accepted for a leeway after its end, and the wall clock may be set back a little.
fn retention(longest_lifetime: Duration) -> Duration {
    longest_lifetime.max(Revocations::RETENTION).saturating_add(LEEWAY * 3)
}

const COMPACT_AT: usize = 4_096;

#[cfg(test)]
mod tests {
    use tower_token_broker::{
        clock::Timestamp,
        principal::{GrantId, User},
    };

    use super::*;

    fn user(name: &str) -> User {
        User::new("https://i.example", name)
    }

    fn grant(id: &str) -> GrantId {
        GrantId::new(id)
    }

    #[tokio::test]
    async fn what_still_counts_survives_the_retention() {
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let clock = Clock::manual(start);
        let store = MemoryRevocations::new().with_clock(clock.clone());
        let revoked_grant = RevocationChange::Revoked(RevocationTarget::Grant(grant("over")));
        let counting = [
            revoked_grant.clone(),
            RevocationChange::Blocked(user("mallory")),
            RevocationChange::Unblocked(user("bob")),
            RevocationChange::GrantRestored(grant("again")),
        ];
        let superseded = [
            RevocationChange::Blocked(user("bob")),
            RevocationChange::Revoked(RevocationTarget::Grant(grant("again"))),
            RevocationChange::Unblocked(user("mallory")),
        ];
        for change in superseded.into_iter().chain(counting.clone()) {
            store.append(&RevocationEntry::new(change, start)).await.unwrap();
        }
        let everything = || RevocationChange::Revoked(RevocationTarget::Everything);
        for _ in 0..COMPACT_AT {
            store.append(&RevocationEntry::new(everything(), start)).await.unwrap();
        }
        let kept = || async {
            let entries = store.read_after(Sequence::START, usize::MAX).await.unwrap();
            entries.into_iter().map(|(_, entry)| entry.change).collect::<Vec<_>>()
        };
        assert_eq!(kept().await.len(), COMPACT_AT + 7, "nothing is dropped before the retention");

        clock.advance(Revocations::RETENTION + LEEWAY * 3);
        let newest = RevocationEntry::new(everything(), clock.now());
        while store.append(&newest).await.unwrap().as_u64() < 3 * COMPACT_AT as u64 {}
        let kept = kept().await;
        assert_eq!(
            kept.iter().filter(|change| **change != everything()).cloned().collect::<Vec<_>>(),
            counting
        );
        assert!(kept.len() <= 2 * COMPACT_AT + 4, "the store is bounded: {}", kept.len());
    }

    #[tokio::test]
    async fn n400_no_wrong_clock_drops_an_entry() {
        let (start, day) =
            (Timestamp::from_unix_seconds(1_800_000_000), Duration::from_secs(24 * 3600));
        let clock = Clock::manual(start);
        let store = MemoryRevocations::new().with_clock(clock.clone());
        let alice = RevocationChange::Revoked(RevocationTarget::User(user("alice")));
        // By a replica whose clock is days slow.
        let entry = RevocationEntry::new(alice, start.minus(day * 3));
        store.append(&entry).await.unwrap();
        // The clock of this process is ahead, too.
        clock.set_wall_clock(start.plus(day * 3));
        let everything = RevocationChange::Revoked(RevocationTarget::Everything);
        let more = RevocationEntry::new(everything, start);
        while store.append(&more).await.unwrap().as_u64() < 2 * COMPACT_AT as u64 {}
        let first = store.read_after(Sequence::START, 1).await.unwrap();
        assert_eq!(first, [(Sequence::START.next(), entry)], "N400");
    }
}
