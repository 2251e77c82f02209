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
    clock::Timestamp,
    exchange::{Credential, Origin},
};

use crate::lifetime;

/// One cached access token.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) credential: Credential,
    /// Until then the token is provided: a moment before its end.
    usable_until: Timestamp,
    /// From then on a new token is requested, while this one is still used.
    refresh_at: Timestamp,
    /// From then on the grant is loaded from the store again.
    recheck_at: Timestamp,
    /// Whether a refresh was begun.
    refreshing: AtomicBool,
    /// Whether the upstream refused it.
    refused: Arc<AtomicBool>,
}

impl Entry {
    /// Longest time between two loads from the store.
    const RECHECK: Duration = Duration::from_secs(60);
    /// Longest time that a refresh takes.
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
        // After a failure the next refresh is due when the store allows it, and the token is used
        // to its end.
        let (usable_until, refresh_at) =
            match grant.backoff.retry_at.filter(|retry_at| *retry_at > now) {
                // Without a refresh token there is no other token.
                _ if grant.refresh_token.is_none() => (token.expires_at, token.expires_at),
                Some(retry_at) => (token.expires_at, retry_at),
                None => (usable_until(token), refresh_at(grant, token)),
            };
        let recheck_at = now.plus(Self::RECHECK);
        let refreshing = AtomicBool::new(false);
        Self { credential, usable_until, refresh_at, recheck_at, refreshing, refused }
    }

    /// Whether the token can be provided.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        // A refresh in progress loads the grant too, so no caller has to wait for a load.
        let looked_up_by = match self.refreshing.load(Ordering::Acquire) {
            true => self.recheck_at.plus(Self::REFRESHING),
            false => self.recheck_at,
        };
        now < self.usable_until && now < looked_up_by && !self.is_refused()
    }

    /// Whether a refresh is due and was not begun.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.refresh_at && !self.refreshing.load(Ordering::Acquire)
    }

    /// Marks that a refresh was begun; true for the first call.
    pub(super) fn begin_refreshing(&self) -> bool {
        !self.refreshing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }
}

/// Returns until when a token is provided.
pub(super) fn usable_until(token: &AccessToken) -> Timestamp {
    lifetime::usable_until(token.obtained_at, token.expires_at)
}

/// Returns when a token is refreshed.
pub(super) fn refresh_at(grant: &Grant, token: &AccessToken) -> Timestamp {
    lifetime::refresh_at(token.obtained_at, token.expires_at, token.version, grant.id.as_str())
}
