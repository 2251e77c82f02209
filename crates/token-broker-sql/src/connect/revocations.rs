//! Revocations that an authorization server has not confirmed yet.

use token_broker_store::{
    StoreError,
    connect::{PendingRevocation, RevocationId},
    sealing::SealingContext,
};
use tower_token_broker::{clock::Timestamp, principal::GrantId};

use super::{
    row::{key, with_key},
    tokens,
};
use crate::{
    authority::{SealedTable, sealed::Sealed},
    database::{Changes, Failure, Row, Value},
    limits,
    store::SqlStore,
};

pub(super) const KIND: &str = "revocation";
/// Number of due revocations that are read at once.
const PAGE: usize = 16;

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT id, key_id, data_key, issuer, subject, server, account, grant_id, \
        authorization_server, client_id, created_at FROM pending_revocations \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR id > $2) ORDER BY id LIMIT $3",
    rewrap: "UPDATE pending_revocations SET key_id = $1, data_key = $2 \
        WHERE id = $3 AND data_key = $4 RETURNING 1",
    context: |row| Ok(context(&columns(row, 3)?)),
};

const INSERT: &str = "INSERT INTO pending_revocations (id, issuer, subject, server, account, \
    grant_id, authorization_server, client_id, created_at, attempts, retry_at, key_id, data_key, \
    tokens) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
/// After the instant `$2` and the ID `$3`.
const DUE: &str = "SELECT id, issuer, subject, server, account, grant_id, authorization_server, \
    client_id, created_at, attempts, retry_at, key_id, data_key, tokens \
    FROM pending_revocations WHERE retry_at <= $1 AND (retry_at > $2 OR (retry_at = $2 \
    AND id > $3)) ORDER BY retry_at, id LIMIT $4";
/// Only if no other process has claimed or postponed it meanwhile.
const CLAIM: &str = "UPDATE pending_revocations SET attempts = $2, retry_at = $3 \
    WHERE id = $1 AND attempts = $4 AND retry_at = $5 RETURNING 1";
const POSTPONE: &str = "UPDATE pending_revocations SET retry_at = $2 WHERE id = $1 RETURNING 1";
const REMOVE: &str = "DELETE FROM pending_revocations WHERE id = $1 RETURNING 1";

/// A revocation and its tokens, sealed.
pub(super) struct SealedRevocation<'a> {
    revocation: &'a PendingRevocation,
    tokens: Sealed,
}

impl SqlStore {
    pub(super) async fn seal_revocation<'a>(
        &self,
        revocation: &'a PendingRevocation,
    ) -> Result<SealedRevocation<'a>, StoreError> {
        let tokens = self.seal(&context(revocation), &tokens::encode(&revocation.tokens)).await?;
        Ok(SealedRevocation { revocation, tokens })
    }

    pub(super) async fn put_pending_revocation(
        &self,
        revocation: &PendingRevocation,
    ) -> Result<(), StoreError> {
        let sealed = self.seal_revocation(revocation).await?;
        let put = || async {
            let mut changes = self.database.begin().await?;
            insert(&mut changes, &sealed).await?;
            changes.commit().await
        };
        match self.again_after_deadlock(put).await {
            Err(Failure::Taken) => Err(StoreError::exists(KIND, revocation.id.as_str())),
            outcome => Ok(outcome?),
        }
    }

    pub(super) async fn claim_due_revocation(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PendingRevocation>, StoreError> {
        let (mut after, mut after_id) = (-1, String::new());
        loop {
            let values = [
                Value::from(now),
                Value::Int(after),
                Value::Text(&after_id),
                Value::from(PAGE as u64),
            ];
            let rows = self.read(DUE, &values).await?;
            let Some(last) = rows.last() else { return Ok(None) };
            for row in &rows {
                match self.claim(row, until).await {
                    Ok(Some(claimed)) => return Ok(Some(claimed)),
                    // Another process was first, or it can't be read: that concerns no other one.
                    Ok(None) | Err(Failure::Unreadable) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
            (after, after_id) = (last.int(10)?, last.text(0)?);
        }
    }

    async fn claim(
        &self,
        row: &Row,
        until: Timestamp,
    ) -> Result<Option<PendingRevocation>, Failure> {
        let mut revocation = columns(row, 1)?;
        let (attempts, retry_at) = (row.number(9)?, row.time(10)?);
        let sealed = Sealed::read(row, 11)?.ok_or(Failure::Unreadable)?;
        let tokens = self.open_sealed(&context(&revocation), &sealed).await?;
        revocation.tokens = tokens::decode(&tokens).ok_or(Failure::Unreadable)?;
        revocation.attempts =
            u32::try_from(attempts).map_err(|_| Failure::Unreadable)?.saturating_add(1);
        revocation.retry_at = until;
        let values = [
            Value::Text(revocation.id.as_str()),
            Value::Int(revocation.attempts.into()),
            Value::from(until),
            Value::from(attempts),
            Value::from(retry_at),
        ];
        let claimed = self.write(CLAIM, &values).await?;
        Ok((!claimed.is_empty()).then_some(revocation))
    }

    pub(super) async fn postpone(
        &self,
        id: &RevocationId,
        retry_at: Timestamp,
    ) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(false);
        }
        let values = [Value::Text(id.as_str()), Value::from(retry_at)];
        Ok(!self.write(POSTPONE, &values).await?.is_empty())
    }

    pub(super) async fn remove_revocation(&self, id: &RevocationId) -> Result<bool, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(false);
        }
        Ok(!self.write(REMOVE, &[Value::Text(id.as_str())]).await?.is_empty())
    }
}

/// Stores a new revocation; [`Failure::Taken`] if its ID is.
pub(super) async fn insert(
    changes: &mut Changes,
    sealed: &SealedRevocation<'_>,
) -> Result<(), Failure> {
    let revocation = sealed.revocation;
    let mut values = vec![
        Value::Text(revocation.id.as_str()),
        Value::Text(revocation.key.user.issuer()),
        Value::Text(revocation.key.user.subject()),
        Value::Text(&revocation.key.server),
        Value::Text(revocation.key.account.as_str()),
        Value::Text(revocation.grant.as_str()),
        Value::Text(&revocation.authorization_server),
        Value::OptionalText(revocation.client_id.as_deref()),
        Value::from(revocation.created_at),
        Value::Int(revocation.attempts.into()),
        Value::from(revocation.retry_at),
    ];
    values.extend(sealed.tokens.values());
    changes.run(INSERT, &values).await.map(drop)
}

/// Reads the columns that never change, apart from the ID, of which the first has this position.
fn columns(row: &Row, first: usize) -> Result<PendingRevocation, Failure> {
    let of = (key(row, first)?, GrantId::new(&row.text(first + 4)?));
    let (issuer, client_id) = (row.text(first + 5)?, row.optional_text(first + 6)?);
    let id = RevocationId::new(&row.text(0)?);
    let created_at = row.time(first + 7)?;
    Ok(PendingRevocation::new(id, of, &issuer, Vec::new(), created_at)
        .client_id(client_id.as_deref()))
}

/// The associated data of the tokens. It includes what decides where they are sent.
fn context(revocation: &PendingRevocation) -> SealingContext {
    let context = SealingContext::new("pending revocation").text(revocation.id.as_str());
    let context = with_key(context, &revocation.key)
        .text(revocation.grant.as_str())
        .text(&revocation.authorization_server)
        .number(revocation.created_at.unix_millis());
    match &revocation.client_id {
        Some(client_id) => context.text(client_id),
        None => context,
    }
}
