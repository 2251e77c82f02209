//! Browser sessions.

use token_broker_store::{
    StoreError,
    authority::{LookupHash, Session, SessionId, SessionStore},
    sealing::SealingContext,
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::{begin_for_many, codes, of_row};
use crate::{
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const KIND: &str = "session";

const INSERT: &str = "INSERT INTO sessions (hash, id, issuer, subject, account_epoch, \
    authenticated_at, created_at, last_seen_at, expires_at, mac) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING 1";
const LOAD: &str = "SELECT id, issuer, subject, account_epoch, authenticated_at, created_at, \
    last_seen_at, expires_at, mac FROM sessions WHERE hash = $1 AND expires_at > $2";
const TOUCH: &str = "UPDATE sessions SET last_seen_at = \
    CASE WHEN last_seen_at > $2 THEN last_seen_at ELSE $2 END WHERE hash = $1 RETURNING 1";
const END: &str = "DELETE FROM sessions WHERE hash = $1 RETURNING id";
const END_ALL: &str = "DELETE FROM sessions WHERE issuer = $1 AND subject = $2 RETURNING 1";
const REMOVE: &str = "DELETE FROM sessions WHERE hash IN (\
    SELECT hash FROM sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING 1";

impl SessionStore for SqlStore {
    async fn put_session(&self, hash: &LookupHash, session: &Session) -> Result<(), StoreError> {
        session.check()?;
        let (store, hash, session) = (self.clone(), *hash, session.clone());
        self.owned(async move {
            let mac = store.mac(&context(&hash, &session));
            let values = [
                Value::Bytes(hash.as_bytes()),
                Value::Text(session.id.as_str()),
                Value::Text(session.user.issuer()),
                Value::Text(session.user.subject()),
                Value::from(session.account_epoch),
                Value::from(session.authenticated_at),
                Value::from(session.created_at),
                Value::from(session.last_seen_at),
                Value::from(session.expires_at),
                Value::Bytes(&mac),
            ];
            if store.write(INSERT, &values).await?.is_empty() {
                return Err(StoreError::exists(KIND, session.id.as_str()));
            }
            Ok(())
        })
        .await
    }

    async fn session(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let values = [Value::Bytes(hash.as_bytes()), Value::from(now)];
        let rows = self.read(LOAD, &values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = row.text(0)?;
        self.parse_session(row, hash, &id).map(Some).map_err(of_row(KIND, &id))
    }

    async fn touch_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        let (store, hash) = (self.clone(), *hash);
        self.owned(async move {
            let values = [Value::Bytes(hash.as_bytes()), Value::from(now)];
            Ok(!store.write(TOUCH, &values).await?.is_empty())
        })
        .await
    }

    async fn end_session(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        let (store, hash) = (self.clone(), *hash);
        self.owned(async move {
            Ok(store.again_after_deadlock(|| store.end_with_codes(&hash, now)).await?)
        })
        .await
    }

    async fn end_sessions(&self, user: &User, now: Timestamp) -> Result<u64, StoreError> {
        let is_storable = limits::is_storable(user.issuer(), limits::ISSUER)
            && limits::is_storable(user.subject(), limits::SUBJECT);
        if !is_storable {
            return Ok(0);
        }
        let (store, user) = (self.clone(), user.clone());
        self.owned(async move {
            Ok(store.again_after_deadlock(|| store.end_all_with_codes(&user, now)).await?)
        })
        .await
    }

    async fn remove_sessions(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move {
            let values = [Value::from(before), Value::from(limit as u64)];
            Ok(store.write(REMOVE, &values).await?.len())
        })
        .await
    }
}

impl SqlStore {
    async fn end_with_codes(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, Failure> {
        let mut changes = begin_for_many(&self.database).await?;
        let ended = changes.run(END, &[Value::Bytes(hash.as_bytes())]).await?;
        let Some(session) = ended.first() else { return Ok(false) };
        codes::end_of_session(&mut changes, &session.text(0)?, now).await?;
        changes.commit().await?;
        Ok(true)
    }

    async fn end_all_with_codes(&self, user: &User, now: Timestamp) -> Result<u64, Failure> {
        let mut changes = begin_for_many(&self.database).await?;
        let values = [Value::Text(user.issuer()), Value::Text(user.subject())];
        let ended = changes.run(END_ALL, &values).await?;
        codes::end_of_user(&mut changes, user, now).await?;
        changes.commit().await?;
        Ok(ended.len() as u64)
    }

    fn parse_session(&self, row: &Row, hash: &LookupHash, id: &str) -> Result<Session, Failure> {
        let user = User::new(row.text(1)?, row.text(2)?);
        let mut session = Session::new(SessionId::new(id), user, row.time(4)?, row.time(7)?)
            .account_epoch(row.number(3)?);
        session.created_at = row.time(5)?;
        session.last_seen_at = row.time(6)?;
        if !self.is_authentic(&context(hash, &session), &row.bytes(8)?) {
            return Err(Failure::Unreadable);
        }
        Ok(session)
    }
}

/// The columns that never change.
fn context(hash: &LookupHash, session: &Session) -> SealingContext {
    SealingContext::new(KIND)
        .part(hash.as_bytes())
        .text(session.id.as_str())
        .text(session.user.issuer())
        .text(session.user.subject())
        .number(session.account_epoch)
        .number(session.authenticated_at.unix_millis())
        .number(session.created_at.unix_millis())
        .number(session.expires_at.unix_millis())
}
