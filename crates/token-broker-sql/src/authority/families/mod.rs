//! Token families.

mod row;

use token_broker_store::{
    StoreError,
    authority::{
        Advance, AdvanceFamily, EndFamilies, Family, FamilyEnd, FamilyFilter, FamilyId,
        FamilyStore, KeyedFamily, Page, PageRequest,
    },
    sealing::SealingContext,
};
use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, User},
};

use self::row::{FamilyRow, encode};
use super::{
    begin_for_many, codes, contended, of_row, page_of,
    sealed::{Sealed, SealedTable},
};
use crate::{
    database::{Changes, Failure, Row, Value},
    limits,
    store::SqlStore,
};

pub(super) const KIND: &str = "family";
/// How often a change is computed again. Each time, another process has made progress.
const ATTEMPTS: u32 = 16;
/// Number of filters of a [`FamilyFilter`].
pub(super) const FILTERS: usize = 5;

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT id, key_id, data_key, issuer, subject, client, resource, scopes, \
        created_at, ends_at FROM families \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2) ORDER BY id LIMIT $3",
    rewrap: "UPDATE families SET key_id = $1, data_key = $2 WHERE id = $3 AND data_key = $4 \
        RETURNING 1",
    context: row::old_context,
};

const INSERT: &str = "INSERT INTO families (id, issuer, subject, client, resource, scopes, \
    generation, issued_at, superseded, created_at, last_used_at, idle_until, ends_at, over_at, \
    key_id, data_key, family_key) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
const LOAD: &str = "SELECT id, issuer, subject, client, resource, scopes, generation, issued_at, \
    superseded, created_at, last_used_at, idle_until, ends_at, end_reason, ended_at, \
    key_id, data_key, family_key FROM families WHERE id = $1";
/// The filters that are not set are NULL.
const LIST: &str = "SELECT id, issuer, subject, client, resource, scopes, generation, issued_at, \
    superseded, created_at, last_used_at, idle_until, ends_at, end_reason, ended_at, \
    key_id, data_key, family_key FROM families \
    WHERE (CAST($1 AS TEXT) IS NULL OR (issuer = $1 AND subject = $2)) \
    AND (CAST($3 AS TEXT) IS NULL OR client = $3) \
    AND (CAST($4 AS BIGINT) IS NULL OR (ended_at IS NULL AND idle_until > $4 AND ends_at > $4)) \
    AND (CAST($5 AS TEXT) IS NULL OR resource = $5) \
    AND (CAST($6 AS TEXT) IS NULL OR id > $6) ORDER BY id LIMIT $7";
const ADVANCE: &str = "UPDATE families SET generation = $3, issued_at = $4, superseded = $5, \
    last_used_at = $6, idle_until = $7, over_at = $8 \
    WHERE id = $1 AND generation = $2 AND ended_at IS NULL RETURNING 1";
const END: &str = "UPDATE families SET end_reason = $2, ended_at = $3, \
    over_at = CASE WHEN over_at < $3 THEN over_at ELSE $3 END, \
    key_id = NULL, data_key = NULL, family_key = NULL \
    WHERE id = $1 AND ended_at IS NULL RETURNING 1";
const END_ALL: &str = "UPDATE families SET end_reason = $6, ended_at = $7, \
    over_at = CASE WHEN over_at < $7 THEN over_at ELSE $7 END, \
    key_id = NULL, data_key = NULL, family_key = NULL \
    WHERE (CAST($1 AS TEXT) IS NULL OR (issuer = $1 AND subject = $2)) \
    AND (CAST($3 AS TEXT) IS NULL OR client = $3) \
    AND (CAST($4 AS BIGINT) IS NULL OR (idle_until > $4 AND ends_at > $4)) \
    AND (CAST($5 AS TEXT) IS NULL OR resource = $5) \
    AND ended_at IS NULL RETURNING id";
const REMOVE: &str = "DELETE FROM families WHERE over_at < $1 AND id IN (\
    SELECT id FROM families WHERE over_at < $1 ORDER BY over_at LIMIT $2) RETURNING 1";

impl FamilyStore for SqlStore {
    async fn family(&self, id: &FamilyId) -> Result<Option<KeyedFamily>, StoreError> {
        let Some(FamilyRow { family, key }) = self.family_row(id).await? else { return Ok(None) };
        let key = match key {
            Some(key) => Some(
                self.open_sealed(&context(&family), &key)
                    .await
                    .map_err(of_row(KIND, family.id.as_str()))?,
            ),
            None => None,
        };
        Ok(Some(KeyedFamily::new(family, key)))
    }

