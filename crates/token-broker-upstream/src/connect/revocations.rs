//! Revokes tokens at their authorization servers (RFC 7009), again and again until one responds.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use token_broker_store::{
    StoreError,
    connect::{ConnectStore, PendingRevocation, RevokedToken},
};
use tokio::sync::Notify;
use tower_token_broker::{
    alarm::Alarm,
    audit::{Note, UpstreamRevocation, UpstreamRevocationOutcome as Outcome},
    principal::Initiator,
};

use super::{connector::Inner, discovery::Found, server::ConnectServer};
use crate::authorization_server::{ClientAuthentication, JsonObject, TOKEN_ENDPOINT_TIMEOUT};

/// Wakes the task that revokes.
#[derive(Debug, Default)]
pub(super) struct Waker(Arc<Notify>);

/// How often the store is read, for what other processes left there.
const EVERY: Duration = Duration::from_secs(30);
/// Time for one attempt. No other process begins one meanwhile.
const ATTEMPT: Duration = Duration::from_secs(60);
/// Pauses after the first attempts; the last one repeats.
const PAUSES: &[u64] = &[30, 120, 600, 3600, 6 * 3600];
/// From here on, the tokens are given up.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most revocations in one turn.
const MOST_AT_ONCE: usize = 1000;

/// Result of one attempt.
enum Attempt {
    Done(Outcome),
    Again,
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
                if let Err(error) = inner.revoke_due().await {
                    tracing::debug!(%error, "the pending revocations could not be read");
                }
            }
        }));
    }

    /// Tries all revocations that are due, and returns their number.
    pub(super) async fn revoke_due(&self) -> Result<usize, StoreError> {
        let clock = self.broker.clock();
        for tried in 0..MOST_AT_ONCE {
            let now = clock.now();
            let claimed = self.store.claim_revocation(now, now.plus(ATTEMPT)).await?;
            let Some(revocation) = claimed else { return Ok(tried) };
            let attempt = match revocation.created_at.until(now) > LONGEST {
                true => Attempt::Done(Outcome::GivenUp),
                false => self.attempt(&revocation).await,
            };
            match attempt {
                Attempt::Done(outcome) => self.finish_revocation(&revocation, outcome).await?,
                Attempt::Again => {
                    let index = usize::try_from(revocation.attempts).unwrap_or(usize::MAX);
                    let pause = PAUSES.get(index.saturating_sub(1)).or(PAUSES.last());
                    let pause = Duration::from_secs(pause.copied().unwrap_or_default());
                    self.store.postpone_revocation(&revocation.id, clock.now().plus(pause)).await?;
                }
            }
        }
        Ok(MOST_AT_ONCE)
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
        if outcome == Outcome::GivenUp {
            tracing::error!(
                alarm = Alarm::RevocationGivenUp.code(),
                server.name = &*key.server,
                grant.id = revocation.grant.as_str(),
                attempts = revocation.attempts,
                "tokens of a disconnected account could not be revoked at their authorization \
                 server; they are not used here, and may work elsewhere until they expire"
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
        let Ok(found) = found else { return Attempt::Again };
        let Some(endpoint) = &found.revocation_endpoint else {
            return Attempt::Done(Outcome::NotSupported);
        };
        let client_id = revocation.client_id.as_deref();
        let client = match self.clients.of_grant(&self.store, &server, issuer, client_id).await {
            Ok(Some(client)) => client,
            Ok(None) => return Attempt::Done(Outcome::Refused),
            Err(_) => return Attempt::Again,
        };
        let mut outcome = Outcome::Revoked;
        for token in &revocation.tokens {
            match self.revoke(&server, &found, endpoint, client.clone(), token).await {
                Attempt::Done(Outcome::Revoked) => {}
                Attempt::Done(other) => outcome = other,
                Attempt::Again => return Attempt::Again,
            }
        }
        Attempt::Done(outcome)
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
            Err(_) => Attempt::Again,
        }
    }
}

/// Returns what a response means (RFC 7009 §2.2). A token that is not known any more is revoked,
/// and a server responds with 200.
fn meaning(status: StatusCode, body: &[u8]) -> Attempt {
    if status.is_success() {
        return Attempt::Done(Outcome::Revoked);
    }
    let code = JsonObject::read(body).ok().and_then(|object| object.text("error"));
    match (status, code.as_deref().map(String::as_str)) {
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => Attempt::Again,
        (_, Some("unsupported_token_type")) => Attempt::Done(Outcome::NotSupported),
        (_, Some("temporarily_unavailable" | "server_error")) => Attempt::Again,
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
            Attempt::Again => None,
        }
    }

    #[test]
    fn only_a_response_ends_the_attempts() {
        assert_eq!(outcome(200, ""), Some(Outcome::Revoked));
        assert_eq!(outcome(204, ""), Some(Outcome::Revoked));
        let unsupported = r#"{"error":"unsupported_token_type"}"#;
        assert_eq!(outcome(400, unsupported), Some(Outcome::NotSupported));
        assert_eq!(outcome(401, r#"{"error":"invalid_client"}"#), Some(Outcome::Refused));
        assert_eq!(outcome(404, "<html>"), Some(Outcome::Refused));
        for (status, body) in [
            (500, ""),
            (503, r#"{"error":"invalid_request"}"#),
            (429, ""),
            (408, ""),
            (302, ""),
            (400, r#"{"error":"temporarily_unavailable"}"#),
        ] {
            assert_eq!(outcome(status, body), None, "{status} {body}");
        }
    }
}
