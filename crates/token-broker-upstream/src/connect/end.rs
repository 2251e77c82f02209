//! Disconnecting: at once here, and then at the authorization server.

use std::{net::SocketAddr, sync::Arc};

use token_broker_store::{
    Account, GrantState, StoreError,
    connect::{ConnectStore, RevocationId},
};
use tower_token_broker::{
    audit::Note,
    principal::{Initiator, User},
    revocation::RevocationTarget,
    stack::RevokeError,
};

use super::{connector::Inner, finish::recorded, listing::is_at, random, server::ConnectServer};

impl<S: ConnectStore> Inner<S> {
    /// Ends a user's connection, and connects in progress, which could bring it back.
    pub(super) async fn disconnect(
        &self,
        user: &User,
        server: &Arc<ConnectServer>,
        account: &Account,
        peer: Option<SocketAddr>,
    ) -> Result<bool, StoreError> {
        for name in server.names() {
            self.store.end_connects(Some(user), Some(name)).await?;
        }
        let mut has_ended = false;
        let grants = self.grants(user).await?;
        let here = grants.iter().filter(|grant| {
            is_at(server, &grant.key)
                && grant.key.account == *account
                && grant.state != GrantState::Revoked
        });
        for grant in here {
            let initiator = Initiator::user(user);
            // First of all, in every process: no call uses the tokens from here on.
            let target = RevocationTarget::Grant(grant.id.clone());
            match self.broker.revoke(target, &initiator).await {
                Ok(_) | Err(RevokeError::NotRecorded { .. }) => {}
                Err(_) => return Err(StoreError::Unreachable),
            }
            let full = self.store.load(&grant.key).await;
            let now = self.broker.clock().now();
            let id = RevocationId::new(&random::id());
            let kept = match self.store.disconnect(&grant.to_ref(), &id, now).await {
                // Tokens that no one can read cannot be revoked at their server.
                Err(StoreError::Unreadable { .. }) => self.store.revoke(&grant.to_ref()).await,
                kept => kept,
            };
            has_ended |= kept?;
            if let Ok(Some(full)) = full {
                let note = Note::disconnected(recorded(server, &full));
                let note = peer.iter().fold(note, |note, peer| note.peer(*peer));
                let noted = self.broker.audit_log().note(&initiator, note).await;
                noted.map_err(|_| StoreError::Unreachable)?;
            }
        }
        self.revocations.wake();
        Ok(has_ended)
    }
}
