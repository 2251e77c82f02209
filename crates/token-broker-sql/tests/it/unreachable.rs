//! A store that does not respond for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, SqliteConnection};
use token_broker_sql::{OpenError, SqlStore, StoreUrl};
use token_broker_store::{
    GrantStore, StoreError,
    sealing::{KeptKeys, KeyId, KeyRing, KeyWrap, KeyWrapError, WrappedKey},
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_token_broker::{
    Secret,
    revocation::{
        RevocationChange, RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget,
        Sequence,
    },
    tasks::Tasks,
};

use crate::support::{Place, grant, key, keys, now};

const SHORT: Duration = Duration::from_millis(300);

fn everything() -> RevocationEntry {
    RevocationEntry::new(RevocationChange::Revoked(RevocationTarget::Everything), now())
}

#[tokio::test]
async fn x12_a_locked_file_is_unreachable_and_recovers() {
    let place = Place::sqlite();
    let store = SqlStore::open(&place.url().with_timeout(SHORT), keys()).await.unwrap();
    store.put(grant("alice")).await.unwrap();
    let url = format!("sqlite://{}", place.file().display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let lock = |sql| sqlx::raw_sql(sql);
    lock("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_eq!(store.put(grant("bob")).await.err(), Some(StoreError::Unreachable), "X12");
    let appended = store.append(&everything()).await;
    assert_eq!(appended, Err(RevocationStoreError::Unreachable), "X12");
    // Readers do not wait for a writer.
    assert!(store.load(&key("alice")).await.unwrap().is_some(), "X12");
    lock("ROLLBACK").execute(&mut other).await.unwrap();
    store.put(grant("bob")).await.unwrap();
    store.append(&everything()).await.unwrap();
    assert!(store.load(&key("bob")).await.unwrap().is_some(), "X12");
}

/// A connection to PostgreSQL that can be cut.
struct Link {
    port: u16,
    up: watch::Sender<bool>,
    _tasks: Tasks,
}

impl Link {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().port();
        let (up, is_up) = watch::channel(true);
        let tasks = Tasks::new();
        let connections = tasks.clone();
        drop(tasks.spawn("link", async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut is_up = is_up.clone();
                if !*is_up.borrow() {
                    continue;
                }
                let copy = async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = is_up.wait_for(|is_up| !is_up) => {}
                    }
                };
                drop(connections.spawn("connection", copy));
            }
        }));
        Self { port: local, up, _tasks: tasks }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x12_a_cut_connection_is_unreachable_and_recovers() {
    let Some(place) = Place::postgres().await else { return };
    let url = place.url_text();
    let (before, rest) = url.split_once("127.0.0.1:").expect("PostgreSQL on 127.0.0.1 with a port");
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let (port, rest) = rest.split_at(digits);
    let link = Arc::new(Link::to(port.parse().unwrap()).await);
    let url = StoreUrl::parse(&format!("{before}127.0.0.1:{}{rest}", link.port)).unwrap();
    let keys = keys();
    let store = SqlStore::open(&url.clone().with_timeout(SHORT * 5), keys.clone()).await.unwrap();
    store.put(grant("alice")).await.unwrap();

    link.up.send_replace(false);
    assert_eq!(store.load(&key("alice")).await.err(), Some(StoreError::Unreachable), "X12");
    assert_eq!(store.put(grant("bob")).await.err(), Some(StoreError::Unreachable), "X12");
    let read = store.read_after(Sequence::START, 1).await;
    assert_eq!(read, Err(RevocationStoreError::Unreachable), "X12");
    let appended = store.append(&everything()).await;
    assert_eq!(appended, Err(RevocationStoreError::Unreachable), "X12");
    assert!(SqlStore::open(&url.with_timeout(SHORT), keys).await.is_err(), "X12 start is refused");

    link.up.send_replace(true);
    assert!(store.load(&key("alice")).await.unwrap().is_some(), "X12");
    store.put(grant("bob")).await.unwrap();
    store.append(&everything()).await.unwrap();
    assert_eq!(store.read_after(Sequence::START, 9).await.unwrap().len(), 1, "X12");
    store.close().await;
}

/// A key management service that can be down.
#[derive(Clone)]
struct KeyService {
    keys: KeyRing,
    is_down: Arc<AtomicBool>,
}

impl KeyService {
    fn state(&self) -> Result<(), KeyWrapError> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(KeyWrapError::Unavailable),
            false => Ok(()),
        }
    }
}

impl KeyWrap for KeyService {
    fn current(&self) -> KeyId {
        self.keys.current()
    }

    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
        self.state()?;
        self.keys.wrap(key, context).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<Secret, KeyWrapError> {
        self.state()?;
        self.keys.unwrap(wrapped, context).await
    }
}

#[tokio::test]
async fn x19_o279_without_its_keys_a_store_does_not_open_and_no_grant_is_lost() {
    for place in Place::all().await {
        let service = KeyService { keys: keys(), is_down: Arc::default() };
        let url = place.url();
        let open = || SqlStore::open(&url, service.clone());
        service.is_down.store(true, Ordering::Relaxed);
        assert_eq!(open().await.err(), Some(OpenError::KeyUnavailable), "X19");
        service.is_down.store(false, Ordering::Relaxed);
        let store = open().await.unwrap();
        store.put(grant("alice")).await.unwrap();
        service.is_down.store(true, Ordering::Relaxed);
        // Refused for now: the grant has not ended.
        assert_eq!(store.load(&key("alice")).await.err(), Some(StoreError::Unreachable), "O279");
        assert_eq!(store.put(grant("bob")).await.err(), Some(StoreError::Unreachable), "O279");
        // Revocations need no key.
        store.append(&everything()).await.unwrap();
        store.close().await;
        assert_eq!(open().await.err(), Some(OpenError::KeyUnavailable), "X19");
        service.is_down.store(false, Ordering::Relaxed);
        let store = open().await.unwrap();
        assert!(store.load(&key("alice")).await.unwrap().is_some(), "O279");
        assert!(store.load(&key("bob")).await.unwrap().is_none(), "O279");
        store.close().await;
        // With kept keys, what was used lately can be read.
        let kept = SqlStore::open(&url, KeptKeys::new(service.clone())).await.unwrap();
        assert!(kept.load(&key("alice")).await.unwrap().is_some(), "X19");
        service.is_down.store(true, Ordering::Relaxed);
        assert!(kept.load(&key("alice")).await.unwrap().is_some(), "X19");
        kept.close().await;
    }
}
