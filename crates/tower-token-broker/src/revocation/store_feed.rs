//! A feed that polls a [`RevocationStore`].

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use super::{
    FeedError, FeedEvent, RevocationChange, RevocationEntry, RevocationFeed, RevocationStore,
    RevocationTarget, Sequence,
};
use crate::alarm::Alarm;

/// The [`RevocationFeed`] of a [`RevocationStore`]: reads new entries every 250 ms.
///
/// It yields each entry as [`FeedEvent::Stored`], and [`FeedEvent::Current`] after each read that
/// reached the end of the sequence. Each read begins with the last entry that was read. If that
/// entry is gone (the store was restored from a backup, or dropped it), everything is read again.
#[derive(Debug)]
#[must_use = "a feed does nothing until a broker is built with it"]
pub struct StoreFeed<S> {
    store: S,
    poll_every: Duration,
    /// The last entry that was read, and its place.
    last: Option<(Sequence, RevocationEntry)>,
    unread: VecDeque<(Sequence, RevocationEntry)>,
    next: Next,
}

/// The step after the entries that were read.
#[derive(Clone, Copy, Debug)]
enum Next {
    Read,
    Current,
    Pause,
}

impl<S: RevocationStore> StoreFeed<S> {
    /// Creates a feed that starts with the first entry.
    pub const fn new(store: S) -> Self {
        Self {
            store,
            poll_every: Duration::from_millis(250),
            last: None,
            unread: VecDeque::new(),
            next: Next::Read,
        }
    }

    /// Sets the pause between two reads.
    pub const fn poll_every(mut self, pause: Duration) -> Self {
        self.poll_every = pause;
        self
    }

    /// Reads to the end of the sequence.
    async fn read(&mut self) -> Result<(), FeedError> {
        let mut last = self.last.clone();
        let (mut read, mut restarts) = (Vec::new(), 0);
        loop {
            let from = last.as_ref().map_or(Sequence::START, |(place, _)| place.before());
            let mut page = self.page(from).await?;
            let is_last_page = page.len() < PAGE;
            if let Some(known) = &last {
                if page.first() != Some(known) {
                    tracing::warn!(
                        alarm = Alarm::RevocationEntriesLost.code(),
                        place = %known.0,
                        "the last entry of the revocation store is gone; \
                         all entries are read again"
                    );
                    restarts += 1;
                    if restarts > MOST_RESTARTS {
                        return Err(FeedError::new(
                            "the revocation store loses entries while it is read",
                        ));
                    }
                    last = None;
                    read.clear();
                    continue;
                }
                page.remove(0);
            }
            let mut before = last.as_ref().map_or(Sequence::START, |(place, _)| *place);
            for (place, _) in &page {
                if *place <= before {
                    let wrong = format!("place {place} follows place {before}");
                    return Err(FeedError::new(&wrong));
                }
                before = *place;
            }
            last = page.last().cloned().or(last);
            read.append(&mut page);
            if is_last_page {
                break;
            }
        }
        self.last = last;
        self.unread.extend(without_superseded(read));
        self.next = Next::Current;
        Ok(())
    }

    async fn page(&self, after: Sequence) -> Result<Vec<(Sequence, RevocationEntry)>, FeedError> {
        // A read that hangs is retried. Until one succeeds, the feed is stale.
        tokio::time::timeout(READ_TIMEOUT, self.store.read_after(after, PAGE))
            .await
            .map_err(|_| FeedError::new("the revocation store did not respond in time"))?
            .map_err(|error| FeedError::new(&error.to_string()))
    }
}

/// Omits each loosening that a later entry tightens again: in between, requests would be accepted.
fn without_superseded(
    entries: Vec<(Sequence, RevocationEntry)>,
) -> Vec<(Sequence, RevocationEntry)> {
    let mut tightened = HashSet::new();
    let mut kept: Vec<_> = entries
        .into_iter()
        .rev()
        .filter(|(_, entry)| match &entry.change {
            RevocationChange::Unblocked(user) => {
                !tightened.contains(&RevocationChange::Blocked(user.clone()))
            }
            RevocationChange::GrantRestored(grant) => {
                let revoked = RevocationTarget::Grant(grant.clone());
                !tightened.contains(&RevocationChange::Revoked(revoked))
            }
            tightens @ (RevocationChange::Blocked(_) | RevocationChange::Revoked(_)) => {
                tightened.insert(tightens.clone());
                true
            }
        })
        .collect();
    kept.reverse();
    kept
}

impl<S: RevocationStore> RevocationFeed for StoreFeed<S> {
    async fn next(&mut self) -> Result<FeedEvent, FeedError> {
        loop {
            if let Some((place, entry)) = self.unread.pop_front() {
                return Ok(FeedEvent::Stored { place, entry });
            }
            match self.next {
                Next::Read => self.read().await?,
                Next::Current => {
                    self.next = Next::Pause;
                    return Ok(FeedEvent::Current);
                }
                Next::Pause => {
                    tokio::time::sleep(self.poll_every).await;
                    self.next = Next::Read;
                }
            }
        }
    }
}

