//! Connects in progress: how they begin, are claimed, and end without a grant.

use token_broker_store::{
    StoreError,
    authority::{LookupHash, SessionId},
    connect::{ConnectId, PendingConnect},
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::row::{self, ConnectRow};
use crate::{
    authority::{begin_for_many, of_row},
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

pub(super) const KIND: &str = "connect";

const INSERT: &str = "INSERT INTO connects (id, hash, issuer, subject, server, account, session, \
    created_at, expires_at, mac, key_id, data_key, content) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT DO NOTHING RETURNING 1";
const LOAD_OPEN: &str = "SELECT id, hash, issuer, subject, server, account, session, created_at, \
    expires_at, mac, key_id, data_key, content FROM connects \
    WHERE hash = $1 AND session = $2 AND expires_at > $3 AND content IS NOT NULL";
/// Only once: the content is erased.
const CLAIM: &str = "UPDATE connects SET key_id = NULL, data_key = NULL, content = NULL \
    WHERE id = $1 AND mac = $2 AND content IS NOT NULL RETURNING 1";
const DROP: &str = "DELETE FROM connects WHERE id = $1 RETURNING 1";
/// The filters that are not set are NULL.
const END: &str = "DELETE FROM connects \
    WHERE (CAST($1 AS TEXT) IS NULL OR (issuer = $1 AND subject = $2)) \
    AND (CAST($3 AS TEXT) IS NULL OR server = $3) RETURNING 1";
const REMOVE: &str = "DELETE FROM connects WHERE id IN (\
    SELECT id FROM connects WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING 1";

impl SqlStore {
    pub(super) async fn put_pending(
        &self,
        state: &LookupHash,
        connect: &PendingConnect,
    ) -> Result<(), StoreError> {
        let context = row::context(state, connect);
        let (mac, content) = (self.mac(&context), self.seal(&context, &connect.content).await?);
        let mut values = vec![
            Value::Text(connect.id.as_str()),
            Value::Bytes(state.as_bytes()),
            Value::Text(connect.key.user.issuer()),
            Value::Text(connect.key.user.subject()),
            Value::Text(&connect.key.server),
            Value::Text(connect.key.account.as_str()),
            Value::Text(connect.session.as_str()),
            Value::from(connect.created_at),
            Value::from(connect.expires_at),
            Value::Bytes(&mac),
        ];
        values.extend(content.values());
        match self.write(INSERT, &values).await?.is_empty() {
            true => Err(StoreError::exists(KIND, connect.id.as_str())),
            false => Ok(()),
        }
    }

    pub(super) async fn claim_pending(
        &self,
        state: &LookupHash,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Option<PendingConnect>, StoreError> {
        let values =
            [Value::Bytes(state.as_bytes()), Value::Text(session.as_str()), Value::from(now)];
        let rows = self.read(LOAD_OPEN, &values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = row.text(0)?;
        let (connect, mac) = self.open_pending(row).await.map_err(of_row(KIND, &id))?;
        let claimed = self.write(CLAIM, &[Value::Text(&id), Value::Bytes(&mac)]).await?;
        Ok((!claimed.is_empty()).then_some(connect))
    }

    async fn open_pending(&self, row: &Row) -> Result<(PendingConnect, Vec<u8>), Failure> {
        let ConnectRow { mut connect, mac, content, context } = ConnectRow::read(self, row)?;
        let content = content.ok_or(Failure::Unreadable)?;
        connect.content = self.open_sealed(&context, &content).await?;
        Ok((connect, mac))
    }

    pub(super) async fn drop_pending(&self, id: &ConnectId) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(false);
        }
        Ok(!self.write(DROP, &[Value::Text(id.as_str())]).await?.is_empty())
    }

    pub(super) async fn end_pending(
        &self,
        user: Option<&User>,
        server: Option<&str>,
    ) -> Result<u64, StoreError> {
        let texts = [user.map(User::issuer), user.map(User::subject), server];
        // What can't be stored was not stored.
        if texts.iter().flatten().any(|text| !limits::is_storable(text, limits::ISSUER)) {
            return Ok(0);
        }
        let values = texts.map(Value::OptionalText);
        let end = || async {
            let mut changes = begin_for_many(&self.database).await?;
            let ended = changes.run(END, &values).await?.len();
            changes.commit().await?;
            Ok(ended as u64)
        };
        Ok(self.again_after_deadlock(end).await?)
    }

    pub(super) async fn remove_pending(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let values = [Value::from(before), Value::from(limit as u64)];
        Ok(self.write(REMOVE, &values).await?.len())
    }
}
