//! Opening a store: restarts, several processes at once, schema versions, keys and files.

use token_broker_sql::{OpenError, SqlStore, StoreUrl};
use token_broker_store::{GrantStore, sealing::KeyWrap as _};
use tower_token_broker::{
    principal::GrantId,
    revocation::{RevocationChange, RevocationEntry, RevocationStore, RevocationTarget, Sequence},
};

use crate::support::{Place, grant, key, keys, now, text};

fn everything() -> RevocationEntry {
    RevocationEntry::new(RevocationChange::Revoked(RevocationTarget::Everything), now())
}

#[tokio::test]
async fn grants_and_revocations_survive_a_restart() {
    for place in Place::all().await {
        let keys = keys();
        let store = place.open(&keys).await;
        store.put(grant("alice")).await.unwrap();
        let appended = store.append(&everything()).await.unwrap();
        store.close().await;
        assert!(store.load(&key("alice")).await.is_err(), "a closed store is unreachable");

        let store = place.open(&keys).await;
        let loaded = store.load(&key("alice")).await.unwrap().unwrap();
        assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "refresh alice");
        assert_eq!(text(&loaded.access[0].secret), "access alice");
        let read = store.read_after(Sequence::START, 10).await.unwrap();
        assert_eq!(read, [(appended, everything())]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_crash_loses_no_completed_step() {
    let place = Place::sqlite();
    let keys = keys();
    let store = place.open(&keys).await;
    store.put(grant("alice")).await.unwrap();
    // The files as a process that is killed now would leave them: the log is not merged.
    let copy = Place::sqlite();
    for suffix in ["", "-wal"] {
        let name = |place: &Place| format!("{}{suffix}", place.file().display());
        std::fs::copy(name(&place), name(&copy)).unwrap();
    }
    let copied = copy.open(&keys).await;
    assert!(copied.load(&key("alice")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_open_an_empty_store_share_it() {
    for place in Place::all().await {
        let keys = keys();
        let tasks = tower_token_broker::tasks::Tasks::new();
        let opening: Vec<_> = (0..8)
            .map(|number| {
                let (url, keys) = (place.url(), keys.clone());
                tasks.spawn("process", async move {
                    let store = SqlStore::open(&url, keys).await?;
                    store.put(grant(&format!("user{number}"))).await.unwrap();
                    drop(store.sealing_keys().await.unwrap());
                    Ok::<_, OpenError>(store)
                })
            })
            .collect();
        let mut stores = Vec::new();
        for store in opening {
            stores.push(store.await.unwrap().unwrap());
        }
        for store in &stores {
            for number in 0..8 {
                assert!(store.load(&key(&format!("user{number}"))).await.unwrap().is_some());
            }
        }
        assert_eq!(place.run("SELECT COUNT(*) FROM sealing_keys"), "2", "two keys for all");
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    for place in Place::all().await {
        let keys = keys();
        place.open(&keys).await.close().await;
        let supported = place.run("SELECT version FROM token_broker_schema").parse().unwrap();
        place.run("UPDATE token_broker_schema SET version = 70");
        let error = SqlStore::open(&place.url(), keys).await.unwrap_err();
        assert_eq!(error, OpenError::NewerSchema { found: 70, supported });
        let printed = error.to_string();
        let versions = ["version 70".to_owned(), format!("up to {supported}")];
        assert!(versions.iter().all(|version| printed.contains(version)), "{printed}");
    }
}

#[tokio::test]
async fn a_store_of_the_first_version_is_extended_and_keeps_its_grants() {
    for place in Place::all().await {
        let keys = keys();
        let store = place.open(&keys).await;
        store.put(grant("alice")).await.unwrap();
        store.close().await;
        place.run(
            "DROP TABLE store_mark; DROP TABLE authority_counters; DROP TABLE clients; \
             DROP TABLE codes; DROP TABLE families; DROP TABLE sessions; DROP TABLE accounts; \
             DROP TABLE first_account_link; DROP TABLE signing_keys; \
             DELETE FROM sealing_keys WHERE purpose = 'lookup'; \
             UPDATE token_broker_schema SET version = 1",
        );
        let store = place.open(&keys).await;
        assert!(store.load(&key("alice")).await.unwrap().is_some());
        let mark = store.mark().await.unwrap();
        assert!(!mark.is_older_than(&mark));
        store.close().await;
        // Its name is kept.
        let store = place.open(&keys).await;
        assert!(store.mark().await.unwrap().is_of_same_store(&mark));
        store.close().await;
    }
}

#[tokio::test]
async fn x33_a_store_is_older_than_what_was_noted_after_its_backup() {
    for place in Place::all().await {
        let keys = keys();
        let store = place.open(&keys).await;
        let before = store.mark().await.unwrap();
        store.advance_mark().await.unwrap();
        let later = store.mark().await.unwrap();
        assert!(before.is_older_than(&later) && !later.is_older_than(&before), "X33");
        store.append(&everything()).await.unwrap();
        let revoked = store.mark().await.unwrap();
        assert!(later.is_older_than(&revoked) && !revoked.is_older_than(&later), "X33");
        // Recovered, it is ahead of all that was noted before.
        store.accept_older(std::slice::from_ref(&revoked)).await.unwrap();
        let recovered = store.mark().await.unwrap();
        assert!(revoked.is_older_than(&recovered) && !recovered.is_older_than(&revoked), "X33");
        store.close().await;
    }
}

#[tokio::test]
async fn a_grant_is_found_by_its_id() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let stored = store.put(grant("alice")).await.unwrap();
        let found = store.find_grant(&stored.id).await.unwrap().unwrap();
        assert_eq!(found.key, stored.key);
        for other in ["", "unknown", "' OR 1=1 --", "nul\0"] {
            assert_eq!(store.find_grant(&GrantId::new(other)).await.unwrap(), None, "{other:?}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn o277_a_store_does_not_open_with_other_keys() {
    for place in Place::all().await {
        let (right, wrong) = (keys(), keys());
        let store = place.open(&right).await;
        store.put(grant("alice")).await.unwrap();
        store.close().await;
        let error = SqlStore::open(&place.url(), wrong.clone()).await.unwrap_err();
        let expected = OpenError::WrongKey { stored: right.current(), given: wrong.current() };
        assert_eq!(error, expected, "O277");
        assert!(error.to_string().contains("use the key file that belongs"), "O277 {error}");
        // Not even if the rows are edited to name the key that is given.
        let renamed = format!("UPDATE sealing_keys SET key_id = '{}'", wrong.current());
        place.run(&renamed);
        let error = SqlStore::open(&place.url(), wrong).await.unwrap_err();
        assert_eq!(error, OpenError::Damaged, "O277");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_use_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::sqlite();
    let keys = keys();
    let mode_of = |suffix: &str| {
        let name = format!("{}{suffix}", place.file().display());
        std::fs::metadata(name).unwrap().permissions().mode() & 0o777
    };
    let store = place.open(&keys).await;
    store.put(grant("alice")).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode_of(suffix), 0o600, "{suffix}");
    }
    store.close().await;
    // As a copy from a backup may be.
    std::fs::set_permissions(place.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = place.open(&keys).await;
    store.put(grant("bob")).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode_of(suffix), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn errors_name_the_file_and_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let url = |path: std::path::PathBuf| {
        StoreUrl::parse(&format!("sqlite://{}", path.display())).unwrap()
    };
    let missing = url(folder.path().join("none/b.db"));
    let error = SqlStore::open(&missing, keys()).await.unwrap_err().to_string();
    assert!(error.contains("none/b.db") && error.contains("does not exist"), "{error}");

    let no_database = folder.path().join("text.db");
    std::fs::write(&no_database, "no database, but a text that is long enough ".repeat(50))
        .unwrap();
    let error = SqlStore::open(&url(no_database), keys()).await.unwrap_err().to_string();
    assert!(error.contains("text.db") && error.contains("not a database"), "{error}");

    let refused = StoreUrl::parse("postgres://broker:hunter2@127.0.0.1:1/store").unwrap();
    let error = SqlStore::open(&refused, keys()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    let printed = format!("{error} {error:?}");
    assert!(printed.contains("127.0.0.1:1") && !printed.contains("hunter2"), "{printed}");
}
