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
    /// Set if it replaced a token that the upstream refused.
    forced: Option<Forced>,
    refused: AtomicBool,
    /// Whether the upstream had accepted it before it refused it.
    accepted: AtomicBool,
}

/// Tokens that replaced refused ones, in a period that began with the first of them.
#[derive(Clone, Copy, Debug)]
struct Forced {
    until: Moment,
    count: u32,
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
        replaced: Option<&Self>,
    ) -> Self {
        let (grant, version) =
            credential.grant().map_or(("", 0), |(grant, version)| (grant.as_str(), version));
        let refresh_after = lifetime::refresh_after(lifetime, version, grant);
        Self {
            ends: Deadline::after(now, lifetime),
            usable: Deadline::after(now, lifetime::usable_for(lifetime)),
            refresh: Deadline::after(now, refresh_after),
            forced: replaced.filter(|token| token.is_refused()).map(|token| token.next(now)),
            credential,
            refused: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
        }
    }

    /// Returns the record of a token that replaces this one, which was refused.
    fn next(&self, now: Reading) -> Forced {
        match self.forced.filter(|forced| now.moment < forced.until) {
            Some(Forced { until, count }) => Forced { until, count: count.saturating_add(1) },
            None => Forced { until: now.moment.plus(BETWEEN_FORCED), count: 1 },
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
    /// has ended meanwhile, and is replaced again.
    // I515: an upstream that accepts a token here and refuses it there causes no more.
    pub(super) fn is_good(&self, now: Reading) -> bool {
        let most = lifetime::most_forced(self.accepted.load(Ordering::Acquire));
        let kept_though_refused =
            self.forced.is_some_and(|forced| now.moment < forced.until && forced.count >= most);
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

#[cfg(test)]
mod tests {
    use tower_token_broker::{
        Secret,
        clock::{Clock, Timestamp},
        exchange::Upstream,
    };

    use super::*;

    #[test]
    fn i515_a_refused_token_is_replaced_once_and_a_second_time_if_it_was_accepted() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let upstream = Upstream::parse("crm", "https://mcp.crm.example/mcp").unwrap();
        let token = |replaced: Option<&Token>| {
            let secret = Secret::from_text("token".into());
            let credential = Credential::vouch(secret, upstream.origin().clone());
            Token::new(credential, clock.read(), Duration::from_secs(3600), replaced)
        };
        let refused = |token: Token, was_accepted| {
            token.refuse(was_accepted);
            token
        };
        for (accepted, replacements) in [
            (&[false, false][..], 1),
            (&[true, false], 1),
            (&[true, true, true, true], 2),
            (&[true, true, false], 2),
            (&[false, true, true], 2),
        ] {
            let mut current = token(None);
            let mut replaced = 0;
            for was_accepted in accepted {
                current = refused(current, *was_accepted);
                if !current.is_good(clock.read()) {
                    current = token(Some(&current));
                    replaced += 1;
                }
            }
            assert_eq!(replaced, replacements, "I515 {accepted:?}");
        }
        let first = refused(token(Some(&refused(token(None), true))), true);
        let second = refused(token(Some(&first)), true);
        assert!(second.is_good(clock.read()), "I515");
        clock.advance(BETWEEN_FORCED);
        assert!(!second.is_good(clock.read()), "I515: after the period, again");
        // A token that replaces one that was not refused is not counted.
        assert!(!refused(token(Some(&token(None))), false).is_good(clock.read()));
    }
}
