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

use crate::lifetime::{self, BETWEEN_FORCED, LONGEST_PAUSE, MOST_ENTRIES};

// G514
/// For how long `scope` is left out after the server refused it.
const WITHOUT_SCOPE: Duration = Duration::from_secs(3600);

/// First sightings, by the ID of a grant and what identifies the sighted value.
pub(super) struct Sightings {
    tokens: Cache<(GrantId, u64), Arc<SeenToken>>,
    pauses: Cache<(GrantId, Timestamp), Pause>,
    leases: Cache<(GrantId, Timestamp), Moment>,
    /// Grants whose server refused `scope` at a refresh and issued a token without it, with the
    /// scopes, and until when it is left out.
    without_scope: Cache<(GrantId, Scopes), Moment>,
    /// Refreshes of a grant because the upstream refused its tokens.
    forced: Cache<GrantId, Forced>,
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

/// Refreshes because the upstream refused a token, in a period that began with the first of them.
#[derive(Clone, Copy, Debug)]
struct Forced {
    until: Moment,
    count: u32,
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
            forced: Cache::new(MOST_ENTRIES),
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

    /// Remembers for a while that the server refuses these scopes of a grant at a refresh, and
    /// issues a token without them.
    pub(super) fn omit_scope(&self, grant: &GrantId, scopes: &Scopes, now: Reading) {
        let until = now.moment.plus(WITHOUT_SCOPE);
        self.without_scope.insert((grant.clone(), scopes.clone()), until);
    }

    pub(super) fn omits_scope(&self, grant: &GrantId, scopes: &Scopes, now: Reading) -> bool {
        let until = self.without_scope.get(&(grant.clone(), scopes.clone()));
        until.is_some_and(|until| now.moment < until)
    }

    /// Returns whether a refused token of a grant may be replaced now: once in a while, and a
    /// second time if the upstream had accepted it before, because then it has ended meanwhile.
    // I515: an upstream that accepts a token here and refuses it there causes no more.
    pub(super) fn may_force(&self, grant: &Grant, refused: &SeenToken, now: Reading) -> bool {
        self.forced_lately(grant, now) < lifetime::most_forced(refused.was_accepted())
    }

    /// Notes that a refused token of a grant, as it was before, is replaced.
    pub(super) fn note_forced(&self, grant: &Grant, now: Reading) {
        let count = self.forced_lately(grant, now).saturating_add(1);
        let running = self.forced.get(&grant.id).filter(|forced| now.moment < forced.until);
        let until = running.map_or_else(|| now.moment.plus(BETWEEN_FORCED), |forced| forced.until);
        self.forced.insert(grant.id.clone(), Forced { until, count });
    }

    /// Returns how many tokens of a grant were replaced lately, as far as this process knows.
    fn forced_lately(&self, grant: &Grant, now: Reading) -> u32 {
        // Also by another process.
        let is_new = |token: &AccessToken| {
            let seen = self.token(&grant.id, token.version, now);
            !seen.after(token, BETWEEN_FORCED, now).has_passed(now)
        };
        let in_row = grant.access.iter().any(|token| token.forced && is_new(token));
        let running = self.forced.get(&grant.id).filter(|forced| now.moment < forced.until);
        running.map_or(0, |forced| forced.count).max(u32::from(in_row))
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

    /// Returns whether the upstream had accepted the token before it refused it.
    fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
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
