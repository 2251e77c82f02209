//! Revokes tokens at their authorization servers (RFC 7009), again and again until one responds.

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::StatusCode;
use token_broker_store::{
    StoreError,
    connect::{ConnectStore, PendingRevocation, RevokedToken},
};
use tokio::{sync::Notify, task::JoinSet};
use tower_token_broker::{
    alarm::Alarm,
    audit::{Note, UpstreamRevocation, UpstreamRevocationOutcome as Outcome},
    principal::Initiator,
};

use super::{connector::Inner, discovery::Found, listing::is_at, server::ConnectServer};
use crate::authorization_server::{ClientAuthentication, JsonObject, TOKEN_ENDPOINT_TIMEOUT};

/// Wakes the task that revokes.
#[derive(Debug, Default)]
pub(super) struct Waker(Arc<Notify>);

/// How often the store is read, for what other processes left there.
const EVERY: Duration = Duration::from_secs(30);
/// No other process begins an attempt meanwhile.
const CLAIM: Duration = Duration::from_secs(60);
/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(45);
/// Most attempts at the same time.
const AT_ONCE: usize = 16;
/// Pauses after the first attempts; the last one repeats.
const PAUSES: &[u64] = &[30, 120, 600, 3600, 6 * 3600];
/// From here on, the tokens are given up.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most revocations in one turn.
const MOST_IN_A_TURN: usize = 1000;

/// Result of one attempt.
enum Attempt {
    Done(Outcome),
    Again,
    /// No response: in this turn, the server is not asked again.
    Silent,
}

/// A server and the issuer of its authorization server.
type Place = (Box<str>, Box<str>);

/// One turn through what is due.
#[derive(Default)]
struct Turn {
    tried: usize,
    running: JoinSet<Option<Place>>,
    /// The places that did not respond.
    silent: HashSet<Place>,
}

