//! One look at a grant, and one refresh if it is due: what runs in the owned task.
//!
//! The order is what safety rests on: lease, durable intent, durable mark, POST, durable tokens, and only then is anyone
//! given anything.

use std::{sync::Arc, time::Duration};

use token_broker_outbound::{FetchError, Sent};
use token_broker_store::{
    AccessToken, Account, Attempt, AttemptOutcome, Grant, GrantKey, GrantState, GrantStore, Lease, LeaseOutcome,
    LeaseRequest, Renewal, StoreError,
};
use tower_token_broker::{
    audit::{Intent, RefreshOutcome, RefreshReceipt, Trail},
    clock::Timestamp,
    exchange::{CredentialError, Origin},
    principal::{Scopes, User},
};

use super::{
    cache::{self, Entry},
    provider::Shared,
};
use crate::{
    authorization_server::{Answer, Denial, TOKEN_ENDPOINT_TIMEOUT, Tokens, Wider},
    lifetime::{self, BETWEEN_FORCED},
    scopes,
};

/// What came of it; shared by all who wait.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Given(Arc<Entry>),
    /// The upstream has refused even the one that was got because it had refused the one before: no third is tried for.
    StillRefused(Arc<Entry>),
    None(CredentialError),
}

/// What somebody looks at the grant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A token to use now; one that is due is as good.
    Use,
    /// A new token in good time.
    Renew,
}

pub(super) struct Refresh<'a, S> {
    shared: &'a Shared<S>,
    user: &'a User,
    asked: &'a Scopes,
    trail: &'a Trail,
    purpose: Purpose,
}

/// What the next step is.
enum Next {
    Done(Outcome),
    /// Somebody else has changed the grant: look again.
    Again,
}

/// What the grant at hand allows.
enum Judged<'g> {
    Done(Outcome),
    /// Refresh; in the meantime, or if it fails, this token can be used.
    Refresh {
        fallback: Option<&'g AccessToken>,
        forced: bool,
    },
}

impl<'a, S: GrantStore> Refresh<'a, S> {
    /// Waits for another process that holds the lease, between two looks.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    /// How often a refresh token is sent without an answer.
    const MOST_OPEN_ATTEMPTS: u32 = 2;
    const AFTER_UNKNOWN: Duration = Duration::from_secs(30);

    pub(super) const fn new(
        shared: &'a Shared<S>,
        user: &'a User,
        asked: &'a Scopes,
        trail: &'a Trail,
        purpose: Purpose,
    ) -> Self {
        Self { shared, user, asked, trail, purpose }
    }

    pub(super) async fn run(&self) -> Outcome {
        // As long as a lease of another process may run, and a few changes.
        for _ in 0..220 {
            match self.step().await {
                Ok(Next::Done(outcome)) => return outcome,
                Ok(Next::Again) => {}
                Err(error) => {
                    tracing::error!(error = %error, "the store of the grants can't be asked");
                    return unavailable(None);
                }
            }
        }
        unavailable(None)
    }

    async fn step(&self) -> Result<Next, StoreError> {
        let Some(grant) = self.load().await? else { return Ok(Next::Done(connect_required())) };
        let now = self.shared.clock.now();
        let effective = scopes::common(self.asked, &grant.granted);
        let (fallback, forced) = match self.judge(&grant, &effective, now) {
            Judged::Done(outcome) => return Ok(Next::Done(outcome)),
            Judged::Refresh { fallback, forced } => (fallback, forced),
        };
        // Before the lease, which runs; whoever overtook us meanwhile has changed the version.
        let Ok(place) = self.shared.places.acquire().await else { return Ok(Next::Done(unavailable(None))) };
        let now = self.shared.clock.now();
        let request = LeaseRequest::new(&grant, now, now.plus(LEASE));
        match bounded(self.shared.store.lease(&request)).await? {
            LeaseOutcome::Stale => Ok(Next::Again),
            LeaseOutcome::Held(_) => {
                if let Some(token) = fallback {
                    return Ok(Next::Done(self.given(&grant, token)));
                }
                drop(place);
                tokio::time::sleep(Self::LOOK_AGAIN).await;
                Ok(Next::Again)
            }
            LeaseOutcome::Acquired(lease) => self.refresh(&grant, &lease, &effective, fallback, forced).await,
        }
    }

