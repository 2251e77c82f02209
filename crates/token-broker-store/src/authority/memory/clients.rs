//! Registered clients in memory.

use tower_token_broker::clock::Timestamp;

use super::MemoryAuthority;
use crate::{
    StoreError,
    authority::{
        Client, ClientId, ClientStore, Page, PageRequest, RegisterClient, Registration, StoredHash,
    },
};

impl ClientStore for MemoryAuthority {
    async fn register_client(&self, request: &RegisterClient) -> Result<Registration, StoreError> {
        request.client.check()?;
        let mut client = request.client.clone();
        client.secret = request.secret.map(StoredHash::from);
        let clients = &mut self.rows.lock().clients;
        if clients.contains_key(&client.id) {
            return Err(StoreError::exists("client", client.id.as_str()));
        }
        if clients.len() as u64 >= request.max_clients {
            return Ok(Registration::Full);
        }
        clients.insert(client.id.clone(), client);
        Ok(Registration::Registered)
    }

    async fn client(&self, id: &ClientId) -> Result<Option<Client>, StoreError> {
        Ok(self.rows.lock().clients.get(id).cloned())
    }

    async fn mark_client_used(&self, id: &ClientId, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.rows.lock().clients.get_mut(id).is_some_and(|client| {
            client.last_used_at = client.last_used_at.max(Some(now));
            true
        }))
    }

    async fn clients(&self, page: &PageRequest) -> Result<Page<Client>, StoreError> {
        let rows = self.rows.lock();
        Ok(page.page_of(rows.clients.values().cloned(), |client| client.id.as_str()))
    }

    async fn remove_client(&self, id: &ClientId) -> Result<bool, StoreError> {
        Ok(self.rows.lock().clients.remove(id).is_some())
    }

    async fn remove_unused_clients(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let clients = &mut self.rows.lock().clients;
        let is_unused =
            |client: &&Client| client.last_used_at.is_none() && client.created_at < before;
        let unused = clients.values().filter(is_unused);
        let mut unused: Vec<_> =
            unused.map(|client| (client.created_at, client.id.clone())).collect();
        unused.sort_unstable();
        unused.truncate(limit);
        for (_, id) in &unused {
            clients.remove(id);
        }
        Ok(unused.len())
    }
}
