//! The owned task: loads a grant, and refreshes it if a refresh is due.
//!
//! Safety depends on the order: lease, durable intent, durable attempt marker, POST, durable
//! tokens. Only then do callers receive the access token. `attempt.rs` has the steps from the
//! intent on.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use token_broker_store::{
    AccessToken, Grant, GrantKey, GrantState, GrantStore, LeaseOutcome, LeaseRequest, StoreError,
};
use tower_token_broker::{
    Secret, alarm::Alarm, audit::Trail, clock::Reading, exchange::CredentialError,
    principal::Scopes,
};

use super::{
    attempt::Sending,
    cache::{self, Entry},
    provider::Shared,
};
use crate::{
    authorization_server::{AuthorizationServer, TOKEN_ENDPOINT_TIMEOUT},
    lifetime::LONGEST_WAIT,
    scopes,
};

/// Outcome of a flight, for all callers that wait for it.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Given(Arc<Entry>),
    /// The upstream refused the token, and no other is requested so soon after the last one.
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
    pub(super) shared: &'a Shared<S>,
    grant_key: &'a GrantKey,
    requested: &'a Scopes,
    pub(super) trail: &'a Trail,
    purpose: Purpose,
    /// Whether the server refused `scope` in this flight, so that it is left out only once.
    pub(super) scope_refused: AtomicBool,
}

/// Result of one step.
pub(super) enum Next {
    Done(Outcome),
    /// The grant changed meanwhile: load it again.
    Again,
}

/// Verdict on a loaded grant.
enum Judged<'g> {
    Done(Outcome),
    /// A refresh is due. The fallback can be used meanwhile, or if the refresh fails.
    Refresh {
        refresh_token: &'g Secret,
        fallback: Option<&'g AccessToken>,
        forced: bool,
    },
}

impl<'a, S: GrantStore> Refresh<'a, S> {
    /// Pause between two loads while another process holds the lease.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    /// Number of times that a refresh token is sent without a response.
    pub(super) const MOST_OPEN_ATTEMPTS: u32 = 2;

    pub(super) const fn new(
        shared: &'a Shared<S>,
        grant_key: &'a GrantKey,
        requested: &'a Scopes,
        trail: &'a Trail,
        purpose: Purpose,
    ) -> Self {
        let scope_refused = AtomicBool::new(false);
        Self { shared, grant_key, requested, trail, purpose, scope_refused }
    }

