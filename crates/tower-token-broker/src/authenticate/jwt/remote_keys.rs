//! Keys from a remote JWKS: one fetch at a time, the last good set kept.

use std::{fmt, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service;

use super::keys::{Key, KeySet, Keys, KeysError, WantedKey};
use crate::{
    authenticate::VerifyError,
    clock::{Clock, Timestamp},
    refusal::Reason,
    tasks::Tasks,
};

/// Where a verifier gets its keys: made from [`Keys`] or [`RemoteKeys`].
#[derive(Clone)]
pub struct KeySource(Arc<dyn FindKey>);

impl KeySource {
    pub(super) async fn find(
        &self,
        wanted: &WantedKey,
        now: Timestamp,
    ) -> Result<Arc<Key>, VerifyError> {
        self.0.find(wanted, now).await
    }
}

type Finding<'a> = Pin<Box<dyn Future<Output = Result<Arc<Key>, VerifyError>> + Send + 'a>>;

trait FindKey: Send + Sync + 'static {
    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Timestamp) -> Finding<'a>;
}

impl FindKey for Keys {
    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Timestamp) -> Finding<'a> {
        // For now: keys may be replaced at any time.
        Box::pin(async move { Self::find(self, wanted, now).map_err(VerifyError::for_now) })
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

/// Keys that are fetched from one URL, through a client of yours (`token-broker-outbound` has the
/// guarded one).
///
/// A fetch runs in an owned task, one at a time; all who wait for it share it. An unknown or
/// vanished `kid` causes at most one per cool-down (without any keys, one a second). A set that
/// can't be read, or has no usable key, never takes the place of a good one; the good one is used
/// until it is 24 hours old. Without any, requests are refused with 503 (`authn.keys_unavailable`).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct RemoteKeys<S> {
    shared: Arc<Remote<S>>,
}

struct Remote<S> {
    client: Mutex<S>,
    url: Uri,
    clock: Clock,
    tasks: Tasks,
    cool_down: Duration,
    refresh_after: Duration,
    good: ArcSwapOption<Fetched>,
    fetch: Mutex<Fetch>,
}

struct Fetched {
    set: KeySet,
    at: Timestamp,
}

#[derive(Default)]
struct Fetch {
    /// Closed when the fetch that is under way has ended.
    running: Option<watch::Receiver<()>>,
    last_begun: Option<Timestamp>,
}

