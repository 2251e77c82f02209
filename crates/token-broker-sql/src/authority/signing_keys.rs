//! Keys that sign broker tokens.

use token_broker_store::{
    StoreError,
    authority::{AddSigningKey, KeyTimes, SigningKey, SigningKeySet, SigningKeyStore},
    sealing::SealingContext,
};
use tower_token_broker::clock::Timestamp;

use super::{
    count_if,
    sealed::{Sealed, SealedTable},
};
use crate::{
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const KIND: &str = "signing key";
/// Counts the keys that were added: the generation.
const COUNTER: &str = "signing_keys";

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT id, key_id, data_key, algorithm FROM signing_keys \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2) \
        ORDER BY id LIMIT $3",
    rewrap: "UPDATE signing_keys SET key_id = $1, data_key = $2 \
        WHERE id = $3 AND data_key = $4 RETURNING 1",
    context: |row| Ok(context(&row.text(0)?, &row.text(3)?)),
};

/// With the generation, which is there without keys, too.
const LOAD: &str = "SELECT counter.value, id, algorithm, published_from, signs_from, \
    signs_until, published_until, key_id, data_key, private_key \
    FROM authority_counters AS counter LEFT JOIN signing_keys ON id IS NOT NULL \
    WHERE counter.name = $1 ORDER BY id";
const INSERT: &str = "INSERT INTO signing_keys (id, algorithm, published_from, signs_from, \
    signs_until, published_until, key_id, data_key, private_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING 1";
const SET_TIMES: &str = "UPDATE signing_keys SET published_from = $2, signs_from = $3, \
    signs_until = $4, published_until = $5 WHERE id = $1";
const REMOVE: &str = "DELETE FROM signing_keys WHERE published_until < $1 RETURNING 1";

/// Outcome of an attempt to add a key.
enum Addition {
    Done,
    Late,
    Taken,
}

impl SigningKeyStore for SqlStore {
    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError> {
        let rows = self.read(LOAD, &[Value::Text(COUNTER)]).await?;
        let generation = rows.first().ok_or(Failure::Unreadable)?.number(0)?;
        let mut set = SigningKeySet::new(generation, Vec::new());
        for row in &rows {
            let Some(id) = row.optional_text(1)? else { continue };
            match self.signing_key(row, &id).await {
                Ok(key) => set.keys.push(key),
                // O281: a key that is gone is an error of this row only.
                Err(Failure::Unreadable) => set.unreadable.push(id.into()),
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(set)
    }

    async fn add_signing_key(&self, request: &AddSigningKey) -> Result<bool, StoreError> {
        request.key.check()?;
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move {
            let key = &request.key;
            let sealed = store.seal(&context(&key.id, &key.algorithm), &key.private_key).await?;
            match store.within(store.add_key(&request, &sealed)).await? {
                Addition::Done => Ok(true),
                Addition::Late => Ok(false),
                Addition::Taken => Err(StoreError::exists(KIND, &key.id)),
            }
        })
        .await
    }

    async fn remove_signing_keys(&self, before: Timestamp) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move { Ok(store.write(REMOVE, &[Value::from(before)]).await?.len()) })
            .await
    }
}

impl SqlStore {
    async fn add_key(&self, request: &AddSigningKey, sealed: &Sealed) -> Result<Addition, Failure> {
        // Dropped without a commit, it changes nothing.
        let mut changes = self.database.begin().await?;
        if !count_if(&mut changes, COUNTER, request.generation).await? {
            return Ok(Addition::Late);
        }
        let key = &request.key;
        let mut values = vec![Value::Text(&key.id), Value::Text(&key.algorithm)];
        values.extend(times(&key.times));
        values.extend(sealed.values());
        if changes.run(INSERT, &values).await?.is_empty() {
            return Ok(Addition::Taken);
        }
        for (id, new_times) in &request.times {
            if *id != key.id && limits::is_storable(id, limits::ID) {
                let mut values = vec![Value::Text(id)];
                values.extend(times(new_times));
                changes.run(SET_TIMES, &values).await?;
            }
        }
        changes.commit().await?;
        Ok(Addition::Done)
    }

    async fn signing_key(&self, row: &Row, id: &str) -> Result<SigningKey, Failure> {
        let algorithm = row.text(2)?;
        let mut times = KeyTimes::new(row.time(3)?, row.time(4)?);
        times.signs_until = row.optional_time(5)?;
        times.published_until = row.optional_time(6)?;
        let sealed = Sealed::read(row, 7)?.ok_or(Failure::Unreadable)?;
        let private_key = self.open_sealed(&context(id, &algorithm), &sealed).await?;
        Ok(SigningKey::new(id, &algorithm, private_key, times))
    }
}

fn times(times: &KeyTimes) -> [Value<'static>; 4] {
    [
        Value::from(times.published_from),
        Value::from(times.signs_from),
        Value::from(times.signs_until),
        Value::from(times.published_until),
    ]
}

/// The associated data of the private key.
fn context(id: &str, algorithm: &str) -> SealingContext {
    SealingContext::new(KIND).text(id).text(algorithm)
}