    pub(super) async fn run(&self) -> Outcome {
        // The length of another process's lease, and a few changes.
        for _ in 0..220 {
            match self.step().await {
                Ok(Next::Done(outcome)) => return outcome,
                Ok(Next::Again) => {}
                // O281: of this grant only. The user does not connect again: the key may return.
                Err(StoreError::Unreadable { grant }) => {
                    tracing::error!(
                        alarm = Alarm::GrantUnreadable.code(),
                        grant.id = grant.as_str(),
                        "the tokens of a grant cannot be decrypted; give the key that wrapped \
                         them, or revoke the grant so that the user can connect again"
                    );
                    return unavailable(None);
                }
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
        let Some(grant) = self.load().await? else {
            self.shared.hint_at_name(self.grant_key, self.trail).await;
            return Ok(Next::Done(connect_required()));
        };
        let now = self.shared.clock.read();
        let effective = scopes::common(self.requested, &grant.granted);
        let (refresh_token, fallback, forced) = match self.judge(&grant, &effective, now) {
            Judged::Done(outcome) => return Ok(Next::Done(outcome)),
            Judged::Refresh { refresh_token, fallback, forced } => {
                (refresh_token, fallback, forced)
            }
        };
        // Before the lease begins to run: the endpoint may have to be discovered.
        let Some(server) = self.authorization_server(&grant).await else {
            return Ok(Next::Done(self.fallback_or_unavailable(&grant, fallback, None)));
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
                let (refresh, grant, lease, effective) = (self, &grant, &lease, &effective);
                let server = &*server;
                Sending {
                    refresh,
                    server,
                    grant,
                    lease,
                    refresh_token,
                    effective,
                    fallback,
                    forced,
                }
                .run()
                .await
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
        if !grant.state.is_usable() {
            return Judged::Done(Outcome::None(CredentialError::Revoked));
        }
        if !self.shared.accepts(grant) {
            self.shared.hint_at_issuer(grant, self.trail);
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
        // I483, I515: no more tokens are requested than an upstream that means it needs.
        if let (Some(token), Some(seen)) = (token, &seen)
            && refused
            && !sightings.may_force(grant, seen, now)
        {
            return Judged::Done(Outcome::StillRefused(self.given_entry(grant, token)));
        }
        let else_fallback = |otherwise: Outcome| match fallback {
            Some(token) => Judged::Done(self.outcome_of(grant, token)),
            None => Judged::Done(otherwise),
        };
        let Some(refresh_token) = &grant.refresh_token else {
            return else_fallback(connect_required());
        };
        if let Some(pause) = sightings.pause(grant, now) {
            return else_fallback(match grant.state == GrantState::NeedsUser {
                true => connect_required(),
                false => unavailable(Some(pause.left(now))),
            });
        }
        // X05: sent twice without a response. To a server that rotates, a third time looks like
        // theft.
        if grant.open_attempts >= Self::MOST_OPEN_ATTEMPTS {
            return else_fallback(connect_required());
        }
        Judged::Refresh { refresh_token, fallback, forced: refused }
    }

    /// Loads the grant: under the name of the server, or else under a former name.
    pub(super) async fn load(&self) -> Result<Option<Grant>, StoreError> {
        let store = &self.shared.store;
        let found = bounded(store.load(self.grant_key)).await?;
        let (None, Some(connector)) = (&found, &self.shared.connector) else { return Ok(found) };
        for name in connector.former_names() {
            let GrantKey { user, account, .. } = self.grant_key;
            let key = GrantKey::new(user.clone(), &name, account.clone());
            if let Some(grant) = bounded(store.load(&key)).await? {
                return Ok(Some(grant));
            }
        }
        Ok(None)
    }

    /// Returns the authorization server of a grant.
    async fn authorization_server(&self, grant: &Grant) -> Option<Cow<'a, AuthorizationServer>> {
        match &self.shared.connector {
            None => Some(Cow::Borrowed(&self.shared.server)),
            Some(connector) => {
                let found =
                    tokio::time::timeout(LONGEST_WAIT, connector.authorization_server(grant));
                found.await.ok().flatten().map(Cow::Owned)
            }
        }
    }

    fn given_entry(&self, grant: &Grant, token: &AccessToken) -> Arc<Entry> {
        let (origin, now) = (self.shared.upstream.origin(), self.shared.clock.read());
        let sightings = &self.shared.sightings;
        let seen = sightings.token(&grant.id, token.version, now);
        let pause = sightings.pause(grant, now);
        let has_all = token.scopes.contains_all(self.requested);
        Arc::new(Entry::new(grant, (token, has_all), origin, (seen, pause), now))
    }

    pub(super) fn outcome_of(&self, grant: &Grant, token: &AccessToken) -> Outcome {
        Outcome::Given(self.given_entry(grant, token))
    }

    pub(super) fn fallback_or_unavailable(
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
            None if grant.state == GrantState::NeedsUser => connect_required(),
            None => unavailable(wait),
        }
    }
}

/// Has no connect page: the page is bound to one caller, and the outcome is for all that wait.
pub(super) const fn connect_required() -> Outcome {
    Outcome::None(CredentialError::ConnectRequired)
}

pub(super) const fn unavailable(retry_after: Option<Duration>) -> Outcome {
    Outcome::None(CredentialError::Unavailable { retry_after })
}

pub(super) async fn bounded<T>(
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(STEP, step).await.unwrap_or(Err(StoreError::Unreachable))
}

/// Timeout of one operation of a store.
const STEP: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(20);
// A lease outlives the POST: acquiring it, the intent (1.5 s by default), the mark and the POST
// follow one another.
const _: () =
    assert!(LEASE.as_millis() > 2 * STEP.as_millis() + 1500 + TOKEN_ENDPOINT_TIMEOUT.as_millis());
