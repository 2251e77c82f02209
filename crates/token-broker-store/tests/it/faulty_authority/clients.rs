//! Faults of the clients.

use token_broker_store::{
    StoreError,
    authority::{Client, ClientId, ClientStore, Page, PageRequest, RegisterClient, Registration},
};
use tower_token_broker::clock::Timestamp;

use super::{Fault, Faulty};

impl ClientStore for Faulty {
    async fn register_client(&self, request: &RegisterClient) -> Result<Registration, StoreError> {
        let mut request = request.clone();
        match self.fault {
            Fault::ClientsWithoutBound => request.max_clients = u64::MAX,
            Fault::ClientIsOverwritten => {
                self.store.remove_client(&request.client.id).await?;
            }
            _ => {}
        }
        self.accept(self.store.register_client(&request).await, Registration::Registered)
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        let mut found = self.store.client(id).await?;
        if let Some(client) = &mut found {
            match self.fault {
                Fault::ClientLosesVersion => client.software_version = None,
                Fault::ClientLosesSecret => client.secret = None,
                _ => {}
            }
        }
        Ok(found)
    }

    async fn mark_client_used(&self, id: &ClientId, now: Timestamp) -> Result<bool, StoreError> {
        if self.has(Fault::ClientUseFalls)
            && let Some(mut client) = self.store.client(id).await?
        {
            client.last_used_at = Some(now);
            self.store.remove_client(id).await?;
            let registration = RegisterClient::new(client, u64::MAX);
            assert_eq!(self.store.register_client(&registration).await?, Registration::Registered);
            return Ok(true);
        }
        self.store.mark_client_used(id, now).await
    }

    async fn clients(&self, page: &PageRequest) -> Result<Page<Client>, StoreError> {
        Ok(self.page(self.store.clients(page).await?))
    }

    async fn remove_client(&self, id: &ClientId) -> Result<bool, StoreError> {
        self.store.remove_client(id).await
    }

    async fn remove_unused_clients(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.store.remove_unused_clients(self.before(before), limit).await
    }
}
