//! Fetches and caches the metadata documents of clients.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service;
use tower_token_broker::{
    Broker,
    authenticate::jwt::KeySource,
    clock::{Clock, Deadline},
    tasks::Tasks,
};

use super::{
    Client, document,
    document_fetch::{Fetch, Fetcher},
    document_url::DocumentUrl,
};
use crate::limits::{Limiter, Quota};

/// Limits of the fetches of clients' metadata documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct DocumentLimits {
    /// Shortest time for which a document is used without a new fetch, whatever its response
    /// states; one minute by default.
    pub min_age: Duration,
    /// Longest time for which a document is used without a new fetch; 24 hours by default.
    pub max_age: Duration,
    /// Longest time for which a document is used while it cannot be fetched; 7 days by default.
    pub stale_age: Duration,
    /// Largest number of documents that are kept; 1000 by default.
    pub capacity: usize,
    /// Fetches from one host; 30 per minute by default.
    pub fetches_per_host: Quota,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            min_age: Duration::from_secs(60),
            max_age: DAY,
            stale_age: DAY.saturating_mul(7),
            capacity: 1000,
            fetches_per_host: Quota::per_minute(30),
        }
    }
}

/// Metadata documents of clients (draft-ietf-oauth-client-id-metadata-document). Cheap to clone.
///
/// They are fetched with your client: use one that refuses internal addresses, and does not follow
/// redirects (`token-broker-outbound` has one). A fetch runs in an owned task, one at a time per
/// document. A document is kept as long as its response allows, within [`DocumentLimits`]; one that
/// is not valid is never kept. A response is a document if it is JSON with status 200 whose
/// `client_id` is its URL, octet by octet.
#[derive(Clone)]
pub struct ClientDocuments(Arc<Shared>);

struct Shared {
    fetcher: Option<Box<dyn Fetch>>,
    clock: Clock,
    tasks: Tasks,
    limits: DocumentLimits,
    per_host: Limiter<Box<str>>,
    /// By URL.
    entries: Mutex<HashMap<Box<str>, Entry>>,
    /// By URL of the key set.
    key_sets: Mutex<HashMap<Box<str>, KeySource>>,
}

#[derive(Default)]
struct Entry {
    good: Option<Good>,
    /// Closed when the current fetch ends.
    running: Option<Running>,
}

/// Closed when the fetch ends; then it has the problem, if there was one.
type Running = watch::Receiver<Option<DocumentError>>;

#[derive(Clone)]
struct Good {
    client: Client,
    fresh_until: Deadline,
    usable_until: Deadline,
}

/// The reasons why there is no client of this URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DocumentError {
    #[error("metadata documents of clients are not fetched here")]
    NotSupported,
    #[error("too many documents of this host were fetched")]
    TooMany,
    #[error("the document could not be fetched")]
    Unreachable,
    #[error("the response is not a metadata document of this client")]
    Invalid,
}

impl ClientDocuments {
    /// Fetches documents with this client.
    pub fn new<S>(broker: &Broker, client: S, limits: DocumentLimits) -> Self
    where
        S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
            + Clone
            + Send
            + 'static,
    {
        let fetcher = Fetcher::new(broker, client);
        Self::build(broker, Some(Box::new(fetcher)), limits)
    }

    /// Fetches nothing: no URL is the ID of a client.
    pub fn none(broker: &Broker) -> Self {
        Self::build(broker, None, DocumentLimits::default())
    }

    fn build(broker: &Broker, fetcher: Option<Box<dyn Fetch>>, limits: DocumentLimits) -> Self {
        Self(Arc::new(Shared {
            fetcher,
            clock: broker.clock().clone(),
            tasks: broker.tasks().clone(),
            limits,
            per_host: Limiter::new(limits.fetches_per_host, broker.clock()),
            entries: Mutex::default(),
            key_sets: Mutex::default(),
        }))
    }

    /// Returns whether documents are fetched.
    pub fn are_supported(&self) -> bool {
        self.0.fetcher.is_some()
    }

    /// Returns the client that the document at this URL describes.
    pub(crate) async fn client(&self, url: &DocumentUrl) -> Result<Client, DocumentError> {
        if !self.are_supported() {
            return Err(DocumentError::NotSupported);
        }
        let now = self.0.clock.read();
        if let Some(good) = self.0.good(url)
            && !good.fresh_until.has_passed(now)
        {
            return Ok(good.client);
        }
        let problem = match self.fetch(url) {
            Ok(mut running) => {
                // The task drops its sender when it ends, in whatever way.
                while running.changed().await.is_ok() {}
                let problem = *running.borrow();
                problem.unwrap_or(DocumentError::Unreachable)
            }
            Err(problem) => problem,
        };
        match self.0.good(url) {
            Some(good) if !good.usable_until.has_passed(self.0.clock.read()) => Ok(good.client),
            Some(_) | None => Err(problem),
        }
    }

