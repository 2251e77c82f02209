//! Cache entries: access tokens in memory, and until when they are used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use token_broker_store::{AccessToken, Grant};
use tower_token_broker::{
    clock::{Deadline, Reading},
    exchange::{Credential, Origin},
};

use super::sightings::{Pause, SeenToken, lifetime_of};
use crate::lifetime;

/// One cached access token.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) credential: Credential,
    /// Until then the token is provided: a moment before its end.
    usable: Deadline,
    /// From then on a new token is requested, while this one is still used.
    refresh: Deadline,
    /// From then on the grant is loaded from the store again.
    recheck: Deadline,
    /// Whether a refresh was begun.
    refreshing: AtomicBool,
    /// Whether its use was noted.
    used: AtomicBool,
    seen: Arc<SeenToken>,
}

impl Entry {
    /// Longest time between two loads from the store.
    const RECHECK: Duration = Duration::from_secs(60);
    /// Longest time that a refresh takes.
    const REFRESHING: Duration = Duration::from_secs(30);

    pub(super) fn new(
        grant: &Grant,
        (token, has_all_scopes): (&AccessToken, bool),
        origin: &Origin,
        (seen, pause): (Arc<SeenToken>, Option<Pause>),
        now: Reading,
    ) -> Self {
        let credential = Credential::vouch(token.secret.clone(), origin.clone())
            .with_scopes(token.scopes.clone())
            .from_grant(grant.id.clone(), token.version)
            .until(token.expires_at);
        let credential = match has_all_scopes {
            true => credential.with_all_scopes(),
            false => credential,
        };
        let ends = seen.after(token, lifetime_of(token), now);
        // After a failure the next refresh is due when the store allows it, and the token is used
        // to its end.
        let (usable, refresh) = match pause {
            // Without a refresh token there is no other token.
            Some(_) if grant.refresh_token.is_none() => (ends, ends),
            Some(pause) => (ends, Deadline::after(now, pause.left(now))),
            None => (usable(&seen, token, now), refresh(&seen, grant, token, now)),
        };
        let recheck = Deadline::after(now, Self::RECHECK);
        let (refreshing, used) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { credential, usable, refresh, recheck, refreshing, used, seen }
    }

    /// Whether the token can be provided.
    pub(super) fn is_usable(&self, now: Reading) -> bool {
        // A refresh in progress loads the grant too, so no caller has to wait for a load.
        let recheck = match self.refreshing.load(Ordering::Acquire) {
            true => self.recheck.plus(Self::REFRESHING),
            false => self.recheck,
        };
        !self.usable.has_passed(now) && !recheck.has_passed(now) && !self.is_refused()
    }

    /// Whether a refresh is due in the background and was not begun. A token that is not used any
    /// more is refreshed for the next caller, who waits for it.
    // E119: a token that ends at once is requested once a call, not twice.
    pub(super) fn is_due(&self, now: Reading) -> bool {
        self.refresh.has_passed(now)
            && !self.usable.has_passed(now)
            && !self.refreshing.load(Ordering::Acquire)
    }

    /// Marks that a refresh was begun; true for the first call.
    pub(super) fn begin_refreshing(&self) -> bool {
        !self.refreshing.swap(true, Ordering::AcqRel)
    }

    /// Marks that it was used; true for the first call. An entry lives for a minute.
    pub(super) fn begin_use(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.seen.is_refused()
    }
}

/// Returns until when a token is provided.
pub(super) fn usable(seen: &SeenToken, token: &AccessToken, now: Reading) -> Deadline {
    seen.after(token, lifetime::usable_for(lifetime_of(token)), now)
}

/// Returns when a token is refreshed.
pub(super) fn refresh(
    seen: &SeenToken,
    grant: &Grant,
    token: &AccessToken,
    now: Reading,
) -> Deadline {
    let (lifetime, id) = (lifetime_of(token), grant.id.as_str());
    seen.after(token, lifetime::refresh_after(lifetime, token.version, id), now)
}
