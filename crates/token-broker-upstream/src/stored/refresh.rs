//! The owned task: loads a grant, and refreshes it if a refresh is due.
//!
//! Safety depends on the order: lease, durable intent, durable attempt marker, POST, durable
//! tokens. Only then do callers receive the access token.

use std::{sync::Arc, time::Duration};

use token_broker_outbound::{FetchError, Sent};
use token_broker_store::{
    AccessToken, Attempt, AttemptOutcome, Backoff, Grant, GrantKey, GrantState, GrantStore, Lease,
    LeaseOutcome, LeaseRequest, Renewal, StoreError,
};
use tower_token_broker::{
    alarm::Alarm,
    audit::{GrantType, Intent, TokenOutcome, TokenReceipt, Trail},
    clock::Reading,
    exchange::{CredentialError, Origin},
    principal::Scopes,
};

use super::{
    cache::{self, Entry},
    provider::Shared,
};
use crate::{
    authorization_server::{Denial, TOKEN_ENDPOINT_TIMEOUT, TokenResponse, Tokens, Wider},
    lifetime::{self, BETWEEN_FORCED, LONGEST_WAIT},
    scopes,
};

/// Outcome of a flight, for all callers that wait for it.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Given(Arc<Entry>),
    /// The upstream refused also the token that replaced a refused one. A third is not requested.
    StillRefused(Arc<Entry>),
    None(CredentialError),
}

/// Purpose of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A token for a call. It may be due for a refresh.
    Use,
    /// A new token, before the current one ends.
    Renew,
}

pub(super) struct Refresh<'a, S> {
    shared: &'a Shared<S>,
    grant_key: &'a GrantKey,
    requested: &'a Scopes,
    trail: &'a Trail,
    purpose: Purpose,
}

/// Result of one step.
enum Next {
    Done(Outcome),
    /// The grant changed meanwhile: load it again.
    Again,
}

/// Verdict on a loaded grant.
enum Judged<'g> {
    Done(Outcome),
    /// A refresh is due. The fallback can be used meanwhile, or if the refresh fails.
    Refresh {
        fallback: Option<&'g AccessToken>,
        forced: bool,
    },
}

impl<'a, S: GrantStore> Refresh<'a, S> {
    /// Pause between two loads while another process holds the lease.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    /// Number of times that a refresh token is sent without a response.
    const MOST_OPEN_ATTEMPTS: u32 = 2;
    const AFTER_UNKNOWN: Duration = Duration::from_secs(30);

    pub(super) const fn new(
        shared: &'a Shared<S>,
        grant_key: &'a GrantKey,
        requested: &'a Scopes,
        trail: &'a Trail,
        purpose: Purpose,
    ) -> Self {
        Self { shared, grant_key, requested, trail, purpose }
    }

    pub(super) async fn run(&self) -> Outcome {
        // The length of another process's lease, and a few changes.
        for _ in 0..220 {
            match self.step().await {
                Ok(Next::Done(outcome)) => return outcome,
                Ok(Next::Again) => {}
                Err(error) => {
                    tracing::error!(
                        alarm = Alarm::StoreUnavailable.code(),
                        error = %error,
                        "the grant store is not available"
                    );
                    return unavailable(None);
                }
            }
        }
        unavailable(None)
    }

