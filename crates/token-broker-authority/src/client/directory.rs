//! Finds a client by its ID, wherever it is described.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use token_broker_store::{
    StoreError,
    authority::{ClientId, ClientStore},
};

use super::{
    Authentication, Client, ClientDocuments, ClientOrigin, ConfiguredClient, RedirectUris,
    document_url::DocumentUrl, documents::DocumentError,
};
use crate::limits::Network;

/// All clients.
#[derive(Debug)]
pub(crate) struct Directory<S> {
    configured: ArcSwap<HashMap<Box<str>, Client>>,
    documents: ClientDocuments,
    store: Arc<S>,
}

/// The reasons why it is not known whether there is a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// Its document is not available, or not valid.
    Document(DocumentError),
    /// The store failed.
    Store(StoreError),
}

impl<S: ClientStore> Directory<S> {
    pub(crate) fn new(
        configured: Vec<ConfiguredClient>,
        documents: ClientDocuments,
        store: &Arc<S>,
    ) -> Self {
        let configured = ArcSwap::from_pointee(by_id(configured));
        Self { configured, documents, store: Arc::clone(store) }
    }

    pub(crate) fn replace_configured(&self, configured: Vec<ConfiguredClient>) {
        self.configured.store(Arc::new(by_id(configured)));
    }

    pub(crate) const fn documents(&self) -> &ClientDocuments {
        &self.documents
    }

    /// Returns the client with this ID, compared octet by octet; `None` if there is none. If a
    /// document is fetched, it counts for `caller`.
    pub(crate) async fn find(
        &self,
        id: &str,
        caller: Network,
    ) -> Result<Option<Client>, ClientError> {
        let configured = self.configured.load().get(id).cloned();
        if configured.is_some() {
            return Ok(configured);
        }
        // An ID is either a URL or not: no client registers under the URL of another.
        if DocumentUrl::is_meant_by(id) {
            let Some(url) = DocumentUrl::parse(id) else { return Ok(None) };
            return match self.documents.client(&url, caller).await {
                Ok(client) => Ok(Some(client)),
                Err(DocumentError::NotSupported) => Ok(None),
                Err(problem) => Err(ClientError::Document(problem)),
            };
        }
        let found = self.store.client(&ClientId::new(id)).await.map_err(ClientError::Store)?;
        Ok(found.as_ref().and_then(registered))
    }
}

fn by_id(clients: Vec<ConfiguredClient>) -> HashMap<Box<str>, Client> {
    let clients = clients.into_iter().map(|ConfiguredClient(client)| client);
    clients.map(|client| (client.id.as_str().into(), client)).collect()
}

/// Reads a stored client. What we would not register is none.
fn registered(stored: &token_broker_store::authority::Client) -> Option<Client> {
    let uris = stored.redirect_uris.iter().map(|uri| &**uri);
    Some(Client {
        id: stored.id.clone(),
        name: Some(stored.name.clone()).filter(|name| !name.is_empty()),
        origin: ClientOrigin::Registered { at: stored.created_at },
        redirect_uris: RedirectUris::parse(uris).ok()?,
        authentication: Authentication::of_registered(stored)?,
    })
}
