//! Places for requests to the introspection endpoint, half of them only for tokens that were valid.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Moment;

/// Largest number of requests at a time, for each of the two kinds of token.
const MOST: usize = 128;
/// Largest number of unknown tokens that wait for a place.
const MAX_WAITING: usize = 1024;
/// Longest wait for a place.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time for which a token counts as known after it was valid.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);
/// Largest number of known tokens in each of two generations.
const MAX_KNOWN: usize = 8192;

type Digest = [u8; 32];

/// The places. A client can invent any number of tokens, but it cannot take the places of those
/// that were valid.
// B496.
pub(super) struct Places {
    any: Arc<Semaphore>,
    known: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    valid: Mutex<RecentlyValid>,
}

/// The right to wait for a place.
pub(super) struct Ticket {
    /// `None` for a known token.
    waiting: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            any: Arc::new(Semaphore::new(MOST)),
            known: Arc::new(Semaphore::new(MOST)),
            waiting: Arc::new(Semaphore::new(MOST + MAX_WAITING)),
            valid: Mutex::default(),
        }
    }

    /// Returns the right to wait for a place; `None` if too many unknown tokens wait.
    pub(super) fn ticket(&self, token: &Digest, now: Moment) -> Option<Ticket> {
        if self.valid.lock().contains(token, now) {
            return Some(Ticket { waiting: None });
        }
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        Some(Ticket { waiting: Some(waiting) })
    }

    /// Waits for a place, which is free again when the result is dropped; `None` after
    /// [`LONGEST_WAIT`].
    pub(super) async fn take(&self, ticket: Ticket) -> Option<Place> {
        let any = || Arc::clone(&self.any).acquire_owned();
        let known = || Arc::clone(&self.known).acquire_owned();
        let place = async {
            if ticket.waiting.is_some() {
                return any().await;
            }
            // Waiting for either; dropping the other one only leaves its queue.
            tokio::select! {
                biased;
                place = known() => place,
                place = any() => place,
            }
        };
        let taken = tokio::time::timeout(LONGEST_WAIT, place).await.ok()?.ok()?;
        Some(Place { _taken: taken, _ticket: ticket })
    }

    /// Notes whether a token is valid now.
    pub(super) fn note(&self, token: &Digest, is_valid: bool, now: Moment) {
        let mut valid = self.valid.lock();
        if is_valid { valid.insert(*token, now) } else { valid.remove(token) }
    }
}

/// A place for one request.
pub(super) struct Place {
    _taken: OwnedSemaphorePermit,
    _ticket: Ticket,
}

/// Digests of tokens, and when they were valid. When the newer generation is full, it replaces the
/// older one.
#[derive(Default)]
struct RecentlyValid {
    newer: HashMap<Digest, Moment>,
    older: HashMap<Digest, Moment>,
}

impl RecentlyValid {
    fn contains(&self, token: &Digest, now: Moment) -> bool {
        let found = self.newer.get(token).or_else(|| self.older.get(token));
        found.is_some_and(|valid| now < valid.plus(KNOWN_FOR))
    }

    fn insert(&mut self, token: Digest, now: Moment) {
        if self.newer.len() >= MAX_KNOWN && !self.newer.contains_key(&token) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(token, now);
    }

    fn remove(&mut self, token: &Digest) {
        self.newer.remove(token);
        self.older.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn b496_known_tokens_are_bounded() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_900_000_000));
        let mut valid = RecentlyValid::default();
        for number in 0..3 * MAX_KNOWN {
            valid.insert(digest(number), clock.moment());
            assert!(valid.newer.len() <= MAX_KNOWN && valid.older.len() <= MAX_KNOWN, "B496");
        }
        let contains = |number: usize| valid.contains(&digest(number), clock.moment());
        assert!(!contains(0) && !contains(MAX_KNOWN - 1));
        assert!(contains(MAX_KNOWN) && contains(3 * MAX_KNOWN - 1));
        assert!(!contains(3 * MAX_KNOWN));
    }

    #[test]
    fn b496_a_token_is_known_for_an_hour() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_900_000_000));
        let mut valid = RecentlyValid::default();
        for number in [0, 1] {
            valid.insert(digest(number), clock.moment());
        }
        clock.advance(KNOWN_FOR - Duration::from_secs(1));
        valid.insert(digest(1), clock.moment());
        assert!(valid.contains(&digest(0), clock.moment()));
        clock.advance(Duration::from_secs(1));
        assert!(!valid.contains(&digest(0), clock.moment()));
        assert!(valid.contains(&digest(1), clock.moment()));
        valid.remove(&digest(1));
        assert!(!valid.contains(&digest(1), clock.moment()));
    }

    #[tokio::test(start_paused = true)]
    async fn b496_unknown_tokens_leave_half_of_the_places() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_900_000_000));
        let (places, now) = (Places::new(), clock.moment());
        let mut taken = Vec::new();
        for number in 0..MOST {
            let ticket = places.ticket(&digest(number), now).unwrap();
            taken.push(places.take(ticket).await.unwrap());
        }
        let unknown: Vec<_> =
            (0..MAX_WAITING).map(|number| places.ticket(&digest(1000 + number), now)).collect();
        assert!(unknown.iter().all(Option::is_some));
        assert!(places.ticket(&digest(9999), now).is_none(), "B496");
        // Those that were valid.
        let mut of_known = Vec::new();
        for number in 0..MOST {
            places.note(&digest(number), true, now);
            let ticket = places.ticket(&digest(number), now).unwrap();
            of_known.push(places.take(ticket).await.unwrap());
        }
        let ticket = places.ticket(&digest(0), now).unwrap();
        assert!(places.take(ticket).await.is_none(), "B496: all are taken, for the whole wait");
        places.note(&digest(0), false, now);
        assert!(places.ticket(&digest(0), now).is_none(), "it is not valid any more");
        // A place that becomes free is used by those that wait.
        let mut waiting = unknown.into_iter().flatten();
        let first =
            tokio::join!(places.take(waiting.next().unwrap()), async { drop(taken.pop()) }).0;
        assert!(first.is_some());
        let ticket = places.ticket(&digest(1), now).unwrap();
        let known = tokio::join!(places.take(ticket), async { drop(of_known.pop()) }).0;
        assert!(known.is_some());
        let ticket = places.ticket(&digest(2), now).unwrap();
        let known = tokio::join!(places.take(ticket), async { drop(taken.pop()) }).0;
        assert!(known.is_some(), "a known token may use any place");
        assert!(places.take(waiting.next().unwrap()).await.is_none(), "B496");
    }
}
