//! Removes from the store what has expired, in the background.
//!
//! Several processes may do so at once: each row is removed by one of them, and the others find it
//! gone.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, PageRequest},
};
use tower_token_broker::alarm::Alarm;

use crate::Authority;

/// Mean time between two clean-ups. It varies by a quarter, so that processes that started together
/// do not work together.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Time for which a code is kept after it expired, to recognize its replay; longer than a consent
/// form lives.
const CODES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Time for which an ended family is kept.
const FAMILIES_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Time for which an expired session is kept: the clocks of processes differ a little.
const SESSIONS_KEPT: Duration = Duration::from_secs(60 * 60);
/// Time for which a signing key is kept after it was published last.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Number of rows that are removed in one step.
const PAGE: usize = 500;
/// Number of steps of one kind in one clean-up.
const MAX_PAGES: usize = 20;

impl<S: AuthorityStore> Authority<S> {
    /// Removes clients that were never used, codes, sessions and signing keys that expired, and
    /// families that ended long ago, at most 10 000 of each, and returns their number. A task does
    /// so about every ten minutes.
    ///
    /// # Errors
    /// The store failed to remove rows of one kind. The others are removed all the same.
    ///
    /// # Cancellation
    /// Each row is removed or not.
    pub async fn clean_up(&self) -> Result<usize, StoreError> {
        let (store, now) = (&*self.0.store, self.0.broker.clock().now());
        let unused = now.minus(self.0.settings.registration.unused_lifetime);
        let outcomes = [
            pages(|| store.remove_unused_clients(unused, PAGE)).await,
            pages(|| store.remove_codes(now.minus(CODES_KEPT), PAGE)).await,
            pages(|| store.remove_families(now.minus(FAMILIES_KEPT), PAGE)).await,
            pages(|| store.remove_sessions(now.minus(SESSIONS_KEPT), PAGE)).await,
            store.remove_signing_keys(now.minus(KEYS_KEPT)).await,
        ];
        outcomes.into_iter().try_fold(0, |sum: usize, removed| Ok(sum.saturating_add(removed?)))
    }

    /// Raises an alarm while nearly as many clients are registered as may be.
    async fn watch_clients(&self) -> Result<(), StoreError> {
        let (count, max) = (self.count_clients().await?, self.0.settings.registration.max_clients);
        if is_nearly_full(count, max) {
            tracing::warn!(
                alarm = Alarm::ClientsNearlyFull.code(),
                clients = count,
                max_clients = max,
                "nearly as many clients are registered as may be; then new ones are refused"
            );
        }
        Ok(())
    }

    async fn count_clients(&self) -> Result<u64, StoreError> {
        let (mut count, mut request) = (0, PageRequest::first());
        loop {
            let page = self.0.store.clients(&request.limit(PageRequest::MAX_LIMIT)).await?;
            count += (page.rows.len() + page.unreadable.len()) as u64;
            let Some(next) = page.next else { return Ok(count) };
            request = PageRequest::after(&next);
        }
    }

    /// Cleans up until the authority is dropped or the broker shuts down.
    pub(crate) fn keep_clean(&self) {
        let (weak, clock) = (Arc::downgrade(&self.0), self.0.broker.clock().clone());
        let mut ending = Box::pin(self.0.broker.ending());
        drop(self.0.broker.tasks().spawn("clean-up of the authority", async move {
            loop {
                let next = clock.now().plus(pause());
                let round = async {
                    clock.sleep_until(next).await;
                    let endpoints = weak.upgrade()?;
                    let authority = Self(endpoints);
                    let cleaned = authority.clean_up().await;
                    Some(cleaned.and(authority.watch_clients().await))
                };
                // Both may be dropped: each row is removed or not, and the other only waits.
                let cleaned = tokio::select! {
                    cleaned = round => cleaned,
                    () = &mut ending => return,
                };
                match cleaned {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::warn!(
                        alarm = Alarm::AuthorityStoreUnavailable.code(),
                        %error,
                        "what has expired could not be removed from the store"
                    ),
                }
            }
        }));
    }
}

/// Removes pages until one is not full.
async fn pages<F>(remove: impl Fn() -> F) -> Result<usize, StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    let mut removed = 0;
    for _ in 0..MAX_PAGES {
        let page = remove().await?;
        removed += page;
        if page < PAGE {
            break;
        }
    }
    Ok(removed)
}

/// Returns whether nine tenths of the clients are registered.
const fn is_nearly_full(count: u64, max: u64) -> bool {
    count.saturating_mul(10) >= max.saturating_mul(9)
}

/// Returns the time until the next clean-up: 7.5 to 12.5 minutes.
fn pause() -> Duration {
    let mut random = [0; 1];
    // Without random numbers, processes may work together, which is harmless.
    let part = if rand::fill(&mut random).is_ok() { random[0] } else { 128 };
    (EVERY / 4 * 3).saturating_add(EVERY / 2 * u32::from(part) / 255)
}

#[cfg(test)]
mod tests {
    use token_broker_store::authority::{
        Client, ClientId, ClientStore as _, MemoryAuthority, RegisterClient, Registration,
    };
    use tower_token_broker::{Broker, audit::InMemory, sealing::SealingKeys};

    use super::*;
    use crate::IssuerUrl;

    #[tokio::test]
    async fn all_clients_are_counted_over_pages() {
        let store = MemoryAuthority::new();
        let sealing_keys = SealingKeys::new(&[7; 32]);
        let broker = Broker::builder().audit(InMemory::new()).sealing_keys(sealing_keys);
        let broker = broker.build().unwrap();
        let issuer = IssuerUrl::parse("https://broker.example.com").unwrap();
        for number in 0..2_500 {
            let id = ClientId::new(&format!("client-{number}"));
            let client = Client::new(id, broker.clock().now());
            let registered = store.register_client(&RegisterClient::new(client, u64::MAX)).await;
            assert_eq!(registered, Ok(Registration::Registered));
        }
        let authority = Authority::builder(&broker, issuer, store).start().await.unwrap();
        assert_eq!(authority.count_clients().await, Ok(2_500));
    }

    #[test]
    fn nine_tenths_are_nearly_full() {
        assert!(!is_nearly_full(8_999, 10_000) && is_nearly_full(9_000, 10_000));
        assert!(is_nearly_full(10_001, 10_000) && is_nearly_full(0, 0));
        assert!(!is_nearly_full(0, 10_000) && !is_nearly_full(7, u64::MAX));
    }

    #[test]
    fn the_pause_varies_by_a_quarter() {
        let pauses: Vec<_> = (0..200).map(|_| pause()).collect();
        let bounds = Duration::from_secs(450)..=Duration::from_secs(750);
        assert!(pauses.iter().all(|pause| bounds.contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| pause != &pauses[0]));
    }
}
