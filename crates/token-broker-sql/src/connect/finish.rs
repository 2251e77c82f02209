//! The end of a connect: its grant is stored, and the connect is removed, in one transaction.

use token_broker_store::{Grant, StoreError, connect::ConnectId};

use super::{pending::KIND, row::ConnectRow};
use crate::{
    authority::{contended, of_row},
    database::{Failure, Value},
    grants::{PreparedPut, write_put},
    limits,
    store::SqlStore,
};

/// How often the step is computed again. Each time, another process has changed the grant.
const ATTEMPTS: u32 = 1_000;

const LOAD: &str = "SELECT id, hash, issuer, subject, server, account, session, created_at, \
    expires_at, mac, key_id, data_key, content FROM connects WHERE id = $1";
const TAKE: &str = "DELETE FROM connects WHERE id = $1 AND mac = $2 AND content IS NULL \
    RETURNING 1";

impl SqlStore {
    pub(super) async fn finish(
        &self,
        id: &ConnectId,
        grant: Grant,
    ) -> Result<Option<Grant>, StoreError> {
        if !limits::is_storable(id.as_str(), limits::ID) {
            return Ok(None);
        }
        for _ in 0..ATTEMPTS {
            let rows = self.read(LOAD, &[Value::Text(id.as_str())]).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let row = ConnectRow::read(self, row).map_err(of_row(KIND, id.as_str()))?;
            if row.content.is_some() || row.connect.key != grant.key {
                return Ok(None);
            }
            let put = self.prepare_put(grant.clone()).await?;
            match self.again_after_deadlock(|| self.take_and_put(id, &row.mac, &put)).await {
                Ok(Finished::Stored) => return Ok(Some(put.into_grant())),
                Ok(Finished::NoConnect) => return Ok(None),
                // The grant changed, or the ID was taken meanwhile.
                Ok(Finished::Overtaken) | Err(Failure::Taken) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(contended())
    }

    async fn take_and_put(
        &self,
        id: &ConnectId,
        mac: &[u8],
        put: &PreparedPut,
    ) -> Result<Finished, Failure> {
        let mut changes = self.database.begin().await?;
        let taken = changes.run(TAKE, &[Value::Text(id.as_str()), Value::Bytes(mac)]).await?;
        if taken.is_empty() {
            return Ok(Finished::NoConnect);
        }
        if !write_put(&mut changes, put).await? {
            return Ok(Finished::Overtaken);
        }
        changes.commit().await?;
        Ok(Finished::Stored)
    }
}

enum Finished {
    Stored,
    /// It was ended.
    NoConnect,
    Overtaken,
}
