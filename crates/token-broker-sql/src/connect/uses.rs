//! When connections were last used.

use token_broker_store::{StoreError, authority::ClientId, connect::ConnectionUse};
use tower_token_broker::principal::User;

use super::row::key;
use crate::{
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const MARK: &str = "INSERT INTO connection_uses (issuer, subject, server, account, client, \
    last_used_at) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (issuer, subject, server, account) \
    DO UPDATE SET client = excluded.client, last_used_at = excluded.last_used_at \
    WHERE excluded.last_used_at >= connection_uses.last_used_at";
const OF_USER: &str = "SELECT issuer, subject, server, account, client, last_used_at \
    FROM connection_uses WHERE issuer = $1 AND subject = $2 ORDER BY server, account";

impl SqlStore {
    pub(super) async fn mark_used(&self, used: &ConnectionUse) -> Result<(), StoreError> {
        let values = [
            Value::Text(used.key.user.issuer()),
            Value::Text(used.key.user.subject()),
            Value::Text(&used.key.server),
            Value::Text(used.key.account.as_str()),
            Value::Text(used.client.as_str()),
            Value::from(used.last_used_at),
        ];
        self.write(MARK, &values).await?;
        Ok(())
    }

    pub(super) async fn uses_of(&self, user: &User) -> Result<Vec<ConnectionUse>, StoreError> {
        let texts = [user.issuer(), user.subject()];
        // What can't be stored was not stored.
        if texts.iter().any(|text| !limits::is_storable(text, limits::ISSUER)) {
            return Ok(Vec::new());
        }
        let rows = self.read(OF_USER, &texts.map(Value::Text)).await?;
        // A row that was changed hides no other one.
        Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
    }
}

fn read(row: &Row) -> Result<ConnectionUse, Failure> {
    Ok(ConnectionUse::new(key(row, 0)?, ClientId::new(&row.text(4)?), row.time(5)?))
}
