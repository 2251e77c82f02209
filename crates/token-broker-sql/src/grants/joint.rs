//! Changes of a grant that are part of a larger transaction.
//!
//! The row is read, and its tokens are opened and sealed, before the transaction begins. If its
//! stamp is another one then, nothing is written.

use token_broker_store::{Grant, GrantRef, GrantState, StoreError};

use super::{
    new_stamp,
    row::{self, Columns, GrantRow},
};
use crate::{
    database::{Changes, Failure, Value},
    store::SqlStore,
};

/// A grant that is ready to be put.
pub(crate) struct PreparedPut {
    pub(super) row: GrantRow,
    /// Whether there is a row with this key.
    pub(super) replaces: bool,
}

impl PreparedPut {
    pub(crate) fn into_grant(self) -> Grant {
        self.row.grant
    }
}

/// A grant with its tokens, and the row that it becomes when it is revoked.
pub(crate) struct OpenedGrant {
    grant: Grant,
    revoked: GrantRow,
}

impl OpenedGrant {
    /// Returns the grant, unless it is revoked already.
    pub(crate) fn active(&self) -> Option<&Grant> {
        Some(&self.grant).filter(|grant| grant.state != GrantState::Revoked)
    }
}

impl SqlStore {
    /// Computes the row that a grant becomes. Its ID must not belong to another key.
    pub(crate) async fn prepare_put(&self, mut grant: Grant) -> Result<PreparedPut, StoreError> {
        let id = [Value::Text(grant.id.as_str())];
        let owners = self.within(self.database.read(row::OWNER, &id)).await?;
        for owner in &owners {
            if !row::is_of(owner, &grant.key)? {
                return Err(StoreError::IdTaken { id: grant.id });
            }
        }
        let replaced = self.row(&grant.key).await?;
        let (mut fence, mut stamp) = (0, 0);
        if let Some(replaced) = &replaced {
            grant.version = grant.version.max(replaced.grant.version.saturating_add(1));
            fence = replaced.fence.saturating_add(1);
            stamp = replaced.stamp;
        }
        for token in &mut grant.access {
            token.version = grant.version;
        }
        let mut row = GrantRow::new(grant, fence, stamp);
        self.seal_tokens(&mut row).await?;
        Ok(PreparedPut { row, replaces: replaced.is_some() })
    }

    /// Reads a grant that is to be revoked, with its tokens.
    pub(crate) async fn open_for_revoke(
        &self,
        grant: &GrantRef,
    ) -> Result<Option<OpenedGrant>, StoreError> {
        let Some(mut row) = self.find(grant).await? else { return Ok(None) };
        // A revoked grant has no tokens.
        if row.grant.state != GrantState::Revoked {
            self.open_tokens(&mut row).await?;
        }
        let grant = row.grant.clone();
        row.revoke();
        Ok(Some(OpenedGrant { grant, revoked: row }))
    }
}

/// Puts a grant, and returns `false` if it was changed meanwhile.
pub(crate) async fn write_put(changes: &mut Changes, put: &PreparedPut) -> Result<bool, Failure> {
    if put.replaces {
        return replace(changes, &put.row).await;
    }
    let columns = Columns::of(&put.row);
    let mut values = columns.all();
    values.push(new_stamp());
    Ok(!changes.run(row::INSERT, &values).await?.is_empty())
}

/// Revokes a grant, and returns `false` if it was changed meanwhile.
pub(crate) async fn write_revoked(
    changes: &mut Changes,
    opened: &OpenedGrant,
) -> Result<bool, Failure> {
    replace(changes, &opened.revoked).await
}

async fn replace(changes: &mut Changes, row: &GrantRow) -> Result<bool, Failure> {
    let columns = Columns::of(row);
    let mut values = columns.all();
    values.extend([new_stamp(), Value::Int(row.stamp)]);
    Ok(!changes.run(row::REPLACE, &values).await?.is_empty())
}
