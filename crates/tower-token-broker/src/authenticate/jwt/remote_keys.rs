//! Keys from a remote JWKS: one fetch at a time, and the last good set is kept.

use std::{collections::VecDeque, fmt, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service;

use super::{
    algorithm::Algorithms,
    discovery::{EndpointError, Issuer, MetadataError},
    key::Key,
    keys::{KeySet, Keys, KeysError, Skipped, WantedKey},
};
use crate::{
    alarm::Alarm,
    authenticate::VerifyError,
    cause,
    clock::{Clock, Deadline, LEEWAY, Moment, Reading},
    refusal::Reason,
    tasks::Tasks,
};

/// The source of a verifier's keys: [`Keys`] or [`RemoteKeys`].
#[derive(Clone)]
pub struct KeySource(Arc<dyn FindKey>);

impl KeySource {
    pub(super) fn algorithms(&self) -> Algorithms {
        self.0.algorithms()
    }

    pub(super) async fn find(
        &self,
        wanted: &WantedKey,
        now: Reading,
    ) -> Result<Arc<Key>, VerifyError> {
        self.0.find(wanted, now).await
    }

    pub(super) async fn find_newer(
        &self,
        wanted: &WantedKey,
        tried: &Key,
        now: Reading,
    ) -> Result<Option<Arc<Key>>, VerifyError> {
        self.0.find_newer(wanted, tried, now).await
    }
}

type Finding<'a, K = Arc<Key>> = Pin<Box<dyn Future<Output = Result<K, VerifyError>> + Send + 'a>>;

trait FindKey: Send + Sync + 'static {
    fn algorithms(&self) -> Algorithms;
    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Reading) -> Finding<'a>;

    /// Returns another key in place of one that did not sign the token, if a newer set has one.
    fn find_newer<'a>(
        &'a self,
        wanted: &'a WantedKey,
        tried: &'a Key,
        now: Reading,
    ) -> Finding<'a, Option<Arc<Key>>>;
}

impl FindKey for Keys {
    fn algorithms(&self) -> Algorithms {
        Self::algorithms(self)
    }

    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Reading) -> Finding<'a> {
        // Not cached, because keys may be replaced at any time.
        Box::pin(async move { Self::find(self, wanted, now).map_err(VerifyError::for_now) })
    }

    fn find_newer<'a>(
        &'a self,
        _: &'a WantedKey,
        _: &'a Key,
        _: Reading,
    ) -> Finding<'a, Option<Arc<Key>>> {
        Box::pin(async { Ok(None) })
    }
}

impl From<Keys> for KeySource {
    fn from(keys: Keys) -> Self {
        Self(Arc::new(keys))
    }
}

impl From<&Keys> for KeySource {
    fn from(keys: &Keys) -> Self {
        Self::from(keys.clone())
    }
}

impl<S> From<RemoteKeys<S>> for KeySource
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    fn from(keys: RemoteKeys<S>) -> Self {
        Self(Arc::new(keys))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource")
    }
}

/// Keys that are fetched from one URL with your client (`token-broker-outbound` has a guarded one).
///
/// A fetch runs in an owned task, one at a time, and all requests that wait for it share it. An
/// unknown or vanished `kid`, or a signature of another key than the one of this name, causes at
/// most one fetch per cool-down (one per second without any keys). If the `kid` remains unknown,
/// the token is refused with 401, or with 503 if it was issued after the last fetch, because its
/// key may be newer. A set that is unreadable or has no usable key never replaces a good one. A
/// good set is used until it is 24 hours old. Without one, requests are refused with 503
/// (`authn.keys_unavailable`).
///
/// [`RemoteKeys::discover`] finds the URL by the issuer's metadata, again at each fetch. If the
/// metadata cannot be fetched, the URL that it named last is used.
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct RemoteKeys<S> {
    shared: Arc<Remote<S>>,
}

/// Where the key set is.
#[derive(Clone)]
enum Place {
    Url(Uri),
    MetadataOf(Arc<Issuer>),
}

struct Remote<S> {
    client: Mutex<S>,
    place: Place,
    clock: Clock,
    tasks: Tasks,
    cool_down: Duration,
    refresh_after: Duration,
    algorithms: Algorithms,
    good: ArcSwapOption<Fetched>,
    fetch: Mutex<Fetch>,
    /// The URL that the last fetch, or the one in progress, is about.
    fetching: Mutex<Option<Uri>>,
    /// Skipped keys that were logged; the oldest are forgotten.
    logged: Mutex<VecDeque<Skipped>>,
}

struct Fetched {
    set: KeySet,
    at: Reading,
}

