//! One attempt to get a token: what runs in the owned task.
//!
//! The order is: look again, a place, what is presented, durable intent, POST, judgement, memory.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use token_broker_outbound::{FetchError, Sent};
use tower_token_broker::{
    audit::{Intent, RefreshOutcome, Trail},
    clock::Timestamp,
    exchange::{Credential, CredentialError, Origin},
    principal::Principal,
};

use super::{
    Ask,
    provider::{Landed, Shared, Wanted, grant_of},
    slot::{AtHand, Failure, Slot, Token},
};
use crate::{
    authorization_server::{Answer, Denial, Tokens, Wider},
    lifetime,
};

/// Since when, and until when, nobody is asked for anyone: the server does not know the broker, wants it to slow down, or is not
/// there. What may be due to the one who asked is remembered for that one alone, or one user could lock out all others.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    until: Option<Timestamp>,
}

/// Longest time that one answer holds up those who had no part in it.
const LONGEST_FOR_ALL: Duration = Duration::from_secs(60);

impl Pause {
    /// Many that fail at once are one failure. A server that limits one user names a time, too: nobody else waits for long.
    fn extend(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        let retry_after = retry_after.map(|after| after.min(LONGEST_FOR_ALL));
        if self.until.is_none_or(|until| now >= until) {
            self.until = Some(lifetime::retry_at(self.failures, now, retry_after));
            self.failures = self.failures.saturating_add(1);
        } else if retry_after.is_some() {
            self.until = self.until.max(Some(lifetime::retry_at(0, now, retry_after)));
        }
    }
}

pub(super) struct Attempt<'a, A> {
    shared: &'a Shared<A>,
    wanted: &'a Wanted,
    caller: &'a Principal,
    trail: &'a Trail,
}

/// Why there is no token.
struct Failed {
    no: CredentialError,
    cause: &'static str,
    outcome: RefreshOutcome,
    retry_after: Option<Duration>,
    whose: Whose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It may be due to who asked.
    Callers,
    /// The server said no to who asked: what it gave before is not used any more, either.
    Denied,
    /// It would be the same for everyone.
    Everyones,
}

impl<'a, A: Ask> Attempt<'a, A> {
    /// How long a place at the token endpoint, or a token of the operator's source, is waited for.
    const STEP: Duration = Duration::from_secs(5);

    pub(super) const fn new(
        shared: &'a Shared<A>,
        wanted: &'a Wanted,
        caller: &'a Principal,
        trail: &'a Trail,
    ) -> Self {
        Self { shared, wanted, caller, trail }
    }

    pub(super) async fn run(&self) -> Landed {
        let slot = self.shared.slots.get(&self.wanted.key).map_or_else(Slot::default, |slot| Slot::clone(&slot));
        // Somebody landed between the caller's look and this flight.
        match slot.at_hand(self.now()) {
            AtHand::Token { token, is_due: false } => return Ok(token),
            AtHand::No(no) => return Err(no),
            AtHand::Token { .. } | AtHand::Nothing => {}
        }
        if let Some(until) = self.paused() {
            return self
                .without_asking(&slot, CredentialError::Unavailable { retry_after: Some(self.now().until(until)) });
        }
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let Ok(Ok(_place)) = tokio::time::timeout(Self::STEP, self.shared.places.acquire()).await else {
            return self.without_asking(&slot, unavailable());
        };
        let request = self.shared.ask.request(&self.shared.server, self.caller, &self.wanted.asked, self.now());
        let request = match tokio::time::timeout(Self::STEP, request).await {
            Ok(Ok(request)) => request,
            Ok(Err(no)) => return self.without_asking(&slot, no),
            Err(_) => return self.without_asking(&slot, unavailable()),
        };
        let version = self.shared.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let grant = grant_of(&self.wanted.key);
        let origin = Origin::of(request.uri());
        let intent = Intent::new(
            self.shared.upstream.name(),
            origin.as_ref().map_or("", Origin::as_str),
            &self.wanted.asked,
            Some((&grant, version)),
        );
        let Ok(receipt) = self.trail.refresh_intent(intent).await else {
            return self.without_asking(&slot, unavailable());
        };
        let answer = Answer::to(request, &self.shared.client, &self.shared.clock).await;
        let forced = slot.token.as_ref().is_some_and(|token| token.is_refused());
        match self.judge(answer) {
            Ok(tokens) => {
                receipt.finish(RefreshOutcome::Refreshed);
                *self.shared.pause.lock() = Pause::default();
                let scopes = tokens.scopes.unwrap_or_else(|| self.wanted.asked.clone());
                let now = self.now();
                let credential = Credential::vouch(tokens.access_token, self.shared.upstream.origin().clone())
                    .with_scopes(scopes)
                    .from_grant(grant, version)
                    .until(now.plus(tokens.lifetime));
                let token = Arc::new(Token::new(credential, now, tokens.lifetime, forced));
                self.keep(Slot { token: Some(Arc::clone(&token)), failure: None });
                Ok(token)
            }
            Err(failed) => {
                receipt.finish(failed.outcome);
                self.remember(slot, failed)
            }
        }
    }

