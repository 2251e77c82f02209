//! Seals and opens the tokens of a grant.

use token_broker_store::{
    StoreError,
    sealing::{DataKey, KeyWrap as _, KeyWrapError, SealingContext},
};

use super::{access_tokens, row::GrantRow};
use crate::{database::Failure, store::SqlStore};

const DATA_KEY: &str = "data_key";
const REFRESH_TOKEN: &str = "refresh_token";
const ACCESS_TOKENS: &str = "access_tokens";
/// The data key is kept while the version of the tokens rises.
const ANY_VERSION: u64 = 0;

impl SqlStore {
    /// Opens the tokens of a row.
    pub(super) async fn open_tokens(&self, row: &mut GrantRow) -> Result<(), StoreError> {
        let unreadable = |row: &GrantRow| StoreError::Unreadable { grant: row.grant.id.clone() };
        let data_key = match self.data_key(row).await? {
            Some(data_key) => data_key,
            None if row.refresh_token.is_none() && row.access_tokens.is_none() => return Ok(()),
            None => return Err(unreadable(row)),
        };
        if let Some(sealed) = &row.refresh_token {
            let context = context(row, REFRESH_TOKEN, row.grant.version);
            let token = data_key.open(&context, sealed).map_err(|_| unreadable(row))?;
            row.grant.refresh_token = Some(token);
        }
        if let Some(sealed) = &row.access_tokens {
            let context = context(row, ACCESS_TOKENS, row.grant.version);
            let tokens = data_key.open(&context, sealed).map_err(|_| unreadable(row))?;
            row.grant.access = access_tokens::decode(&tokens).ok_or_else(|| unreadable(row))?;
        }
        Ok(())
    }

    /// Seals the tokens of a row, with its data key or a new one.
    pub(super) async fn seal_tokens(&self, row: &mut GrantRow) -> Result<(), StoreError> {
        row.access_expires_at = row.grant.access.iter().map(|token| token.expires_at).max();
        if row.grant.refresh_token.is_none() && row.grant.access.is_empty() {
            row.erase();
            return Ok(());
        }
        let data_key = match self.data_key(row).await? {
            Some(data_key) => data_key,
            None => {
                let data_key = DataKey::generate();
                let context = context(row, DATA_KEY, ANY_VERSION);
                let wrapped = data_key.wrap(&self.keys, &context).await;
                row.data_key = Some(wrapped.map_err(|error| failed(row, &error))?);
                data_key
            }
        };
        let version = row.grant.version;
        row.refresh_token = row
            .grant
            .refresh_token
            .as_ref()
            .map(|token| data_key.seal(&context(row, REFRESH_TOKEN, version), token));
        row.access_tokens = (!row.grant.access.is_empty()).then(|| {
            let tokens = access_tokens::encode(&row.grant.access);
            data_key.seal(&context(row, ACCESS_TOKENS, version), &tokens)
        });
        Ok(())
    }

    /// Wraps the data key of a row with the current key-encryption key. Returns whether it was
    /// wrapped with another.
    pub(super) async fn rewrap(&self, row: &mut GrantRow) -> Result<bool, StoreError> {
        let current = self.keys.current();
        if row.data_key.as_ref().is_none_or(|wrapped| wrapped.key_id == current) {
            return Ok(false);
        }
        let Some(data_key) = self.data_key(row).await? else { return Ok(false) };
        let wrapped = data_key.wrap(&self.keys, &context(row, DATA_KEY, ANY_VERSION)).await;
        row.data_key = Some(wrapped.map_err(|error| failed(row, &error))?);
        Ok(true)
    }

    async fn data_key(&self, row: &GrantRow) -> Result<Option<DataKey>, StoreError> {
        let Some(wrapped) = &row.data_key else { return Ok(None) };
        let context = context(row, DATA_KEY, ANY_VERSION);
        match DataKey::unwrap(&self.keys, wrapped, &context).await {
            Ok(data_key) => Ok(Some(data_key)),
            Err(error) => Err(failed(row, &error)),
        }
    }
}

// O281: a key that is gone is an error of this grant only.
fn failed(row: &GrantRow, error: &KeyWrapError) -> StoreError {
    if error.is_retryable() {
        return Failure::Unreachable(error.to_string().into()).into();
    }
    StoreError::Unreadable { grant: row.grant.id.clone() }
}

/// The associated data of a column. It includes what decides where the tokens are sent.
fn context(row: &GrantRow, column: &str, version: u64) -> SealingContext {
    let grant = &row.grant;
    let context = SealingContext::new("grant")
        .text(grant.key.user.issuer())
        .text(grant.key.user.subject())
        .text(&grant.key.server)
        .text(grant.key.account.as_str())
        .text(grant.id.as_str())
        .text(&grant.authorization_server)
        .text(&grant.granted.to_string())
        .text(column)
        .number(version);
    // At the end, so that the tokens of grants that have none of these still open.
    let context = match &grant.client_id {
        Some(client_id) => context.text("client_id").text(client_id),
        None => context,
    };
    let context = match grant.connected_at {
        Some(at) => context.text("connected_at").number(at.unix_millis()),
        None => context,
    };
    let context = match &grant.upstream {
        Some(upstream) => context.text("upstream").text(upstream),
        None => context,
    };
    match &grant.resource {
        Some(resource) => context.text("resource").text(resource),
        None => context,
    }
}