/// Number of entries per read.
const PAGE: usize = 1_000;
/// The largest number of restarts of one read.
const MOST_RESTARTS: u32 = 3;
const READ_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{
        clock::{Clock, Timestamp},
        principal::User,
        refusal::Reason,
        revocation::{RevocationStoreError, Revocations, tables::tests::principal},
        tasks::Tasks,
    };

    type Entries = Vec<(Sequence, RevocationEntry)>;

    /// Entries with their places, the number of reads, and an error or a hang for the next read.
    #[derive(Clone, Default)]
    struct Scripted(Arc<Mutex<Script>>);

    #[derive(Default)]
    struct Script {
        entries: Entries,
        reads: usize,
        fails: bool,
        hangs: bool,
    }

    impl Scripted {
        fn append_at(&self, place: u64, change: RevocationChange) {
            let entry = RevocationEntry::new(change, Timestamp::from_unix_seconds(place));
            self.0.lock().entries.push((Sequence::new(place), entry));
        }

        fn reads(&self) -> usize {
            self.0.lock().reads
        }
    }

    impl RevocationStore for Scripted {
        async fn append(&self, _: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
            Err(RevocationStoreError::Unreachable)
        }

        async fn read_after(
            &self,
            after: Sequence,
            limit: usize,
        ) -> Result<Entries, RevocationStoreError> {
            let (fails, hangs) = {
                let mut script = self.0.lock();
                script.reads += 1;
                (std::mem::take(&mut script.fails), std::mem::take(&mut script.hangs))
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            if fails {
                return Err(RevocationStoreError::Unreachable);
            }
            let script = self.0.lock();
            Ok(script
                .entries
                .iter()
                .filter(|(place, _)| *place > after)
                .take(limit)
                .cloned()
                .collect())
        }
    }

    fn alice() -> User {
        User::new("https://broker.example.com", "alice")
    }

    #[tokio::test(start_paused = true)]
    async fn entries_come_once_and_then_current() {
        let store = Scripted::default();
        store.append_at(2, RevocationChange::Blocked(alice()));
        store.append_at(5, RevocationChange::Unblocked(alice()));
        let mut feed = StoreFeed::new(store.clone());
        let changed = |seconds, change| {
            let entry = RevocationEntry::new(change, Timestamp::from_unix_seconds(seconds));
            Ok(FeedEvent::Stored { place: Sequence::new(seconds), entry })
        };
        assert_eq!(feed.next().await, changed(2, RevocationChange::Blocked(alice())));
        assert_eq!(feed.next().await, changed(5, RevocationChange::Unblocked(alice())));
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
        store.append_at(6, RevocationChange::Blocked(alice()));
        assert_eq!(feed.next().await, changed(6, RevocationChange::Blocked(alice())));
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
        assert_eq!(store.reads(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_went_back_is_read_again() {
        let store = Scripted::default();
        store.append_at(9, RevocationChange::Unblocked(alice()));
        let mut feed = StoreFeed::new(store.clone());
        assert!(matches!(feed.next().await, Ok(FeedEvent::Stored { .. })));
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
        // Yesterday's copy, to which another replica has appended since then.
        store.0.lock().entries.clear();
        store.append_at(8, RevocationChange::Blocked(alice()));
        let block = RevocationChange::Blocked(alice());
        let entry = RevocationEntry::new(block, Timestamp::from_unix_seconds(8));
        let place = Sequence::new(8);
        assert_eq!(feed.next().await, Ok(FeedEvent::Stored { place, entry }));
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
    }

    #[tokio::test(start_paused = true)]
    async fn a_superseded_loosening_is_skipped() {
        let store = Scripted::default();
        store.append_at(1, RevocationChange::Blocked(alice()));
        store.append_at(2, RevocationChange::Unblocked(alice()));
        store.append_at(3, RevocationChange::Blocked(alice()));
        let mut feed = StoreFeed::new(store);
        for expected in [1, 3] {
            let event = feed.next().await.unwrap();
            let is_it =
                matches!(event, FeedEvent::Stored { place, .. } if place.as_u64() == expected);
            assert!(is_it, "{expected}: {event:?}");
        }
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_page_is_not_current() {
        let store = Scripted::default();
        for place in 1..=PAGE as u64 + 1 {
            store.append_at(place, RevocationChange::Blocked(alice()));
        }
        let mut feed = StoreFeed::new(store.clone());
        for _ in 0..=PAGE {
            assert!(matches!(feed.next().await, Ok(FeedEvent::Stored { .. })));
        }
        assert_eq!(feed.next().await, Ok(FeedEvent::Current));
        assert_eq!(store.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_fails_or_hangs_is_retried() {
        let store = Scripted::default();
        store.append_at(1, RevocationChange::Blocked(alice()));
        let mut feed = StoreFeed::new(store.clone());
        store.0.lock().fails = true;
        assert_eq!(
            feed.next().await,
            Err(FeedError::new("the revocation store cannot be reached"))
        );
        store.0.lock().hangs = true;
        assert!(feed.next().await.is_err());
        assert!(matches!(feed.next().await, Ok(FeedEvent::Stored { .. })));
    }

    #[tokio::test]
    async fn places_that_do_not_rise_are_an_error() {
        for place in [3, 4] {
            let store = Scripted::default();
            store.append_at(4, RevocationChange::Blocked(alice()));
            store.append_at(place, RevocationChange::Unblocked(alice()));
            assert!(StoreFeed::new(store).next().await.is_err(), "{place}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_reaches_a_replica_through_the_store() {
        let store = Scripted::default();
        let revocations = Revocations::new(Clock::manual(Timestamp::from_unix_seconds(1_000)));
        let following = revocations.follow(StoreFeed::new(store.clone()), &Tasks::new());
        let mut epochs = revocations.subscribe();
        store.append_at(1, RevocationChange::Blocked(alice()));
        epochs.changed().await.unwrap();
        assert_eq!(revocations.stands(&principal(2_000)), Err(Reason::Blocked));
        store.append_at(2, RevocationChange::Unblocked(alice()));
        epochs.changed().await.unwrap();
        assert_eq!(revocations.stands(&principal(2_000)), Ok(()));
        drop((revocations, epochs));
        following.await.unwrap();
    }
}
