//! The pool that computes password hashes: few at once, because each needs much memory and a core.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task};

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
    /// Compared with the password of an account that does not exist.
    no_password: String,
    running: Arc<Semaphore>,
    /// Those that run or wait.
    admitted: Arc<Semaphore>,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The password is right.
    Right {
        /// A hash of the current cost, if the stored one is cheaper.
        rehashed: Option<String>,
    },
    /// The password is wrong, or there is no account.
    Wrong,
    /// The stored hash cannot be read.
    Unreadable,
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
            no_password: hash::no_password(options.cost),
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(admitted)),
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
        let (cost, password) = (self.0.cost, password.clone());
        self.run(move || hash::hash(&password, cost)).await?.ok_or(Busy)
    }

    /// Checks a password against a stored hash. Without one, the same work is done for nothing, so
    /// that the time does not show whether an account exists.
    ///
    /// # Errors
    /// [`Busy`]
    ///
    /// # Cancellation
    /// As [`Passwords::hash`].
    // S321: the same work for an unknown user as for a wrong password.
    pub(crate) async fn check(
        &self,
        password: &Password,
        stored: Option<&str>,
    ) -> Result<Check, Busy> {
        let is_known = stored.is_some();
        let stored = stored.unwrap_or(&self.0.no_password).to_owned();
        let (cost, password) = (self.0.cost, password.clone());
        self.run(move || match hash::verify(&password, &stored) {
            Some(true) if is_known => {
                let rehashed =
                    hash::is_outdated(&stored, cost).then(|| hash::hash(&password, cost)).flatten();
                Check::Right { rehashed }
            }
            Some(true | false) => Check::Wrong,
            None => Check::Unreadable,
        })
        .await
    }

    // S521: at most so many at once; the others are refused and not queued without a bound.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let admitted = Arc::clone(&self.0.admitted).try_acquire_owned().map_err(|_| Busy)?;
        let running = Arc::clone(&self.0.running).acquire_owned().await.map_err(|_| Busy)?;
        // The places are free when the work has ended, not when its caller is dropped.
        let work = move || {
            let done = work();
            drop((running, admitted));
            done
        };
        task::spawn_blocking(work).await.map_err(|_| Busy)
    }
}

/// Most places: more would only exhaust the memory.
const MOST: usize = 1024;

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
        let check = async |password, stored| passwords.check(password, stored).await.unwrap();
        assert_eq!(check(&right, Some(&hash)).await, Check::Right { rehashed: None });
        assert_eq!(check(&wrong, Some(&hash)).await, Check::Wrong);
        assert_eq!(check(&right, None).await, Check::Wrong, "S321");
        assert_eq!(check(&right, Some("plain")).await, Check::Unreadable);
    }

    #[tokio::test]
    async fn a_cheap_hash_is_replaced() {
        let password = Password::parse("right").unwrap();
        let old = Passwords::new(cheap()).hash(&password).await.unwrap();
        let passwords = Passwords::new(PasswordsOptions::default());
        let Check::Right { rehashed: Some(new) } =
            passwords.check(&password, Some(&old)).await.unwrap()
        else {
            panic!("the hash is outdated");
        };
        let again = passwords.check(&password, Some(&new)).await.unwrap();
        assert_eq!(again, Check::Right { rehashed: None });
        let wrong = Password::parse("wrong").unwrap();
        assert_eq!(passwords.check(&wrong, Some(&old)).await.unwrap(), Check::Wrong);
    }

    #[tokio::test]
    async fn s521_few_hashes_are_computed_at_once() {
        let passwords = Passwords::new(cheap().max_running(1).max_waiting(1));
        let (release, held) = mpsc::channel::<()>();
        let mut first = Box::pin(passwords.run(move || held.recv().is_ok()));
        assert!(polled_once(&mut first).await.is_none());
        let mut second = Box::pin(passwords.run(|| ()));
        assert!(polled_once(&mut second).await.is_none(), "S521: it waits");
        assert_eq!(passwords.run(|| ()).await, Err(Busy), "S521: and the third is refused");
        // A waiting caller that disconnects leaves its place.
        drop(second);
        let mut second = Box::pin(passwords.run(|| ()));
        assert!(polled_once(&mut second).await.is_none());
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(second.await, Ok(()));
    }

    #[tokio::test]
    async fn s521_a_dropped_caller_keeps_its_place_until_the_work_ends() {
        let passwords = Passwords::new(cheap().max_running(1).max_waiting(0));
        let (release, held) = mpsc::channel::<()>();
        let mut first = Box::pin(passwords.run(move || held.recv().is_ok()));
        assert!(polled_once(&mut first).await.is_none());
        drop(first);
        assert_eq!(passwords.run(|| ()).await, Err(Busy), "S521");
        release.send(()).unwrap();
        while passwords.run(|| ()).await.is_err() {
            tokio::task::yield_now().await;
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
