//! Fetches documents and keys of clients, with an HTTP client of any type.

use std::{fmt, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use tower_service::Service;
use tower_token_broker::{
    Broker,
    authenticate::jwt::{KeySource, RemoteKeys},
};

use super::{
    assertion,
    documents::DocumentError,
    key_sets::{Gate, Gated},
};

pub(super) type Fetching<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, DocumentError>> + Send + 'a>>;

/// A client of any type.
pub(super) trait Fetch: Send + Sync + 'static {
    fn fetch(&self, request: Request<Bytes>) -> Fetching<'_>;
    /// Returns the keys at this URL, which are fetched through a gate.
    fn keys(&self, url: http::Uri, gate: &Arc<Gate>) -> KeySource;
}

pub(super) struct Fetcher<S> {
    client: Mutex<S>,
    broker: Broker,
}

impl<S: Clone> Fetcher<S> {
    pub(super) fn new(broker: &Broker, client: S) -> Self {
        Self { client: Mutex::new(client), broker: broker.clone() }
    }
}

impl<S> Fetch for Fetcher<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    fn fetch(&self, request: Request<Bytes>) -> Fetching<'_> {
        let mut client = self.client.lock().clone();
        Box::pin(async move {
            let fetched = async {
                poll_fn(|context| client.poll_ready(context)).await?;
                client.call(request).await
            };
            match tokio::time::timeout(FETCH_TIMEOUT, fetched).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a client's metadata document could not be fetched");
                    Err(DocumentError::Unreachable)
                }
                Err(_elapsed) => Err(DocumentError::Unreachable),
            }
        })
    }

    fn keys(&self, url: http::Uri, gate: &Arc<Gate>) -> KeySource {
        let client = Gated::new(self.client.lock().clone(), gate);
        RemoteKeys::new(&self.broker, client, url).algorithms(assertion::algorithms()).into()
    }
}

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
