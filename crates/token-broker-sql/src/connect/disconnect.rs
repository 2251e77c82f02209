//! The end of a connection: its grant is revoked, its connects end, and its tokens are kept to be
//! revoked at their authorization server, in one transaction.

use token_broker_store::{
    GrantKey, GrantRef, StoreError,
    connect::{PendingRevocation, RevocationId},
};
use tower_token_broker::clock::Timestamp;

use super::revocations::{self, SealedRevocation};
use crate::{
    authority::{begin_for_many, contended},
    database::{Changes, Failure, Value},
    grants::{OpenedGrant, write_revoked},
    store::SqlStore,
};

/// How often the step is computed again. Each time, another process has changed the grant.
const ATTEMPTS: u32 = 1_000;

const END: &str = "DELETE FROM connects \
    WHERE issuer = $1 AND subject = $2 AND server = $3 AND account = $4";
const FORGET_USE: &str = "DELETE FROM connection_uses \
    WHERE issuer = $1 AND subject = $2 AND server = $3 AND account = $4";

impl SqlStore {
    pub(super) async fn disconnect_grant(
        &self,
        grant: &GrantRef,
        id: &RevocationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(opened) = self.open_for_revoke(grant).await? else { return Ok(false) };
            let pending = opened
                .active()
                .and_then(|grant| PendingRevocation::of_grant(id.clone(), grant, now));
            let sealed = match &pending {
                Some(pending) => Some(self.seal_revocation(pending).await?),
                None => None,
            };
            let end = || self.end_connection(&grant.key, &opened, sealed.as_ref());
            match self.again_after_deadlock(end).await {
                Ok(true) => return Ok(true),
                // The grant changed meanwhile.
                Ok(false) => {}
                Err(Failure::Taken) => {
                    return Err(StoreError::exists(revocations::KIND, id.as_str()));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(contended())
    }

    async fn end_connection(
        &self,
        key: &GrantKey,
        opened: &OpenedGrant,
        sealed: Option<&SealedRevocation<'_>>,
    ) -> Result<bool, Failure> {
        let mut changes = begin_for_many(&self.database).await?;
        forget(&mut changes, key).await?;
        if opened.active().is_some() && !write_revoked(&mut changes, opened).await? {
            return Ok(false);
        }
        if let Some(sealed) = sealed {
            revocations::insert(&mut changes, sealed).await?;
        }
        changes.commit().await?;
        Ok(true)
    }
}

/// Ends the connects in progress with this key, and removes when it was last used.
async fn forget(changes: &mut Changes, key: &GrantKey) -> Result<(), Failure> {
    let values = [
        Value::Text(key.user.issuer()),
        Value::Text(key.user.subject()),
        Value::Text(&key.server),
        Value::Text(key.account.as_str()),
    ];
    changes.run(END, &values).await?;
    changes.run(FORGET_USE, &values).await.map(drop)
}
