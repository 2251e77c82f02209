//! The owned task: one attempt to obtain a token.
//!
//! The order: look at the cache again, wait for a place, obtain the presented tokens, durable
//! intent, POST, check the response, update the cache.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use token_broker_outbound::{FetchError, Sent};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{Intent, TokenOutcome, Trail},
    clock::{Reading, Timestamp},
    exchange::{Credential, CredentialError, Origin},
    principal::{Principal, Scopes},
};

use super::{
    RequestToken, TokenRequest,
    cache_entry::{CacheEntry, Failure, Lookup, Token},
    provider::{Landed, Shared, Wanted, grant_of},
};
use crate::{
    authorization_server::{Codes, Denial, NoTokens, Problem, TokenResponse, Tokens, Wider},
    lifetime, scopes,
};

pub(super) struct Attempt<'a, A> {
    shared: &'a Shared<A>,
    wanted: &'a Wanted,
    caller: &'a Principal,
    trail: &'a Trail,
}

/// Failed attempt.
struct Failed {
    no: CredentialError,
    problem: Problem,
    outcome: TokenOutcome,
    retry_after: Option<Duration>,
    whose: Whose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// It concerns the caller.
    Callers,
    /// It may concern the caller, or the server fails.
    CallersOrServers,
    /// The server refused the caller, so the current token is not used any more.
    Denied,
    /// It concerns all callers.
    Everyones,
}

