//! Cache entry: the current token and the last failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_token_broker::{
    clock::{Deadline, Moment, Reading},
    exchange::{Credential, CredentialError},
};

use crate::lifetime::{self, BETWEEN_FORCED};

/// Entry of one key, replaced as a whole when an attempt has ended.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheEntry {
    pub(super) token: Option<Arc<Token>>,
    pub(super) failure: Option<Failure>,
}

/// One access token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) credential: Credential,
    ends: Deadline,
    /// A moment before its end.
    usable: Deadline,
    refresh: Deadline,
    /// Until when no other is requested, if it replaced a token that the upstream refused.
    forced_until: Option<Moment>,
    refused: AtomicBool,
    /// Whether the upstream had accepted it before it refused it.
    accepted: AtomicBool,
}

/// Last failure, the number of failures in a row, and the moment of the next attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) no: CredentialError,
    pub(super) count: u32,
    pub(super) retry_at: Moment,
}

/// The result that the entry provides without a request.
#[derive(Debug)]
pub(super) enum Lookup {
    Token {
        token: Arc<Token>,
        /// Whether a new one should be requested in the background.
        is_due: bool,
    },
    Failed(CredentialError),
    Absent,
}

impl CacheEntry {
    pub(super) fn lookup(&self, now: Reading) -> Lookup {
        let failure = self.failure.as_ref().filter(|failure| now.moment < failure.retry_at);
        match self.token.as_ref().filter(|token| token.is_good(now)) {
            // After a failure the next attempt waits, and the token is used to its end.
            Some(token) if failure.is_some() => {
                Lookup::Token { token: Arc::clone(token), is_due: false }
            }
            Some(token) if token.is_usable(now) => Lookup::Token {
                token: Arc::clone(token),
                is_due: token.refresh.has_passed(now) && !token.is_refused(),
            },
            _ => failure.map_or(Lookup::Absent, |failure| Lookup::Failed(failure.error_at(now))),
        }
    }

    /// Number of failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failure| failure.count)
    }
}

impl Token {
    // G401: its times are measured, so that a token from under a wrong clock is used no longer.
    pub(super) fn new(
        credential: Credential,
        now: Reading,
        lifetime: Duration,
        forced: bool,
    ) -> Self {
        let (grant, version) =
            credential.grant().map_or(("", 0), |(grant, version)| (grant.as_str(), version));
        let refresh_after = lifetime::refresh_after(lifetime, version, grant);
        Self {
            ends: Deadline::after(now, lifetime),
            usable: Deadline::after(now, lifetime::usable_for(lifetime)),
            refresh: Deadline::after(now, refresh_after),
            forced_until: forced.then(|| now.moment.plus(BETWEEN_FORCED)),
            credential,
            refused: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
        }
    }

    /// Marks that the upstream refused the token, and whether it had accepted it before.
    pub(super) fn refuse(&self, was_accepted: bool) {
        self.accepted.fetch_or(was_accepted, Ordering::AcqRel);
        self.refused.store(true, Ordering::Release);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Whether the token has not ended and was not refused. A refused token that itself replaced a
    /// refused one stays good for a while: a caller that receives it again sees that it is the
    /// same, and no third token is requested so soon. Unless the upstream had accepted it: then it
    /// has ended meanwhile.
    pub(super) fn is_good(&self, now: Reading) -> bool {
        let kept_though_refused = self.forced_until.is_some_and(|until| now.moment < until)
            && !self.accepted.load(Ordering::Acquire);
        !self.ends.has_passed(now) && (!self.is_refused() || kept_though_refused)
    }

    fn is_usable(&self, now: Reading) -> bool {
        !self.usable.has_passed(now)
    }
}

impl Failure {
    /// Returns the error for a caller at this moment.
    pub(super) fn error_at(&self, now: Reading) -> CredentialError {
        if matches!(self.no, CredentialError::Unavailable { .. }) {
            return CredentialError::Unavailable {
                retry_after: Some(now.moment.until(self.retry_at)),
            };
        }
        self.no.clone()
    }
}
