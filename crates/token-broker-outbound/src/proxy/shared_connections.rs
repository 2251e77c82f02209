//! Which requests share an HTTP/2 connection: no user can keep the others from theirs.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use http::Request;
use http_body::Body;
use hyper_util::client::legacy::Client;
use parking_lot::Mutex;
use tower_token_broker::principal::Principal;

use super::carrier::CarriedBody;
use crate::connector::GuardedConnector;

type Pool = Client<GuardedConnector, CarriedBody>;

/// Most requests of one pool at a time. A pool has one HTTP/2 connection to each server, and
/// RFC 9113 §6.5.2 advises servers to accept at least 100 streams on it.
const STREAMS: usize = 64;
/// Bytes of a response that its client has not read yet.
pub(super) const STREAM_WINDOW: u32 = 512 * 1024;
/// The window of a connection covers those of all its streams: none waits for another one.
pub(super) const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;
/// Bytes of all request bodies on a connection that users share: less than the window that an
/// HTTP/2 server opens at least (RFC 9113 §6.9.2), because it may read none of them. A longer body,
/// or one of unknown length, does not share a connection with other users.
const SHARED_BYTES: u64 = 48 * 1024;
/// Number of pools that are kept without a request.
const KEPT: usize = 8;

/// Pools of connections. Clones share them.
#[derive(Clone)]
pub(super) struct SharedConnections(Arc<Inner>);

struct Inner {
    new_pool: Box<dyn Fn() -> Pool + Send + Sync>,
    users: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pools for requests of all users.
    common: Vec<Place>,
    /// Pools that belong to one user as long as they have a request.
    uploads: Vec<Place>,
}

struct Place {
    pool: Pool,
    requests: usize,
    /// Bytes of their bodies, if users share the pool.
    bytes: u64,
    user: u64,
}

/// The requests that share pools.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sharing {
    /// Requests of all users; this one has so many bytes.
    Common(u64),
    /// Uploads of the user with this hash.
    Uploads(u64),
}

impl SharedConnections {
    pub(super) fn new(new_pool: impl Fn() -> Pool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            new_pool: Box::new(new_pool),
            users: RandomState::new(),
            state: Mutex::default(),
        }))
    }

    /// Returns with which requests this one shares a connection.
    pub(super) fn sharing<B: Body>(&self, request: &Request<B>) -> Sharing {
        let body = request.body();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        if let Some(length) = length.filter(|length| *length <= SHARED_BYTES) {
            return Sharing::Common(length);
        }
        let user = request.extensions().get::<Principal>().map(Principal::user);
        Sharing::Uploads(self.0.users.hash_one(user))
    }

    /// Returns the pool for a request. The request holds its place until both of its directions
    /// are over.
    pub(super) fn enter(&self, sharing: Sharing) -> (Pool, Occupied) {
        let mut state = self.0.state.lock();
        let (places, user, bytes) = state.places(sharing);
        let free = places.iter().position(|place| {
            let fits = place.requests < STREAMS && place.bytes + bytes <= SHARED_BYTES;
            place.requests == 0 || (place.user == user && fits)
        });
        let index = free.unwrap_or_else(|| {
            places.push(Place { pool: (self.0.new_pool)(), requests: 0, bytes: 0, user });
            places.len() - 1
        });
        let pool = places.get_mut(index).map(|place| {
            place.requests += 1;
            place.bytes += bytes;
            place.user = user;
            place.pool.clone()
        });
        drop(state);
        let pool = pool.unwrap_or_else(|| (self.0.new_pool)());
        (pool, Occupied { connections: self.clone(), sharing, index })
    }
}

impl State {
    /// Returns the places, and the user and the bytes that count there.
    fn places(&mut self, sharing: Sharing) -> (&mut Vec<Place>, u64, u64) {
        match sharing {
            Sharing::Common(bytes) => (&mut self.common, 0, bytes),
            Sharing::Uploads(user) => (&mut self.uploads, user, 0),
        }
    }
}

/// The place of a request in its pool.
pub(super) struct Occupied {
    connections: SharedConnections,
    sharing: Sharing,
    index: usize,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut state = self.connections.0.state.lock();
        let (places, _, bytes) = state.places(self.sharing);
        if let Some(place) = places.get_mut(self.index) {
            place.requests = place.requests.saturating_sub(1);
            place.bytes = place.bytes.saturating_sub(bytes);
        }
        let used = places.iter().rposition(|place| place.requests > 0).map_or(0, |last| last + 1);
        let unused = places.split_off(used.max(KEPT).min(places.len()));
        drop(state);
        // Closes their connections.
        drop(unused);
    }
}

impl fmt::Debug for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupied")
            .field("sharing", &self.sharing)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