impl Fetched {
    /// Returns whether the set is as old as this, by either clock.
    fn is_older_than(&self, age: Duration, now: Reading) -> bool {
        Deadline::after(self.at, age).has_passed(now)
    }
}

impl Fetched {
    /// Returns whether the token was issued after this set was fetched, so that its key may be a
    /// newer one. What the token claims is not verified yet, and decides only whether its client is
    /// to try again (503) or to obtain another token (401).
    fn may_lack_a_key_since(&self, wanted: &WantedKey, now: Reading) -> bool {
        wanted
            .claimed_issued_at()
            .is_some_and(|at| at > self.at.wall && at <= now.wall.plus(LEEWAY))
    }
}

#[derive(Default)]
struct Fetch {
    /// Closed when the current fetch ends.
    running: Option<watch::Receiver<()>>,
    last_begun: Option<Moment>,
}

impl<S> RemoteKeys<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    /// The largest age of the last good set.
    pub const HARD_LIMIT: Duration = HARD_LIMIT;
    /// The timeout of one fetch, whatever the client allows.
    pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn build(client: S, url: Uri, clock: &Clock, tasks: &Tasks) -> Self {
        Self::build_at(Place::Url(url), client, clock, tasks)
    }

    pub(crate) fn build_for_issuer(
        client: S,
        issuer: &str,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Self, EndpointError> {
        let issuer = Arc::new(Issuer::parse(issuer)?);
        Ok(Self::build_at(Place::MetadataOf(issuer), client, clock, tasks))
    }

    fn build_at(place: Place, client: S, clock: &Clock, tasks: &Tasks) -> Self {
        Self {
            shared: Arc::new(Remote {
                client: Mutex::new(client),
                place,
                clock: clock.clone(),
                tasks: tasks.clone(),
                cool_down: Duration::from_secs(30),
                refresh_after: Duration::from_secs(15 * 60),
                algorithms: Algorithms::default(),
                good: ArcSwapOption::empty(),
                fetch: Mutex::default(),
                fetching: Mutex::default(),
                logged: Mutex::default(),
            }),
        }
    }

    /// Sets the time after a fetch in which an unknown `kid` causes no other; 30 seconds by
    /// default.
    pub fn cool_down(self, cool_down: Duration) -> Self {
        self.with(|remote| remote.cool_down = cool_down)
    }

    /// Sets the age at which a set is fetched again; 15 minutes by default. Requests wait for the
    /// fetch only from twice that age on, and at most for 2 seconds if the set has the key.
    pub fn refresh_after(self, age: Duration) -> Self {
        self.with(|remote| remote.refresh_after = age)
    }

    /// Sets the algorithms of the keys that are used; ES256 and EdDSA by default. An RSA key
    /// without `alg` is for the one of RS256 and PS256 that is accepted.
    pub fn algorithms(self, algorithms: impl Into<Algorithms>) -> Self {
        self.with(|remote| {
            remote.algorithms = algorithms.into();
            // Read for other algorithms.
            remote.good = ArcSwapOption::empty();
        })
    }

    /// Changes a setting on a copy; sharers keep theirs.
    fn with(self, change: impl FnOnce(&mut Remote<S>)) -> Self {
        let mut remote = Remote {
            client: Mutex::new(self.shared.client.lock().clone()),
            place: self.shared.place.clone(),
            clock: self.shared.clock.clone(),
            tasks: self.shared.tasks.clone(),
            cool_down: self.shared.cool_down,
            refresh_after: self.shared.refresh_after,
            algorithms: self.shared.algorithms,
            good: ArcSwapOption::new(self.shared.good.load_full()),
            fetch: Mutex::default(),
            fetching: Mutex::default(),
            logged: Mutex::default(),
        };
        change(&mut remote);
        Self { shared: Arc::new(remote) }
    }

    async fn find_key(&self, wanted: &WantedKey, now: Reading) -> Result<Arc<Key>, VerifyError> {
        let mut longest_wait = Duration::MAX;
        if let Some(good) = self.shared.usable(now) {
            let refresh_after = self.shared.refresh_after;
            match good.set.find(wanted, now) {
                // B061: after a long idle time, or failed fetches, wait for current keys, but not
                // for a server that is silent.
                Ok(_) if good.is_older_than(refresh_after.saturating_mul(2), now) => {
                    longest_wait = LONGEST_WAIT;
                }
                Ok(key) => {
                    if good.is_older_than(refresh_after, now) {
                        // Not awaited.
                        drop(self.fetch(now));
                    }
                    return Ok(key);
                }
                // A newer set may contain this key.
                Err(Reason::JwtKeyId | Reason::JwtKeyRetired) => {}
                // B500: or a key for another algorithm under this name.
                Err(Reason::JwtAlgorithmKeyMismatch) => longest_wait = LONGEST_WAIT,
                Err(reason) => return Err(VerifyError::for_now(reason)),
            }
        }
        self.fetched(now, longest_wait).await;
        let Some(good) = self.shared.usable(now) else {
            return Err(VerifyError::for_now(Reason::KeysUnavailable));
        };
        good.set.find(wanted, now).map_err(|reason| {
            // B492
            let is_unknown = matches!(reason, Reason::JwtKeyId | Reason::JwtKeyRetired);
            if is_unknown && wanted.id.is_some() && good.may_lack_a_key_since(wanted, now) {
                return VerifyError::for_now(Reason::KeysUnavailable);
            }
            VerifyError::for_now(reason)
        })
    }

    // B500: an issuer may replace a key under its `kid`, or in a set without any.
    async fn find_newer_key(
        &self,
        wanted: &WantedKey,
        tried: &Key,
        now: Reading,
    ) -> Result<Option<Arc<Key>>, VerifyError> {
        let is_over = self.fetched(now, LONGEST_WAIT).await;
        let good = self.shared.usable(now);
        let found = good.as_ref().and_then(|good| good.set.find(wanted, now).ok());
        match found.filter(|found| found.value != tried.value) {
            Some(newer) => Ok(Some(newer)),
            // B492: within the cool-down.
            None if wanted.id.is_none()
                && good.is_none_or(|good| good.may_lack_a_key_since(wanted, now)) =>
            {
                Err(VerifyError::for_now(Reason::KeysUnavailable))
            }
            // Not cached: the set may still arrive.
            None if !is_over => Err(VerifyError::for_now(Reason::JwtSignature)),
            None => Ok(None),
        }
    }

    /// Waits for the fetch in progress, or for one that begins if the cool-down allows it, and
    /// returns whether it is over. What came of it is visible in the set.
    async fn fetched(&self, now: Reading, longest_wait: Duration) -> bool {
        let Some(mut running) = self.fetch(now) else { return true };
        // The task drops its sender when it ends, in whatever way.
        let ended = async { while running.changed().await.is_ok() {} };
        tokio::time::timeout(longest_wait, ended).await.is_ok()
    }

    /// Joins the fetch in progress, or begins one if the cool-down allows it.
    fn fetch(&self, now: Reading) -> Option<watch::Receiver<()>> {
        let mut fetch = self.shared.fetch.lock();
        if let Some(running) = &fetch.running {
            return Some(running.clone());
        }
        // B029: clients can invent any number of `kid`s, so there is one fetch per window. Without
        // keys, all requests are refused, so the window is short.
        let has_keys = self.shared.usable(now).is_some();
        let pause = if has_keys {
            self.shared.cool_down
        } else {
            self.shared.cool_down.min(Duration::from_secs(1))
        };
        // N401: measured, so that a clock that was ahead for a moment delays no fetch.
        if fetch.last_begun.is_some_and(|begun| now.moment < begun.plus(pause)) {
            return None;
        }
        let (ended, running) = watch::channel(());
        fetch.last_begun = Some(now.moment);
        fetch.running = Some(running.clone());
        drop(fetch);
        let remote = Arc::clone(&self.shared);
        // Dropping the handle changes nothing; the receiver signals the end.
        drop(self.shared.tasks.spawn("fetch of a key set", async move {
            let ending = Ending { remote, ended };
            ending.remote.fetch_once().await;
        }));
        Some(running)
    }
}

