//! `token-broker users`.

use tower_token_broker::{principal::User, stack::RevokeError};

use super::{CommandError, Session, shown};

impl Session<'_> {
    /// Refuses all requests of a user until [`Session::unblock`].
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn block(&self, user: &User) -> Result<String, CommandError> {
        // A log that takes no record delays no block.
        let noted = self.note("users block", Some(user.subject())).await;
        match self.broker.block(user, &self.initiator).await {
            Ok(_) | Err(RevokeError::NotRecorded { .. }) => {}
            Err(error) => return Err(CommandError::Revoke(error.to_string())),
        }
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("{} is blocked", shown(user)))
    }

    /// Lets a blocked user in again.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn unblock(&self, user: &User) -> Result<String, CommandError> {
        self.note("users unblock", Some(user.subject())).await?;
        let unblocked = self.broker.unblock(user, &self.initiator).await;
        unblocked.map_err(|error| CommandError::Revoke(error.to_string()))?;
        self.has_revoked().await;
        Ok(format!("{} is not blocked", shown(user)))
    }
}
