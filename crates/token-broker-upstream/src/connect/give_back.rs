//! Tokens that are not used: kept until their authorization server has revoked them.

use std::time::Duration;

use token_broker_store::{
    GrantKey, StoreError,
    connect::{ConnectStore, PendingRevocation, RevocationId, RevokedToken},
};
use tower_token_broker::{alarm::Alarm, principal::GrantId};

use super::{connector::Inner, random};

/// The origin of tokens: key and ID of their grant, which need not be stored, and the issuer and
/// the client that granted them.
pub(super) struct Granted<'a> {
    pub(super) key: &'a GrantKey,
    pub(super) id: GrantId,
    pub(super) issuer: &'a str,
    pub(super) client_id: Option<&'a str>,
}

impl<S: ConnectStore> Inner<S> {
    async fn put_durably(&self, revocation: &PendingRevocation) -> Result<(), StoreError> {
        for pause in pauses() {
            match self.store.put_revocation(revocation).await {
                Err(StoreError::Unreachable) => tokio::time::sleep(pause).await,
                put => return put,
            }
        }
        self.store.put_revocation(revocation).await
    }

    /// Keeps tokens until they are revoked at their authorization server.
    pub(super) async fn give_back(
        &self,
        of: Granted<'_>,
        tokens: Vec<RevokedToken>,
    ) -> Result<(), StoreError> {
        let id = RevocationId::new(&random::id());
        let (key, now) = (of.key.clone(), self.broker.clock().now());
        let revocation = PendingRevocation::new(id, (key, of.id), of.issuer, tokens, now);
        let revocation = revocation.client_id(of.client_id);
        let kept = self.put_durably(&revocation).await;
        self.revocations.wake();
        match kept {
            // The second is of a step whose response was lost.
            Ok(()) | Err(StoreError::Exists { .. }) => Ok(()),
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::TokensNotStored.code(),
                    error = %error,
                    server.name = &*of.key.server,
                    "tokens that are not used here could not be kept for their revocation; they \
                     may work elsewhere until they expire"
                );
                Err(error)
            }
        }
    }
}

/// Returns the pauses between the attempts of a step as long as the store can't be reached.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    let longer = |pause: &Duration| Some((*pause * 2).min(Duration::from_secs(2)));
    std::iter::successors(Some(Duration::from_millis(50)), longer).take(10)
}
