//! The pool that computes password hashes: few at once, because each needs much memory and a core.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task,
};

use super::{HashCost, Password, hash};

/// Settings of [`Passwords`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct PasswordsOptions {
    /// Cost of new hashes.
    pub cost: HashCost,
    /// Most hashes that are computed at once. Default: 2, which need 38 MiB and two cores.
    pub max_running: usize,
    /// Most callers that wait for one of these. Default: 8; with the default cost, the last one
    /// waits for less than a second.
    pub max_waiting: usize,
}

impl Default for PasswordsOptions {
    fn default() -> Self {
        Self { cost: HashCost::default(), max_running: 2, max_waiting: 8 }
    }
}

impl PasswordsOptions {
    /// Sets the cost of new hashes.
    pub const fn cost(mut self, cost: HashCost) -> Self {
        self.cost = cost;
        self
    }

    /// Sets how many hashes are computed at once, at least one.
    pub const fn max_running(mut self, count: usize) -> Self {
        self.max_running = count;
        self
    }

    /// Sets how many callers may wait.
    pub const fn max_waiting(mut self, count: usize) -> Self {
        self.max_waiting = count;
        self
    }
}

/// Computes and verifies password hashes, few at once. Cheap to clone; clones share the limit.
///
/// # Example
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use token_broker_authority::sign_in::{Password, Passwords, PasswordsOptions};
///
/// let passwords = Passwords::new(PasswordsOptions::default());
/// let password = Password::new("correct horse battery staple", "alice").unwrap();
/// let hash = passwords.hash(&password).await.unwrap();
/// assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
///
/// // Short and common passwords are refused.
/// assert!(Password::new("hunter2", "alice").is_err());
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cost: HashCost,
    /// The work of each check: that of the dearest hash so far. Never less than that of `cost`.
    work: AtomicU64,
    /// Compared with the password of an account that does not exist.
    no_password: String,
    running: Arc<Semaphore>,
    /// Those that run or wait.
    admitted: Arc<Semaphore>,
    /// How many of them are of one account.
    by_account: Mutex<HashMap<Box<str>, usize>>,
    per_account: usize,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The password is right.
    Right {
        /// Whether the stored hash is cheaper than a new one.
        is_outdated: bool,
    },
    /// The password is wrong, or there is no account.
    Wrong,
}

/// The reasons why there is no outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckError {
    /// The pool is full.
    Busy,
    /// The stored hash cannot be read, or there is no memory.
    Unreadable,
}

/// A place in the pool. It is free when this is dropped.
#[derive(Debug)]
#[must_use = "the place is free when it is dropped"]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// None for a hash that is of no account yet.
    _of_account: Option<OfAccount>,
}

/// One of the places of an account.
#[derive(Debug)]
struct OfAccount {
    pool: Arc<Shared>,
    name: Box<str>,
}

/// No hash can be computed at the moment. Retry after [`Busy::RETRY_AFTER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked; try again in a few seconds")]
#[non_exhaustive]
pub struct Busy;

impl Busy {
    /// The time after which a retry may succeed.
    pub const RETRY_AFTER: Duration = Duration::from_secs(5);
}

