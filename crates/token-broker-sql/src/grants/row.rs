//! The columns of a grant, and the statements that read and write them.

use token_broker_store::{
    Backoff, Grant, GrantKey, GrantState, RepeatedRefusal, StoreError,
    sealing::{KeyId, WrappedKey},
};
use tower_token_broker::{
    clock::Timestamp,
    principal::{GrantId, Scopes},
};

use crate::database::{Failure, Row, Value};

pub(super) const LOAD: &str = "SELECT id, authorization_server, granted, state, version, \
    open_attempts, failures, retry_at, refused_since, refused_steady_since, refused_last, fence, \
    leased_until, access_expires_at, key_id, data_key, refresh_token, access_tokens, stamp, \
    client_id, connected_at, upstream, resource FROM grants \
    WHERE issuer = $1 AND subject = $2 AND server = $3 AND account = $4";
pub(super) const OWNER: &str = "SELECT issuer, subject, server, account FROM grants WHERE id = $1";
pub(super) const WRITE_STATE: &str = "UPDATE grants SET state = $1, version = $2, \
    open_attempts = $3, failures = $4, retry_at = $5, refused_since = $6, \
    refused_steady_since = $7, refused_last = $8, fence = $9, leased_until = $10, stamp = $11 \
    WHERE id = $12 AND stamp = $13 RETURNING 1";
pub(super) const REPLACE: &str = "UPDATE grants SET state = $5, version = $6, \
    open_attempts = $7, failures = $8, retry_at = $9, refused_since = $10, \
    refused_steady_since = $11, refused_last = $12, fence = $13, leased_until = $14, id = $15, \
    authorization_server = $16, granted = $17, access_expires_at = $18, key_id = $19, \
    data_key = $20, refresh_token = $21, access_tokens = $22, client_id = $23, \
    connected_at = $24, upstream = $25, resource = $26, stamp = $27 \
    WHERE issuer = $1 AND subject = $2 AND server = $3 AND account = $4 AND stamp = $28 \
    RETURNING 1";
pub(super) const INSERT: &str = "INSERT INTO grants (issuer, subject, server, account, state, \
    version, open_attempts, failures, retry_at, refused_since, refused_steady_since, \
    refused_last, fence, leased_until, id, authorization_server, granted, access_expires_at, \
    key_id, data_key, refresh_token, access_tokens, client_id, connected_at, upstream, \
    resource, stamp) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
    $20, $21, $22, $23, $24, $25, $26, $27) ON CONFLICT DO NOTHING RETURNING 1";
pub(super) const DELETE: &str = "DELETE FROM grants WHERE id = $1 AND stamp = $2 RETURNING 1";

/// A row. Its tokens are sealed, and those of `grant` are empty until they are opened.
pub(super) struct GrantRow {
    pub(super) grant: Grant,
    pub(super) fence: u64,
    pub(super) leased_until: Option<Timestamp>,
    pub(super) data_key: Option<WrappedKey>,
    pub(super) refresh_token: Option<Vec<u8>>,
    pub(super) access_tokens: Option<Vec<u8>>,
    pub(super) access_expires_at: Option<Timestamp>,
    /// Stamp of the row as it was read.
    pub(super) stamp: i64,
}

impl GrantRow {
    /// Creates a row whose tokens are not sealed yet.
    pub(super) const fn new(grant: Grant, fence: u64, stamp: i64) -> Self {
        Self {
            grant,
            fence,
            leased_until: None,
            data_key: None,
            refresh_token: None,
            access_tokens: None,
            access_expires_at: None,
            stamp,
        }
    }

    /// Reads a row of [`LOAD`].
    pub(super) fn read(row: &Row, key: GrantKey) -> Result<Self, StoreError> {
        let id = GrantId::new(&row.text(0)?);
        // Another row is not affected.
        Self::columns(row, id.clone(), key).map_err(|_| StoreError::Unreadable { grant: id })
    }

    fn columns(row: &Row, id: GrantId, key: GrantKey) -> Result<Self, Failure> {
        let mut grant = Grant::new(id, key, &row.text(1)?);
        grant.granted = Scopes::parse(&row.text(2)?).map_err(|_| Failure::Unreadable)?;
        grant.state = GrantState::from_name(&row.text(3)?).ok_or(Failure::Unreadable)?;
        grant.version = row.number(4)?;
        grant.open_attempts = count(row, 5)?;
        grant.backoff = Backoff::new(count(row, 6)?, time(row, 7)?);
        grant.refused = refused(row, 8)?;
        grant.client_id = row.optional_text(19)?.map(Into::into);
        grant.connected_at = time(row, 20)?;
        grant.upstream = row.optional_text(21)?.map(Into::into);
        grant.resource = row.optional_text(22)?.map(Into::into);
        let data_key = match (row.optional_text(14)?, row.optional_bytes(15)?) {
            (Some(key_id), Some(bytes)) => Some(WrappedKey::new(KeyId::new(&key_id), bytes)),
            (None, None) => None,
            _ => return Err(Failure::Unreadable),
        };
        Ok(Self {
            grant,
            fence: row.number(11)?,
            leased_until: time(row, 12)?,
            access_expires_at: time(row, 13)?,
            data_key,
            refresh_token: row.optional_bytes(16)?,
            access_tokens: row.optional_bytes(17)?,
            stamp: row.int(18)?,
        })
    }

