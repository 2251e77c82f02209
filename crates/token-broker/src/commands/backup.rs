//! `token-broker backup`.

use std::path::Path;

use super::{CommandError, Session};
use crate::escaped::escaped;

impl Session<'_> {
    /// Writes a copy of the store to a new file, while gateways use it.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn back_up(&self, to: &Path) -> Result<String, CommandError> {
        self.note("backup", to.to_str()).await?;
        self.stores.sql.back_up(to).await?;
        Ok(format!(
            "{} is a copy of the store; keep it apart from the key file, which decrypts it",
            escaped(to.display())
        ))
    }
}