impl Passwords {
    /// Creates a pool.
    pub fn new(options: PasswordsOptions) -> Self {
        let running = options.max_running.clamp(1, MOST);
        let admitted = running + options.max_waiting.min(MOST);
        Self(Arc::new(Shared {
            cost: options.cost,
            work: AtomicU64::new(options.cost.work()),
            no_password: hash::no_password(options.cost),
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(admitted)),
            by_account: Mutex::default(),
            per_account: PER_ACCOUNT.min(admitted / 2).max(1),
        }))
    }

    /// Hashes a password, as PHC text.
    ///
    /// # Errors
    /// [`Busy`]: too many hashes are being computed, or there is no memory.
    ///
    /// # Cancellation
    /// The work continues to its end, and its result is dropped.
    pub async fn hash(&self, password: &Password) -> Result<String, Busy> {
        self.hash_in(self.enter(None)?, password).await
    }

    /// As [`Passwords::hash`], in the place of an account.
    pub(crate) async fn hash_in(&self, place: Place, password: &Password) -> Result<String, Busy> {
        let (cost, password) = (self.0.cost, password.clone());
        self.run(place, move || hash::hash(&password, cost)).await?.ok_or(Busy)
    }

    /// Takes a place for [`Passwords::check`] or [`Passwords::hash_in`]. An account has few of
    /// them; a name without an account has as many.
    // S528: one account does not take the places of the others.
    pub(crate) fn place(&self, account: &str) -> Result<Place, Busy> {
        self.enter(Some(OfAccount::enter(&self.0, account)?))
    }

    // S521: at most so many at once; the others are refused and not queued without a bound.
    fn enter(&self, of_account: Option<OfAccount>) -> Result<Place, Busy> {
        let admitted = Arc::clone(&self.0.admitted).try_acquire_owned();
        let place = |permit| Place { _permit: permit, _of_account: of_account };
        admitted.map(place).map_err(|_| Busy)
    }

    /// Checks a password against a stored hash. Without one, the same work is done for nothing, so
    /// that the time does not show whether an account exists.
    ///
    /// A hash may be cheaper than a new one, or dearer, if the cost was changed since. Each check
    /// does the work of the dearest hash so far, counted in blocks of argon2; what the hash itself
    /// does not need is spent on a hash that is dropped. The first check of a dearer hash after a
    /// start still takes longer than those before it.
    ///
    /// # Errors
    /// [`CheckError`]
    ///
    /// # Cancellation
    /// As [`Passwords::hash`].
    // S321, S526: the same work for an unknown user as for a wrong password.
    pub(crate) async fn check(
        &self,
        place: Place,
        password: &Password,
        stored: Option<&str>,
    ) -> Result<Check, CheckError> {
        let is_known = stored.is_some();
        let stored = stored.unwrap_or(&self.0.no_password).to_owned();
        let (cost, password) = (self.0.cost, password.clone());
        let work = hash::work_of(&stored).unwrap_or(0);
        let work = self.0.work.fetch_max(work, Ordering::Relaxed).max(work);
        let checked = self.run(place, move || {
            let is_right = hash::verify_within(&password, &stored, work).is_right?;
            Some(match is_right && is_known {
                true => Check::Right { is_outdated: hash::is_outdated(&stored, cost) },
                false => Check::Wrong,
            })
        });
        checked.await.map_err(|Busy| CheckError::Busy)?.ok_or(CheckError::Unreadable)
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let running = Arc::clone(&self.0.running).acquire_owned().await.map_err(|_| Busy)?;
        // The places are free when the work has ended, not when its caller is dropped.
        let work = move || {
            let done = work();
            drop((running, place));
            done
        };
        task::spawn_blocking(work).await.map_err(|_| Busy)
    }
}

impl OfAccount {
    fn enter(pool: &Arc<Shared>, name: &str) -> Result<Self, Busy> {
        let mut by_account = pool.by_account.lock();
        let taken = by_account.entry(name.into()).or_default();
        if *taken >= pool.per_account {
            return Err(Busy);
        }
        *taken += 1;
        drop(by_account);
        Ok(Self { pool: Arc::clone(pool), name: name.into() })
    }
}

impl Drop for OfAccount {
    fn drop(&mut self) {
        let mut by_account = self.pool.by_account.lock();
        let Some(taken) = by_account.get_mut(&self.name) else { return };
        *taken -= 1;
        if *taken == 0 {
            by_account.remove(&self.name);
        }
    }
}