    async fn step(&self) -> Result<Next, StoreError> {
        let Some(grant) = self.load().await? else { return Ok(Next::Done(connect_required())) };
        let now = self.shared.clock.read();
        let effective = scopes::common(self.requested, &grant.granted);
        let (fallback, forced) = match self.judge(&grant, &effective, now) {
            Judged::Done(outcome) => return Ok(Next::Done(outcome)),
            Judged::Refresh { fallback, forced } => (fallback, forced),
        };
        // Wait for a place before the lease begins to run. If another process refreshed the grant
        // meanwhile, its version has changed.
        let user = &self.grant_key.user;
        let Ok(place) = self.shared.places.enter(Some(user), LONGEST_WAIT).await else {
            return Ok(Next::Done(self.fallback_or_unavailable(&grant, fallback, None)));
        };
        match self.lease(&grant).await? {
            LeaseOutcome::Stale => Ok(Next::Again),
            LeaseOutcome::Held(_) => {
                if let Some(token) = fallback {
                    return Ok(Next::Done(self.outcome_of(&grant, token)));
                }
                drop(place);
                tokio::time::sleep(Self::LOOK_AGAIN).await;
                Ok(Next::Again)
            }
            LeaseOutcome::Acquired(lease) => {
                self.refresh(&grant, &lease, &effective, fallback, forced).await
            }
        }
    }

    /// Requests the lease. Two clocks decide about one that another process holds: it is over by
    /// its stored end, or when it was first seen here as long ago as a lease lasts.
    // G405: a clock that is ahead for a moment overtakes no lease, because two processes would send
    // the same refresh token. The end of our own lease is rather too late than too early.
    async fn lease(&self, grant: &Grant) -> Result<LeaseOutcome, StoreError> {
        let (store, clock) = (&self.shared.store, &self.shared.clock);
        let until = || clock.now().plus(LEASE);
        let mut request = LeaseRequest::new(grant, clock.cautious_now(), until());
        let outcome = bounded(store.lease(&request)).await?;
        if let LeaseOutcome::Held(held) = outcome
            && self.shared.sightings.lease_is_over(&grant.id, held, LEASE, clock.read())
        {
            (request.now, request.until) = (held, until());
            return bounded(store.lease(&request)).await;
        }
        Ok(outcome)
    }

