//! The first account and its one-time link.

use token_broker_store::{
    StoreError,
    authority::{CreateFirstAccount, FirstAccount, LinkState, LocalAccount, LookupHash},
};
use tower_token_broker::clock::Timestamp;

use super::{COUNTER, Sealed, insert};
use crate::{
    authority::count_if,
    database::{Failure, Value},
    store::SqlStore,
};

const PUT_LINK: &str = "INSERT INTO first_account_link (one, hash, expires_at) \
    VALUES (1, $1, $2) ON CONFLICT (one) DO UPDATE SET hash = $1, expires_at = $2";
const LINK: &str = "SELECT value, (SELECT expires_at FROM first_account_link \
    WHERE hash = $2 AND expires_at > $3) FROM authority_counters WHERE name = $1";
const USE_LINK: &str =
    "DELETE FROM first_account_link WHERE hash = $1 AND expires_at > $2 RETURNING 1";

impl SqlStore {
    pub(super) async fn create_first(
        &self,
        request: &CreateFirstAccount,
    ) -> Result<FirstAccount, StoreError> {
        let hash = self.seal_hash(&request.account).await?;
        Ok(self.within(self.insert_first(request, &hash)).await?)
    }

    pub(super) async fn put_link(
        &self,
        link: &LookupHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let values = [Value::Bytes(link.as_bytes()), Value::from(expires_at)];
        self.write(PUT_LINK, &values).await?;
        Ok(())
    }

    pub(super) async fn link_state(
        &self,
        link: &LookupHash,
        now: Timestamp,
    ) -> Result<LinkState, StoreError> {
        let values = [Value::Text(COUNTER), Value::Bytes(link.as_bytes()), Value::from(now)];
        let rows = self.read(LINK, &values).await?;
        let row = rows.first().ok_or(Failure::Unreadable)?;
        Ok(match (row.number(0)?, row.optional_time(1)?) {
            (_, None) => LinkState::Invalid,
            (0, Some(expires_at)) => LinkState::Valid { expires_at },
            (_, Some(_)) => LinkState::NotFirst,
        })
    }

    /// Stores the first account, if the link is valid.
    async fn insert_first(
        &self,
        request: &CreateFirstAccount,
        hash: &Sealed,
    ) -> Result<FirstAccount, Failure> {
        let mut changes = self.database.begin().await?;
        let values = [Value::Bytes(request.link.as_bytes()), Value::from(request.account.now)];
        if changes.run(USE_LINK, &values).await?.is_empty() {
            return Ok(FirstAccount::LinkInvalid);
        }
        if !count_if(&mut changes, COUNTER, 0).await? {
            return Ok(FirstAccount::NotFirst);
        }
        if !insert(&mut changes, &request.account, hash).await? {
            return Ok(FirstAccount::NotFirst);
        }
        changes.commit().await?;
        Ok(FirstAccount::Created(LocalAccount::of(&request.account)))
    }
}
