//! One attempt under a lease: sends the refresh token, keeps what the response contains, and stores
//! the outcome.

use std::{sync::atomic::Ordering, time::Duration};

use token_broker_outbound::{FetchError, Sent};
use token_broker_store::{
    AccessToken, Attempt, AttemptOutcome, Backoff, Grant, GrantState, GrantStore, Lease, Renewal,
    RepeatedRefusal, StoreError,
    connect::{RevokedToken, RevokedTokenKind},
};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{GrantType, Intent, TokenOutcome, TokenReceipt},
    exchange::{CredentialError, Origin},
    principal::Scopes,
};

use super::{
    provider::Shared,
    refresh::{Next, Outcome, Refresh, bounded, unavailable},
};
use crate::{
    authorization_server::{
        AuthorizationServer, Denial, NoTokens, Problem, ScopeOnRefresh, TokenResponse, Tokens,
        Wider,
    },
    lifetime, scopes,
};

/// The refresh of one version of a grant, by the holder of its lease.
pub(super) struct Sending<'a, S> {
    pub(super) refresh: &'a Refresh<'a, S>,
    /// The authorization server of the grant.
    pub(super) server: &'a AuthorizationServer,
    pub(super) grant: &'a Grant,
    pub(super) lease: &'a Lease,
    /// The refresh token of the grant.
    pub(super) refresh_token: &'a Secret,
    /// Scopes that the new token must not exceed.
    pub(super) effective: &'a Scopes,
    /// The token that is used if there is no new one.
    pub(super) fallback: Option<&'a AccessToken>,
    /// Whether the upstream refused the current token.
    pub(super) forced: bool,
}

/// An attempt without new tokens.
struct Failure {
    problem: Problem,
    tried: AttemptOutcome,
    recorded: TokenOutcome,
    /// Time until the next attempt: at least, and in all.
    pause: (Duration, Duration),
    /// Since when the server refuses the grant. A failure of another kind leaves it as it is.
    refused: Option<RepeatedRefusal>,
    /// Whether only the user can help.
    needs_user: bool,
}

/// How long refusals must last while the server accepts other grants.
const LASTING_WITH_SUCCESSES: Duration = Duration::from_secs(3600);
/// How long ago the server may have accepted another grant for that.
const RECENT_SUCCESS: Duration = Duration::from_secs(3600);
/// How long they must last otherwise.
const LASTING: Duration = Duration::from_secs(3 * 24 * 3600);
/// Time between two attempts for a grant that needs the user.
const NEEDS_USER_PAUSE: Duration = Duration::from_secs(3600);