    /// Makes the grant a revoked one.
    pub(super) fn revoke(&mut self) {
        self.grant.version = self.grant.version.saturating_add(1);
        self.grant.state = GrantState::Revoked;
        self.leased_until = None;
        self.erase();
    }

    /// Erases the tokens and their key.
    pub(super) fn erase(&mut self) {
        self.grant.refresh_token = None;
        self.grant.access.clear();
        self.refresh_token = None;
        self.access_tokens = None;
        self.access_expires_at = None;
        self.data_key = None;
    }
}

/// Values of the columns of a row, in the order of the statements.
pub(super) struct Columns<'a> {
    row: &'a GrantRow,
    granted: String,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a GrantRow) -> Self {
        Self { row, granted: row.grant.granted.to_string() }
    }

    pub(super) fn state(&self) -> [Value<'_>; 10] {
        let grant = &self.row.grant;
        let refused = |part: fn(RepeatedRefusal) -> Timestamp| {
            Value::from(grant.refused.map(|refused| part(refused).unix_millis()))
        };
        [
            Value::Text(grant.state.as_str()),
            Value::from(grant.version),
            Value::Int(grant.open_attempts.into()),
            Value::Int(grant.backoff.failures.into()),
            millis(grant.backoff.retry_at),
            refused(|refused| refused.since),
            refused(|refused| refused.steady_since),
            refused(|refused| refused.last),
            Value::from(self.row.fence),
            millis(self.row.leased_until),
        ]
    }

    /// All but the stamp, the key first.
    pub(super) fn all(&self) -> Vec<Value<'_>> {
        let mut values = key_values(&self.row.grant.key).to_vec();
        values.extend(self.state());
        values.extend(self.content());
        values
    }

    fn content(&self) -> [Value<'_>; 12] {
        let row = self.row;
        [
            Value::Text(row.grant.id.as_str()),
            Value::Text(&row.grant.authorization_server),
            Value::Text(&self.granted),
            millis(row.access_expires_at),
            Value::OptionalText(row.data_key.as_ref().map(|key| key.key_id.as_str())),
            Value::OptionalBytes(row.data_key.as_ref().map(|key| key.bytes.as_slice())),
            Value::OptionalBytes(row.refresh_token.as_deref()),
            Value::OptionalBytes(row.access_tokens.as_deref()),
            Value::OptionalText(row.grant.client_id.as_deref()),
            millis(row.grant.connected_at),
            Value::OptionalText(row.grant.upstream.as_deref()),
            Value::OptionalText(row.grant.resource.as_deref()),
        ]
    }
}

pub(super) fn key_values(key: &GrantKey) -> [Value<'_>; 4] {
    [
        Value::Text(key.user.issuer()),
        Value::Text(key.user.subject()),
        Value::Text(&key.server),
        Value::Text(key.account.as_str()),
    ]
}

/// Whether a row of [`OWNER`] has this key.
pub(super) fn is_of(row: &Row, key: &GrantKey) -> Result<bool, Failure> {
    Ok(row.text(0)? == key.user.issuer()
        && row.text(1)? == key.user.subject()
        && row.text(2)? == *key.server
        && row.text(3)? == key.account.as_str())
}

pub(super) fn time(row: &Row, column: usize) -> Result<Option<Timestamp>, Failure> {
    Ok(row.optional_number(column)?.map(Timestamp::from_unix_millis))
}

pub(super) fn count(row: &Row, column: usize) -> Result<u32, Failure> {
    row.number(column)?.try_into().map_err(|_| Failure::Unreadable)
}

/// Reads the record of a refusal, which has three columns.
pub(super) fn refused(row: &Row, first: usize) -> Result<Option<RepeatedRefusal>, Failure> {
    match (time(row, first)?, time(row, first + 1)?, time(row, first + 2)?) {
        (Some(since), Some(steady_since), Some(last)) => {
            let mut refused = RepeatedRefusal::new(since);
            refused.steady_since = steady_since;
            refused.last = last;
            Ok(Some(refused))
        }
        (None, None, None) => Ok(None),
        _ => Err(Failure::Unreadable),
    }
}

fn millis(time: Option<Timestamp>) -> Value<'static> {
    Value::from(time.map(Timestamp::unix_millis))
}
