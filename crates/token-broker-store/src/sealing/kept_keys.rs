//! Unwrapped keys, kept for a while, so that a key management service may be away for as long.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::Duration,
};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use tower_token_broker::{
    Secret,
    clock::{Clock, Deadline},
};

use super::{KeyId, KeyWrap, KeyWrapError, WrappedKey};

/// A [`KeyWrap`] that keeps what another one has unwrapped in memory, for up to 5 minutes. While a
/// key management service does not respond, what was used lately can still be read; what was not,
/// fails as unavailable.
///
/// A key that the service has disabled is used until its time here is over.
#[must_use = "does nothing unless a store is opened with it"]
pub struct KeptKeys<K> {
    inner: K,
    clock: Clock,
    keep_for: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: HashMap<Digest, (Secret, Deadline)>,
    /// In the order in which they end.
    order: VecDeque<Digest>,
}

/// Of the wrapped key and its context: what is kept is used in no other one.
type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl<K: KeyWrap> KeptKeys<K> {
    /// How long keys are kept by default.
    pub const KEEP_FOR: Duration = Duration::from_secs(300);
    /// Most keys that are kept.
    pub const MOST: usize = 10_000;

    /// Keeps what these keys unwrap.
    pub fn new(inner: K) -> Self {
        let (clock, kept) = (Clock::system(), Mutex::default());
        Self { inner, clock, keep_for: Self::KEEP_FOR, kept }
    }

    /// Sets how long keys are kept.
    pub const fn keep_for(mut self, duration: Duration) -> Self {
        self.keep_for = duration;
        self
    }

    /// Sets the clock. Only for tests.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn recall(&self, digest: &Digest) -> Option<Secret> {
        let now = self.clock.read();
        let kept = self.kept.lock();
        let (key, until) = kept.keys.get(digest)?;
        (!until.has_passed(now)).then(|| key.clone())
    }

    fn keep(&self, digest: Digest, key: Secret) {
        let now = self.clock.read();
        let mut kept = self.kept.lock();
        while let Some(first) = kept.order.front().copied() {
            let has_passed = kept.keys.get(&first).is_none_or(|(_, until)| until.has_passed(now));
            if !has_passed && kept.order.len() < Self::MOST {
                break;
            }
            kept.order.pop_front();
            kept.keys.remove(&first);
        }
        let until = Deadline::after(now, self.keep_for);
        if kept.keys.insert(digest, (key, until)).is_none() {
            kept.order.push_back(digest);
        }
    }
}