    fn judge<'g>(&self, grant: &'g Grant, effective: &Scopes, now: Timestamp) -> Judged<'g> {
        if grant.state != GrantState::Active {
            return Judged::Done(Outcome::None(CredentialError::Revoked { connect_url: None }));
        }
        // A token of another authorization server is for no one here, and least of all for this server (mix-up).
        if *grant.authorization_server != *self.shared.server.issuer() {
            return Judged::Done(connect_required());
        }
        if effective.is_empty() && !self.asked.is_empty() {
            let missing = self.asked.clone();
            return Judged::Done(Outcome::None(CredentialError::ScopeRequired { missing, connect_url: None }));
        }
        let token = grant.access.iter().find(|token| token.requested == *effective && now < token.expires_at);
        let refused = token.is_some_and(|token| self.given_entry(grant, token).is_refused());
        let fallback = token.filter(|_| !refused);
        if let Some(token) = fallback
            && now < cache::usable_until(token)
            && (self.purpose == Purpose::Use || now < cache::refresh_at(grant, token))
        {
            return Judged::Done(self.given(grant, token));
        }
        if let Some(token) = token.filter(|token| refused && token.forced)
            && now < token.obtained_at.plus(BETWEEN_FORCED)
        {
            return Judged::Done(Outcome::StillRefused(self.given_entry(grant, token)));
        }
        let else_fallback = |otherwise: Outcome| match fallback {
            Some(token) => Judged::Done(self.given(grant, token)),
            None => Judged::Done(otherwise),
        };
        if grant.refresh_token.is_none() {
            return else_fallback(connect_required());
        }
        if let Some(retry_at) = grant.backoff.retry_at.filter(|retry_at| *retry_at > now) {
            return else_fallback(unavailable(Some(now.until(retry_at))));
        }
        // X05: sent twice without an answer. A third time would look like a thief to a server that rotates.
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
        let Some(refresh_token) = &grant.refresh_token else { return Ok(Next::Done(connect_required())) };
        let now = self.shared.clock.now();
        let Ok(request) = self.shared.server.refresh_request(refresh_token, effective, now) else {
            tracing::error!(server.name = self.shared.upstream.name(), "the key of the broker as a client can't sign");
            return self.not_begun(grant, lease, fallback).await;
        };
        let origin = Origin::of(request.uri());
        let intent = Intent::new(
            self.shared.upstream.name(),
            origin.as_ref().map_or("", Origin::as_str),
            effective,
            Some((&grant.id, grant.version)),
        );
        let Ok(receipt) = self.trail.refresh_intent(intent).await else {
            return self.not_begun(grant, lease, fallback).await;
        };
        match bounded(store.mark_attempt(lease)).await {
            Ok(()) => {}
            Err(error) => {
                receipt.finish(RefreshOutcome::Failed);
                let overtaken = matches!(error, StoreError::Overtaken { .. });
                return if overtaken { Ok(Next::Again) } else { Err(error) };
            }
        }
        let answer = Answer::to(request, &self.shared.client, &self.shared.clock).await;
        let now = self.shared.clock.now();
        let failed = |what, retry_after| Ok(Answer::Failed { what, retry_after });
        let answer = match answer {
            // Whatever else it says no to, it says nothing about the grant.
            Ok(Answer::Denied { denial, retry_after }) if denial != Denial::Grant => failed(denial.what(), retry_after),
            answer => answer,
        };
        match answer {
            Ok(Answer::Tokens(tokens)) => self.keep(grant, lease, effective, fallback, forced, tokens, receipt).await,
            Ok(Answer::Denied { .. }) => self.invalid_grant(grant, lease, receipt).await,
            Ok(Answer::Failed { what, retry_after }) => {
                let retry_at = lifetime::retry_at(grant.backoff.failures, now, retry_after);
                let outcome = (AttemptOutcome::Responded, RefreshOutcome::Failed);
                self.failed(grant, lease, fallback, outcome, retry_at, what, receipt).await
            }
            Err(error) => {
                let usual = lifetime::retry_at(grant.backoff.failures, now, None);
                let (outcome, retry_at) = match (error, error.sent()) {
                    (_, Sent::No) => ((AttemptOutcome::NotSent, RefreshOutcome::Failed), usual),
                    (FetchError::Timeout(_) | FetchError::Failed(_), Sent::Maybe) => {
                        ((AttemptOutcome::Unknown, RefreshOutcome::Unknown), Self::after_unknown(fallback, now))
                    }
                    // X10: a redirect or a flood is a response, if a useless one.
                    (_, Sent::Maybe) => ((AttemptOutcome::Responded, RefreshOutcome::Failed), usual),
                };
                self.failed(grant, lease, fallback, outcome, retry_at, error.code(), receipt).await
            }
        }
    }

    /// No mark was made, so none is taken back: a mark of an earlier process stays.
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

    /// New tokens: durable first, then looked at.
    #[expect(clippy::too_many_arguments, reason = "all that one refresh knows")]
    async fn keep(
        &self,
        grant: &Grant,
        lease: &Lease,
        effective: &Scopes,
        fallback: Option<&AccessToken>,
        forced: bool,
        tokens: Tokens,
        receipt: RefreshReceipt,
    ) -> Result<Next, StoreError> {
        let now = self.shared.clock.now();
        let scopes = tokens.scopes.unwrap_or_else(|| effective.clone());
        let limit = if effective.is_empty() { &grant.granted } else { effective };
        let wider = !limit.is_empty() && !limit.contains_all(&scopes);
        if wider {
            tracing::error!(
                server.name = self.shared.upstream.name(),
                grant.id = grant.id.as_str(),
                "the authorization server gave a token more scopes than it was asked for"
            );
        }
        let expires_at = now.plus(tokens.lifetime);
        let mut access = AccessToken::new(tokens.access_token, scopes, now, expires_at);
        access.requested = effective.clone();
        access.forced = forced;
        let mut renewal = Renewal::new(tokens.refresh_token, Some(access));
        if wider && self.shared.server.wider() == Wider::Refused {
            // Least scope: the rotated refresh token is kept, the access token is given to nobody.
            renewal.access = None;
            renewal.backoff = grant.backoff.after_failure(lifetime::retry_at(grant.backoff.failures, now, None));
        }
        match self.store_durably(lease, &renewal).await {
            Ok(Some(stored)) => {
                receipt.finish(RefreshOutcome::Refreshed);
                let new = stored.access.iter().find(|token| token.version == stored.version);
                Ok(Next::Done(match (new, fallback) {
                    (Some(token), _) | (None, Some(token)) => self.given(&stored, token),
                    (None, None) => Outcome::None(CredentialError::RefusedByPolicy),
                }))
            }
            // Revoked or connected anew meanwhile: what is there now counts, and what came is dropped.
            Ok(None) => {
                receipt.finish(RefreshOutcome::Failed);
                Ok(Next::Again)
            }
            Err(error) => {
                tracing::error!(
                    error = %error,
                    grant.id = grant.id.as_str(),
                    "refreshed tokens could not be stored; the user may have to connect anew"
                );
                receipt.finish(RefreshOutcome::Unknown);
                Ok(Next::Done(unavailable(None)))
            }
        }
    }

    /// X06: a store that fails must not cost the user a rotated token, so it is asked for a minute. Callers stop waiting
    /// before; this task goes on, and as long as it does nobody in this process sends the old refresh token again.
    async fn store_durably(&self, lease: &Lease, renewal: &Renewal) -> Result<Option<Grant>, StoreError> {
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

    /// X11: believed only if the version that was sent is still the current one.
    async fn invalid_grant(&self, grant: &Grant, lease: &Lease, receipt: RefreshReceipt) -> Result<Next, StoreError> {
        let current = self.load().await;
        if matches!(&current, Ok(Some(current)) if current.version == lease.version)
            && bounded(self.shared.store.end(&grant.id, lease.version)).await?
        {
            receipt.finish(RefreshOutcome::GrantEnded);
            tracing::warn!(
                server.name = self.shared.upstream.name(),
                grant.id = grant.id.as_str(),
                "the authorization server ended the grant; the user must connect anew"
            );
            return Ok(Next::Done(Outcome::None(CredentialError::Revoked { connect_url: None })));
        }
        receipt.finish(RefreshOutcome::Failed);
        current.map(|_| Next::Again)
    }

    #[expect(clippy::too_many_arguments, reason = "all that one refresh knows")]
    async fn failed(
        &self,
        grant: &Grant,
        lease: &Lease,
        fallback: Option<&AccessToken>,
        (tried, recorded): (AttemptOutcome, RefreshOutcome),
        retry_at: Timestamp,
        cause: &'static str,
        receipt: RefreshReceipt,
    ) -> Result<Next, StoreError> {
        receipt.finish(recorded);
        let (server, id) = (self.shared.upstream.name(), grant.id.as_str());
        // X10: one alarm for one streak of failures.
        if grant.backoff.failures == 0 {
            tracing::error!(server.name = server, grant.id = id, cause, "a refresh failed; the grant is kept");
        } else {
            tracing::debug!(server.name = server, grant.id = id, cause, "a refresh failed again");
        }
        let attempt = Attempt::new(tried, grant.backoff.after_failure(retry_at));
        if let Err(error) = bounded(self.shared.store.release(lease, &attempt)).await {
            // The lease runs out by itself, and the mark of the attempt stays: on the safe side.
            tracing::error!(grant.id = id, error = %error, "the store of the grants can't note a failed refresh");
        }
        let wait = self.shared.clock.now().until(retry_at);
        let mut grant = grant.clone();
        grant.backoff = attempt.backoff;
        Ok(Next::Done(self.fallback_or_unavailable(&grant, fallback, Some(wait))))
    }

    /// The last try is kept for when it is needed, and for when the server may have come to itself.
    fn after_unknown(fallback: Option<&AccessToken>, now: Timestamp) -> Timestamp {
        let earliest = now.plus(Self::AFTER_UNKNOWN);
        fallback.map_or(earliest, |token| earliest.max(token.expires_at))
    }

    async fn load(&self) -> Result<Option<Grant>, StoreError> {
        let key = GrantKey::new(self.user.clone(), self.shared.upstream.name(), Account::default_account());
        bounded(self.shared.store.load(&key)).await
    }

    fn given_entry(&self, grant: &Grant, token: &AccessToken) -> Arc<Entry> {
        let refused = self.shared.refused_mark(&grant.id, token.version);
        let (origin, now) = (self.shared.upstream.origin(), self.shared.clock.now());
        Arc::new(Entry::new(grant, token, origin, now, refused))
    }

    fn given(&self, grant: &Grant, token: &AccessToken) -> Outcome {
        Outcome::Given(self.given_entry(grant, token))
    }

    fn fallback_or_unavailable(
        &self,
        grant: &Grant,
        fallback: Option<&AccessToken>,
        wait: Option<Duration>,
    ) -> Outcome {
        match fallback.filter(|token| self.shared.clock.now() < token.expires_at) {
            Some(token) => self.given(grant, token),
            None => unavailable(wait),
        }
    }
}

/// The page is that of a caller, and this outcome is for all who wait.
const fn connect_required() -> Outcome {
    Outcome::None(CredentialError::ConnectRequired { connect_url: None })
}

const fn unavailable(retry_after: Option<Duration>) -> Outcome {
    Outcome::None(CredentialError::Unavailable { retry_after })
}

async fn bounded<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(STEP, step).await.unwrap_or(Err(StoreError::Unreachable))
}

/// No step of a store takes longer, and one that does has failed.
const STEP: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(20);
// Whoever holds a lease is done with the POST before another may take it: asking for the lease, the intent (1.5 s by
// default), the mark and the POST come one after the other.
const _: () = assert!(LEASE.as_millis() > 2 * STEP.as_millis() + 1500 + TOKEN_ENDPOINT_TIMEOUT.as_millis());
