//! The store of revocations and blocks: a sequence that all processes append to and read.
//!
//! Numbers are assigned by an update of one row, whose lock is held until the commit. So entries
//! become visible in the order of their numbers, on both databases.

mod ages;

use aws_lc_rs::digest;
use tower_token_broker::{
    clock::Timestamp,
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget,
        Sequence,
    },
};

pub(crate) use self::ages::Ages;
use crate::{
    database::{Failure, Row, Value},
    limits,
    store::SqlStore,
};

const NEXT: &str = "UPDATE revocation_sequence SET last = last + 1 RETURNING last";
const APPEND: &str = "INSERT INTO revocations (place, kind, issuer, id, at, about) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const READ_AFTER: &str = "SELECT place, kind, issuer, id, at FROM revocations \
    WHERE place > $1 ORDER BY place LIMIT $2";

impl SqlStore {
    async fn append_entry(&self, entry: &RevocationEntry) -> Result<Sequence, Failure> {
        let (kind, issuer, id) = entry.change.to_columns();
        let about = about(&entry.change);
        let mut changes = self.database.begin().await?;
        let rows = changes.run(NEXT, &[]).await?;
        let place = rows.first().ok_or(Failure::Unreadable)?.number(0)?;
        let values = [
            Value::from(place),
            Value::Text(kind),
            Value::Text(issuer),
            Value::Text(id),
            Value::from(entry.at.unix_millis()),
            Value::OptionalBytes(about.as_ref().map(AsRef::as_ref)),
        ];
        changes.run(APPEND, &values).await?;
        changes.commit().await?;
        Ok(Sequence::new(place))
    }
}

impl RevocationStore for SqlStore {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        let (_, issuer, id) = entry.change.to_columns();
        if [issuer, id].iter().any(|text| !limits::is_storable(text, limits::REVOKED)) {
            return Err(RevocationStoreError::Invalid { limit: limits::REVOKED });
        }
        let (store, entry) = (self.clone(), entry.clone());
        let append = async move { store.within(store.append_entry(&entry)).await };
        Ok(self.owned(append).await?)
    }

    async fn read_after(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        self.is_in_place().await?;
        self.count_ages();
        let values = [Value::from(after.as_u64()), Value::from(limit as u64)];
        let rows = self.within(self.database.read_feed(READ_AFTER, &values)).await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &Row) -> Result<(Sequence, RevocationEntry), RevocationStoreError> {
    let place = Sequence::new(row.number(0)?);
    let entry = || -> Result<_, Failure> {
        let (kind, issuer, id) = (row.text(1)?, row.text(2)?, row.text(3)?);
        let change = RevocationChange::from_columns(&kind, &issuer, &id);
        let at = Timestamp::from_unix_millis(row.number(4)?);
        Ok(RevocationEntry::new(change.ok_or(Failure::Unreadable)?, at))
    };
    match entry() {
        Ok(entry) => Ok((place, entry)),
        Err(_) => Err(RevocationStoreError::Unreadable { place }),
    }
}

/// Returns a digest of the user or the grant whose last change is kept.
fn about(change: &RevocationChange) -> Option<digest::Digest> {
    let (group, issuer, id) = match change {
        RevocationChange::Blocked(user) | RevocationChange::Unblocked(user) => {
            ("user", user.issuer(), user.subject())
        }
        RevocationChange::GrantRestored(grant)
        | RevocationChange::Revoked(RevocationTarget::Grant(grant)) => {
            ("grant", "", grant.as_str())
        }
        RevocationChange::Revoked(_) | _ => return None,
    };
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in [group, issuer, id] {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    Some(digest.finish())
}