fn digest_of(wrapped: &WrappedKey, context: &[u8]) -> Digest {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [wrapped.key_id.as_str().as_bytes(), &wrapped.bytes, context] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digest = [0; digest::SHA256_OUTPUT_LEN];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

impl<K: KeyWrap> KeyWrap for KeptKeys<K> {
    fn current(&self) -> KeyId {
        self.inner.current()
    }

    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
        let wrapped = self.inner.wrap(key, context).await?;
        self.keep(digest_of(&wrapped, context), key.clone());
        Ok(wrapped)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<Secret, KeyWrapError> {
        let digest = digest_of(wrapped, context);
        if let Some(key) = self.recall(&digest) {
            return Ok(key);
        }
        let key = self.inner.unwrap(wrapped, context).await?;
        self.keep(digest, key.clone());
        Ok(key)
    }
}

/// Prints no key.
impl<K> fmt::Debug for KeptKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use tower_token_broker::clock::Timestamp;

    use super::*;
    use crate::sealing::{BoxKeyWrap, DataKey, KeyRing, SealingContext};

    /// A key management service that can be down.
    #[derive(Clone)]
    struct Service {
        keys: KeyRing,
        is_down: Arc<AtomicBool>,
        calls: Arc<AtomicUsize>,
    }

    impl Service {
        #[expect(clippy::disallowed_methods, reason = "a new key of this test")]
        fn new() -> Self {
            let line = KeyRing::generate_line();
            let keys = KeyRing::parse(line.expose_text().unwrap()).unwrap();
            Self { keys, is_down: Arc::default(), calls: Arc::default() }
        }

        fn called(&self) -> Result<(), KeyWrapError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            match self.is_down.load(Ordering::Relaxed) {
                true => Err(KeyWrapError::Unavailable),
                false => Ok(()),
            }
        }
    }

    impl KeyWrap for Service {
        fn current(&self) -> KeyId {
            self.keys.current()
        }

        async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
            self.called()?;
            self.keys.wrap(key, context).await
        }

        async fn unwrap(
            &self,
            wrapped: &WrappedKey,
            context: &[u8],
        ) -> Result<Secret, KeyWrapError> {
            self.called()?;
            self.keys.unwrap(wrapped, context).await
        }
    }

    fn setup() -> (Service, Clock, BoxKeyWrap) {
        let (service, clock) = (Service::new(), Clock::manual(Timestamp::from_unix_seconds(1)));
        let kept = KeptKeys::new(service.clone()).with_clock(clock.clone());
        (service, clock, BoxKeyWrap::new(kept))
    }

    #[tokio::test]
    async fn x19_o279_a_key_is_used_for_its_time_while_the_service_is_down() {
        let (service, clock, keys) = setup();
        let (alice, bob) =
            (SealingContext::new("grant").text("alice"), SealingContext::new("grant").text("bob"));
        let of_alice = DataKey::generate().wrap(&keys, &alice).await.unwrap();
        // As after a restart: this one was not used yet.
        let of_bob = DataKey::generate().wrap(&BoxKeyWrap::new(service.clone()), &bob).await;
        let of_bob = of_bob.unwrap();
        service.is_down.store(true, Ordering::Relaxed);
        clock.advance(Duration::from_secs(299));
        assert!(DataKey::unwrap(&keys, &of_alice, &alice).await.is_ok(), "X19");
        let unused = DataKey::unwrap(&keys, &of_bob, &bob).await.err();
        assert_eq!(unused, Some(KeyWrapError::Unavailable), "X19");
        clock.advance(Duration::from_secs(1));
        let late = DataKey::unwrap(&keys, &of_alice, &alice).await.err();
        assert_eq!(late, Some(KeyWrapError::Unavailable), "X19");
        service.is_down.store(false, Ordering::Relaxed);
        assert!(DataKey::unwrap(&keys, &of_alice, &alice).await.is_ok(), "X19");
        // It is kept again, and the service is not asked.
        let calls = service.calls.load(Ordering::Relaxed);
        assert!(DataKey::unwrap(&keys, &of_alice, &alice).await.is_ok());
        assert_eq!(service.calls.load(Ordering::Relaxed), calls, "X19");
    }

    #[tokio::test]
    async fn a_kept_key_is_used_in_its_own_context_only() {
        let (_, _, keys) = setup();
        let (alice, bob) =
            (SealingContext::new("grant").text("alice"), SealingContext::new("grant").text("bob"));
        let wrapped = DataKey::generate().wrap(&keys, &alice).await.unwrap();
        let moved = DataKey::unwrap(&keys, &wrapped, &bob).await.err();
        assert_eq!(moved, Some(KeyWrapError::Unreadable));
        let mut changed = wrapped.clone();
        changed.bytes[0] ^= 1;
        assert!(DataKey::unwrap(&keys, &changed, &alice).await.is_err());
        assert!(DataKey::unwrap(&keys, &wrapped, &alice).await.is_ok());
    }

    #[tokio::test]
    async fn the_oldest_keys_make_room() {
        let service = Service::new();
        let kept = KeptKeys::new(service);
        for number in 0..KeptKeys::<Service>::MOST + 10 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            kept.keep(digest, Secret::new(vec![1; 32]));
        }
        let kept = kept.kept.lock();
        assert_eq!(kept.keys.len(), KeptKeys::<Service>::MOST);
        assert_eq!(kept.order.len(), KeptKeys::<Service>::MOST);
    }
}
