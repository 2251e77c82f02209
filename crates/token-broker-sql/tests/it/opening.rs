//! Opening a store: restarts, several processes at once, schema versions, keys and files.

use token_broker_sql::{MarkState, OpenError, SqlStore, StoreMark, StoreUrl};
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
            "DROP TABLE witnesses; DROP TABLE recoveries; \
             DROP TABLE authority_counters; DROP TABLE clients; \
             DROP TABLE codes; DROP TABLE families; DROP TABLE sessions; DROP TABLE accounts; \
             DROP TABLE first_account_link; DROP TABLE signing_keys; \
             DROP TABLE connects; DROP TABLE pending_revocations; \
             DROP TABLE registered_clients; DROP TABLE connection_uses; \
             ALTER TABLE grants DROP COLUMN client_id; \
             ALTER TABLE grants DROP COLUMN connected_at; \
             ALTER TABLE grants DROP COLUMN upstream; \
             ALTER TABLE grants DROP COLUMN resource; \
             DELETE FROM sealing_keys WHERE purpose = 'lookup'; \
             UPDATE token_broker_schema SET version = 1",
        );
        let store = place.open(&keys).await;
        assert!(store.load(&key("alice")).await.unwrap().is_some());
        let mark = note(&store, StoreMark::new()).await;
        assert!(matches!(store.compare(&mark).await.unwrap(), MarkState::Whole { .. }));
        store.close().await;
    }
}

/// Makes a note, and returns the mark to keep.
async fn note(store: &SqlStore, mark: StoreMark) -> StoreMark {
    store.witness(&mark.begin()).await.unwrap().expect("the store is not older")
}

#[tokio::test]
async fn x33_an_older_copy_is_recognized_whatever_was_written_to_it() {
    let (place, copy, keys) = (Place::sqlite(), Place::sqlite(), keys());
    let store = place.open(&keys).await;
    let (one, other) = (note(&store, StoreMark::new()).await, note(&store, StoreMark::new()).await);
    store.back_up(&copy.file()).await.unwrap();
    let whole = MarkState::Whole { is_latest: true };
    assert_eq!(store.compare(&one).await.unwrap(), whole, "X33");
    store.append(&everything()).await.unwrap();
    let since = store.compare(&one).await.unwrap();
    assert_eq!(since, MarkState::Whole { is_latest: false }, "X33");
    let later = note(&store, one.clone()).await;
    store.close().await;

    let copy = copy.open(&keys).await;
    // The copy continues, as if nothing was missing.
    copy.append(&everything()).await.unwrap();
    let mut of_copy = other.clone();
    for _ in 0..3 {
        of_copy = note(&copy, of_copy).await;
        assert_eq!(copy.compare(&later).await.unwrap(), MarkState::Older, "X33");
        assert_eq!(copy.witness(&later.clone().begin()).await.unwrap(), None, "X33");
    }
    // Accepted, it is older for no one any longer.
    copy.accept_older(std::slice::from_ref(&later)).await.unwrap();
    assert_eq!(copy.compare(&later).await.unwrap(), MarkState::Accepted, "X33");
    // But a mark that was made afterwards is not accepted by that.
    let after = note(&copy, StoreMark::new()).await;
    let newer = note(&copy, after.clone()).await;
    assert_eq!(copy.compare(&after).await.unwrap(), MarkState::Older, "X33");
    assert_eq!(copy.compare(&newer).await.unwrap(), whole, "X33");
    copy.close().await;
    // Another store has none of these witnesses.
    let elsewhere = Place::sqlite();
    let another = elsewhere.open(&keys).await;
    assert_eq!(another.compare(&one).await.unwrap(), MarkState::Older, "X33");
    another.close().await;
}

#[tokio::test]
async fn x33_a_note_that_a_crash_interrupts_counts_before_and_after() {
    for place in Place::all().await {
        let store = place.open(&keys()).await;
        let whole = MarkState::Whole { is_latest: true };
        // Before the first row, after it, and before the result was kept.
        let begun = StoreMark::new().begin();
        assert_eq!(store.compare(&begun).await.unwrap(), whole, "X33");
        let done = store.witness(&begun).await.unwrap().unwrap();
        assert_eq!(store.compare(&begun).await.unwrap(), whole, "X33");
        assert_eq!(store.witness(&begun).await.unwrap(), Some(done.clone()), "X33");
        let begun = done.begin();
        assert_eq!(store.compare(&begun).await.unwrap(), whole, "X33");
        let done = store.witness(&begun).await.unwrap().unwrap();
        assert_eq!(store.compare(&begun).await.unwrap(), whole, "X33");
        assert_eq!(store.witness(&begun.begin()).await.unwrap(), Some(done), "X33");
        store.close().await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn x33_a_file_that_was_replaced_is_not_read_any_longer() {
    let (place, copy, keys) = (Place::sqlite(), Place::sqlite(), keys());
    let store = place.open(&keys).await;
    store.back_up(&copy.file()).await.unwrap();
    assert!(store.read_after(Sequence::START, 9).await.is_ok());
    std::fs::rename(copy.file(), place.file()).unwrap();
    assert!(store.read_after(Sequence::START, 9).await.is_err(), "X33");
    assert!(store.compare(&StoreMark::new()).await.is_err(), "X33");
    store.close().await;
}

#[tokio::test]
async fn a_backup_has_the_name_that_was_given() {
    let (place, keys) = (Place::sqlite(), keys());
    let store = place.open(&keys).await;
    store.put(grant("alice")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.db", ":memory:", "file:c.db?mode=memory", "-", "with space.db"] {
        let path = folder.path().join(name);
        store.back_up(&path).await.unwrap();
        let again = store.back_up(&path).await.unwrap_err();
        assert!(again.to_string().contains("exists"), "{again}");
        let url = format!("sqlite://{}", folder.path().join("copy.db").display());
        std::fs::rename(&path, folder.path().join("copy.db")).unwrap();
        let copy = SqlStore::open(&StoreUrl::parse(&url).unwrap(), keys.clone()).await.unwrap();
        assert!(copy.load(&key("alice")).await.unwrap().is_some(), "{name}");
        copy.close().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
    }
    store.close().await;
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
