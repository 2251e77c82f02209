//! One at a time: whoever wants what is being got already waits for that.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tower_token_broker::tasks::Tasks;

use crate::key::Key;

/// Who is getting what at the moment: exact, and as many as there are requests that wait.
pub(crate) struct SingleFlight<L, O>(Arc<Mutex<Flights<L, O>>>);

type Flights<L, O> = HashMap<Key, Flight<L, O>>;

/// Something that is being got, for all who wait for it.
#[derive(Clone)]
pub(crate) struct Flight<L, O> {
    /// What whoever began it wanted.
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

    /// Joins the flight that is under way, or begins one in a task of its own.
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
        // G152: in a task of its own; whoever hangs up, it goes on.
        drop(tasks.spawn(name, async move {
            let outcome = work.await;
            drop(landing);
            publish.send_replace(Some(outcome));
        }));
        flight
    }
}

impl<L, O: Clone> Flight<L, O> {
    /// Waits for what came of it; `None` if it was lost on its way.
    ///
    /// # Cancellation
    /// Dropped, the flight goes on.
    pub(crate) async fn landed(&mut self) -> Option<O> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Takes the flight off the list when it has landed, however it did.
struct Landing<L, O> {
    flights: Arc<Mutex<Flights<L, O>>>,
    key: Key,
}

impl<L, O> Drop for Landing<L, O> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}