impl<S: GrantStore> Sending<'_, S> {
    const AFTER_UNKNOWN: Duration = Duration::from_secs(30);

    pub(super) async fn run(&self) -> Result<Next, StoreError> {
        let (shared, grant) = (self.shared(), self.grant);
        let now = shared.clock.now();
        let none = Scopes::none();
        // Once: what is remembered may end before the response arrives.
        let scope = self.scope_on_refresh();
        let sent = match scope {
            ScopeOnRefresh::Sent => self.effective,
            ScopeOnRefresh::Omitted => &none,
        };
        let Ok(request) = self.server.refresh_request(self.refresh_token, sent, now) else {
            tracing::error!(
                alarm = Alarm::ClientAuthenticationFailed.code(),
                server.name = shared.upstream.name(),
                "the broker could not authenticate as a client"
            );
            return self.not_begun().await;
        };
        let origin = Origin::of(request.uri());
        let intent = Intent::new(
            shared.upstream.name(),
            origin.as_ref().map_or("", Origin::as_str),
            self.effective,
            Some((&grant.id, grant.version)),
        );
        let trail = self.refresh.trail;
        let Ok(receipt) = trail.token_request(GrantType::RefreshToken, intent).await else {
            return self.not_begun().await;
        };
        match bounded(shared.store.mark_attempt(self.lease)).await {
            Ok(()) => {}
            Err(error) => {
                receipt.finish(TokenOutcome::Failed);
                let overtaken = matches!(error, StoreError::Overtaken { .. });
                return if overtaken { Ok(Next::Again) } else { Err(error) };
            }
        }
        let response = TokenResponse::to(
            request,
            self.effective,
            self.server.codes(),
            (&shared.client, self.server.timeout()),
            &shared.clock,
        );
        match response.await {
            Ok(response) => {
                let (rotated, tokens) = response.into_parts();
                self.keep(rotated, tokens, scope, receipt).await
            }
            Err(error) => self.failed(self.without_response(error), receipt).await,
        }
    }

    /// Makes durable what a response contains, the refresh token whatever else it states, and then
    /// handles the rest.
    // E119, design 10: a rotated refresh token is never lost to another member.
    async fn keep(
        &self,
        rotated: Option<Secret>,
        tokens: Result<Tokens, NoTokens>,
        scope: ScopeOnRefresh,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        // G482: a server may not know the parameter at a refresh.
        let refuses_scope = matches!(tokens, Err(NoTokens::Denied { denial: Denial::Scopes, .. }))
            && scope == ScopeOnRefresh::Sent;
        if refuses_scope {
            self.refresh.scope_refused.store(true, Ordering::Relaxed);
            return self.again_without_scope(rotated, receipt).await;
        }
        match (rotated, tokens) {
            (rotated, Ok(tokens)) => self.use_tokens(rotated, tokens, scope, receipt).await,
            (Some(rotated), Err(refused)) => self.keep_rotated(rotated, &refused, receipt).await,
            (None, Err(NoTokens::Denied { denial: Denial::Grant, problem, .. })) => {
                self.invalid_grant(&problem, receipt).await
            }
            (None, Err(refused)) => {
                self.note_client(&refused);
                self.failed(self.refused(&refused), receipt).await
            }
        }
    }

    /// Notes that the server does not accept the client that obtained the grant.
    fn note_client(&self, refused: &NoTokens) {
        let is_of_client = matches!(refused, NoTokens::Denied { denial: Denial::Client, .. });
        if let (true, Some(connector)) = (is_of_client, &self.shared().connector) {
            connector.forget_client(self.grant);
        }
    }

    /// Ends a lease before the attempt was marked. The mark of an earlier process stays.
    async fn not_begun(&self) -> Result<Next, StoreError> {
        let untouched =
            Attempt::new(AttemptOutcome::Unknown, self.grant.backoff).refused(self.grant.refused);
        bounded(self.shared().store.release(self.lease, &untouched)).await?;
        Ok(Next::Done(self.refresh.fallback_or_unavailable(self.grant, self.fallback, None)))
    }

    /// Returns whether the request has `scope`.
    fn scope_on_refresh(&self) -> ScopeOnRefresh {
        let shared = self.shared();
        let is_omitted = self.effective.is_empty()
            || self.refresh.scope_refused.load(Ordering::Relaxed)
            || shared.sightings.omits_scope(&self.grant.id, self.effective, shared.clock.read());
        match is_omitted {
            true => ScopeOnRefresh::Omitted,
            false => self.server.scope_on_refresh(),
        }
    }

    /// Ends the lease so that the next attempt follows at once. It takes all steps again.
    async fn again_without_scope(
        &self,
        rotated: Option<Secret>,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let Some(rotated) = rotated else {
            receipt.finish(TokenOutcome::Failed);
            let attempt = Attempt::new(AttemptOutcome::Responded, self.grant.backoff)
                .refused(self.grant.refused);
            bounded(self.shared().store.release(self.lease, &attempt)).await?;
            return Ok(Next::Again);
        };
        let mut renewal = Renewal::new(Some(rotated), None);
        (renewal.state, renewal.backoff) = (self.grant.state, self.grant.backoff);
        renewal.refused = self.grant.refused;
        let stored = self.make_durable(&renewal, TokenOutcome::Failed, receipt).await;
        Ok(stored.map_or_else(|next| next, |_| Next::Again))
    }

    /// Returns the scopes of a token for which the server names none: those that were requested
    /// (RFC 6749 §5.1), or if none were, all that the user agreed to (§6).
    fn unnamed_scopes(&self, scope: ScopeOnRefresh) -> Scopes {
        match scope == ScopeOnRefresh::Sent || self.effective.is_empty() {
            true => self.effective.clone(),
            false => self.grant.granted.clone(),
        }
    }

    /// Stores new tokens, unless they have more scopes than they may.
    async fn use_tokens(
        &self,
        rotated: Option<Secret>,
        tokens: Tokens,
        scope: ScopeOnRefresh,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let (shared, grant) = (self.shared(), self.grant);
        let now = shared.clock.now();
        let named = tokens.scopes.unwrap_or_else(|| self.unnamed_scopes(scope));
        let limit = if self.effective.is_empty() { &grant.granted } else { self.effective };
        let wider = !limit.is_empty() && !limit.contains_all(&named);
        if wider {
            let mut secrets = vec![&tokens.access_token, self.refresh_token];
            secrets.extend(rotated.iter().chain(self.server.client_secret()));
            tracing::error!(
                alarm = Alarm::WiderScopes.code(),
                server.name = shared.upstream.name(),
                grant.id = grant.id.as_str(),
                extra = %scopes::for_log(&scopes::missing(&named, limit), &secrets),
                "the authorization server issued a token with more scopes than requested"
            );
        }
        let expires_at = now.plus(tokens.lifetime);
        let mut access = AccessToken::new(tokens.access_token, named, now, expires_at);
        access.requested = self.effective.clone();
        access.forced = self.forced;
        let mut renewal = Renewal::new(rotated, Some(access));
        if wider && self.server.wider() == Wider::Refused {
            // Least scope: keep the rotated refresh token, and do not use the access token.
            renewal.access = None;
            renewal.backoff = self.pause_began(self.usual_pause(None));
        }
        let stored = match self.make_durable(&renewal, TokenOutcome::Issued, receipt).await {
            Ok(stored) => stored,
            Err(next) => return Ok(next),
        };
        if renewal.access.is_none() {
            let policy = Outcome::None(CredentialError::RefusedByPolicy);
            return Ok(Next::Done(match self.valid_fallback(&stored) {
                Some(token) => self.refresh.outcome_of(&stored, token),
                None => policy,
            }));
        }
        shared.last_success.note(shared.clock.cautious_now());
        if self.forced {
            shared.sightings.note_forced(grant, shared.clock.read());
        }
        // G514: only if it helped. A refusal for another reason has no lasting effect.
        if self.refresh.scope_refused.load(Ordering::Relaxed) {
            shared.sightings.omit_scope(&grant.id, self.effective, shared.clock.read());
        }
        let new = stored.access.iter().find(|token| token.version == stored.version);
        Ok(Next::Done(match new.or_else(|| self.valid_fallback(&stored)) {
            Some(token) => self.refresh.outcome_of(&stored, token),
            None => unavailable(None),
        }))
    }

    /// Stores a rotated refresh token that came without an access token that can be used, together
    /// with what the rest of the response means for the grant.
    // E512: an error next to a refresh token is an error.
    async fn keep_rotated(
        &self,
        rotated: Secret,
        refused: &NoTokens,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let mut renewal = Renewal::new(Some(rotated), None);
        if let NoTokens::Denied { denial: Denial::Grant, problem, .. } = refused {
            renewal.state = GrantState::EndedByServer;
            let stored = self.make_durable(&renewal, TokenOutcome::GrantEnded, receipt).await;
            return Ok(stored.map_or_else(|next| next, |_| self.ended(problem)));
        }
        let failure = self.refused(refused);
        self.report(&failure.problem);
        renewal.backoff = self.pause_began(failure.pause);
        renewal.refused = failure.refused;
        renewal.state = if failure.needs_user { GrantState::NeedsUser } else { self.grant.state };
        match self.make_durable(&renewal, failure.recorded, receipt).await {
            Ok(stored) => Ok(self.failed_with(&stored, &failure)),
            Err(next) => Ok(next),
        }
    }

    /// Stores what a response contains, and returns the stored grant, or how the step ends without
    /// it.
    async fn make_durable(
        &self,
        renewal: &Renewal,
        recorded: TokenOutcome,
        receipt: TokenReceipt,
    ) -> Result<Grant, Next> {
        match self.store_durably(renewal).await {
            Ok(Some(stored)) => {
                receipt.finish(recorded);
                Ok(stored)
            }
            // Revoked or reconnected meanwhile: the current grant counts.
            Ok(None) => {
                self.give_back(renewal).await;
                receipt.finish(TokenOutcome::Failed);
                Err(Next::Again)
            }
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::TokensNotStored.code(),
                    error = %error,
                    grant.id = self.grant.id.as_str(),
                    "refreshed tokens could not be stored: the user may have to reconnect"
                );
                receipt.finish(TokenOutcome::Unknown);
                Err(Next::Done(unavailable(None)))
            }
        }
    }

    /// Keeps the tokens of a grant that was disconnected meanwhile, so that they are revoked. Those
    /// of a grant that the user replaced are dropped: at some servers, a revocation would end the
    /// new grant as well.
    async fn give_back(&self, renewal: &Renewal) {
        let Some(connector) = &self.shared().connector else { return };
        let current = bounded(self.shared().store.load(&self.grant.key)).await;
        // A store that responds late may have stored these very tokens: they are in use.
        let is_over = match &current {
            Ok(Some(current)) => {
                current.id == self.grant.id && current.state == GrantState::Revoked
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if !is_over {
            return;
        }
        let tokens = tokens_of(renewal);
        if !tokens.is_empty() {
            connector.give_back(self.grant, tokens).await;
        }
    }

    fn valid_fallback(&self, stored: &Grant) -> Option<&AccessToken> {
        let now = self.shared().clock.read();
        let sightings = &self.shared().sightings;
        self.fallback.filter(|token| !sightings.ends(stored, token, now).has_passed(now))
    }

    /// Stores new tokens, and retries for a minute. Callers stop waiting earlier. While this task
    /// runs, this process does not send the old refresh token again.
    // X06: a failing store must not lose a rotated token.
    async fn store_durably(&self, renewal: &Renewal) -> Result<Option<Grant>, StoreError> {
        let store = &self.shared().store;
        let mut pause = Duration::from_millis(50);
        for _ in 0..35 {
            match bounded(store.complete(self.lease, renewal)).await {
                Err(StoreError::Unreachable) => tokio::time::sleep(pause).await,
                stored => return stored,
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        bounded(store.complete(self.lease, renewal)).await
    }

    /// Ends the grant, but only if the version that was sent is still the current one.
    // X11: another replica may have stored newer tokens.
    async fn invalid_grant(
        &self,
        problem: &Problem,
        receipt: TokenReceipt,
    ) -> Result<Next, StoreError> {
        let (shared, grant) = (self.shared(), self.grant);
        let current = self.refresh.load().await;
        if matches!(&current, Ok(Some(current)) if current.version == self.lease.version)
            && bounded(shared.store.end(&grant.to_ref(), self.lease.version)).await?
        {
            receipt.finish(TokenOutcome::GrantEnded);
            return Ok(self.ended(problem));
        }
        receipt.finish(TokenOutcome::Failed);
        current.map(|_| Next::Again)
    }

    fn ended(&self, problem: &Problem) -> Next {
        tracing::warn!(
            alarm = Alarm::GrantEnded.code(),
            server.name = self.shared().upstream.name(),
            grant.id = self.grant.id.as_str(),
            status = problem.status(),
            oauth.error = problem.error_code(),
            "the authorization server ended the grant; the user must reconnect"
        );
        Next::Done(Outcome::None(CredentialError::Revoked))
    }

    /// Returns the failure that a response without tokens is.
    fn refused(&self, reason: &NoTokens) -> Failure {
        let (problem, retry_after) = match reason {
            NoTokens::Denied { problem, retry_after, .. }
            | NoTokens::Failed { problem, retry_after, .. } => (*problem, *retry_after),
            NoTokens::Unknown { problem } => return self.unknown(*problem),
        };
        let refused = reason.may_be_refusal().then(|| self.repeated());
        let needs_user = matches!(reason, NoTokens::Denied { denial: Denial::User, .. })
            || refused.is_some_and(|refused| self.has_lasted(refused));
        let stays_so = needs_user || self.grant.state == GrantState::NeedsUser;
        Failure {
            tried: AttemptOutcome::Responded,
            recorded: TokenOutcome::Failed,
            pause: match stays_so {
                true => (NEEDS_USER_PAUSE, NEEDS_USER_PAUSE),
                false => self.usual_pause(retry_after),
            },
            refused: refused.or(self.grant.refused),
            needs_user,
            problem,
        }
    }

    /// Returns since when the server refuses the grant.
    fn repeated(&self) -> RepeatedRefusal {
        let now = self.shared().clock.cautious_now();
        self.grant.refused.map_or_else(|| RepeatedRefusal::new(now), |before| before.repeated(now))
    }

    /// Returns whether the refusals have lasted for so long that they concern this grant: for an
    /// hour in which the server accepted other grants, or for three days.
    // G481, G513, G518: some servers name a dead grant by a word of theirs, by several in turn, or
    // only in text for people.
    fn has_lasted(&self, refused: RepeatedRefusal) -> bool {
        let now = self.shared().clock.cautious_now();
        let others_succeeded = || {
            let last = self.shared().last_success.get();
            last.is_some_and(|last| last > refused.steady_since && last.until(now) < RECENT_SUCCESS)
        };
        refused.since.until(now) >= LASTING
            || (refused.steady_since.until(now) >= LASTING_WITH_SUCCESSES && others_succeeded())
    }

    /// Returns the failure of a request without a response that was read.
    fn without_response(&self, error: FetchError) -> Failure {
        let problem = Problem::fetch(error);
        let tried = match (error, error.sent()) {
            (_, Sent::No) => AttemptOutcome::NotSent,
            // C067: the server issues no tokens with a redirect.
            (FetchError::Redirect, Sent::Maybe) => AttemptOutcome::Responded,
            // X10: also a success that is too large. Its tokens may be in the part that was not
            // read.
            (_, Sent::Maybe) => return self.unknown(problem),
        };
        Failure { tried, recorded: TokenOutcome::Failed, ..self.without_refusal(problem) }
    }

    /// Returns the failure of a request whose outcome is unknown. After the last one that may be
    /// sent, only the user can help.
    fn unknown(&self, problem: Problem) -> Failure {
        let sent = self.grant.open_attempts.saturating_add(1);
        let needs_user = sent >= Refresh::<S>::MOST_OPEN_ATTEMPTS;
        Failure { pause: self.after_unknown(), needs_user, ..self.without_refusal(problem) }
    }

    /// Returns a failure that does not concern the grant. Its outcome is unknown.
    fn without_refusal(&self, problem: Problem) -> Failure {
        let (tried, recorded) = (AttemptOutcome::Unknown, TokenOutcome::Unknown);
        let pause = self.usual_pause(None);
        let refused = self.grant.refused;
        Failure { problem, tried, recorded, pause, refused, needs_user: false }
    }

    async fn failed(&self, failure: Failure, receipt: TokenReceipt) -> Result<Next, StoreError> {
        receipt.finish(failure.recorded);
        self.report(&failure.problem);
        let mut attempt =
            Attempt::new(failure.tried, self.pause_began(failure.pause)).refused(failure.refused);
        if failure.needs_user {
            attempt = attempt.needs_user();
        }
        if let Err(error) = bounded(self.shared().store.release(self.lease, &attempt)).await {
            // Safe: the lease expires, and the mark of the attempt stays.
            tracing::error!(
                alarm = Alarm::TokensNotStored.code(),
                grant.id = self.grant.id.as_str(),
                error = %error,
                "a failed refresh could not be stored"
            );
        }
        let mut grant = self.grant.clone();
        attempt.apply(&mut grant);
        Ok(self.failed_with(&grant, &failure))
    }

    /// Ends the step with the grant as it is after a failure.
    fn failed_with(&self, grant: &Grant, failure: &Failure) -> Next {
        if grant.state != self.grant.state {
            tracing::warn!(
                alarm = Alarm::GrantNeedsUser.code(),
                server.name = self.shared().upstream.name(),
                grant.id = grant.id.as_str(),
                status = failure.problem.status(),
                oauth.error = failure.problem.error_code(),
                "the authorization server refuses the grant; the user should connect again"
            );
        }
        Next::Done(self.refresh.fallback_or_unavailable(
            grant,
            self.fallback,
            Some(failure.pause.1),
        ))
    }

    // X10: one error per streak of failures.
    fn report(&self, problem: &Problem) {
        let (server, id) = (self.shared().upstream.name(), self.grant.id.as_str());
        let endpoint = self.server;
        if self.grant.backoff.failures == 0 {
            tracing::error!(
                alarm = Alarm::TokenRequestFailed.code(),
                server.name = server,
                grant.id = id,
                cause = problem.cause(),
                status = problem.status(),
                oauth.error = problem.error_code(),
                error = problem.error(),
                url = endpoint.token_endpoint_for_log(),
                allowed_by = problem.remedy(endpoint.token_endpoint()),
                "a refresh failed; the grant is kept"
            );
        } else {
            let cause = problem.cause();
            tracing::debug!(server.name = server, grant.id = id, cause, "a refresh failed again");
        }
    }

    fn usual_pause(&self, retry_after: Option<Duration>) -> (Duration, Duration) {
        let pause = lifetime::pause(self.grant.backoff.failures, retry_after);
        (pause, pause)
    }

    /// Returns the pause before the last attempt, at least and in all: until the current token has
    /// ended, because only then it is needed, and not before the server had time to recover.
    fn after_unknown(&self) -> (Duration, Duration) {
        let now = self.shared().clock.read();
        let sightings = &self.shared().sightings;
        let left = self.fallback.map(|token| sightings.ends(self.grant, token, now).left(now));
        (Self::AFTER_UNKNOWN, Self::AFTER_UNKNOWN.max(left.unwrap_or_default()))
    }

    /// Notes a pause that begins now, and returns what others see of it.
    fn pause_began(&self, (at_least, wait): (Duration, Duration)) -> Backoff {
        let shared = self.shared();
        // Of a clock that is ahead for a moment, others see nothing.
        let retry_at = shared.clock.cautious_now().plus(wait);
        let now = shared.clock.read();
        shared.sightings.pause_began(&self.grant.id, retry_at, (at_least, wait), now);
        self.grant.backoff.after_failure(retry_at)
    }

    fn shared(&self) -> &Shared<S> {
        self.refresh.shared
    }
}

/// Returns the tokens of a response, in the order in which they are revoked.
fn tokens_of(renewal: &Renewal) -> Vec<RevokedToken> {
    let refresh = renewal.refresh_token.iter().cloned();
    let refresh = refresh.map(|token| RevokedToken::new(RevokedTokenKind::Refresh, token));
    let access = renewal.access.iter().map(|token| token.secret.clone());
    let access = access.map(|token| RevokedToken::new(RevokedTokenKind::Access, token));
    refresh.chain(access).collect()
}
