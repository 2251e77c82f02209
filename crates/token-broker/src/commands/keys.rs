//! `token-broker keys`.

use token_broker_sql::{KeyUse, RotateProgress};
use token_broker_store::sealing::{KeyId, KeyWrap as _};

use super::{CommandError, Session};

impl Session<'_> {
    /// Returns the key-encryption keys that the store needs, each with its number of uses, and the
    /// IDs of the keys of the key file, in their order.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn keys(&self) -> Result<(Vec<KeyUse>, Vec<KeyId>), CommandError> {
        self.note("keys list", None).await?;
        let known = self.configuration.store.keys.key_ids().cloned().collect();
        Ok((self.stores.sql.keys_in_use().await?, known))
    }

    /// Wraps all data keys of the store with the first key of the key file, while gateways use it.
    /// Stopped at any point, it is continued by another run. `progress` is called now and then.
    ///
    /// # Errors
    /// [`CommandError`], also if keys are left.
    pub async fn rotate_keys(
        &self,
        progress: impl FnMut(&RotateProgress) + Send,
    ) -> Result<String, CommandError> {
        let current = self.configuration.store.keys.current();
        self.note("keys rotate", Some(current.as_str())).await?;
        let done = self.stores.sql.rotate(progress).await?;
        if done.left == 0 {
            let others = match self.configuration.store.keys.key_ids().count() {
                1 => "",
                _ => "; when all gateways have it in the first line, remove the other lines",
            };
            let again = done.rewrapped;
            return Ok(format!(
                "all keys of the store are wrapped by {current}, {again} of them by this \
                 run{others}"
            ));
        }
        let old: Vec<_> = done.old_keys.iter().map(|old| old.key_id.to_string()).collect();
        Err(CommandError::KeysLeft {
            left: done.left,
            unreadable: done.unreadable,
            old: old.join(", "),
        })
    }
}