impl<S> RemoteKeys<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    /// How old the last good set may become.
    pub const HARD_LIMIT: Duration = HARD_LIMIT;
    /// How long one fetch may take, whatever the client allows.
    pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn build(client: S, url: Uri, clock: &Clock, tasks: &Tasks) -> Self {
        Self {
            shared: Arc::new(Remote {
                client: Mutex::new(client),
                url,
                clock: clock.clone(),
                tasks: tasks.clone(),
                cool_down: Duration::from_secs(30),
                refresh_after: Duration::from_secs(15 * 60),
                good: ArcSwapOption::empty(),
                fetch: Mutex::default(),
            }),
        }
    }

    /// How long after a fetch an unknown `kid` causes no other: 30 seconds by default.
    pub fn cool_down(self, cool_down: Duration) -> Self {
        self.with(|remote| remote.cool_down = cool_down)
    }

    /// How old a set is when it is fetched anew: 15 minutes by default. Requests wait for it only
    /// from twice that age on, and only as long as one fetch may take.
    pub fn refresh_after(self, age: Duration) -> Self {
        self.with(|remote| remote.refresh_after = age)
    }

    /// A setting made on a copy: what is shared already keeps its own.
    fn with(self, change: impl FnOnce(&mut Remote<S>)) -> Self {
        let mut remote = Remote {
            client: Mutex::new(self.shared.client.lock().clone()),
            url: self.shared.url.clone(),
            clock: self.shared.clock.clone(),
            tasks: self.shared.tasks.clone(),
            cool_down: self.shared.cool_down,
            refresh_after: self.shared.refresh_after,
            good: ArcSwapOption::new(self.shared.good.load_full()),
            fetch: Mutex::default(),
        };
        change(&mut remote);
        Self { shared: Arc::new(remote) }
    }

    async fn find_key(&self, wanted: &WantedKey, now: Timestamp) -> Result<Arc<Key>, VerifyError> {
        if let Some(good) = self.shared.usable(now) {
            let refresh_at = good.at.plus(self.shared.refresh_after);
            match good.set.find(wanted, now) {
                // B061: nobody has asked for long, or the fetches fail: what is there now is waited
                // for.
                Ok(_) if now >= refresh_at.plus(self.shared.refresh_after) => {}
                Ok(key) => {
                    if now >= refresh_at {
                        // Nobody waits for it.
                        drop(self.fetch(now));
                    }
                    return Ok(key);
                }
                // A newer set may know this key, or have it again.
                Err(Reason::JwtKeyId | Reason::JwtKeyRetired) => {}
                Err(reason) => return Err(VerifyError::for_now(reason)),
            }
        }
        if let Some(mut running) = self.fetch(now) {
            // The task drops its end when it is done, and however it ends.
            while running.changed().await.is_ok() {}
        }
        match self.shared.usable(now) {
            Some(good) => good.set.find(wanted, now).map_err(VerifyError::for_now),
            None => Err(VerifyError::for_now(Reason::KeysUnavailable)),
        }
    }

    /// Joins the fetch that is under way, or begins one if the cool-down allows it.
    fn fetch(&self, now: Timestamp) -> Option<watch::Receiver<()>> {
        let mut fetch = self.shared.fetch.lock();
        if let Some(running) = &fetch.running {
            return Some(running.clone());
        }
        // B029: whatever kids a client makes up, one fetch per window; a short one where nobody
        // gets in without.
        let has_keys = self.shared.usable(now).is_some();
        let pause = if has_keys {
            self.shared.cool_down
        } else {
            self.shared.cool_down.min(Duration::from_secs(1))
        };
        if fetch.last_begun.is_some_and(|begun| now < begun.plus(pause)) {
            return None;
        }
        let (ended, running) = watch::channel(());
        fetch.last_begun = Some(now);
        fetch.running = Some(running.clone());
        drop(fetch);
        let remote = Arc::clone(&self.shared);
        // Dropping the handle changes nothing: the receiver says when it has ended.
        drop(self.shared.tasks.spawn("fetch of a key set", async move {
            let ending = Ending { remote, ended };
            ending.remote.fetch_once().await;
        }));
        Some(running)
    }
}

/// Says that the fetch has ended, even if it panicked.
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
    fn usable(&self, now: Timestamp) -> Option<Arc<Fetched>> {
        self.good.load_full().filter(|good| now < good.at.plus(HARD_LIMIT))
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
        let began = self.clock.now();
        let fetched = tokio::time::timeout(RemoteKeys::<S>::FETCH_TIMEOUT, self.get()).await;
        match fetched.unwrap_or(Err(FetchProblem::Timeout)) {
            Ok(set) => {
                let set = match self.good.load_full() {
                    Some(old) => old.set.followed_by_remote(&set, began),
                    None => set,
                };
                self.good.store(Some(Arc::new(Fetched { set, at: began })));
            }
            // The last good set stays: an empty or broken answer must not lock everybody out, nor
            // let anybody in.
            Err(problem) => {
                tracing::error!(alarm = "jwks.fetch_failed", %problem, "the key set was not refreshed")
            }
        }
    }

    async fn get(&self) -> Result<KeySet, FetchProblem> {
        let mut client = self.client.lock().clone();
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.url.clone();
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        let unreachable = |error: S::Error| FetchProblem::Unreachable(error.to_string().into());
        poll_fn(|cx| client.poll_ready(cx)).await.map_err(unreachable)?;
        let response = client.call(request).await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchProblem::Status(response.status()));
        }
        // X23: whose keys we believe, we ask the time.
        self.clock.compare_with_answer(response.headers(), self.url.host().unwrap_or_default());
        Ok(KeySet::parse(response.body())?)
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchProblem {
    #[error("no answer in time")]
    Timeout,
    #[error("the client failed: {0}")]
    Unreachable(Box<str>),
    #[error("answered with status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl<S> FindKey for RemoteKeys<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    fn find<'a>(&'a self, wanted: &'a WantedKey, now: Timestamp) -> Finding<'a> {
        Box::pin(self.find_key(wanted, now))
    }
}

impl<S> fmt::Debug for RemoteKeys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

const HARD_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
