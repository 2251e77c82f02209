//! Requests to the introspection endpoint: one per token at a time, and a bounded number in
//! all.

use std::{collections::HashMap, fmt, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_service::Service;

use super::{
    IntrospectionClient,
    places::{Places, Ticket},
};
use crate::{
    alarm::Alarm,
    authenticate::PresentedToken,
    cause,
    clock::{Clock, Moment},
    tasks::Tasks,
};

/// Timeout of one request, whatever the client allows. It begins when the request has a place.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;
/// A failure is logged at most once per this time.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// The body of a response; `None` for a failure, which was logged.
type Outcome = Option<Bytes>;
type Running = watch::Receiver<Option<Outcome>>;

/// The endpoint, and the requests that wait for it.
pub(super) struct Flights<S> {
    client: Mutex<S>,
    endpoint: Uri,
    us: IntrospectionClient,
    clock: Clock,
    tasks: Tasks,
    running: Mutex<HashMap<[u8; 32], Running>>,
    places: Places,
    logged: Mutex<Option<Moment>>,
}

impl<S> Flights<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Future: Send, Error: fmt::Display>
        + Clone
        + Send
        + 'static,
{
    pub(super) fn new(
        client: S,
        endpoint: Uri,
        us: IntrospectionClient,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Self {
        Self {
            client: Mutex::new(client),
            endpoint,
            us,
            clock: clock.clone(),
            tasks: tasks.clone(),
            running: Mutex::default(),
            places: Places::new(),
            logged: Mutex::default(),
        }
    }

    /// Returns the response about a token; `None` if there is none.
    pub(super) async fn introspect(self: &Arc<Self>, token: &PresentedToken) -> Outcome {
        let mut running = self.join(token)?;
        // An error: the task ended without a result.
        let outcome = running.wait_for(Option::is_some).await.ok()?;
        outcome.clone().flatten()
    }

    /// Joins the request about this token, or begins one.
    fn join(self: &Arc<Self>, token: &PresentedToken) -> Option<Running> {
        let mut flights = self.running.lock();
        if let Some(running) = flights.get(token.digest()) {
            return Some(running.clone());
        }
        let Some(ticket) = self.places.ticket(token.digest(), self.clock.moment()) else {
            drop(flights);
            self.report(&Problem::TooMany);
            return None;
        };
        let (ended, running) = watch::channel(None);
        flights.insert(*token.digest(), running.clone());
        drop(flights);
        let flight = Flight { flights: Arc::clone(self), digest: *token.digest() };
        let token = token.clone();
        // Dropping the handle changes nothing; the receiver signals the end.
        drop(self.tasks.spawn("introspection of a token", async move {
            let outcome = match flight.flights.send_in_turn(ticket, &token).await {
                Ok(response) => Some(response),
                Err(problem) => {
                    flight.flights.report(&problem);
                    None
                }
            };
            // A request that comes after this result begins another one.
            drop(flight);
            ended.send_replace(Some(outcome));
        }));
        Some(running)
    }

    /// Notes whether a token is valid, as its response proves.
    pub(super) fn note(&self, token: &PresentedToken, is_valid: bool) {
        self.places.note(token.digest(), is_valid, self.clock.moment());
    }

    async fn send_in_turn(&self, ticket: Ticket, token: &PresentedToken) -> Result<Bytes, Problem> {
        let _place = self.places.take(ticket).await.ok_or(Problem::TooMany)?;
        tokio::time::timeout(TIMEOUT, self.send(token)).await.unwrap_or(Err(Problem::Timeout))
    }

    async fn send(&self, token: &PresentedToken) -> Result<Bytes, Problem> {
        let mut client = self.client.lock().clone();
        let request = self.us.request(&self.endpoint, token).ok_or(Problem::Secret)?;
        let unreachable = |error: S::Error| Problem::Unreachable(error.to_string().into());
        poll_fn(|cx| client.poll_ready(cx)).await.map_err(unreachable)?;
        let response = client.call(request).await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK if response.body().len() > MAX_RESPONSE => Err(Problem::TooLarge),
            StatusCode::OK => Ok(response.into_body()),
            other => Err(Problem::Status(other)),
        }
    }

    fn report(&self, problem: &Problem) {
        let now = self.clock.moment();
        let mut logged = self.logged.lock();
        if logged.is_some_and(|last| now < last.plus(LOG_PAUSE)) {
            return;
        }
        *logged = Some(now);
        drop(logged);
        tracing::error!(
            alarm = Alarm::IntrospectionFailed.code(),
            url = cause::url_for_log(&self.endpoint),
            %problem,
            "a token could not be introspected"
        );
    }
}

/// A request in progress, which later requests may join until it is dropped.
struct Flight<S> {
    flights: Arc<Flights<S>>,
    digest: [u8; 32],
}

// Also after a panic.
impl<S> Drop for Flight<S> {
    fn drop(&mut self) {
        self.flights.running.lock().remove(&self.digest);
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("256 requests are in progress, and others have waited for 5 s")]
    TooMany,
    #[error("no response in time")]
    Timeout,
    #[error("the client failed: {0}")]
    Unreachable(Box<str>),
    #[error("the response has status {0}; 401 and 403 are about our own credentials")]
    Status(StatusCode),
    #[error("the response has more than 64 KiB")]
    TooLarge,
    #[error("our secret cannot be sent in a header")]
    Secret,
}
