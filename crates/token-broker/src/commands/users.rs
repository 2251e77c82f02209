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
        self.set_block(user).await?;
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
        self.unset_block(user).await?;
        self.has_revoked().await;
        Ok(format!("{} is not blocked", shown(user)))
    }

    /// Blocks a user, also without a record: the caller reports that at its end.
    pub(super) async fn set_block(&self, user: &User) -> Result<(), CommandError> {
        match self.broker.block(user, &self.initiator).await {
            Ok(_) | Err(RevokeError::NotRecorded { .. }) => Ok(()),
            Err(error) => Err(CommandError::Revoke(error.to_string())),
        }
    }

    pub(super) async fn unset_block(&self, user: &User) -> Result<(), CommandError> {
        let unblocked = self.broker.unblock(user, &self.initiator).await;
        unblocked.map(drop).map_err(|error| CommandError::Revoke(error.to_string()))
    }
}
