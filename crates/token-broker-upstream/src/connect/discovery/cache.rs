//! Discovery results, kept for some minutes, with one discovery at a time for each server.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use tower_token_broker::{Broker, clock::Timestamp};

use super::{NotFound, fetch, found::Found};
use crate::{
    cache_key::{Key, Parts},
    connect::server::ConnectServer,
    single_flight::SingleFlight,
};

/// Timeout of one request of a discovery.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a result is used.
const FOUND: Duration = Duration::from_secs(600);
/// How long a failure is repeated without a request.
const NOT_FOUND: Duration = Duration::from_secs(15);
/// Most results that are kept.
const CAPACITY: u64 = 4096;

type Outcome = Result<Arc<Found>, NotFound>;

/// The results of discovery.
pub(in crate::connect) struct Discoveries {
    kept: Cache<Key, (Outcome, Timestamp)>,
    /// Servers that refused a token since.
    doubted: Cache<Key, ()>,
    flights: SingleFlight<(), Outcome>,
    broker: Broker,
}

impl Discoveries {
    pub(in crate::connect) fn new(broker: &Broker) -> Self {
        let (kept, doubted) = (Cache::new(CAPACITY), Cache::new(CAPACITY));
        Self { kept, doubted, flights: SingleFlight::new(), broker: broker.clone() }
    }

    /// Returns the authorization server of a server.
    pub(in crate::connect) async fn of_server(&self, server: &Arc<ConnectServer>) -> Outcome {
        let key = key("server", server, "");
        let server = Arc::clone(server);
        self.once(key, async move { fetch::discover(&server).await }).await
    }

    /// Returns the authorization server of a server for a new connect.
    pub(in crate::connect) async fn for_connect(&self, server: &Arc<ConnectServer>) -> Outcome {
        let key = key("server", server, "");
        if self.doubted.remove(&key).is_some() {
            self.kept.invalidate(&key);
        }
        self.of_server(server).await
    }

    /// Lets the next connect discover the authorization server of a server again. A refresh uses
    /// what is known: it must not depend on more.
    pub(in crate::connect) fn doubt(&self, server: &ConnectServer) {
        self.doubted.insert(key("server", server, ""), ());
    }

    /// Returns the endpoints of an issuer that granted tokens for a server.
    pub(in crate::connect) async fn of_issuer(
        &self,
        server: &Arc<ConnectServer>,
        issuer: &str,
    ) -> Outcome {
        let key = key("issuer", server, issuer);
        let (server, issuer) = (Arc::clone(server), issuer.to_owned());
        self.once(key, async move { fetch::discover_issuer(&server, &issuer).await }).await
    }

    async fn once(
        &self,
        key: Key,
        discovery: impl Future<Output = Result<Found, NotFound>> + Send + 'static,
    ) -> Outcome {
        if let Some((outcome, until)) = self.kept.get(&key)
            && self.broker.clock().now() < until
        {
            return outcome;
        }
        let interrupted = NotFound { code: "as.unavailable", is_retryable: true };
        let (ending, tasks) = (self.broker.ending(), self.broker.tasks());
        let mut flight = self.flights.join(key, &(), tasks, "discovery", || async move {
            // Nothing is lost if it is dropped: a shutdown does not wait for another server.
            tokio::select! {
                found = discovery => found.map(Arc::new),
                () = ending => Err(interrupted),
            }
        });
        let outcome = flight.landed().await.unwrap_or(Err(interrupted));
        let lifetime = if outcome.is_ok() { FOUND } else { NOT_FOUND };
        self.kept.insert(key, (outcome.clone(), self.broker.clock().now().plus(lifetime)));
        outcome
    }
}

/// Returns a key of all settings that determine the result.
fn key(purpose: &str, server: &ConnectServer, issuer: &str) -> Key {
    let fixed = &server.endpoints;
    let url = |url: &Option<http::Uri>| url.as_ref().map(ToString::to_string).unwrap_or_default();
    Parts::of(purpose)
        .part(&server.name)
        .part(&server.upstream.to_string())
        .part(issuer)
        .list(server.issuer.as_deref().into_iter())
        .list(server.issuer_pin.as_deref().into_iter())
        .list(server.resource_pin.as_deref().into_iter())
        .list(server.endpoint_origins.iter().map(|origin| &**origin))
        .part(&url(&fixed.authorization))
        .part(&url(&fixed.token))
        .part(&url(&fixed.revocation))
        .part(if server.allows_unadvertised_pkce { "1" } else { "0" })
        .key()
}
