//! Faults of the browser sessions.

use token_broker_store::{
    StoreError,
    authority::{LookupHash, Session, SessionStore},
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::{Fault, Faulty};

impl SessionStore for Faulty {
    async fn put_session(&self, hash: &LookupHash, session: &Session) -> Result<(), StoreError> {
        match self.store.put_session(hash, session).await {
            Err(StoreError::Exists { .. }) if self.has(Fault::SessionIsTakenTwice) => Ok(()),
            outcome => outcome,
        }
    }

    async fn session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let is_endless = self.has(Fault::SessionNeverExpires);
        let now = if is_endless { Timestamp::from_unix_millis(0) } else { now };
        let mut found = self.store.session(hash, now).await?;
        if let Some(session) = found.as_mut().filter(|_| self.has(Fault::SessionLosesEpoch)) {
            session.account_epoch = 0;
        }
        Ok(found)
    }

    async fn touch_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        if self.has(Fault::SessionSightFalls)
            && let Some(mut session) = self.store.session(hash, now).await?
        {
            session.last_seen_at = now;
            self.store.end_session(hash, now).await?;
            self.store.put_session(hash, &session).await?;
            return Ok(true);
        }
        self.store.touch_session(hash, now).await
    }

    async fn end_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        if self.has(Fault::SessionIsNotEnded) {
            return Ok(true);
        }
        self.store.end_session(hash, now).await
    }

    async fn end_sessions(&self, user: &User, now: Timestamp) -> Result<u64, StoreError> {
        if self.has(Fault::SessionsEndOfAnyIssuer) {
            let elsewhere = User::new("https://other.example", user.subject());
            self.store.end_sessions(&elsewhere, now).await?;
        }
        self.store.end_sessions(user, now).await
    }

    async fn remove_sessions(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.remove_sessions(self.before(before), limit).await
    }
}
