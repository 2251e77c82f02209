//! Cache entry: the current token and the last failure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_token_broker::{
    clock::Timestamp,
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
    obtained_at: Timestamp,
    expires_at: Timestamp,
    refresh_at: Timestamp,
    /// Whether it replaced a token that the upstream refused.
    forced: bool,
    refused: AtomicBool,
}

/// Last failure, the number of failures in a row, and the time of the next attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) no: CredentialError,
    pub(super) count: u32,
    pub(super) retry_at: Timestamp,
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
    pub(super) fn lookup(&self, now: Timestamp) -> Lookup {
        let failure = self.failure.as_ref().filter(|failure| now < failure.retry_at);
        match self.token.as_ref().filter(|token| token.is_good(now)) {
            // After a failure the next attempt waits, and the token is used to its end.
            Some(token) if failure.is_some() => {
                Lookup::Token { token: Arc::clone(token), is_due: false }
            }
            Some(token) if token.is_usable(now) => Lookup::Token {
                token: Arc::clone(token),
                is_due: now >= token.refresh_at && !token.is_refused(),
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
    pub(super) fn new(
        credential: Credential,
        obtained_at: Timestamp,
        lifetime: Duration,
        forced: bool,
    ) -> Self {
        let expires_at = obtained_at.plus(lifetime);
        let (grant, version) =
            credential.grant().map_or(("", 0), |(grant, version)| (grant.as_str(), version));
        let refresh_at = lifetime::refresh_at(obtained_at, expires_at, version, grant);
        Self {
            credential,
            obtained_at,
            expires_at,
            refresh_at,
            forced,
            refused: AtomicBool::new(false),
        }
    }

    /// Marks that the upstream refused the token.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Whether the token has not ended and was not refused. A refused token that itself replaced a
    /// refused one stays good for a while: a caller that receives it again sees that it is the
    /// same, and no third token is requested so soon.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        let kept_though_refused = self.forced && now < self.obtained_at.plus(BETWEEN_FORCED);
        now < self.expires_at && (!self.is_refused() || kept_though_refused)
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        now < lifetime::usable_until(self.obtained_at, self.expires_at)
    }
}

impl Failure {
    /// Returns the error for a caller at this time.
    pub(super) fn error_at(&self, now: Timestamp) -> CredentialError {
        if matches!(self.no, CredentialError::Unavailable { .. }) {
            return CredentialError::Unavailable { retry_after: Some(now.until(self.retry_at)) };
        }
        self.no.clone()
    }
}