impl Turn {
    /// Waits until at most so many attempts run.
    async fn wait(&mut self, most: usize) {
        while self.running.len() > most {
            let ended = self.running.join_next().await;
            self.silent.extend(ended.and_then(Result::ok).flatten());
        }
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

impl<S: ConnectStore> Inner<S> {
    /// Revokes in a task of the broker, as long as there is a connector.
    pub(super) fn keep_revoking(self: &Arc<Self>) {
        let (weak, clock) = (Arc::downgrade(self), self.broker.clock().clone());
        let wakened = Arc::clone(&self.revocations.0);
        let mut ending = Box::pin(self.broker.ending());
        drop(self.broker.tasks().spawn("upstream revocations", async move {
            loop {
                let next = clock.now().plus(EVERY);
                // All may be dropped: a timer, and two that only wait.
                tokio::select! {
                    () = clock.sleep_until(next) => {}
                    () = wakened.notified() => {}
                    () = &mut ending => return,
                }
                let Some(inner) = weak.upgrade() else { return };
                // May be dropped: what was tried is tried again when its claim ends.
                let turn = tokio::select! {
                    turn = inner.revoke_due() => turn,
                    () = &mut ending => return,
                };
                if let Err(error) = turn {
                    tracing::debug!(%error, "the pending revocations could not be read");
                }
            }
        }));
    }

    /// Tries all revocations that are due, and returns their number.
    pub(super) async fn revoke_due(self: &Arc<Self>) -> Result<usize, StoreError> {
        let mut turn = Turn::default();
        let ended = loop {
            turn.wait(AT_ONCE - 1).await;
            let now = self.broker.clock().now();
            match self.store.claim_revocation(now, now.plus(CLAIM)).await {
                Ok(Some(revocation)) => {
                    let is_silent = turn.silent.contains(&place_of(&revocation));
                    turn.running.spawn(Arc::clone(self).take(revocation, is_silent));
                    turn.tried += 1;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if turn.tried == MOST_IN_A_TURN {
                break Ok(());
            }
        };
        turn.wait(0).await;
        ended.map(|()| turn.tried)
    }

    /// Tries one revocation, and notes the result. Returns the place if it did not respond.
    async fn take(self: Arc<Self>, due: PendingRevocation, is_silent: bool) -> Option<Place> {
        let (attempt, pause) = match is_silent {
            // It was not tried, so that it does not wait longer and longer.
            true => (Attempt::Silent, pause_after(1)),
            false => (self.attempt_or_end(&due).await, pause_after(due.attempts)),
        };
        let noted = match attempt {
            Attempt::Done(outcome) => self.finish_revocation(&due, outcome).await,
            Attempt::Again | Attempt::Silent => {
                let retry_at = self.broker.clock().now().plus(pause);
                self.store.postpone_revocation(&due.id, retry_at).await.map(drop)
            }
        };
        if let Err(error) = noted {
            // It is due again when the claim ends.
            tracing::debug!(%error, "the result of a revocation was not noted");
        }
        matches!(attempt, Attempt::Silent).then(|| place_of(&due))
    }

    async fn attempt_or_end(&self, due: &PendingRevocation) -> Attempt {
        if due.created_at.until(self.broker.clock().now()) > LONGEST {
            return Attempt::Done(Outcome::GivenUp);
        }
        match self.is_replaced(due).await {
            Ok(true) => Attempt::Done(Outcome::Replaced),
            Ok(false) => {
                let attempt = tokio::time::timeout(ATTEMPT, self.attempt(due)).await;
                attempt.unwrap_or(Attempt::Silent)
            }
            Err(_) => Attempt::Again,
        }
    }

    /// Returns whether another grant of the account is in use, of the same client. Many servers
    /// have one grant for a user and a client, and end it with any of its tokens: the end of these
    /// tokens would be the end of the connection.
    // N533
    async fn is_replaced(&self, due: &PendingRevocation) -> Result<bool, StoreError> {
        let Some(server) = self.server(&due.key.server) else { return Ok(false) };
        let grants = self.grants(&due.key.user).await?;
        Ok(grants.iter().any(|grant| {
            is_at(&server, &grant.key)
                && grant.key.account == due.key.account
                && grant.state.is_usable()
                && grant.id != due.grant
                && grant.authorization_server == due.authorization_server
                && grant.client_id == due.client_id
        }))
    }

    /// Records the outcome, and then forgets the tokens.
    async fn finish_revocation(
        &self,
        revocation: &PendingRevocation,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let key = &revocation.key;
        let is_default = key.account == token_broker_store::Account::default_account();
        let note = Note::upstream_revocation(UpstreamRevocation {
            user: &key.user,
            upstream: &key.server,
            account: (!is_default).then_some(key.account.as_str()),
            grant: &revocation.grant,
            outcome,
        });
        if matches!(outcome, Outcome::GivenUp | Outcome::Refused | Outcome::Replaced) {
            tracing::error!(
                alarm = Alarm::RevocationGivenUp.code(),
                server.name = &*key.server,
                grant.id = revocation.grant.as_str(),
                attempts = revocation.attempts,
                outcome = outcome.as_str(),
                "tokens of a disconnected account were not revoked at their authorization server; \
                 they are not used here, and may work elsewhere until they expire"
            );
        }
        let system = Initiator::system("upstream revocations");
        let recorded = self.broker.audit_log().note(&system, note).await;
        recorded.map_err(|_| StoreError::Unreachable)?;
        self.store.finish_revocation(&revocation.id).await.map(drop)
    }

    async fn attempt(&self, revocation: &PendingRevocation) -> Attempt {
        // Its configuration may come back.
        let Some(server) = self.server(&revocation.key.server) else { return Attempt::Again };
        let issuer = &revocation.authorization_server;
        let found = self.discoveries.of_issuer(&server, issuer).await;
        let found = match found {
            Ok(found) => found,
            Err(not_found) if not_found.is_retryable => return Attempt::Silent,
            Err(_) => return Attempt::Again,
        };
        let Some(endpoint) = &found.revocation_endpoint else {
            return Attempt::Done(Outcome::NotSupported);
        };
        let client_id = revocation.client_id.as_deref();
        let client = self.clients.of_grant(&self.store, &server, issuer, client_id).await;
        // Its configuration may come back.
        let Ok(Some(client)) = client else { return Attempt::Again };
        let mut outcome = None;
        for token in &revocation.tokens {
            match self.revoke(&server, &found, endpoint, client.clone(), token).await {
                Attempt::Done(next) => outcome = Some(combined(outcome, next)),
                unfinished @ (Attempt::Again | Attempt::Silent) => return unfinished,
            }
        }
        Attempt::Done(outcome.unwrap_or(Outcome::Revoked))
    }

    async fn revoke(
        &self,
        server: &ConnectServer,
        found: &Found,
        endpoint: &http::Uri,
        client: ClientAuthentication,
        token: &RevokedToken,
    ) -> Attempt {
        let settings = server.requests.at(&found.issuer, &found.token_endpoint, client, None);
        let now = self.broker.clock().now();
        let token = (&token.secret, token.kind.as_str());
        let Ok(request) = settings.revocation_request(endpoint, token, now) else {
            return Attempt::Again;
        };
        match server.client.fetch_within(request, TOKEN_ENDPOINT_TIMEOUT).await {
            Ok(fetched) => meaning(fetched.response.status(), fetched.response.body()),
            Err(_) => Attempt::Silent,
        }
    }
}

fn place_of(due: &PendingRevocation) -> Place {
    (due.key.server.clone(), due.authorization_server.clone())
}

/// Returns the outcome of several tokens: that of the first, the refresh token, unless a later one
/// was refused. Many servers revoke no access tokens, which end soon.
fn combined(before: Option<Outcome>, next: Outcome) -> Outcome {
    match (before, next) {
        (Some(before), Outcome::Revoked | Outcome::NotSupported) => before,
        (_, next) => next,
    }
}

fn pause_after(attempts: u32) -> Duration {
    let index = usize::try_from(attempts).unwrap_or(usize::MAX).saturating_sub(1);
    let pause = PAUSES.get(index).or(PAUSES.last());
    Duration::from_secs(pause.copied().unwrap_or_default())
}

/// Returns what a response means (RFC 7009 §2.2). A token that is not known any more is revoked,
/// and a server responds with 200. What an operator or the server can set right is tried again: an
/// endpoint that moved, or a client that is not accepted at the moment.
fn meaning(status: StatusCode, body: &[u8]) -> Attempt {
    if status.is_success() {
        return Attempt::Done(Outcome::Revoked);
    }
    let code = JsonObject::read(body).ok().and_then(|object| object.text("error"));
    match (status, code.as_deref().map(String::as_str)) {
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => Attempt::Again,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => {
            Attempt::Again
        }
        (_, Some("unsupported_token_type")) => Attempt::Done(Outcome::NotSupported),
        (
            _,
            Some(
                "temporarily_unavailable"
                | "server_error"
                | "invalid_client"
                | "unauthorized_client",
            ),
        ) => Attempt::Again,
        (status, _) if status.is_client_error() => Attempt::Done(Outcome::Refused),
        _ => Attempt::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Option<Outcome> {
        match meaning(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Attempt::Done(outcome) => Some(outcome),
            Attempt::Again | Attempt::Silent => None,
        }
    }

    #[test]
    fn the_refresh_token_decides_the_outcome() {
        use Outcome::{NotSupported, Refused, Revoked};
        for (tokens, expected) in [
            (&[Revoked][..], Revoked),
            (&[Revoked, NotSupported], Revoked),
            (&[NotSupported, Revoked], NotSupported),
            (&[Revoked, Refused], Refused),
            (&[Refused, Revoked], Refused),
        ] {
            let all = tokens.iter().fold(None, |before, next| Some(combined(before, *next)));
            assert_eq!(all, Some(expected), "{tokens:?}");
        }
    }

    #[test]
    fn only_a_response_ends_the_attempts() {
        assert_eq!(outcome(200, ""), Some(Outcome::Revoked));
        assert_eq!(outcome(204, ""), Some(Outcome::Revoked));
        let unsupported = r#"{"error":"unsupported_token_type"}"#;
        assert_eq!(outcome(400, unsupported), Some(Outcome::NotSupported));
        let refused = r#"{"error":"invalid_request"}"#;
        assert_eq!(outcome(400, refused), Some(Outcome::Refused));
        assert_eq!(outcome(400, "<html>"), Some(Outcome::Refused));
        for (status, body) in [
            (500, ""),
            (503, r#"{"error":"invalid_request"}"#),
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"invalid_client"}"#),
            (403, ""),
            (404, "<html>"),
            (429, ""),
            (408, ""),
            (302, ""),
            (400, r#"{"error":"temporarily_unavailable"}"#),
        ] {
            assert_eq!(outcome(status, body), None, "{status} {body}");
        }
    }
}
