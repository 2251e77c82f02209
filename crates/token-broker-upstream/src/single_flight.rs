//! Single flight: requests for the same key wait for one piece of work.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tower_token_broker::tasks::Tasks;

use crate::cache_key::Key;

/// Work in progress by key. Exact: it has an entry for each flight, and for nothing else.
pub(crate) struct SingleFlight<L, O>(Arc<Mutex<Flights<L, O>>>);

type Flights<L, O> = HashMap<Key, Flight<L, O>>;

/// One piece of work in progress, for all callers that wait for it.
#[derive(Clone)]
pub(crate) struct Flight<L, O> {
    /// Label of the call that began it.
    pub(crate) label: L,
    outcome: watch::Receiver<Option<O>>,
}

impl<L, O> SingleFlight<L, O>
where
    L: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Joins the flight for this key, or begins one in an owned task.
    pub(crate) fn join<W>(
        &self,
        key: Key,
        label: &L,
        tasks: &Tasks,
        name: &'static str,
        begin: impl FnOnce() -> W,
    ) -> Flight<L, O>
    where
        W: Future<Output = O> + Send + 'static,
    {
        let mut flights = self.0.lock();
        let vacant = match flights.entry(key) {
            hash_map::Entry::Occupied(under_way) => return under_way.get().clone(),
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let (publish, outcome) = watch::channel(None);
        let flight = vacant.insert(Flight { label: label.clone(), outcome }).clone();
        drop(flights);
        let landing = Landing { flights: Arc::clone(&self.0), key };
        let work = begin();
        // G152: an owned task, which continues when its callers are dropped.
        drop(tasks.spawn(name, async move {
            let outcome = work.await;
            drop(landing);
            publish.send_replace(Some(outcome));
        }));
        flight
    }
}

impl<L, O: Clone> Flight<L, O> {
    /// Waits for the outcome; `None` if the task ended without one.
    ///
    /// # Cancellation
    /// The flight continues.
    pub(crate) async fn landed(&mut self) -> Option<O> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Removes a flight from the list when it ends, also when it panics.
struct Landing<L, O> {
    flights: Arc<Mutex<Flights<L, O>>>,
    key: Key,
}

impl<L, O> Drop for Landing<L, O> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}
