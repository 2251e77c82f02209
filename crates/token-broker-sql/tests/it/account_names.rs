//! Whether the work for a name shows that there is an account.

use std::sync::Arc;

use parking_lot::Mutex;
use token_broker_sql::SqlStore;
use token_broker_store::{
    StoreError,
    authority::{AccountStore, UserName},
    sealing::{KeptKeys, KeyId, KeyRing, KeyWrap, KeyWrapError, WrappedKey},
};
use tower_token_broker::{Secret, clock::Clock};

use crate::{
    authority_support::fill,
    support::{Place, key_line, keys, now},
};

/// A key management service that counts its calls.
#[derive(Clone)]
struct KeyService(Arc<Mutex<State>>);

struct State {
    keys: KeyRing,
    calls: usize,
    is_down: bool,
}

impl KeyService {
    fn new(keys: KeyRing) -> Self {
        Self(Arc::new(Mutex::new(State { keys, calls: 0, is_down: false })))
    }

    fn called(&self) -> Result<KeyRing, KeyWrapError> {
        let mut state = self.0.lock();
        state.calls += 1;
        if state.is_down { Err(KeyWrapError::Unavailable) } else { Ok(state.keys.clone()) }
    }
}

impl KeyWrap for KeyService {
    fn current(&self) -> KeyId {
        self.0.lock().keys.current()
    }

    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
        self.called()?.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<Secret, KeyWrapError> {
        self.called()?.unwrap(wrapped, context).await
    }
}

/// Looks a name up; returns whether there is an account, and the number of calls.
async fn look_up(store: &SqlStore, service: &KeyService, name: &str) -> (bool, usize) {
    let before = service.0.lock().calls;
    let found = store.account_by_name(&UserName::parse(name).unwrap()).await.unwrap();
    (found.is_some(), service.0.lock().calls - before)
}

#[tokio::test]
async fn s526_each_name_takes_one_call_of_the_key_service() {
    for place in Place::all().await {
        let service = KeyService::new(keys());
        let store = SqlStore::open(&place.url(), service.clone()).await.unwrap();
        fill(&store, "alice").await;
        for _ in 0..4 {
            assert_eq!(look_up(&store, &service, "alice").await, (true, 1), "S526");
            for name in ["nobody", "Nobody", "alic", "alice\u{301}", "another"] {
                assert_eq!(look_up(&store, &service, name).await, (false, 1), "S526 {name}");
            }
        }
        store.close().await;
    }
}

#[tokio::test]
async fn s526_kept_keys_are_used_for_each_name_alike() {
    let place = Place::sqlite();
    let (service, clock) = (KeyService::new(keys()), Clock::manual(now()));
    let open = || KeptKeys::new(service.clone()).with_clock(clock.clone());
    let store = SqlStore::open(&place.url(), open()).await.unwrap();
    fill(&store, "alice").await;
    store.close().await;
    let store = SqlStore::open(&place.url(), open()).await.unwrap();
    for calls in [1, 0, 0] {
        assert_eq!(look_up(&store, &service, "alice").await, (true, calls), "S526");
        assert_eq!(look_up(&store, &service, "nobody").await, (false, calls), "S526");
    }
    clock.advance(KeptKeys::<KeyService>::KEEP_FOR);
    for calls in [1, 0] {
        assert_eq!(look_up(&store, &service, "alice").await, (true, calls), "S526");
        assert_eq!(look_up(&store, &service, "nobody").await, (false, calls), "S526");
    }
    store.close().await;
}

#[tokio::test]
async fn s526_without_the_key_service_no_name_has_a_result() {
    let place = Place::sqlite();
    let service = KeyService::new(keys());
    let store = SqlStore::open(&place.url(), service.clone()).await.unwrap();
    fill(&store, "alice").await;
    assert_eq!(look_up(&store, &service, "nobody").await, (false, 1));
    service.0.lock().is_down = true;
    for name in ["alice", "nobody", "another"] {
        let found = store.account_by_name(&UserName::parse(name).unwrap()).await;
        assert_eq!(found.err(), Some(StoreError::Unreachable), "S526 {name}");
    }
    store.close().await;
}

#[tokio::test]
async fn s526_a_removed_key_does_not_end_the_look_up_of_names() {
    let place = Place::sqlite();
    let lines = [key_line(), key_line()];
    let ring = |text: &str| KeyRing::parse(text).unwrap();
    let service = KeyService::new(ring(&lines[0]));
    let store = SqlStore::open(&place.url(), service.clone()).await.unwrap();
    assert_eq!(look_up(&store, &service, "nobody").await, (false, 1));
    service.0.lock().keys = ring(&lines[1]);
    assert!(!look_up(&store, &service, "nobody").await.0, "S526");
    assert_eq!(look_up(&store, &service, "nobody").await, (false, 1), "S526");
    store.close().await;
}

#[tokio::test]
async fn s526_many_names_are_not_kept() {
    let place = Place::sqlite();
    let (service, clock) = (KeyService::new(keys()), Clock::manual(now()));
    let kept = KeptKeys::new(service.clone()).with_clock(clock.clone());
    let store = SqlStore::open(&place.url(), kept).await.unwrap();
    for number in 0..=1_000 {
        assert_eq!(look_up(&store, &service, &format!("n{number}")).await, (false, 1));
    }
    assert_eq!(look_up(&store, &service, "n1000").await, (false, 0), "S526");
    assert_eq!(look_up(&store, &service, "n0").await, (false, 1), "S526: the oldest made space");
    store.close().await;
}
