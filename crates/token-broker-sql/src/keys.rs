//! Keys that all processes share, wrapped by the key-encryption key.

use token_broker_store::{
    authority::LookupKey,
    sealing::{DataKey, KeyId, KeyWrap as _, KeyWrapError, SealingContext, WrappedKey},
};
use tower_token_broker::sealing::SealingKeys;
use zeroize::Zeroizing;

use crate::{
    database::{Failure, Value},
    error::{OpenError, SqlError},
    rotate::RotateProgress,
    store::SqlStore,
    url::StoreUrl,
};

/// Keys that seal the state that clients hold.
const CLIENT_STATE: &str = "client_state";
/// The key of the hashes by which the authority's rows are found. It never changes: with another
/// one, no row would be found.
const LOOKUP: &str = "lookup";
const PURPOSES: [&str; 2] = [CLIENT_STATE, LOOKUP];

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
/// key-encryption keys. Returns the lookup key.
pub(crate) async fn prepare(store: &SqlStore, url: &StoreUrl) -> Result<LookupKey, OpenError> {
    let failed = |failure: Failure| OpenError::unreachable(url, &failure);
    let unusable = |error: KeyWrapError| {
        if let KeyWrapError::UnknownKey { key_id } = error {
            return OpenError::WrongKey { stored: key_id, given: store.keys.current() };
        }
        if error.is_retryable() { OpenError::KeyUnavailable } else { OpenError::Damaged }
    };
    let mut lookup_key = None;
    for purpose in PURPOSES {
        if read(store, purpose).await.map_err(failed)?.is_empty() {
            let context = context(purpose, 1);
            let wrapped = DataKey::generate().wrap(&store.keys, &context).await;
            let wrapped = wrapped.map_err(unusable)?;
            let values = [
                Value::Text(purpose),
                Value::Int(1),
                Value::Text(wrapped.key_id.as_str()),
                Value::Bytes(&wrapped.bytes),
            ];
            // Another process may have been first: then its key counts.
            store.within(store.database.write(ADD, &values)).await.map_err(failed)?;
        }
        for key in read(store, purpose).await.map_err(failed)? {
            let opened = open(store, purpose, &key).await.map_err(unusable)?;
            if purpose == LOOKUP {
                lookup_key = octets(opened).map(|octets| LookupKey::new(&octets));
            }
        }
    }
    lookup_key.ok_or(OpenError::Damaged)
}

pub(crate) async fn sealing_keys(store: &SqlStore) -> Result<SealingKeys, SqlError> {
    let mut keys: Option<SealingKeys> = None;
    for key in read(store, CLIENT_STATE).await? {
        let octets = octets(open(store, CLIENT_STATE, &key).await?).ok_or(SqlError::Unreadable)?;
        keys = Some(match keys {
            None => SealingKeys::new(&octets),
            Some(newer) => newer.also_opening(&octets),
        });
    }
    keys.ok_or(SqlError::Unreadable)
}

fn octets(key: DataKey) -> Option<Zeroizing<[u8; 32]>> {
    let secret = key.into_secret();
    #[expect(clippy::disallowed_methods, reason = "the key that is used")]
    let octets = secret.expose().try_into().ok();
    octets.map(Zeroizing::new)
}

/// Wraps the shared keys with the current key-encryption key.
pub(crate) async fn rewrap(store: &SqlStore, state: &mut RotateProgress) -> Result<(), SqlError> {
    for purpose in PURPOSES {
        rewrap_purpose(store, purpose, state).await?;
    }
    Ok(())
}

async fn rewrap_purpose(
    store: &SqlStore,
    purpose: &str,
    state: &mut RotateProgress,
) -> Result<(), SqlError> {
    let current = store.keys.current();
    for old in read(store, purpose).await? {
        if old.wrapped.key_id == current {
            continue;
        }
        let context = context(purpose, old.generation);
        let wrapped = match open(store, purpose, &old).await {
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
            Value::Text(purpose),
            Value::from(old.generation),
            Value::Bytes(&old.wrapped.bytes),
        ];
        if !store.within(store.database.write(REWRAP, &values)).await?.is_empty() {
            state.rewrapped += 1;
        }
    }
    Ok(())
}

async fn read(store: &SqlStore, purpose: &str) -> Result<Vec<SharedKey>, Failure> {
    let rows = store.within(store.database.read(READ, &[Value::Text(purpose)])).await?;
    rows.iter()
        .map(|row| {
            let wrapped = WrappedKey::new(KeyId::new(&row.text(1)?), row.bytes(2)?);
            Ok(SharedKey { generation: row.number(0)?, wrapped })
        })
        .collect()
}

async fn open(store: &SqlStore, purpose: &str, key: &SharedKey) -> Result<DataKey, KeyWrapError> {
    DataKey::unwrap(&store.keys, &key.wrapped, &context(purpose, key.generation)).await
}
