//! Which requests share an HTTP/2 connection: no user can keep the others from theirs.

use std::{
    collections::HashMap,
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
/// Most requests of one user on connections that users share; further ones of that user have
/// connections of their own. Some servers accept only a few streams.
const OF_ONE_USER: usize = 8;
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
    /// Requests of each user in them.
    users: HashMap<u64, usize>,
    /// Pools that belong to one user as long as they have a request.
    own: Vec<Place>,
}

struct Place {
    pool: Pool,
    requests: usize,
    /// Bytes of their bodies, if users share the pool.
    bytes: u64,
    user: u64,
}

/// A request, as far as its connection is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// Hash of the user.
    user: u64,
    /// Bytes of the body; `None` if it is long, or its length is unknown.
    bytes: Option<u64>,
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
        let user = request.extensions().get::<Principal>().map(Principal::user);
        Sharing {
            user: self.0.users.hash_one(user),
            bytes: length.filter(|length| *length <= SHARED_BYTES),
        }
    }

    /// Returns the pool for a request. The request holds its place until both of its directions
    /// are over.
    pub(super) fn enter(&self, Sharing { user, bytes }: Sharing) -> (Pool, Occupied) {
        let mut state = self.0.state.lock();
        let of_user = state.users.get(&user).copied().unwrap_or(0);
        let common = bytes.filter(|_| of_user < OF_ONE_USER);
        let (places, bytes) = match common {
            Some(bytes) => (&mut state.common, bytes),
            None => (&mut state.own, 0),
        };
        let free = places.iter().position(|place| {
            let fits = place.requests < STREAMS && place.bytes + bytes <= SHARED_BYTES;
            place.requests == 0 || (fits && (common.is_some() || place.user == user))
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
        if common.is_some() {
            state.users.insert(user, of_user + 1);
        }
        drop(state);
        let pool = pool.unwrap_or_else(|| (self.0.new_pool)());
        (pool, Occupied { connections: self.clone(), user, common, index })
    }
}

/// The place of a request in its pool.
pub(super) struct Occupied {
    connections: SharedConnections,
    user: u64,
    /// Bytes of the body, if users share the pool.
    common: Option<u64>,
    index: usize,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut state = self.connections.0.state.lock();
        if self.common.is_some() {
            let of_user = state.users.remove(&self.user).unwrap_or(0);
            if of_user > 1 {
                state.users.insert(self.user, of_user - 1);
            }
        }
        let places = if self.common.is_some() { &mut state.common } else { &mut state.own };
        if let Some(place) = places.get_mut(self.index) {
            place.requests = place.requests.saturating_sub(1);
            place.bytes = place.bytes.saturating_sub(self.common.unwrap_or(0));
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
            .field("is_common", &self.common.is_some())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
