//! Keys that all processes share, wrapped by the key-encryption key.

use token_broker_store::sealing::{
    DataKey, KeyId, KeyWrap as _, KeyWrapError, SealingContext, WrappedKey,
};
use tower_token_broker::sealing::SealingKeys;

use crate::{
    database::{Failure, Value},
    error::{OpenError, SqlError},
    rotate::RotateProgress,
    store::SqlStore,
    url::StoreUrl,
};

/// Keys that seal the state that clients hold.
const CLIENT_STATE: &str = "client_state";

const READ: &str = "SELECT generation, key_id, wrapped FROM sealing_keys WHERE purpose = $1 \
    ORDER BY generation DESC";
const ADD: &str = "INSERT INTO sealing_keys (purpose, generation, key_id, wrapped) \
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

/// Only if no other process has wrapped it meanwhile.
const REWRAP: &str = "UPDATE sealing_keys SET key_id = $1, wrapped = $2 \
    WHERE purpose = $3 AND generation = $4 AND wrapped = $5 RETURNING 1";

/// One wrapped key.
pub(crate) struct SharedKey {
    pub(crate) generation: u64,
    pub(crate) wrapped: WrappedKey,
}

pub(crate) fn context(purpose: &str, generation: u64) -> SealingContext {
    SealingContext::new("shared key").text(purpose).number(generation)
}

/// Creates the keys of a new store, and checks that those of an older one open with the given
/// key-encryption keys.
pub(crate) async fn prepare(store: &SqlStore, url: &StoreUrl) -> Result<(), OpenError> {
    let failed = |failure: Failure| OpenError::unreachable(url, &failure);
    let unusable = |error: KeyWrapError| {
        if let KeyWrapError::UnknownKey { key_id } = error {
            return OpenError::WrongKey { stored: key_id, given: store.keys.current() };
        }
        if error.is_retryable() { OpenError::KeyUnavailable } else { OpenError::Damaged }
    };
    if read(store).await.map_err(failed)?.is_empty() {
        let context = context(CLIENT_STATE, 1);
        let wrapped = DataKey::generate().wrap(&store.keys, &context).await.map_err(unusable)?;
        let values = [
            Value::Text(CLIENT_STATE),
            Value::Int(1),
            Value::Text(wrapped.key_id.as_str()),
            Value::Bytes(&wrapped.bytes),
        ];
        // Another process may have been first: then its key counts.
        store.within(store.database.write(ADD, &values)).await.map_err(failed)?;
    }
    for key in read(store).await.map_err(failed)? {
        open(store, &key).await.map_err(unusable).map(drop)?;
    }
    Ok(())
}

pub(crate) async fn sealing_keys(store: &SqlStore) -> Result<SealingKeys, SqlError> {
    let mut keys: Option<SealingKeys> = None;
    for key in read(store).await? {
        let secret = open(store, &key).await?.into_secret();
        #[expect(clippy::disallowed_methods, reason = "the key that is used")]
        let octets = secret.expose().try_into().map_err(|_| SqlError::Unreadable)?;
        keys = Some(match keys {
            None => SealingKeys::new(octets),
            Some(newer) => newer.also_opening(octets),
        });
    }
    keys.ok_or(SqlError::Unreadable)
}

/// Wraps the shared keys with the current key-encryption key.
pub(crate) async fn rewrap(store: &SqlStore, state: &mut RotateProgress) -> Result<(), SqlError> {
    let current = store.keys.current();
    for old in read(store).await? {
        if old.wrapped.key_id == current {
            continue;
        }
        let context = context(CLIENT_STATE, old.generation);
        let wrapped = match open(store, &old).await {
            Ok(key) => key.wrap(&store.keys, &context).await?,
            Err(KeyWrapError::Unavailable) => return Err(KeyWrapError::Unavailable.into()),
            Err(_) => {
                state.unreadable += 1;
                continue;
            }
        };
        let values = [
            Value::Text(wrapped.key_id.as_str()),
            Value::Bytes(&wrapped.bytes),
            Value::Text(CLIENT_STATE),
            Value::from(old.generation),
            Value::Bytes(&old.wrapped.bytes),
        ];
        if !store.within(store.database.write(REWRAP, &values)).await?.is_empty() {
            state.rewrapped += 1;
        }
    }
    Ok(())
}

async fn read(store: &SqlStore) -> Result<Vec<SharedKey>, Failure> {
    let rows = store.within(store.database.read(READ, &[Value::Text(CLIENT_STATE)])).await?;
    rows.iter()
        .map(|row| {
            let wrapped = WrappedKey::new(KeyId::new(&row.text(1)?), row.bytes(2)?);
            Ok(SharedKey { generation: row.number(0)?, wrapped })
        })
        .collect()
}

async fn open(store: &SqlStore, key: &SharedKey) -> Result<DataKey, KeyWrapError> {
    DataKey::unwrap(&store.keys, &key.wrapped, &context(CLIENT_STATE, key.generation)).await
}
