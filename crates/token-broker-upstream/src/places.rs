//! Places for concurrent requests to a token endpoint, with a quota per user.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_token_broker::principal::User;

/// Number of requests of one user that wait for a place.
const MOST_WAITING: usize = 64;

/// Places at one token endpoint.
///
/// A request of a user needs one of the user's own places before it waits for one of those that all
/// users share. So one user holds no more than its quota of them, however many accounts it has.
// X03: bounds concurrent requests at the authorization server. G402: one user cannot use it up.
pub(crate) struct Places {
    shared: Arc<Semaphore>,
    per_user: usize,
    /// Users with requests that hold a place or wait for one.
    users: Arc<Mutex<Users>>,
}

type Users = HashMap<User, OfUser>;

/// The places of one user.
struct OfUser {
    own: Arc<Semaphore>,
    /// Requests that hold a place or wait for one.
    requests: usize,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    _shared: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
    _request: Option<CountedRequest>,
}

/// No place in time, or too many requests of the user wait already.
#[derive(Debug)]
pub(crate) struct NoPlace;

impl Places {
    pub(crate) fn new(all: usize, per_user: usize) -> Self {
        Self { shared: Arc::new(Semaphore::new(all)), per_user, users: Arc::default() }
    }

    /// Waits for a place for a request of this user, or of all users.
    ///
    /// # Errors
    /// [`NoPlace`]
    ///
    /// # Cancellation
    /// Safe: nothing is held.
    pub(crate) async fn enter(
        &self,
        user: Option<&User>,
        timeout: Duration,
    ) -> Result<Place, NoPlace> {
        let (own, request) = match user {
            Some(user) => {
                let (own, request) = self.count(user)?;
                (Some(own), Some(request))
            }
            None => (None, None),
        };
        let entered = async {
            let own = match own {
                Some(own) => Some(own.acquire_owned().await.map_err(|_| NoPlace)?),
                None => None,
            };
            let shared = Arc::clone(&self.shared).acquire_owned().await.map_err(|_| NoPlace)?;
            Ok(Place { _shared: shared, _own: own, _request: request })
        };
        tokio::time::timeout(timeout, entered).await.unwrap_or(Err(NoPlace))
    }

    /// Counts a request of this user.
    fn count(&self, user: &User) -> Result<(Arc<Semaphore>, CountedRequest), NoPlace> {
        let mut users = self.users.lock();
        let of_user = users.entry(user.clone()).or_insert_with(|| OfUser {
            own: Arc::new(Semaphore::new(self.per_user)),
            requests: 0,
        });
        if of_user.requests >= self.per_user.saturating_add(MOST_WAITING) {
            return Err(NoPlace);
        }
        of_user.requests = of_user.requests.saturating_add(1);
        let own = Arc::clone(&of_user.own);
        drop(users);
        Ok((own, CountedRequest { users: Arc::clone(&self.users), user: user.clone() }))
    }
}

/// Counts a request of a user until it is dropped. The last one removes the user.
struct CountedRequest {
    users: Arc<Mutex<Users>>,
    user: User,
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        if let hash_map::Entry::Occupied(mut of_user) = users.entry(self.user.clone()) {
            of_user.get_mut().requests = of_user.get().requests.saturating_sub(1);
            if of_user.get().requests == 0 {
                of_user.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(3600);

    fn user(name: &str) -> User {
        User::new("https://broker.example.com", name)
    }

    #[tokio::test]
    async fn g402_q308_a_user_holds_no_more_than_its_quota() {
        let places = Places::new(8, 2);
        let (mallory, ana) = (user("mallory"), user("ana"));
        let first = places.enter(Some(&mallory), NO_TIME).await.unwrap();
        let _second = places.enter(Some(&mallory), NO_TIME).await.unwrap();
        assert!(places.enter(Some(&mallory), NO_TIME).await.is_err(), "G402");
        let _ana = places.enter(Some(&ana), NO_TIME).await.unwrap();
        assert_eq!(places.shared.available_permits(), 5, "G402");
        drop(first);
        assert!(places.enter(Some(&mallory), NO_TIME).await.is_ok());
    }

    #[tokio::test]
    async fn g402_waiting_requests_of_one_user_are_bounded() {
        let places = Places::new(8, 2);
        let mallory = user("mallory");
        let mut waiting = Vec::new();
        for _ in 0..2 + MOST_WAITING {
            let mut entering = Box::pin(places.enter(Some(&mallory), LONG));
            let polled =
                std::future::poll_fn(|cx| std::task::Poll::Ready(entering.as_mut().poll(cx)));
            waiting.push(match polled.await {
                std::task::Poll::Ready(place) => (Some(place.unwrap()), None),
                std::task::Poll::Pending => (None, Some(entering)),
            });
        }
        assert_eq!(waiting.iter().filter(|(place, _)| place.is_some()).count(), 2);
        // Refused at once, not after the timeout.
        assert!(places.enter(Some(&mallory), LONG).await.is_err(), "G402");
        assert_eq!(places.users.lock()[&mallory].requests, 2 + MOST_WAITING);
        drop(waiting);
        assert!(places.users.lock().is_empty(), "a user without requests is not kept");
        assert_eq!(places.shared.available_permits(), 8);
    }

    #[tokio::test]
    async fn g402_the_same_subject_at_another_issuer_is_another_user() {
        let places = Places::new(8, 1);
        let _one = places.enter(Some(&user("ana")), NO_TIME).await.unwrap();
        let other = User::new("https://other.example", "ana");
        assert!(places.enter(Some(&other), NO_TIME).await.is_ok(), "G402");
    }

    #[tokio::test]
    async fn x03_all_users_share_the_places() {
        let places = Places::new(2, 2);
        let _one = places.enter(Some(&user("a")), NO_TIME).await.unwrap();
        let _all = places.enter(None, NO_TIME).await.unwrap();
        assert!(places.enter(Some(&user("b")), NO_TIME).await.is_err(), "X03");
        assert!(places.enter(None, NO_TIME).await.is_err(), "X03");
    }
}
