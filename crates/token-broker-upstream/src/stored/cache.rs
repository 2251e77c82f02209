//! What is kept in memory of a grant, and for how long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use token_broker_store::{AccessToken, Grant};
use tower_token_broker::{
    clock::Timestamp,
    exchange::{Credential, Origin},
};

use crate::lifetime;

/// One access token as it is given out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) credential: Credential,
    /// Not given out from then on if another can be had: a moment before its end.
    usable_until: Timestamp,
    /// A new one is got from then on, while this one is still used.
    refresh_at: Timestamp,
    /// Looked up in the store again from then on.
    recheck_at: Timestamp,
    /// Whether somebody is getting a new one already.
    refreshing: AtomicBool,
    /// Whether the upstream has refused it.
    refused: Arc<AtomicBool>,
}

impl Entry {
    /// Longest time between two looks into the store.
    const RECHECK: Duration = Duration::from_secs(60);
    /// Longer than a refresh takes.
    const REFRESHING: Duration = Duration::from_secs(30);

    pub(super) fn new(
        grant: &Grant,
        token: &AccessToken,
        origin: &Origin,
        now: Timestamp,
        refused: Arc<AtomicBool>,
    ) -> Self {
        let credential = Credential::vouch(token.secret.clone(), origin.clone())
            .with_scopes(token.scopes.clone())
            .from_grant(grant.id.clone(), token.version)
            .until(token.expires_at);
        // What was tried in vain is tried again when the store says so, and the token is used to its very end.
        let (usable_until, refresh_at) = match grant.backoff.retry_at.filter(|retry_at| *retry_at > now) {
            // Without a refresh token there is nothing to get sooner or later.
            _ if grant.refresh_token.is_none() => (token.expires_at, token.expires_at),
            Some(retry_at) => (token.expires_at, retry_at),
            None => (usable_until(token), refresh_at(grant, token)),
        };
        let recheck_at = now.plus(Self::RECHECK);
        let refreshing = AtomicBool::new(false);
        Self { credential, usable_until, refresh_at, recheck_at, refreshing, refused }
    }

    /// Whether it can be given out now.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        // Whoever is getting a new one looks into the store, too: nobody has to wait for that.
        let looked_up_by = match self.refreshing.load(Ordering::Acquire) {
            true => self.recheck_at.plus(Self::REFRESHING),
            false => self.recheck_at,
        };
        now < self.usable_until && now < looked_up_by && !self.is_refused()
    }

    /// Whether a new one should be got, and nobody is at it.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.refresh_at && !self.refreshing.load(Ordering::Acquire)
    }

    /// Says that somebody is getting a new one; true for the first who says so.
    pub(super) fn begin_refreshing(&self) -> bool {
        !self.refreshing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// A moment before its end.
pub(super) fn usable_until(token: &AccessToken) -> Timestamp {
    lifetime::usable_until(token.obtained_at, token.expires_at)
}

/// In good time before its end.
pub(super) fn refresh_at(grant: &Grant, token: &AccessToken) -> Timestamp {
    lifetime::refresh_at(token.obtained_at, token.expires_at, token.version, grant.id.as_str())
}