/// Most places: more would only exhaust the memory.
const MOST: usize = 1024;
/// Most places of one account, and never more than half of all.
const PER_ACCOUNT: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn cheap() -> PasswordsOptions {
        PasswordsOptions::default().cost(HashCost::cheap_for_tests())
    }

    #[tokio::test]
    async fn a_password_is_checked_against_its_hash() {
        let passwords = Passwords::new(cheap());
        let (right, wrong) = (Password::parse("right").unwrap(), Password::parse("wrong").unwrap());
        let hash = passwords.hash(&right).await.unwrap();
        let check = async |password, stored| {
            passwords.check(passwords.place("alice").unwrap(), password, stored).await
        };
        let is_right = Check::Right { is_outdated: false };
        assert_eq!(check(&right, Some(&*hash)).await, Ok(is_right));
        assert_eq!(check(&wrong, Some(&hash)).await, Ok(Check::Wrong));
        assert_eq!(check(&right, None).await, Ok(Check::Wrong), "S321");
        assert_eq!(check(&right, Some("plain")).await, Err(CheckError::Unreadable));
    }

    #[tokio::test]
    async fn s526_the_dearest_hash_determines_the_work() {
        let password = Password::parse("right").unwrap();
        let dear = cheap().cost(HashCost::new(19_456, 2).unwrap());
        let [old, new] = [cheap(), dear].map(Passwords::new);
        let (cheap_hash, dear_hash) =
            (old.hash(&password).await.unwrap(), new.hash(&password).await.unwrap());
        let work = |passwords: &Passwords| passwords.0.work.load(Ordering::Relaxed);
        let check = async |passwords: &Passwords, stored| {
            passwords.check(passwords.place("alice").unwrap(), &password, stored).await.unwrap()
        };
        let outdated = check(&new, Some(&*cheap_hash)).await;
        assert_eq!(outdated, Check::Right { is_outdated: true });
        assert_eq!(check(&new, None).await, Check::Wrong);
        assert_eq!(work(&new), 2 * 19_456, "S526: that of new hashes");
        // The cost was lowered: from the first dear hash on, each check is as dear.
        assert_eq!((check(&old, None).await, work(&old)), (Check::Wrong, 8));
        let right = check(&old, Some(&dear_hash)).await;
        assert_eq!((right, work(&old)), (Check::Right { is_outdated: false }, 2 * 19_456), "S526");
        assert_eq!((check(&old, None).await, work(&old)), (Check::Wrong, 2 * 19_456), "S526");
    }

    #[tokio::test]
    async fn s521_few_hashes_are_computed_at_once() {
        let passwords = Passwords::new(cheap().max_running(1).max_waiting(1));
        let place = |name: &str| passwords.place(name);
        let (release, held) = mpsc::channel::<()>();
        let mut first =
            Box::pin(passwords.run(place("alice").unwrap(), move || held.recv().is_ok()));
        assert!(polled_once(&mut first).await.is_none());
        let mut second = Box::pin(passwords.run(place("bob").unwrap(), || ()));
        assert!(polled_once(&mut second).await.is_none(), "S521: it waits");
        assert!(place("carol").is_err(), "S521: and the third is refused");
        // A waiting caller that disconnects leaves its place.
        drop(second);
        let mut second = Box::pin(passwords.run(place("bob").unwrap(), || ()));
        assert!(polled_once(&mut second).await.is_none());
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(second.await, Ok(()));
    }

    #[tokio::test]
    async fn s521_a_dropped_caller_keeps_its_place_until_the_work_ends() {
        let passwords = Passwords::new(cheap().max_running(1).max_waiting(0));
        let (release, held) = mpsc::channel::<()>();
        let mut first =
            Box::pin(passwords.run(passwords.place("alice").unwrap(), move || held.recv().is_ok()));
        assert!(polled_once(&mut first).await.is_none());
        drop(first);
        assert!(passwords.place("bob").is_err(), "S521");
        release.send(()).unwrap();
        while passwords.place("bob").is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn s528_one_account_takes_two_places_at_most() {
        let passwords = Passwords::new(cheap().max_running(2).max_waiting(8));
        let password = Password::parse("wrong").unwrap();
        let mut of_alice: Vec<_> =
            std::iter::from_fn(|| passwords.place("alice").ok()).take(60).collect();
        assert_eq!(of_alice.len(), 2, "S528");
        // All other names have the rest, with or without an account.
        let others: Vec<_> = (0..9).map_while(|n| passwords.place(&format!("{n}")).ok()).collect();
        assert_eq!(others.len(), 8, "S528");
        drop(others);
        // A check and a hash return the place when their work has ended.
        let place = of_alice.pop().unwrap();
        assert_eq!(passwords.check(place, &password, None).await, Ok(Check::Wrong));
        passwords.hash_in(passwords.place("alice").unwrap(), &password).await.unwrap();
        of_alice.push(passwords.place("alice").unwrap());
        assert!(passwords.place("alice").is_err(), "S528");
        drop(of_alice);
        assert!(passwords.0.by_account.lock().is_empty(), "S528: no name is kept");
    }

    #[tokio::test]
    async fn s528_a_small_pool_keeps_half_for_others() {
        for (running, waiting, expected) in [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 2)] {
            let options = cheap().max_running(running).max_waiting(waiting);
            let passwords = Passwords::new(options);
            let places: Vec<_> = std::iter::from_fn(|| passwords.place("alice").ok()).collect();
            assert_eq!(places.len(), expected, "S528: {options:?}");
        }
    }

    /// Polls a future once.
    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
