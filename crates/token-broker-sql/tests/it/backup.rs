//! Backup and restore, as docs/store.md describes them.

use std::process::Command;

use token_broker_store::GrantStore;
use tower_token_broker::revocation::{
    RevocationChange, RevocationEntry, RevocationStore, RevocationTarget, Sequence,
};

use crate::support::{Place, grant, key, keys, now, text};

fn everything() -> RevocationEntry {
    RevocationEntry::new(RevocationChange::Revoked(RevocationTarget::Everything), now())
}

#[tokio::test]
async fn a_backup_of_a_running_sqlite_store_is_restored() {
    let (place, keys) = (Place::sqlite(), keys());
    let store = place.open(&keys).await;
    store.put(grant("alice")).await.unwrap();
    store.append(&everything()).await.unwrap();
    let restored = Place::sqlite();
    place.run(&format!("VACUUM INTO '{}'", restored.file().display()));
    // Later changes are not in the backup.
    store.put(grant("bob")).await.unwrap();
    store.close().await;

    let store = restored.open(&keys).await;
    let loaded = store.load(&key("alice")).await.unwrap().unwrap();
    assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "refresh alice");
    assert!(store.load(&key("bob")).await.unwrap().is_none());
    assert_eq!(store.read_after(Sequence::START, 9).await.unwrap().len(), 1);
    store.put(grant("bob")).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_backup_of_a_running_postgresql_store_is_restored() {
    let Some(place) = Place::postgres().await else { return };
    let keys = keys();
    let store = place.open(&keys).await;
    store.put(grant("alice")).await.unwrap();
    store.append(&everything()).await.unwrap();
    let Place::Postgres { url, schema } = &place else { return };
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("broker.dump");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{:?}", String::from_utf8(output.stderr));
    };
    let file = dump.to_str().unwrap();
    run(Command::new("pg_dump").args(["--format=custom", "--schema", schema, "--file", file, url]));
    store.put(grant("bob")).await.unwrap();
    store.close().await;
    run(Command::new("pg_restore").args(["--clean", "--dbname", url, file]));

    let store = place.open(&keys).await;
    let loaded = store.load(&key("alice")).await.unwrap().unwrap();
    assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "refresh alice");
    assert!(store.load(&key("bob")).await.unwrap().is_none());
    assert_eq!(store.read_after(Sequence::START, 9).await.unwrap().len(), 1);
    store.put(grant("bob")).await.unwrap();
    store.close().await;
}