    /// What of the answer can be used.
    fn judge(&self, answer: Result<Answer, FetchError>) -> Result<Tokens, Failed> {
        let tokens = match answer {
            Ok(Answer::Tokens(tokens)) => tokens,
            Ok(Answer::Denied { denial, retry_after }) => {
                let whose = if denial == Denial::Client { Whose::Everyones } else { Whose::Denied };
                let no = self.shared.ask.denied(denial, &self.wanted.need);
                return Err(Failed { no, retry_after, whose, ..Failed::because(denial.what()) });
            }
            Ok(Answer::Failed { what, retry_after }) => {
                // Who names a time to come back speaks to the broker, not of one user.
                let whose = if retry_after.is_some() { Whose::Everyones } else { Whose::Callers };
                return Err(Failed { retry_after, whose, ..Failed::because(what) });
            }
            Err(error) => {
                let (outcome, whose) = match error.sent() {
                    Sent::No => (RefreshOutcome::Failed, Whose::Everyones),
                    Sent::Maybe => (RefreshOutcome::Unknown, Whose::Callers),
                };
                return Err(Failed { outcome, whose, ..Failed::because(error.code()) });
            }
        };
        if !self.shared.ask.accepts(&tokens) {
            return Err(Failed::because("a token of another kind than was asked for"));
        }
        let (asked, server) = (&self.wanted.asked, self.shared.upstream.name());
        // Where no scope was asked for, the server's own choice is what was asked for.
        let wider = !asked.is_empty() && tokens.scopes.as_ref().is_some_and(|scopes| !asked.contains_all(scopes));
        if wider && self.shared.server.wider() == Wider::Refused {
            // Least scope: such a token is given to nobody.
            let no = CredentialError::RefusedByPolicy;
            return Err(Failed { no, ..Failed::because("a token with more scopes than it was asked for") });
        }
        if wider {
            tracing::error!(
                server.name = server,
                "the authorization server gave a token more scopes than it was asked for"
            );
        }
        if tokens.refresh_token.is_some() {
            tracing::warn!(server.name = server, grant = A::NAME, "a refresh token that nobody asked for was dropped");
        }
        Ok(tokens)
    }

    /// Nobody was asked, so nothing is remembered: the next call begins anew.
    fn without_asking(&self, slot: &Slot, no: CredentialError) -> Landed {
        match &slot.token {
            Some(token) if token.is_good(self.now()) => Ok(Arc::clone(token)),
            _ => Err(no),
        }
    }

    /// G155: nobody tries again before the time that the server named, or our own.
    fn remember(&self, slot: Slot, failed: Failed) -> Landed {
        let (now, count) = (self.now(), slot.failures());
        let retry_at = lifetime::retry_at(count, now, failed.retry_after);
        if failed.whose == Whose::Everyones {
            self.shared.pause.lock().extend(now, failed.retry_after);
        }
        let (server, grant, cause) = (self.shared.upstream.name(), A::NAME, failed.cause);
        // X10: one alarm for one streak of failures.
        if count == 0 {
            tracing::error!(server.name = server, grant, cause, "no access token was got");
        } else {
            tracing::debug!(server.name = server, grant, cause, "no access token was got, again");
        }
        let failure = Failure { no: failed.no, count: count.saturating_add(1), retry_at };
        let said = failure.said(now);
        let token = slot.token.filter(|_| failed.whose != Whose::Denied);
        let slot = Slot { token, failure: Some(failure) };
        let at_hand = slot.at_hand(now);
        self.keep(slot);
        match at_hand {
            AtHand::Token { token, .. } => Ok(token),
            AtHand::No(_) | AtHand::Nothing => Err(said),
        }
    }

    fn keep(&self, slot: Slot) {
        self.shared.slots.insert(self.wanted.key, Arc::new(slot));
    }

    fn paused(&self) -> Option<Timestamp> {
        let now = self.now();
        self.shared.pause.lock().until.filter(|until| now < *until)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

impl Failed {
    const fn because(cause: &'static str) -> Self {
        let no = CredentialError::Unavailable { retry_after: None };
        Self { no, cause, outcome: RefreshOutcome::Failed, retry_after: None, whose: Whose::Callers }
    }
}
