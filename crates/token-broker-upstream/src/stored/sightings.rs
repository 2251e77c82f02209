//! Measurements of this process about the rows that it shares with others.
//!
//! A row has times by the wall clock of the process that wrote it. Such a clock may be wrong, so
//! each of these times also ends here: a pause, a lease and a token last at most as long as they
//! may, measured since this process first saw them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;
use token_broker_store::{AccessToken, Grant};
use tower_token_broker::{
    clock::{Deadline, Moment, Reading, Timestamp},
    principal::{GrantId, Scopes},
};

use crate::lifetime::{LONGEST_PAUSE, MOST_ENTRIES};

/// First sightings, by the ID of a grant and what identifies the sighted value.
pub(super) struct Sightings {
    tokens: Cache<(GrantId, u64), Arc<SeenToken>>,
    pauses: Cache<(GrantId, Timestamp), Pause>,
    leases: Cache<(GrantId, Timestamp), Moment>,
    /// Grants whose server refused `scope` at a refresh, with the scopes.
    without_scope: Cache<(GrantId, Scopes), ()>,
}

/// An access token that this process has seen.
#[derive(Debug)]
pub(super) struct SeenToken {
    first: Moment,
    /// Whether the upstream refused it.
    refused: AtomicBool,
    /// Whether the upstream had accepted it before.
    accepted: AtomicBool,
}

/// A pause after a failed refresh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// Not earlier, whatever the wall clock shows: measured by the process that failed.
    at_least: Moment,
    end: Deadline,
}

/// Time of the last refresh that succeeded, by this process.
#[derive(Debug, Default)]
pub(super) struct LastSuccess(Mutex<Option<Timestamp>>);

impl LastSuccess {
    pub(super) fn note(&self, at: Timestamp) {
        *self.0.lock() = Some(at);
    }

    pub(super) fn get(&self) -> Option<Timestamp> {
        *self.0.lock()
    }
}

impl Sightings {
    pub(super) fn new() -> Self {
        Self {
            tokens: Cache::new(MOST_ENTRIES),
            pauses: Cache::new(MOST_ENTRIES),
            leases: Cache::new(MOST_ENTRIES),
            without_scope: Cache::new(MOST_ENTRIES),
        }
    }

    /// Returns the token of this version of a grant.
    pub(super) fn token(&self, grant: &GrantId, version: u64, now: Reading) -> Arc<SeenToken> {
        self.tokens.get_with((grant.clone(), version), || {
            let (refused, accepted) = (AtomicBool::new(false), AtomicBool::new(false));
            Arc::new(SeenToken { first: now.moment, refused, accepted })
        })
    }

    /// Returns the pause of a grant, if it is not over.
    // G400: a `retry_at` from under a wrong clock does not lock the user out.
    pub(super) fn pause(&self, grant: &Grant, now: Reading) -> Option<Pause> {
        let retry_at = grant.backoff.retry_at?;
        let pause = self.pauses.get_with((grant.id.clone(), retry_at), || {
            // Not before the last access token has ended, where there is one.
            let tokens = grant.access.iter().map(|token| self.ends(grant, token, now).left(now));
            let longest = tokens.fold(LONGEST_PAUSE, Duration::max);
            let wait = now.wall.until(retry_at).min(longest);
            Pause { at_least: now.moment, end: Deadline::at(retry_at, now, wait) }
        });
        (!pause.is_over(now)).then_some(pause)
    }

    /// Notes a pause that begins now and ends at `retry_at`, by this clock after `wait`.
    pub(super) fn pause_began(
        &self,
        grant: &GrantId,
        retry_at: Timestamp,
        (at_least, wait): (Duration, Duration),
        now: Reading,
    ) {
        let at_least = now.moment.plus(at_least);
        let pause = Pause { at_least, end: Deadline::at(retry_at, now, wait) };
        self.pauses.insert((grant.clone(), retry_at), pause);
    }

    /// Returns whether a lease that another process holds until `until` was first seen so long ago
    /// that it is over.
    // G405
    pub(super) fn lease_is_over(
        &self,
        grant: &GrantId,
        until: Timestamp,
        longest: Duration,
        now: Reading,
    ) -> bool {
        let first = self.leases.get_with((grant.clone(), until), || now.moment);
        first.plus(longest) <= now.moment
    }

    /// Remembers that the server refuses these scopes of a grant at a refresh.
    pub(super) fn omit_scope(&self, grant: &GrantId, scopes: &Scopes) {
        self.without_scope.insert((grant.clone(), scopes.clone()), ());
    }

    pub(super) fn omits_scope(&self, grant: &GrantId, scopes: &Scopes) -> bool {
        self.without_scope.contains_key(&(grant.clone(), scopes.clone()))
    }

    /// Returns when a token of a grant ends.
    pub(super) fn ends(&self, grant: &Grant, token: &AccessToken, now: Reading) -> Deadline {
        self.token(&grant.id, token.version, now).after(token, lifetime_of(token), now)
    }
}

impl SeenToken {
    /// Returns the deadline this long after the token was obtained, and at the latest this long
    /// after it was first seen.
    // G401: a token from under a wrong clock is used no longer.
    pub(super) fn after(&self, token: &AccessToken, duration: Duration, now: Reading) -> Deadline {
        let left = now.moment.until(self.first.plus(duration));
        Deadline::at(token.obtained_at.plus(duration), now, left)
    }

    /// Marks that the upstream refused the token, and whether it had accepted it before.
    pub(super) fn refuse(&self, was_accepted: bool) {
        self.accepted.fetch_or(was_accepted, Ordering::AcqRel);
        self.refused.store(true, Ordering::Release);
    }

    /// Returns whether the upstream refused the token, and never accepted it.
    pub(super) fn is_still_refused(&self) -> bool {
        self.is_refused() && !self.accepted.load(Ordering::Acquire)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

impl Pause {
    fn is_over(self, now: Reading) -> bool {
        self.left(now).is_zero()
    }

    /// Returns the rest of the pause.
    pub(super) fn left(self, now: Reading) -> Duration {
        self.end.left(now).max(now.moment.until(self.at_least))
    }
}

/// Returns the lifetime of a token, as its row states it.
pub(super) const fn lifetime_of(token: &AccessToken) -> Duration {
    token.obtained_at.until(token.expires_at)
}
