//! A feed that polls a [`RevocationStore`].

use std::{collections::VecDeque, time::Duration};

use super::{FeedError, FeedEvent, RevocationEntry, RevocationFeed, RevocationStore, Sequence};

/// The [`RevocationFeed`] of a [`RevocationStore`]: reads new entries every 250 ms.
///
/// It yields each entry as [`FeedEvent::Changed`], and [`FeedEvent::Current`] after each read that
/// reached the end of the sequence.
#[derive(Debug)]
#[must_use = "a feed is read by `Revocations::follow`"]
pub struct StoreFeed<S> {
    store: S,
    poll_every: Duration,
    /// Place of the last entry that was read.
    read_until: Sequence,
    unread: VecDeque<RevocationEntry>,
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
            read_until: Sequence::START,
            unread: VecDeque::new(),
            next: Next::Read,
        }
    }

    /// Sets the pause between two reads.
    pub const fn poll_every(mut self, pause: Duration) -> Self {
        self.poll_every = pause;
        self
    }

    async fn read(&mut self) -> Result<(), FeedError> {
        let read = self.store.read_after(self.read_until, PAGE);
        // A read that hangs is retried; until one succeeds, the feed is stale.
        let entries = tokio::time::timeout(READ_TIMEOUT, read)
            .await
            .map_err(|_| FeedError::new("the revocation store did not respond in time"))?
            .map_err(|error| FeedError::new(&error.to_string()))?;
        let mut last = self.read_until;
        for (place, _) in &entries {
            if *place <= last {
                return Err(FeedError::new(&format!("place {place} follows place {last}")));
            }
            last = *place;
        }
        self.read_until = last;
        self.next = if entries.len() < PAGE { Next::Current } else { Next::Read };
        self.unread.extend(entries.into_iter().map(|(_, entry)| entry));
        Ok(())
    }
}

impl<S: RevocationStore> RevocationFeed for StoreFeed<S> {
    async fn next(&mut self) -> Result<FeedEvent, FeedError> {
        loop {
            if let Some(entry) = self.unread.pop_front() {
                return Ok(FeedEvent::Changed(entry));
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
        revocation::{RevocationChange, RevocationStoreError, Revocations, tables::tests::principal},
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

        async fn read_after(&self, after: Sequence, limit: usize) -> Result<Entries, RevocationStoreError> {
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
            Ok(script.entries.iter().filter(|(place, _)| *place > after).take(limit).cloned().collect())
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
            Ok(FeedEvent::Changed(entry))
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
    async fn a_full_page_is_not_current() {
        let store = Scripted::default();
        for place in 1..=PAGE as u64 + 1 {
            store.append_at(place, RevocationChange::Blocked(alice()));
        }
        let mut feed = StoreFeed::new(store.clone());
        for _ in 0..=PAGE {
            assert!(matches!(feed.next().await, Ok(FeedEvent::Changed(_))));
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
        assert_eq!(feed.next().await, Err(FeedError::new("the revocation store can't be reached")));
        store.0.lock().hangs = true;
        assert!(feed.next().await.is_err());
        assert!(matches!(feed.next().await, Ok(FeedEvent::Changed(_))));
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