    async fn advance_family(&self, request: &AdvanceFamily) -> Result<Advance, StoreError> {
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move { store.advance(&request).await }).await
    }

    async fn end_family(&self, id: &FamilyId, end: FamilyEnd) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(false);
        }
        let (store, id) = (self.clone(), id.clone());
        self.owned(async move {
            let reason = Value::Text(end.reason.as_str());
            let values = [Value::Text(id.as_str()), reason, Value::from(end.at)];
            Ok(!store.write(END, &values).await?.is_empty())
        })
        .await
    }

    async fn end_families(&self, request: &EndFamilies) -> Result<Vec<FamilyId>, StoreError> {
        if !request.filter.is_storable() {
            return Ok(Vec::new());
        }
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move {
            let rows = store.again_after_deadlock(|| store.end_all(&request)).await?;
            let ids: Result<Vec<_>, Failure> =
                rows.iter().map(|row| Ok(FamilyId::new(&row.text(0)?))).collect();
            Ok(ids?)
        })
        .await
    }

    async fn families(
        &self,
        filter: &FamilyFilter,
        page: &PageRequest,
    ) -> Result<Page<Family>, StoreError> {
        let after = page.after.as_deref();
        let is_storable = after.is_none_or(|after| limits::is_storable(after, limits::ID));
        if !is_storable || !filter.is_storable() {
            return Ok(Page::new(Vec::new(), None));
        }
        let size = page.size();
        let mut values = filter_values(filter).to_vec();
        values.extend([Value::OptionalText(after), Value::from(size as u64 + 1)]);
        let rows = self.read(LIST, &values).await?;
        page_of(&rows, size, |row| Ok(FamilyRow::read(row)?.family))
    }

    async fn remove_families(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move {
            let values = [Value::from(before), Value::from(limit as u64)];
            Ok(store.write(REMOVE, &values).await?.len())
        })
        .await
    }
}

impl SqlStore {
    /// Ends families and the codes with which others would begin.
    async fn end_all(&self, request: &EndFamilies) -> Result<Vec<Row>, Failure> {
        let mut changes = begin_for_many(&self.database).await?;
        let filter = filter_values(&request.filter);
        // The codes first: one that is being redeemed is waited for, and the statement after this
        // one sees its family.
        codes::end_selected(&mut changes, &filter, request.end.at).await?;
        let mut values = filter.to_vec();
        values.extend([Value::Text(request.end.reason.as_str()), Value::from(request.end.at)]);
        let rows = changes.run(END_ALL, &values).await?;
        changes.commit().await?;
        Ok(rows)
    }

    async fn family_row(&self, id: &FamilyId) -> Result<Option<FamilyRow>, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(None);
        }
        let rows = self.read(LOAD, &[Value::Text(id.as_str())]).await?;
        rows.first().map(FamilyRow::read).transpose()
    }

    async fn advance(&self, request: &AdvanceFamily) -> Result<Advance, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(FamilyRow { mut family, .. }) = self.family_row(&request.id).await? else {
                return Ok(Advance::Unknown);
            };
            if !family.advance(request) {
                return Ok(if family.has_ended(request.now) {
                    Advance::Ended(family)
                } else {
                    Advance::Stale(family)
                });
            }
            let superseded = encode(&family.superseded);
            let values = [
                Value::Text(family.id.as_str()),
                Value::from(request.generation),
                Value::from(family.generation),
                Value::from(family.issued_at),
                Value::Bytes(&superseded),
                Value::from(family.last_used_at),
                Value::from(family.idle_until),
                Value::from(family.idle_until.min(family.ends_at)),
            ];
            if !self.write(ADVANCE, &values).await?.is_empty() {
                return Ok(Advance::Advanced(family));
            }
        }
        Err(contended())
    }
}

/// Stores a new family.
pub(super) async fn insert(
    changes: &mut Changes,
    family: &Family,
    key: &Sealed,
) -> Result<(), Failure> {
    let (scopes, superseded) = (family.scopes.to_string(), encode(&family.superseded));
    let mut values = vec![
        Value::Text(family.id.as_str()),
        Value::Text(family.user.issuer()),
        Value::Text(family.user.subject()),
        Value::Text(family.client.as_str()),
        Value::Text(family.resource.as_str()),
        Value::Text(&scopes),
        Value::from(family.generation),
        Value::from(family.issued_at),
        Value::Bytes(&superseded),
        Value::from(family.created_at),
        Value::from(family.last_used_at),
        Value::from(family.idle_until),
        Value::from(family.ends_at),
        Value::from(family.idle_until.min(family.ends_at)),
    ];
    values.extend(key.values());
    changes.run(INSERT, &values).await.map(drop)
}

/// The associated data of the key. It includes what decides what the tokens may be used for.
pub(super) fn context(family: &Family) -> SealingContext {
    SealingContext::new(KIND)
        .text(family.id.as_str())
        .text(family.user.issuer())
        .text(family.user.subject())
        .text(family.client.as_str())
        .text(family.resource.as_str())
        .text(&family.scopes.to_string())
        .number(family.created_at.unix_millis())
        .number(family.ends_at.unix_millis())
}

/// Values of the filters that all statements with filters have.
fn filter_values(filter: &FamilyFilter) -> [Value<'_>; FILTERS] {
    let user = filter.user.as_ref();
    [
        Value::OptionalText(user.map(User::issuer)),
        Value::OptionalText(user.map(User::subject)),
        Value::OptionalText(filter.client.as_ref().map(|client| client.as_str())),
        Value::from(filter.active_at),
        Value::OptionalText(filter.resource.as_ref().map(Resource::as_str)),
    ]
}
