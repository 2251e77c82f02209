//! Pages of grants, without their tokens.

use token_broker_store::{
    Account, Backoff, GrantFilter, GrantKey, GrantPage, GrantRef, GrantState, GrantSummary,
    StoreError,
};
use tower_token_broker::principal::{GrantId, Scopes, User};

use super::row::{count, refused, time};
use crate::{
    database::{Failure, Row, Value},
    error::SqlError,
    limits,
    store::SqlStore,
};

/// The filters that are not set are NULL.
const LIST: &str = "SELECT id, issuer, subject, server, account, authorization_server, granted, \
    state, version, open_attempts, failures, retry_at, refused_since, refused_steady_since, \
    refused_last, access_expires_at, \
    CASE WHEN refresh_token IS NULL THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END, \
    client_id, connected_at, upstream FROM grants \
    WHERE (CAST($1 AS TEXT) IS NULL OR (issuer = $1 AND subject = $2)) \
    AND (CAST($3 AS TEXT) IS NULL OR server = $3) AND (CAST($4 AS TEXT) IS NULL OR id > $4) \
    ORDER BY id LIMIT $5";

const FIND: &str = "SELECT issuer, subject, server, account FROM grants WHERE id = $1";

/// Finds a grant by its ID.
pub(crate) async fn find(store: &SqlStore, id: &GrantId) -> Result<Option<GrantRef>, SqlError> {
    if !limits::is_storable(id.as_str(), limits::REVOKED) {
        return Ok(None);
    }
    let values = [Value::Text(id.as_str())];
    let rows = store.within(store.database.read(FIND, &values)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let user = User::new(row.text(0)?, row.text(1)?);
    let account = Account::parse(&row.text(3)?).map_err(|_| Failure::Unreadable)?;
    let key = GrantKey::new(user, &row.text(2)?, account);
    Ok(Some(GrantRef::new(key, id.clone())))
}

pub(super) async fn page(store: &SqlStore, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
    let user = filter.user.as_ref();
    let texts = [
        user.map(User::issuer),
        user.map(User::subject),
        filter.server.as_deref(),
        filter.after.as_ref().map(GrantId::as_str),
    ];
    // What can't be stored was not stored; as a cursor it is another program's mistake.
    if texts.iter().flatten().any(|text| !limits::is_storable(text, limits::REVOKED)) {
        return Ok(GrantPage::new(Vec::new(), None));
    }
    let size = filter.page_size();
    let mut values = texts.map(Value::OptionalText).to_vec();
    values.push(Value::from(size as u64 + 1));
    let rows = store.within(store.database.read(LIST, &values)).await?;
    let mut grants = Vec::with_capacity(size);
    for row in rows.iter().take(size) {
        let id = GrantId::new(&row.text(0)?);
        grants.push(summary(row, id.clone()).map_err(|_| StoreError::Unreadable { grant: id })?);
    }
    let next = grants.last().filter(|_| rows.len() > size).map(|last| last.id.clone());
    Ok(GrantPage::new(grants, next))
}

fn summary(row: &Row, id: GrantId) -> Result<GrantSummary, Failure> {
    let user = User::new(row.text(1)?, row.text(2)?);
    let account = Account::parse(&row.text(4)?).map_err(|_| Failure::Unreadable)?;
    let key = GrantKey::new(user, &row.text(3)?, account);
    let mut summary = GrantSummary::new(id, key, &row.text(5)?);
    summary.granted = Scopes::parse(&row.text(6)?).map_err(|_| Failure::Unreadable)?;
    summary.state = GrantState::from_name(&row.text(7)?).ok_or(Failure::Unreadable)?;
    summary.version = row.number(8)?;
    summary.open_attempts = count(row, 9)?;
    summary.backoff = Backoff::new(count(row, 10)?, time(row, 11)?);
    summary.refused = refused(row, 12)?;
    summary.access_expires_at = time(row, 15)?;
    summary.has_refresh_token = row.int(16)? != 0;
    summary.client_id = row.optional_text(17)?.map(Into::into);
    summary.connected_at = time(row, 18)?;
    summary.upstream = row.optional_text(19)?.map(Into::into);
    Ok(summary)
}