    /// Returns the keys at the URL of a client's key set.
    pub(crate) fn keys(&self, url: &str) -> Option<KeySource> {
        let fetcher = self.0.fetcher.as_ref()?;
        let uri = url.parse().ok()?;
        let mut key_sets = self.0.key_sets.lock();
        if let Some(keys) = key_sets.get(url) {
            return Some(keys.clone());
        }
        // Bounded: the sets in use are fetched again.
        if key_sets.len() >= self.0.limits.capacity {
            key_sets.clear();
        }
        let keys = fetcher.keys(uri);
        key_sets.insert(url.into(), keys.clone());
        Some(keys)
    }

    /// Joins the fetch in progress, or begins one.
    fn fetch(&self, url: &DocumentUrl) -> Result<Running, DocumentError> {
        let mut entries = self.0.entries.lock();
        if let Some(running) = entries.get(url.as_str()).and_then(|entry| entry.running.clone()) {
            return Ok(running);
        }
        self.0.per_host.take(url.host().into()).map_err(|_wait| DocumentError::TooMany)?;
        self.0.make_room(&mut entries)?;
        let (ended, running) = watch::channel(None);
        entries.entry(url.as_str().into()).or_default().running = Some(running.clone());
        drop(entries);
        let shared = Arc::clone(&self.0);
        let ending = Ending { shared, url: url.clone(), ended, problem: None };
        // Dropping the handle changes nothing; the receiver signals the end.
        drop(self.0.tasks.spawn("fetch of a client's metadata document", async move {
            let fetched = ending.shared.fetch_once(&ending.url).await;
            ending.after(fetched);
        }));
        Ok(running)
    }
}

/// Signals the end of the fetch, even after a panic.
struct Ending {
    shared: Arc<Shared>,
    url: DocumentUrl,
    ended: watch::Sender<Option<DocumentError>>,
    problem: Option<DocumentError>,
}

impl Ending {
    fn after(mut self, fetched: Result<(), DocumentError>) {
        self.problem = fetched.err();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut entries = self.shared.entries.lock();
        if let Some(entry) = entries.get_mut(self.url.as_str()) {
            entry.running = None;
            if entry.good.is_none() {
                entries.remove(self.url.as_str());
            }
        }
        drop(entries);
        self.ended.send_replace(self.problem);
    }
}

impl Shared {
    fn good(&self, url: &DocumentUrl) -> Option<Good> {
        self.entries.lock().get(url.as_str()).and_then(|entry| entry.good.clone())
    }

    /// Bounds the number of documents: the one that is fresh for the shortest time is removed.
    fn make_room(&self, entries: &mut HashMap<Box<str>, Entry>) -> Result<(), DocumentError> {
        if entries.len() < self.limits.capacity {
            return Ok(());
        }
        let idle = entries.iter().filter(|(_, entry)| entry.running.is_none());
        let oldest =
            idle.min_by_key(|(_, entry)| entry.good.as_ref().map(|good| good.fresh_until.date()));
        let oldest = oldest.map(|(url, _)| url.clone()).ok_or(DocumentError::TooMany)?;
        entries.remove(&oldest);
        Ok(())
    }

    async fn fetch_once(&self, url: &DocumentUrl) -> Result<(), DocumentError> {
        let fetcher = self.fetcher.as_ref().ok_or(DocumentError::NotSupported)?;
        let began = self.clock.read();
        let fetched = fetcher.fetch(document::request(url)).await;
        let read = fetched.and_then(|response| {
            let age = document::age(response.headers(), &self.limits);
            document::read(url, &response).map(|client| (client, age))
        });
        let mut entries = self.entries.lock();
        let entry = entries.entry(url.as_str().into()).or_default();
        match read {
            Ok((client, age)) => {
                let usable = age.max(self.limits.stale_age);
                entry.good = Some(Good {
                    client,
                    fresh_until: Deadline::after(began, age),
                    usable_until: Deadline::after(began, usable),
                });
                Ok(())
            }
            Err(problem) => {
                // The host states that there is another client now, or none. In any other case, the
                // last good document is used until it is too old.
                if problem == DocumentError::Invalid {
                    entry.good = None;
                }
                Err(problem)
            }
        }
    }
}

impl fmt::Debug for ClientDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDocuments").finish_non_exhaustive()
    }
}
