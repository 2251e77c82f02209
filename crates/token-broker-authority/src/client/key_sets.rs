//! The key sets of clients that authenticate by `private_key_jwt`, at the URL that they name.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tower_service::Service;
use tower_token_broker::{
    authenticate::jwt::{KeySource, Keys},
    clock::Clock,
};

use super::{
    DocumentLimits, assertion,
    document_fetch::Fetch,
    fetch_quotas::{FetchQuotas, TooMany},
    host::Host,
    least_recently_used::{LeastRecentlyUsed, Rank},
};
use crate::limits::Network;

/// Key sets, by URL.
#[derive(Debug)]
pub(super) struct KeySets {
    quotas: Arc<FetchQuotas>,
    sets: Mutex<LeastRecentlyUsed<KeySet>>,
}

struct KeySet {
    keys: KeySource,
    gate: Arc<Gate>,
    /// Whether a user has allowed its client access.
    is_in_use: bool,
}

impl Rank for KeySet {
    // F523: first those without keys, then those of clients that no user has allowed.
    fn rank(&self) -> u8 {
        u8::from(self.gate.is_good()) + u8::from(self.is_in_use)
    }
}

impl KeySets {
    pub(super) fn new(limits: &DocumentLimits, clock: &Clock) -> Self {
        let quotas = Arc::new(FetchQuotas::new(limits, clock));
        Self { quotas, sets: Mutex::new(LeastRecentlyUsed::new(limits.capacity)) }
    }

    /// Returns the keys at this URL; `None` if it is none that can be fetched.
    pub(super) fn keys(
        &self,
        fetcher: &dyn Fetch,
        url: &str,
        caller: Network,
    ) -> Result<Option<KeySource>, TooMany> {
        let Ok(uri) = url.parse::<http::Uri>() else { return Ok(None) };
        let Some(host) = Host::of(&uri) else { return Ok(None) };
        let mut sets = self.sets.lock();
        let found = sets.get(url).map(|set| (set.keys.clone(), set.gate.is_good()));
        if let Some((keys, true)) = found {
            return Ok(Some(keys));
        }
        // F523: this caller may cause a fetch.
        self.quotas.take_of_caller(caller, &host)?;
        if let Some((keys, _)) = found {
            return Ok(Some(keys));
        }
        let quotas = Arc::clone(&self.quotas);
        let gate = Gate { quotas, host, url: url.into(), caller, is_good: AtomicBool::new(false) };
        let gate = Arc::new(gate);
        let keys = fetcher.keys(uri, &gate);
        sets.insert(url, KeySet { keys: keys.clone(), gate, is_in_use: false });
        Ok(Some(keys))
    }

    /// Notes that a user allowed the client of these keys access.
    pub(super) fn mark_in_use(&self, url: &str) {
        if let Some(set) = self.sets.lock().get(url) {
            set.is_in_use = true;
        }
    }
}

/// Lets the fetches of one key set through, within the quotas.
pub(super) struct Gate {
    quotas: Arc<FetchQuotas>,
    host: Host,
    url: Box<str>,
    /// The caller for which the set was fetched first.
    caller: Network,
    /// Whether keys were fetched before.
    is_good: AtomicBool,
}

impl Gate {
    fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Relaxed)
    }

    fn note(&self, response: &Response<Bytes>) {
        let keys = Keys::parse_untrusted(response.body(), assertion::algorithms());
        if response.status() == StatusCode::OK && keys.is_ok_and(|keys| !keys.is_empty()) {
            self.is_good.store(true, Ordering::Relaxed);
        }
    }
}

/// A client whose requests pass a [`Gate`].
#[derive(Clone)]
pub(super) struct Gated<S> {
    client: S,
    gate: Arc<Gate>,
}

impl<S> Gated<S> {
    pub(super) fn new(client: S, gate: &Arc<Gate>) -> Self {
        Self { client, gate: Arc::clone(gate) }
    }
}

/// The reasons why there is no response.
#[derive(Debug)]
pub(super) enum GatedError<E> {
    TooMany,
    Client(E),
}

impl<E: fmt::Display> fmt::Display for GatedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("too many key sets of clients at this host were fetched"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl<S> Service<Request<Bytes>> for Gated<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send + 'static>,
    S::Error: 'static,
{
    type Response = Response<Bytes>;
    type Error = GatedError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(context).map_err(GatedError::Client)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let gate = Arc::clone(&self.gate);
        // F523
        let place = if gate.is_good() {
            gate.quotas.take_of_reserve(&gate.url).map(|()| None)
        } else {
            let taken = gate.quotas.take_of_host(&gate.host);
            taken.and_then(|()| gate.quotas.place(gate.caller)).map(Some)
        };
        let place = match place {
            Ok(place) => place,
            Err(TooMany) => return Box::pin(async { Err(GatedError::TooMany) }),
        };
        let fetched = self.client.call(request);
        Box::pin(async move {
            let fetched = fetched.await;
            drop(place);
            let response = fetched.map_err(GatedError::Client)?;
            gate.note(&response);
            Ok(response)
        })
    }
}