impl<'a, A: RequestToken> Attempt<'a, A> {
    /// Timeout for a place at the token endpoint, and for a token of the operator's source.
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
        let entry = self
            .shared
            .entries
            .get(&self.wanted.key)
            .map_or_else(CacheEntry::default, |entry| CacheEntry::clone(&entry));
        // Another flight may have ended after the caller looked at the cache.
        match entry.lookup(self.read()) {
            Lookup::Token { token, is_due: false } => return Ok(token),
            Lookup::Failed(no) => return Err(no),
            Lookup::Token { .. } | Lookup::Absent => {}
        }
        let paused = self.shared.pause.lock().left(self.read());
        if let Some(left) = paused {
            let no = CredentialError::Unavailable { retry_after: Some(left) };
            return self.without_request(&entry, no);
        }
        let unavailable = || CredentialError::Unavailable { retry_after: None };
        let user = A::IS_PER_USER.then(|| self.caller.user());
        let Ok(_place) = self.shared.places.enter(user, Self::STEP).await else {
            return self.without_request(&entry, unavailable());
        };
        let request = self.shared.requester.request(
            &self.shared.server,
            self.caller,
            &self.wanted.requested,
            self.now(),
        );
        let TokenRequest { request, sent } = match tokio::time::timeout(Self::STEP, request).await {
            Ok(Ok(request)) => request,
            Ok(Err(no)) => return self.without_request(&entry, no),
            Err(_) => return self.without_request(&entry, unavailable()),
        };
        let version = self.shared.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let grant = grant_of(&self.wanted.key);
        let origin = Origin::of(request.uri());
        let intent = Intent::new(
            self.shared.upstream.name(),
            origin.as_ref().map_or("", Origin::as_str),
            &self.wanted.requested,
            Some((&grant, version)),
        );
        let Ok(receipt) = self.trail.token_request(A::GRANT_TYPE, intent).await else {
            return self.without_request(&entry, unavailable());
        };
        let (requested, codes) = (&self.wanted.requested, Codes::Standard);
        let client = (&self.shared.client, self.shared.server.timeout());
        let response =
            TokenResponse::to(request, requested, codes, client, &self.shared.clock).await;
        match self.judge(response, &sent) {
            Ok(tokens) => {
                receipt.finish(TokenOutcome::Issued);
                self.shared.pause.lock().succeeded();
                let scopes = tokens.scopes.unwrap_or_else(|| self.wanted.requested.clone());
                let now = self.read();
                let credential =
                    Credential::vouch(tokens.access_token, self.shared.upstream.origin().clone())
                        .with_scopes(scopes)
                        .with_all_scopes()
                        .from_grant(grant, version)
                        .until(now.wall.plus(tokens.lifetime));
                let replaced = entry.token.as_deref();
                let token = Arc::new(Token::new(credential, now, tokens.lifetime, replaced));
                self.keep(CacheEntry { token: Some(Arc::clone(&token)), failure: None });
                Ok(token)
            }
            Err(failed) => {
                receipt.finish(failed.outcome);
                self.remember(entry, failed)
            }
        }
    }

    /// Returns the tokens of a response that can be used.
    fn judge(
        &self,
        response: Result<TokenResponse, FetchError>,
        sent: &[Secret],
    ) -> Result<Tokens, Failed> {
        let (refresh_token, tokens) = self.tokens(response)?;
        if !self.shared.requester.accepts(&tokens) {
            return Err(Failed::because("a token of another type than requested"));
        }
        let (requested, server) = (&self.wanted.requested, self.shared.upstream.name());
        // A request without scopes accepts the server's choice.
        let wider = !requested.is_empty()
            && tokens.scopes.as_ref().is_some_and(|scopes| !requested.contains_all(scopes));
        if wider {
            let extra = tokens.scopes.as_ref().map(|scopes| scopes::missing(scopes, requested));
            let extra = extra.unwrap_or_else(Scopes::none);
            let mut secrets = vec![&tokens.access_token];
            secrets.extend(refresh_token.iter().chain(sent));
            secrets.extend(self.shared.server.client_secret());
            tracing::error!(
                alarm = Alarm::WiderScopes.code(),
                server.name = server,
                extra = %scopes::for_log(&extra, &secrets),
                "the authorization server issued a token with more scopes than requested"
            );
        }
        if wider && self.shared.server.wider() == Wider::Refused {
            // Least scope: such a token is not used.
            let no = CredentialError::RefusedByPolicy;
            return Err(Failed {
                no,
                ..Failed::because("a token with more scopes than requested")
            });
        }
        if refresh_token.is_some() {
            tracing::warn!(
                alarm = Alarm::UnrequestedRefreshToken.code(),
                server.name = server,
                grant = A::GRANT_TYPE.as_str(),
                "an unrequested refresh token was dropped"
            );
        }
        Ok(tokens)
    }

    /// Returns the tokens of a response, or the reason why there are none.
    fn tokens(
        &self,
        response: Result<TokenResponse, FetchError>,
    ) -> Result<(Option<Secret>, Tokens), Failed> {
        let (refresh_token, tokens) = match response {
            Ok(response) => response.into_parts(),
            Err(error) => {
                let (outcome, whose) = match error.sent() {
                    Sent::No => (TokenOutcome::Failed, Whose::Everyones),
                    Sent::Maybe => (TokenOutcome::Unknown, Whose::CallersOrServers),
                };
                return Err(Failed { outcome, whose, ..Failed::of(Problem::fetch(error)) });
            }
        };
        match tokens {
            Ok(tokens) => Ok((refresh_token, tokens)),
            Err(NoTokens::Denied { denial, problem, retry_after, .. }) => {
                let whose = if denial == Denial::Client { Whose::Everyones } else { Whose::Denied };
                let no = self.shared.requester.denied(denial, &self.wanted.need);
                Err(Failed { no, retry_after, whose, ..Failed::of(problem) })
            }
            Err(NoTokens::Failed { problem, retry_after, .. }) => {
                // Also with `Retry-After`: a server may limit one user.
                let whose = Whose::CallersOrServers;
                Err(Failed { retry_after, whose, ..Failed::of(problem) })
            }
            Err(NoTokens::Unknown { problem }) => {
                let (outcome, whose) = (TokenOutcome::Unknown, Whose::CallersOrServers);
                Err(Failed { outcome, whose, ..Failed::of(problem) })
            }
        }
    }

    /// Ends the attempt without a request. Nothing is remembered: the next call starts over.
    fn without_request(&self, entry: &CacheEntry, no: CredentialError) -> Landed {
        match &entry.token {
            Some(token) if token.is_good(self.read()) => Ok(Arc::clone(token)),
            _ => Err(no),
        }
    }

    /// Records the failure. The next attempt waits until the time that the server named, or ours.
    // G155: no retry storm against a failing server.
    fn remember(&self, entry: CacheEntry, failed: Failed) -> Landed {
        let (now, count) = (self.read(), entry.failures());
        let retry_at = now.moment.plus(lifetime::pause(count, failed.retry_after));
        match failed.whose {
            Whose::Callers | Whose::Denied => {}
            Whose::CallersOrServers if A::IS_PER_USER => {
                let mut pause = self.shared.pause.lock();
                pause.failed_for(self.caller.user(), now, failed.retry_after);
            }
            // A `Retry-After` is meant for the broker, which requests for all.
            Whose::CallersOrServers if failed.retry_after.is_none() => {}
            Whose::CallersOrServers | Whose::Everyones => {
                self.shared.pause.lock().failed(now, failed.retry_after);
            }
        }
        let (server, grant) = (self.shared.upstream.name(), A::GRANT_TYPE.as_str());
        let (problem, endpoint) = (failed.problem, &self.shared.server);
        // X10: one error per streak of failures.
        if count == 0 {
            tracing::error!(
                alarm = Alarm::TokenRequestFailed.code(),
                server.name = server,
                grant,
                cause = problem.cause(),
                status = problem.status(),
                oauth.error = problem.error_code(),
                error = problem.error(),
                url = endpoint.token_endpoint_for_log(),
                allowed_by = problem.remedy(endpoint.token_endpoint()),
                "no access token was obtained"
            );
        } else {
            tracing::debug!(
                server.name = server,
                grant,
                cause = problem.cause(),
                "no access token was obtained, again"
            );
        }
        let failure = Failure { no: failed.no, count: count.saturating_add(1), retry_at };
        let error = failure.error_at(now);
        let token = entry.token.filter(|_| failed.whose != Whose::Denied);
        let entry = CacheEntry { token, failure: Some(failure) };
        let lookup = entry.lookup(now);
        self.keep(entry);
        match lookup {
            Lookup::Token { token, .. } => Ok(token),
            Lookup::Failed(_) | Lookup::Absent => Err(error),
        }
    }

    fn keep(&self, entry: CacheEntry) {
        self.shared.entries.insert(self.wanted.key, Arc::new(entry));
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn read(&self) -> Reading {
        self.shared.clock.read()
    }
}

impl Failed {
    const fn because(cause: &'static str) -> Self {
        Self::of(Problem::because(cause))
    }

    const fn of(problem: Problem) -> Self {
        let no = CredentialError::Unavailable { retry_after: None };
        Self {
            no,
            problem,
            outcome: TokenOutcome::Failed,
            retry_after: None,
            whose: Whose::Callers,
        }
    }
}
