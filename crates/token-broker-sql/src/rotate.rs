//! Rotation of the key-encryption key.

use token_broker_store::{
    Account, GrantKey, GrantRef, StoreError,
    sealing::{KeyId, KeyWrap as _},
};
use tower_token_broker::principal::{GrantId, User};

use crate::{
    authority::{self, SealedTable},
    connect,
    database::{Failure, Row, Value},
    error::SqlError,
    keys,
    store::SqlStore,
};

const PAGE: u64 = 100;
/// How often the store is gone through. Later rounds find what other processes wrapped meanwhile.
const ROUNDS: u32 = 10;

const OLD_GRANTS: &str = "SELECT id, issuer, subject, server, account FROM grants \
    WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3";
const KEYS_IN_USE: &str = "SELECT key_id, CAST(SUM(uses) AS BIGINT) FROM (\
    SELECT key_id, COUNT(*) AS uses FROM grants WHERE key_id IS NOT NULL GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM families WHERE key_id IS NOT NULL \
    GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM accounts GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM signing_keys GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM connects WHERE key_id IS NOT NULL \
    GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM pending_revocations GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM registered_clients WHERE key_id IS NOT NULL \
    GROUP BY key_id \
    UNION ALL SELECT key_id, COUNT(*) AS uses FROM sealing_keys GROUP BY key_id\
    ) AS counted GROUP BY key_id ORDER BY key_id";

/// A key-encryption key that the store needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUse {
    /// ID of the key.
    pub key_id: KeyId,
    /// Number of keys that it has wrapped.
    pub count: u64,
}

/// Progress of a rotation, and its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RotateProgress {
    /// Number of keys that this call has wrapped with the current key.
    pub rewrapped: u64,
    /// Number of keys that other keys have wrapped.
    pub left: u64,
    /// How many of those could not be unwrapped: their key is not given, or the row was changed.
    pub unreadable: u64,
    /// The other keys, each with the number of keys that it has wrapped.
    pub old_keys: Vec<KeyUse>,
}

pub(crate) async fn rotate(
    store: &SqlStore,
    mut progress: impl FnMut(&RotateProgress) + Send,
) -> Result<RotateProgress, SqlError> {
    let mut state = RotateProgress::default();
    count(store, &mut state).await?;
    progress(&state);
    for _ in 0..ROUNDS {
        let before = state.rewrapped;
        state.unreadable = 0;
        rotate_grants(store, &mut state, &mut progress).await?;
        for table in authority::TABLES.iter().chain(&connect::TABLES) {
            rotate_table(store, table, &mut state, &mut progress).await?;
        }
        // Last: while it is wrapped with the old key, that key opens the store.
        keys::rewrap(store, &mut state).await?;
        count(store, &mut state).await?;
        progress(&state);
        if state.left == 0 || state.rewrapped == before {
            break;
        }
    }
    Ok(state)
}

async fn rotate_grants(
    store: &SqlStore,
    state: &mut RotateProgress,
    progress: &mut (impl FnMut(&RotateProgress) + Send),
) -> Result<(), SqlError> {
    let current = store.keys.current();
    let mut after = String::new();
    loop {
        let values = [Value::Text(current.as_str()), Value::Text(&after), Value::from(PAGE)];
        let rows = store.within(store.database.read(OLD_GRANTS, &values)).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.text(0)?;
        for row in &rows {
            let Ok(grant) = grant(row) else {
                state.unreadable += 1;
                continue;
            };
            match store.rewrap_grant(&grant).await {
                Ok(true) => state.rewrapped += 1,
                // Ended, or wrapped by another rotation.
                Ok(false) => {}
                Err(StoreError::Unreadable { .. }) => state.unreadable += 1,
                Err(_) => return Err(SqlError::Unreachable),
            }
        }
        count(store, state).await?;
        progress(state);
    }
}

async fn rotate_table(
    store: &SqlStore,
    table: &SealedTable,
    state: &mut RotateProgress,
    progress: &mut (impl FnMut(&RotateProgress) + Send),
) -> Result<(), SqlError> {
    let current = store.keys.current();
    // An ID may be empty: the first page begins before it.
    let mut after: Option<String> = None;
    loop {
        let values = [
            Value::Text(current.as_str()),
            Value::OptionalText(after.as_deref()),
            Value::from(PAGE),
        ];
        let rows = store.within(store.database.read(table.select_old, &values)).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.text(0)?);
        for row in &rows {
            match store.rewrap_row(table, row).await? {
                Some(true) => state.rewrapped += 1,
                // Ended, or wrapped by another rotation.
                Some(false) => {}
                None => state.unreadable += 1,
            }
        }
        count(store, state).await?;
        progress(state);
    }
}

fn grant(row: &Row) -> Result<GrantRef, Failure> {
    let user = User::new(row.text(1)?, row.text(2)?);
    let account = Account::parse(&row.text(4)?).map_err(|_| Failure::Unreadable)?;
    let key = GrantKey::new(user, &row.text(3)?, account);
    Ok(GrantRef::new(key, GrantId::new(&row.text(0)?)))
}

async fn count(store: &SqlStore, state: &mut RotateProgress) -> Result<(), SqlError> {
    let current = store.keys.current();
    state.old_keys = keys_in_use(store).await?;
    state.old_keys.retain(|used| used.key_id != current);
    state.left = state.old_keys.iter().map(|used| used.count).sum();
    Ok(())
}

pub(crate) async fn keys_in_use(store: &SqlStore) -> Result<Vec<KeyUse>, SqlError> {
    let rows = store.within(store.database.read(KEYS_IN_USE, &[])).await?;
    let used = |row: &Row| Ok(KeyUse { key_id: KeyId::new(&row.text(0)?), count: row.number(1)? });
    rows.iter().map(used).collect()
}
