//! Browser sessions in memory.

use tower_token_broker::{clock::Timestamp, principal::User};

use super::{MemoryAuthority, remove_some};
use crate::{
    StoreError,
    authority::{LookupHash, Session, SessionStore},
};

impl SessionStore for MemoryAuthority {
    async fn put_session(&self, hash: &LookupHash, session: &Session) -> Result<(), StoreError> {
        session.check()?;
        let sessions = &mut self.rows.lock().sessions;
        if sessions.contains_key(hash) || sessions.values().any(|held| held.id == session.id) {
            return Err(StoreError::exists("session", session.id.as_str()));
        }
        sessions.insert(*hash, session.clone());
        Ok(())
    }

    async fn session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let rows = self.rows.lock();
        Ok(rows.sessions.get(hash).filter(|session| now < session.expires_at).cloned())
    }

    async fn touch_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.rows.lock().sessions.get_mut(hash).is_some_and(|session| {
            session.last_seen_at = session.last_seen_at.max(now);
            true
        }))
    }

    async fn end_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock();
        let Some(session) = rows.sessions.remove(hash) else { return Ok(false) };
        rows.end_codes(now, |code| code.session == session.id);
        Ok(true)
    }

    async fn end_sessions(&self, user: &User, now: Timestamp) -> Result<u64, StoreError> {
        let mut rows = self.rows.lock();
        rows.end_codes(now, |code| code.user == *user);
        let is_of = |session: &Session| session.user == *user;
        Ok(remove_some(&mut rows.sessions, usize::MAX, is_of) as u64)
    }

    async fn remove_sessions(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let is_old = |session: &Session| session.expires_at < before;
        Ok(remove_some(&mut self.rows.lock().sessions, limit, is_old))
    }
}