/// Signals the end of the fetch, even after a panic.
struct Ending<S> {
    remote: Arc<Remote<S>>,
    ended: watch::Sender<()>,
}

impl<S> Drop for Ending<S> {
    fn drop(&mut self) {
        self.remote.fetch.lock().running = None;
        self.ended.send_replace(());
    }
}

impl<S> Remote<S> {
    fn usable(&self, now: Reading) -> Option<Arc<Fetched>> {
        self.good.load_full().filter(|good| !good.is_older_than(HARD_LIMIT, now))
    }
}

impl<S> Remote<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    async fn fetch_once(&self) {
        let began = self.clock.read();
        let fetched = tokio::time::timeout(RemoteKeys::<S>::FETCH_TIMEOUT, self.get()).await;
        match fetched.unwrap_or(Err(FetchProblem::Timeout)) {
            Ok(set) => {
                self.report_skipped(&set);
                let set = match self.good.load_full() {
                    Some(old) => old.set.followed_by_remote(&set, began),
                    None => set,
                };
                self.good.store(Some(Arc::new(Fetched { set, at: began })));
            }
            // The last good set is kept: an empty or broken response must neither lock all callers
            // out, nor let any in.
            Err(problem) => {
                let url = self.url_for_log();
                tracing::error!(
                    alarm = Alarm::JwksFetchFailed.code(),
                    url,
                    %problem,
                    "the key set was not refreshed"
                );
            }
        }
    }

    fn url_for_log(&self) -> Option<String> {
        self.fetching.lock().as_ref().map(cause::url_for_log)
    }

    /// Logs the skipped keys of a set, once for as long as the same ones are skipped.
    fn report_skipped(&self, set: &KeySet) {
        let mut logged = self.logged.lock();
        let new: Vec<_> =
            set.skipped().iter().filter(|skipped| !logged.contains(skipped)).cloned().collect();
        if new.is_empty() {
            return;
        }
        logged.extend(new);
        let excess = logged.len().saturating_sub(MOST_LOGGED);
        logged.drain(..excess);
        drop(logged);
        let url = self.url_for_log();
        set.report_skipped(url.as_deref());
    }

    async fn get(&self) -> Result<KeySet, FetchProblem> {
        let url = match &self.place {
            Place::Url(url) => url.clone(),
            Place::MetadataOf(issuer) => self.discover(issuer).await?,
        };
        let response = self.fetch_document(&url).await?;
        Ok(KeySet::parse(response.body(), self.algorithms)?)
    }

    /// Finds the URL of the key set by the metadata of the issuer.
    async fn discover(&self, issuer: &Issuer) -> Result<Uri, FetchProblem> {
        let (mut problem, mut wrong_document) = (FetchProblem::Timeout, None);
        for document in issuer.documents() {
            let fetched = tokio::time::timeout(STEP_TIMEOUT, self.fetch_document(document)).await;
            let found = fetched
                .unwrap_or(Err(FetchProblem::Timeout))
                .and_then(|response| Ok(issuer.key_set_url(response.body())?));
            match found {
                Ok(url) => return Ok(url),
                // A wrong document is the better explanation than a missing one.
                Err(FetchProblem::Metadata(wrong)) => {
                    (problem, wrong_document) = (wrong.into(), Some(document));
                }
                Err(_) if matches!(problem, FetchProblem::Metadata(_)) => {}
                Err(missing) => problem = missing,
            }
        }
        if let Some(document) = wrong_document {
            *self.fetching.lock() = Some(document.clone());
        }
        match (issuer.known(), problem) {
            (_, wrong @ FetchProblem::Metadata(_)) | (None, wrong) => Err(wrong),
            (Some(known), _) => Ok(known),
        }
    }

    async fn fetch_document(&self, url: &Uri) -> Result<Response<Bytes>, FetchProblem> {
        let mut client = self.client.lock().clone();
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.clone();
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        *self.fetching.lock() = Some(url.clone());
        let unreachable = |error: S::Error| FetchProblem::Unreachable(error.to_string().into());
        poll_fn(|cx| client.poll_ready(cx)).await.map_err(unreachable)?;
        let response = client.call(request).await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchProblem::Status(response.status()));
        }
        // X23: we trust this issuer's keys, so compare clocks with it too.
        self.clock.compare_with_response(response.headers(), url.host().unwrap_or_default());
        Ok(response)
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchProblem {
    #[error("no response in time")]
    Timeout,
    #[error("the client failed: {0}")]
    Unreachable(Box<str>),
    #[error("the response has status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl<S> FindKey for RemoteKeys<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    fn algorithms(&self) -> Algorithms {
        self.shared.algorithms
    }

    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Reading) -> Finding<'a> {
        Box::pin(self.find_key(wanted, now))
    }

    fn find_newer<'a>(
        &'a self,
        wanted: &'a WantedKey,
        tried: &'a Key,
        now: Reading,
    ) -> Finding<'a, Option<Arc<Key>>> {
        Box::pin(self.find_newer_key(wanted, tried, now))
    }
}

impl<S> fmt::Debug for RemoteKeys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RemoteKeys");
        match &self.shared.place {
            Place::Url(url) => debug.field("url", url),
            Place::MetadataOf(issuer) => debug.field("documents", &issuer.documents()),
        };
        debug.finish_non_exhaustive()
    }
}

/// The longest wait for a newer set where an older one has the key.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The timeout of one metadata document; both and the key set are within that of a fetch.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);
/// Skipped keys whose log line is remembered.
const MOST_LOGGED: usize = 4 * Keys::MAX_KEYS;
const HARD_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
