//! Sealed columns: a data key for each row, and the value that it seals.

use token_broker_store::{
    StoreError,
    sealing::{DataKey, KeyId, KeyWrapError, SealingContext, WrappedKey},
};
use tower_token_broker::Secret;

use super::{accounts, families, signing_keys};
use crate::{
    database::{Failure, Row, Value},
    error::SqlError,
    store::SqlStore,
};

/// The tables with sealed columns, apart from those of the grants.
pub(crate) const TABLES: [SealedTable; 3] =
    [families::SEALED, accounts::SEALED, signing_keys::SEALED];

/// How a table's data keys are wrapped again.
pub(crate) struct SealedTable {
    /// Selects rows that another key than `$1` wrapped, after the ID `$2`, at most `$3`: ID,
    /// `key_id`, `data_key`, and what `context` reads.
    pub(crate) select_old: &'static str,
    /// Sets `key_id` and `data_key` of the row with the ID `$3`, if `data_key` is still `$4`.
    pub(crate) rewrap: &'static str,
    /// The context of a row, from the columns after the third.
    pub(crate) context: fn(&Row) -> Result<SealingContext, Failure>,
}

/// A value and its data key, as they are stored.
pub(crate) struct Sealed {
    key: WrappedKey,
    value: Vec<u8>,
}

impl Sealed {
    /// Reads the columns `key_id`, `data_key` and the value, of which the first has this position.
    pub(crate) fn read(row: &Row, first: usize) -> Result<Option<Self>, Failure> {
        let key_id = row.optional_text(first)?;
        let columns = (key_id, row.optional_bytes(first + 1)?, row.optional_bytes(first + 2)?);
        match columns {
            (Some(key_id), Some(key), Some(value)) => {
                Ok(Some(Self { key: WrappedKey::new(KeyId::new(&key_id), key), value }))
            }
            (None, None, None) => Ok(None),
            _ => Err(Failure::Unreadable),
        }
    }

    /// Returns the values of the columns `key_id`, `data_key` and the value.
    pub(crate) fn values(&self) -> [Value<'_>; 3] {
        [
            Value::Text(self.key.key_id.as_str()),
            Value::Bytes(&self.key.bytes),
            Value::Bytes(&self.value),
        ]
    }
}

impl SqlStore {
    /// Seals a value for its row, with a new data key.
    pub(crate) async fn seal(
        &self,
        row: &SealingContext,
        value: &Secret,
    ) -> Result<Sealed, StoreError> {
        let data_key = DataKey::generate();
        let value = data_key.seal(&value_context(row), value);
        let key = data_key.wrap(&self.keys, &key_context(row)).await;
        // Only a key management service fails here.
        let key = key.map_err(|error| Failure::Unreachable(error.to_string().into()))?;
        Ok(Sealed { key, value })
    }

    /// Opens a value of a row. What does not open is unreadable.
    pub(crate) async fn open_sealed(
        &self,
        row: &SealingContext,
        sealed: &Sealed,
    ) -> Result<Secret, Failure> {
        let unwrapped = DataKey::unwrap(&self.keys, &sealed.key, &key_context(row)).await;
        let data_key = unwrapped.map_err(|error| failed(&error))?;
        data_key.open(&value_context(row), &sealed.value).map_err(|_| Failure::Unreadable)
    }

    /// Wraps the data key of a row of [`SealedTable::select_old`] with the current key-encryption
    /// key. Returns whether it did: `None` if the row is not readable.
    pub(crate) async fn rewrap_row(
        &self,
        table: &SealedTable,
        row: &Row,
    ) -> Result<Option<bool>, SqlError> {
        let Ok((id, key, context)) = old_row(table, row) else { return Ok(None) };
        let data_key = match DataKey::unwrap(&self.keys, &key, &context).await {
            Ok(data_key) => data_key,
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let wrapped = data_key.wrap(&self.keys, &context).await?;
        let values = [
            Value::Text(wrapped.key_id.as_str()),
            Value::Bytes(&wrapped.bytes),
            Value::Text(&id),
            Value::Bytes(&key.bytes),
        ];
        let rows = self.within(self.database.write(table.rewrap, &values)).await?;
        Ok(Some(!rows.is_empty()))
    }
}

fn old_row(
    table: &SealedTable,
    row: &Row,
) -> Result<(String, WrappedKey, SealingContext), Failure> {
    let key = WrappedKey::new(KeyId::new(&row.text(1)?), row.bytes(2)?);
    Ok((row.text(0)?, key, key_context(&(table.context)(row)?)))
}

fn failed(error: &KeyWrapError) -> Failure {
    if error.is_retryable() {
        return Failure::Unreachable(error.to_string().into());
    }
    Failure::Unreadable
}

fn key_context(row: &SealingContext) -> SealingContext {
    row.clone().text("data_key")
}

fn value_context(row: &SealingContext) -> SealingContext {
    row.clone().text("value")
}