    fn judge<'g>(&self, grant: &'g Grant, effective: &Scopes, now: Reading) -> Judged<'g> {
        if grant.state != GrantState::Active {
            return Judged::Done(Outcome::None(CredentialError::Revoked));
        }
        // Mix-up: a token of another authorization server must not be sent to this one.
        if *grant.authorization_server != *self.shared.server.issuer() {
            return Judged::Done(connect_required());
        }
        if effective.is_empty() && !self.requested.is_empty() {
            let missing = self.requested.clone();
            return Judged::Done(Outcome::None(CredentialError::ScopeRequired { missing }));
        }
        let sightings = &self.shared.sightings;
        let token = grant.access.iter().find(|token| {
            token.requested == *effective && !sightings.ends(grant, token, now).has_passed(now)
        });
        let seen = token.map(|token| sightings.token(&grant.id, token.version, now));
        let refused = seen.as_ref().is_some_and(|seen| seen.is_refused());
        let fallback = token.filter(|_| !refused);
        if let (Some(token), Some(seen)) = (fallback, &seen)
            && !cache::usable(seen, token, now).has_passed(now)
            && (self.purpose == Purpose::Use
                || !cache::refresh(seen, grant, token, now).has_passed(now))
        {
            return Judged::Done(self.outcome_of(grant, token));
        }
        if let (Some(token), Some(seen)) = (token.filter(|token| refused && token.forced), &seen)
            && !seen.after(token, BETWEEN_FORCED, now).has_passed(now)
        {
            return Judged::Done(Outcome::StillRefused(self.given_entry(grant, token)));
        }
        let else_fallback = |otherwise: Outcome| match fallback {
            Some(token) => Judged::Done(self.outcome_of(grant, token)),
            None => Judged::Done(otherwise),
        };
        if grant.refresh_token.is_none() {
            return else_fallback(connect_required());
        }
        if let Some(pause) = sightings.pause(grant, now) {
            return else_fallback(unavailable(Some(pause.left(now))));
        }
        // X05: sent twice without a response. To a server that rotates, a third time looks like
        // theft.
        if grant.open_attempts >= Self::MOST_OPEN_ATTEMPTS {
            return else_fallback(connect_required());
        }
        Judged::Refresh { fallback, forced: refused }
    }

    async fn refresh(
        &self,
        grant: &Grant,
        lease: &Lease,
        effective: &Scopes,
        fallback: Option<&AccessToken>,
        forced: bool,
    ) -> Result<Next, StoreError> {
        let store = &self.shared.store;
        let Some(refresh_token) = &grant.refresh_token else {
            return Ok(Next::Done(connect_required()));
        };
        let now = self.shared.clock.now();
        let Ok(request) = self.shared.server.refresh_request(refresh_token, effective, now) else {
            tracing::error!(
                alarm = Alarm::ClientAuthenticationFailed.code(),
                server.name = self.shared.upstream.name(),
                "the broker could not authenticate as a client"
            );
            return self.not_begun(grant, lease, fallback).await;
        };
        let origin = Origin::of(request.uri());
        let intent = Intent::new(
            self.shared.upstream.name(),
            origin.as_ref().map_or("", Origin::as_str),
            effective,
            Some((&grant.id, grant.version)),
        );
        let Ok(receipt) = self.trail.token_request(GrantType::RefreshToken, intent).await else {
            return self.not_begun(grant, lease, fallback).await;
        };
        match bounded(store.mark_attempt(lease)).await {
            Ok(()) => {}
            Err(error) => {
                receipt.finish(TokenOutcome::Failed);
                let overtaken = matches!(error, StoreError::Overtaken { .. });
                return if overtaken { Ok(Next::Again) } else { Err(error) };
            }
        }
        let response = TokenResponse::to(request, &self.shared.client, &self.shared.clock).await;
        let usual = lifetime::pause(grant.backoff.failures, None);
        let failed = |what, retry_after| Ok(TokenResponse::Failed { what, retry_after });
        let response = match response {
            // Any other refusal does not concern the grant.
            Ok(TokenResponse::Denied { denial, retry_after }) if denial != Denial::Grant => {
                failed(denial.what(), retry_after)
            }
            response => response,
        };
        match response {
            Ok(TokenResponse::Tokens(tokens)) => {
                self.keep(grant, lease, effective, fallback, forced, tokens, receipt).await
            }
            Ok(TokenResponse::Denied { .. }) => self.invalid_grant(grant, lease, receipt).await,
            Ok(TokenResponse::Failed { what, retry_after }) => {
                let pause = lifetime::pause(grant.backoff.failures, retry_after);
                let outcome = (AttemptOutcome::Responded, TokenOutcome::Failed);
                self.failed(grant, lease, fallback, outcome, (pause, pause), what, receipt).await
            }
            Err(error) => {
                let usual = (usual, usual);
                let (outcome, pause) = match (error, error.sent()) {
                    (_, Sent::No) => ((AttemptOutcome::NotSent, TokenOutcome::Failed), usual),
                    (FetchError::Timeout(_) | FetchError::Failed(_), Sent::Maybe) => (
                        (AttemptOutcome::Unknown, TokenOutcome::Unknown),
                        self.after_unknown(grant, fallback),
                    ),
                    // X10: a redirect or an oversized body is a response, but not a usable one.
                    (_, Sent::Maybe) => ((AttemptOutcome::Responded, TokenOutcome::Failed), usual),
                };
                self.failed(grant, lease, fallback, outcome, pause, error.code(), receipt).await
            }
        }
    }

    /// Ends a lease before the attempt was marked. The mark of an earlier process stays.
    async fn not_begun(
        &self,
        grant: &Grant,
        lease: &Lease,
        fallback: Option<&AccessToken>,
    ) -> Result<Next, StoreError> {
        let untouched = Attempt::new(AttemptOutcome::Unknown, grant.backoff);
        bounded(self.shared.store.release(lease, &untouched)).await?;
        Ok(Next::Done(self.fallback_or_unavailable(grant, fallback, None)))
    }

    /// Makes new tokens durable, then checks the rest of the response.
    #[expect(clippy::too_many_arguments, reason = "the facts of one refresh")]
    async fn keep(
        &self,
        grant: &Grant,
        lease: &Lease,
        effective: &Scopes,
        fallback: Option<&AccessToken>,
        forced: bool,
        tokens: Tokens,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let now = self.shared.clock.now();
        let scopes = tokens.scopes.unwrap_or_else(|| effective.clone());
        let limit = if effective.is_empty() { &grant.granted } else { effective };
        let wider = !limit.is_empty() && !limit.contains_all(&scopes);
        if wider {
            tracing::error!(
                alarm = Alarm::WiderScopes.code(),
                server.name = self.shared.upstream.name(),
                grant.id = grant.id.as_str(),
                "the authorization server issued a token with more scopes than requested"
            );
        }
        let expires_at = now.plus(tokens.lifetime);
        let mut access = AccessToken::new(tokens.access_token, scopes, now, expires_at);
        access.requested = effective.clone();
        access.forced = forced;
        let mut renewal = Renewal::new(tokens.refresh_token, Some(access));
        if wider && self.shared.server.wider() == Wider::Refused {
            // Least scope: keep the rotated refresh token, and do not use the access token.
            renewal.access = None;
            let pause = lifetime::pause(grant.backoff.failures, None);
            renewal.backoff = self.pause_began(grant, (pause, pause));
        }
        match self.store_durably(lease, &renewal).await {
            Ok(Some(stored)) => {
                receipt.finish(TokenOutcome::Issued);
                let new = stored.access.iter().find(|token| token.version == stored.version);
                Ok(Next::Done(match (new, fallback) {
                    (Some(token), _) | (None, Some(token)) => self.outcome_of(&stored, token),
                    (None, None) => Outcome::None(CredentialError::RefusedByPolicy),
                }))
            }
            // Revoked or reconnected meanwhile: the current grant counts, and the tokens are
            // dropped.
            Ok(None) => {
                receipt.finish(TokenOutcome::Failed);
                Ok(Next::Again)
            }
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::TokensNotStored.code(),
                    error = %error,
                    grant.id = grant.id.as_str(),
                    "refreshed tokens could not be stored: the user may have to reconnect"
                );
                receipt.finish(TokenOutcome::Unknown);
                Ok(Next::Done(unavailable(None)))
            }
        }
    }

    /// Stores new tokens, and retries for a minute. Callers stop waiting earlier. While this task
    /// runs, this process does not send the old refresh token again.
    // X06: a failing store must not lose a rotated token.
    async fn store_durably(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..35 {
            match bounded(self.shared.store.complete(lease, renewal)).await {
                Err(StoreError::Unreachable) => tokio::time::sleep(pause).await,
                stored => return stored,
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        bounded(self.shared.store.complete(lease, renewal)).await
    }

    /// Ends the grant, but only if the version that was sent is still the current one.
    // X11: another replica may have stored newer tokens.
    async fn invalid_grant(
        &self,
        grant: &Grant,
        lease: &Lease,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let current = self.load().await;
        if matches!(&current, Ok(Some(current)) if current.version == lease.version)
            && bounded(self.shared.store.end(&grant.to_ref(), lease.version)).await?
        {
            receipt.finish(TokenOutcome::GrantEnded);
            tracing::warn!(
                alarm = Alarm::GrantEnded.code(),
                server.name = self.shared.upstream.name(),
                grant.id = grant.id.as_str(),
                "the authorization server ended the grant; the user must reconnect"
            );
            return Ok(Next::Done(Outcome::None(CredentialError::Revoked)));
        }
        receipt.finish(TokenOutcome::Failed);
        current.map(|_| Next::Again)
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one refresh")]
    async fn failed(
        &self,
        grant: &Grant,
        lease: &Lease,
        fallback: Option<&AccessToken>,
        (tried, recorded): (AttemptOutcome, TokenOutcome),
        pause: (Duration, Duration),
        cause: &'static str,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        receipt.finish(recorded);
        let (server, id) = (self.shared.upstream.name(), grant.id.as_str());
        // X10: one error per streak of failures.
        if grant.backoff.failures == 0 {
            tracing::error!(
                alarm = Alarm::TokenRequestFailed.code(),
                server.name = server,
                grant.id = id,
                cause,
                "a refresh failed; the grant is kept"
            );
        } else {
            tracing::debug!(server.name = server, grant.id = id, cause, "a refresh failed again");
        }
        let attempt = Attempt::new(tried, self.pause_began(grant, pause));
        if let Err(error) = bounded(self.shared.store.release(lease, &attempt)).await {
            // Safe: the lease expires, and the mark of the attempt stays.
            tracing::error!(
                alarm = Alarm::TokensNotStored.code(),
                grant.id = id,
                error = %error,
                "a failed refresh could not be stored"
            );
        }
        let mut grant = grant.clone();
        grant.backoff = attempt.backoff;
        Ok(Next::Done(self.fallback_or_unavailable(&grant, fallback, Some(pause.1))))
    }

    /// Returns the pause before the last attempt, at least and in all: until the current token has
    /// ended, because only then it is needed, and not before the server had time to recover.
    fn after_unknown(&self, grant: &Grant, fallback: Option<&AccessToken>) -> (Duration, Duration) {
        let now = self.shared.clock.read();
        let left = fallback.map(|token| self.shared.sightings.ends(grant, token, now).left(now));
        (Self::AFTER_UNKNOWN, Self::AFTER_UNKNOWN.max(left.unwrap_or_default()))
    }

    /// Notes a pause that begins now, and returns what others see of it.
    fn pause_began(&self, grant: &Grant, (at_least, wait): (Duration, Duration)) -> Backoff {
        // Of a clock that is ahead for a moment, others see nothing.
        let retry_at = self.shared.clock.cautious_now().plus(wait);
        let now = self.shared.clock.read();
        self.shared.sightings.pause_began(&grant.id, retry_at, (at_least, wait), now);
        grant.backoff.after_failure(retry_at)
    }

    async fn load(&self) -> Result<Option<Grant>, StoreError> {
        bounded(self.shared.store.load(self.grant_key)).await
    }

    fn given_entry(&self, grant: &Grant, token: &AccessToken) -> Arc<Entry> {
        let (origin, now) = (self.shared.upstream.origin(), self.shared.clock.read());
        let sightings = &self.shared.sightings;
        let seen = sightings.token(&grant.id, token.version, now);
        let pause = sightings.pause(grant, now);
        Arc::new(Entry::new(grant, token, origin, (seen, pause), now))
    }

    fn outcome_of(&self, grant: &Grant, token: &AccessToken) -> Outcome {
        Outcome::Given(self.given_entry(grant, token))
    }

    fn fallback_or_unavailable(
        &self,
        grant: &Grant,
        fallback: Option<&AccessToken>,
        wait: Option<Duration>,
    ) -> Outcome {
        let now = self.shared.clock.read();
        let is_valid =
            |token: &&AccessToken| !self.shared.sightings.ends(grant, token, now).has_passed(now);
        match fallback.filter(is_valid) {
            Some(token) => self.outcome_of(grant, token),
            None => unavailable(wait),
        }
    }
}

/// Has no connect page: the page is bound to one caller, and the outcome is for all that wait.
const fn connect_required() -> Outcome {
    Outcome::None(CredentialError::ConnectRequired)
}

const fn unavailable(retry_after: Option<Duration>) -> Outcome {
    Outcome::None(CredentialError::Unavailable { retry_after })
}

async fn bounded<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(STEP, step).await.unwrap_or(Err(StoreError::Unreachable))
}

/// Timeout of one operation of a store.
const STEP: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(20);
// A lease outlives the POST: acquiring it, the intent (1.5 s by default), the mark and the POST
// follow one another.
const _: () =
    assert!(LEASE.as_millis() > 2 * STEP.as_millis() + 1500 + TOKEN_ENDPOINT_TIMEOUT.as_millis());
