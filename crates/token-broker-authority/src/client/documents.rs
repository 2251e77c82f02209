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
    fetch_quotas::{FetchQuotas, Place, TooMany},
    key_sets::KeySets,
    least_recently_used::{LeastRecentlyUsed, Rank},
};
use crate::limits::{Network, Quota};

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
    /// Largest number of documents, and of key sets, that are kept; 1000 by default. Documents
    /// that no user has allowed make space first, then those that were not used for longest.
    pub capacity: usize,
    /// Fetches of unknown documents that one caller (an IPv4 address, or 64 bits of IPv6) may
    /// cause at one host; 10 per minute by default. Four times as many for 48 bits of IPv6. Callers
    /// without a known address have no quota of their own. Key sets count by themselves.
    pub fetches_per_caller: Quota,
    /// Fetches of unknown documents from one host, for all callers; 300 per minute by default. A
    /// document that was good before has a reserve of its own, of 6 fetches per minute.
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
            fetches_per_caller: Quota::per_minute(10),
            fetches_per_host: Quota::per_minute(300),
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
    quotas: FetchQuotas,
    known: Mutex<LeastRecentlyUsed<Known>>,
    /// By URL, the fetches in progress.
    running: Mutex<HashMap<Box<str>, Running>>,
    key_sets: KeySets,
}

/// A document that was good at some time.
struct Known {
    /// `None` if its host has stated since that there is no client.
    good: Option<Good>,
    /// Whether a user has allowed its client access.
    is_in_use: bool,
}

impl Rank for Known {
    fn rank(&self) -> u8 {
        u8::from(self.is_in_use)
    }
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
            quotas: FetchQuotas::new(&limits, broker.clock()),
            known: Mutex::new(LeastRecentlyUsed::new(limits.capacity)),
            running: Mutex::default(),
            key_sets: KeySets::new(&limits, broker.clock()),
        }))
    }

    /// Returns whether documents are fetched.
    pub fn are_supported(&self) -> bool {
        self.0.fetcher.is_some()
    }

    /// Returns the client that the document at this URL describes. A fetch counts for `caller`.
    pub(crate) async fn client(
        &self,
        url: &DocumentUrl,
        caller: Network,
    ) -> Result<Client, DocumentError> {
        if !self.are_supported() {
            return Err(DocumentError::NotSupported);
        }
        let now = self.0.clock.read();
        let known = self.0.known(url);
        if let Some(Some(good)) = &known
            && !good.fresh_until.has_passed(now)
        {
            return Ok(good.client.clone());
        }
        let problem = match self.fetch(url, caller, known.is_some()) {
            Ok(mut running) => {
                // The task drops its sender when it ends, in whatever way.
                while running.changed().await.is_ok() {}
                let problem = *running.borrow();
                problem.unwrap_or(DocumentError::Unreachable)
            }
            Err(TooMany) => DocumentError::TooMany,
        };
        match self.0.known(url).flatten() {
            Some(good) if !good.usable_until.has_passed(self.0.clock.read()) => Ok(good.client),
            Some(_) | None => Err(problem),
        }
    }

    /// Notes that a user allowed this client access. If it has a document, that makes space for
    /// others last.
    pub(crate) fn mark_in_use(&self, client_id: &str) {
        if let Some(known) = self.0.known.lock().get(client_id) {
            known.is_in_use = true;
        }
    }

    /// Notes that a user allowed the client of these keys access.
    pub(crate) fn mark_keys_in_use(&self, url: &str) {
        self.0.key_sets.mark_in_use(url);
    }

    /// Returns the keys at the URL of a client's key set; `None` if none can be fetched there. A
    /// fetch counts for `caller`.
    pub(crate) fn keys(
        &self,
        url: &str,
        caller: Network,
    ) -> Result<Option<KeySource>, DocumentError> {
        let Some(fetcher) = self.0.fetcher.as_deref() else { return Ok(None) };
        self.0.key_sets.keys(fetcher, url, caller).map_err(|TooMany| DocumentError::TooMany)
    }

    /// Joins the fetch in progress, or begins one.
    fn fetch(
        &self,
        url: &DocumentUrl,
        caller: Network,
        is_known: bool,
    ) -> Result<Running, TooMany> {
        let mut all = self.0.running.lock();
        if let Some(running) = all.get(url.as_str()) {
            return Ok(running.clone());
        }
        let place = self.0.admit(url, caller, is_known)?;
        let (ended, running) = watch::channel(None);
        all.insert(url.as_str().into(), running.clone());
        drop(all);
        let shared = Arc::clone(&self.0);
        let ending = Ending { shared, url: url.clone(), ended, problem: None, _place: place };
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
    _place: Option<Place>,
}

impl Ending {
    fn after(mut self, fetched: Result<(), DocumentError>) {
        self.problem = fetched.err();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.running.lock().remove(self.url.as_str());
        self.ended.send_replace(self.problem);
    }
}

impl Shared {
    /// Returns the good document of a URL that had one at some time.
    fn known(&self, url: &DocumentUrl) -> Option<Option<Good>> {
        self.known.lock().get(url.as_str()).map(|known| known.good.clone())
    }

    /// Takes a fetch of this URL from the quotas.
    // F521: of a known document, no caller can use it up by other URLs.
    fn admit(
        &self,
        url: &DocumentUrl,
        caller: Network,
        is_known: bool,
    ) -> Result<Option<Place>, TooMany> {
        if is_known {
            return self.quotas.take_of_reserve(url.as_str()).map(|()| None);
        }
        let place = self.quotas.place(caller)?;
        self.quotas.take_of_caller(caller, url.host())?;
        self.quotas.take_of_host(url.host())?;
        Ok(Some(place))
    }

    async fn fetch_once(&self, url: &DocumentUrl) -> Result<(), DocumentError> {
        let fetcher = self.fetcher.as_ref().ok_or(DocumentError::NotSupported)?;
        let began = self.clock.read();
        let fetched = fetcher.fetch(document::request(url)).await;
        let read = fetched.and_then(|response| {
            let age = document::age(response.headers(), &self.limits);
            document::read(url, &response).map(|client| (client, age))
        });
        let mut all = self.known.lock();
        let before = all.get(url.as_str());
        let is_in_use = before.as_ref().is_some_and(|known| known.is_in_use);
        match read {
            Ok((client, age)) => {
                let usable = age.max(self.limits.stale_age);
                let good = Good {
                    client,
                    fresh_until: Deadline::after(began, age),
                    usable_until: Deadline::after(began, usable),
                };
                all.insert(url.as_str(), Known { good: Some(good), is_in_use });
                Ok(())
            }
            Err(problem) => {
                // The host states that there is another client now, or none. In any other case, the
                // last good document is used until it is too old.
                match before.filter(|_| problem == DocumentError::Invalid) {
                    Some(known) if is_in_use => known.good = None,
                    Some(_) => all.remove(url.as_str()),
                    None => {}
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
