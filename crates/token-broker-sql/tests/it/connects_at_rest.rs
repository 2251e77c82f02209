//! Rows of connects that an attacker with access to the database has read or changed.

use sqlx::{Connection as _, SqliteConnection};
use token_broker_sql::SqlStore;
use token_broker_store::{
    GrantState, GrantStore, StoreError,
    connect::{ConnectStore, RevocationId},
};

use crate::{
    connects::{ISSUER, REDIRECT, begin, claim, connect, connected, fill, revocation},
    support::{Place, key, keys, now},
};

/// A store with rows of alice and bob, and a connection that changes those of alice.
struct Attacked {
    store: SqlStore,
    database: SqliteConnection,
    place: Place,
}

impl Attacked {
    async fn new() -> Self {
        let place = Place::sqlite();
        let store = place.open(&keys()).await;
        fill(&store, "alice").await;
        fill(&store, "bob").await;
        let url = format!("sqlite://{}", place.file().display());
        let database = SqliteConnection::connect(&url).await.unwrap();
        Self { store, database, place }
    }

    async fn run(&mut self, sql: &str) {
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.database).await;
        assert_eq!(ran.unwrap().rows_affected(), 1, "{sql}");
    }

    /// Claims all revocations that are due, and returns their IDs.
    async fn due(&self) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(due) =
            self.store.claim_revocation(now(), crate::authority_support::after(60)).await.unwrap()
        {
            ids.push(due.id.to_string());
        }
        ids
    }
}

fn is_unreadable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::UnreadableRow { .. }))
}

#[tokio::test]
async fn o272_a_changed_connect_is_not_claimed() {
    for change in [
        "id = 'c-other'",
        "issuer = 'https://evil.example'",
        "subject = 'mallory'",
        "server = 'mail'",
        "account = 'work'",
        "account = 'No Account'",
        "created_at = created_at + 1",
        "expires_at = expires_at + 1",
        "expires_at = -1",
        "mac = (SELECT mac FROM connects WHERE id = 'c-bob')",
        "content = (SELECT content FROM connects WHERE id = 'c-bob')",
        "data_key = (SELECT data_key FROM connects WHERE id = 'c-bob')",
        "data_key = NULL",
        "content = x''",
    ] {
        let mut attacked = Attacked::new().await;
        attacked.run(&format!("UPDATE connects SET {change} WHERE id = 'c-alice'")).await;
        let outcome = claim(&attacked.store, "alice").await;
        // One that has expired is not found.
        let is_refused = is_unreadable(&outcome) || matches!(outcome, Ok(None));
        assert!(is_refused, "O272 {change}: {outcome:?}");
        assert_eq!(is_unreadable(&outcome), change != "expires_at = -1", "O272 {change}");
        assert!(claim(&attacked.store, "bob").await.unwrap().is_some(), "O272 {change}");
    }
    // A connect that was moved to the session or the state of another one is that of no one.
    for change in [
        "session = 's-bob', hash = (SELECT hash FROM connects WHERE id = 'c-bob')",
        "session = 's-bob'",
    ] {
        let mut attacked = Attacked::new().await;
        let sql = "UPDATE connects SET hash = x'00' WHERE id = 'c-bob'";
        let of_bob = "SELECT hash FROM connects WHERE id = 'c-bob'";
        let hash: Vec<u8> =
            sqlx::query_scalar(of_bob).fetch_one(&mut attacked.database).await.unwrap();
        attacked.run(sql).await;
        let hash: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        let change = change.replace(&format!("({of_bob})"), &format!("x'{hash}'"));
        attacked.run(&format!("UPDATE connects SET {change} WHERE id = 'c-alice'")).await;
        for name in ["alice", "bob"] {
            let outcome = claim(&attacked.store, name).await;
            let is_refused = is_unreadable(&outcome) || matches!(outcome, Ok(None));
            assert!(is_refused, "O272 {change} {name}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn o272_a_claimed_connect_that_was_changed_is_not_finished() {
    for change in ["subject = 'mallory'", "server = 'mail'", "mac = x''", "session = 's-bob'"] {
        let mut attacked = Attacked::new().await;
        assert!(claim(&attacked.store, "alice").await.unwrap().is_some());
        attacked.run(&format!("UPDATE connects SET {change} WHERE id = 'c-alice'")).await;
        for name in ["alice", "mallory"] {
            let new = connected(name);
            let outcome = attacked.store.finish_connect(&connect("alice").id, new).await;
            assert!(is_unreadable(&outcome), "O272 {change}: {outcome:?}");
        }
        assert!(attacked.store.load(&key("mallory")).await.unwrap().is_none(), "O272 {change}");
        // It can be removed.
        assert!(attacked.store.drop_connect(&connect("alice").id).await.unwrap(), "O272");
    }
}

#[tokio::test]
async fn o272_the_origin_of_a_grant_can_not_be_changed() {
    for change in [
        "client_id = 'evil'",
        "client_id = NULL",
        "connected_at = connected_at + 1",
        "connected_at = NULL",
        "client_id = NULL, connected_at = NULL",
        "upstream = 'https://evil.example'",
        "upstream = NULL",
        "resource = 'https://evil.example'",
        "resource = NULL",
    ] {
        let mut attacked = Attacked::new().await;
        attacked.run(&format!("UPDATE grants SET {change} WHERE subject = 'alice'")).await;
        let grant = connected("alice");
        let unreadable = Some(StoreError::Unreadable { grant: grant.id.clone() });
        assert_eq!(attacked.store.load(&grant.key).await.err(), unreadable, "O272 {change}");
        // Its tokens can't be kept, so that it is not disconnected, and the connect stays.
        let id = RevocationId::new("r1");
        let outcome = attacked.store.disconnect(&grant.to_ref(), &id, now()).await;
        assert_eq!(outcome.err(), unreadable, "O272 {change}");
        assert!(claim(&attacked.store, "alice").await.unwrap().is_some(), "O272 {change}");
        // It can be revoked, and then it can be disconnected.
        assert!(attacked.store.revoke(&grant.to_ref()).await.unwrap(), "O272 {change}");
        assert!(attacked.store.disconnect(&grant.to_ref(), &id, now()).await.unwrap());
        let left = attacked.store.load(&grant.key).await.unwrap().unwrap();
        assert_eq!(left.state, GrantState::Revoked, "O272 {change}");
        assert!(attacked.store.load(&key("bob")).await.unwrap().is_some(), "O272 {change}");
    }
    // A grant that has none of them gets none.
    for change in ["client_id = 'evil'", "connected_at = 1", "upstream = 'https://evil.example'"] {
        let mut attacked = Attacked::new().await;
        let grant = attacked.store.put(crate::support::grant("carol")).await.unwrap();
        assert!(attacked.store.load(&grant.key).await.unwrap().is_some(), "O272 {change}");
        attacked.run(&format!("UPDATE grants SET {change} WHERE subject = 'carol'")).await;
        assert!(attacked.store.load(&grant.key).await.is_err(), "O272 {change}");
    }
}

#[tokio::test]
async fn o272_a_changed_revocation_is_skipped() {
    for change in [
        "id = 'r-a'",
        "issuer = 'https://evil.example'",
        "subject = 'mallory'",
        "server = 'mail'",
        "account = 'work'",
        "grant_id = 'g-bob'",
        "authorization_server = 'https://evil.example'",
        "client_id = 'evil'",
        "client_id = NULL",
        "created_at = created_at + 1",
        "attempts = -1",
        "attempts = 4294967296",
        "tokens = x''",
        "tokens = (SELECT tokens FROM pending_revocations WHERE id = 'r-bob')",
        "data_key = (SELECT data_key FROM pending_revocations WHERE id = 'r-bob')",
    ] {
        let mut attacked = Attacked::new().await;
        let sql = format!("UPDATE pending_revocations SET {change} WHERE id = 'r-alice'");
        attacked.run(&sql).await;
        assert_eq!(attacked.due().await, ["r-bob"], "O272 {change}");
    }
    // More of them than are read at once.
    let mut attacked = Attacked::new().await;
    for number in 0..40 {
        let mut due = revocation("alice");
        due.id = RevocationId::new(&format!("a{number:02}"));
        attacked.store.put_revocation(&due).await.unwrap();
        attacked
            .run(&format!("UPDATE pending_revocations SET tokens = x'00' WHERE id = '{}'", due.id))
            .await;
    }
    assert_eq!(attacked.due().await, ["r-alice", "r-bob"], "O272");
}

#[tokio::test]
async fn o272_a_changed_registered_client_is_refused() {
    for change in [
        "issuer = 'https://evil.example'",
        "redirect_uri = 'https://evil.example/'",
        "client_id = 'client of bob'",
        "auth_method = 'none'",
        "scopes = 'admin'",
        "created_at = created_at + 1",
        "secret_expires_at = 1",
        "secret = NULL",
        "secret = NULL, key_id = NULL, data_key = NULL",
        "secret = (SELECT secret FROM registered_clients WHERE client_id = 'client of bob')",
        "data_key = (SELECT data_key FROM registered_clients WHERE client_id = 'client of bob')",
        "mac = (SELECT mac FROM registered_clients WHERE client_id = 'client of bob')",
    ] {
        let mut attacked = Attacked::new().await;
        let alice = "client of alice";
        assert!(attacked.store.registered_client(ISSUER, alice).await.unwrap().is_some());
        let sql = format!("UPDATE registered_clients SET {change} WHERE client_id = '{alice}'");
        attacked.run(&sql).await;
        let outcome = attacked.store.registered_client(ISSUER, alice).await;
        assert!(is_unreadable(&outcome), "O272 {change}: {outcome:?}");
        let bob = attacked.store.registered_client(ISSUER, "client of bob").await;
        assert!(bob.unwrap().unwrap().client_secret.is_some(), "O272 {change}");
    }
    // The row of one client under the ID of another.
    let mut attacked = Attacked::new().await;
    let (alice, bob) = ("client_id = 'client of alice'", "client_id = 'client of bob'");
    let of_bob = format!("SELECT id FROM registered_clients WHERE {bob}");
    let id: String = sqlx::query_scalar(sqlx::AssertSqlSafe(of_bob))
        .fetch_one(&mut attacked.database)
        .await
        .unwrap();
    attacked.run(&format!("DELETE FROM registered_clients WHERE {bob}")).await;
    attacked.run(&format!("UPDATE registered_clients SET id = '{id}' WHERE {alice}")).await;
    let outcome = attacked.store.registered_client(ISSUER, "client of bob").await;
    assert!(is_unreadable(&outcome), "O272: {outcome:?}");
    // By the redirect URI, it is still the one that was registered.
    let newest = attacked.store.newest_registered_client(ISSUER, REDIRECT).await;
    assert_eq!(*newest.unwrap().unwrap().client_id, *"client of alice", "O272");
}

#[tokio::test]
async fn the_files_have_no_secret_of_a_connect() {
    let attacked = Attacked::new().await;
    begin(&attacked.store, "carol").await;
    assert!(claim(&attacked.store, "carol").await.unwrap().is_some());
    let grant = connected("alice").to_ref();
    let id = RevocationId::new("r1");
    assert!(attacked.store.disconnect(&grant, &id, now()).await.unwrap());
    let mut read = 0;
    for suffix in ["", "-wal"] {
        let file = std::fs::read(format!("{}{suffix}", attacked.place.file().display())).unwrap();
        read += file.len();
        let has = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
        for text in ["content of", "old of", "client secret of", "refresh alice", "access alice"] {
            assert!(!has(text), "{text} is in the file{suffix}");
        }
    }
    assert!(read > 50_000, "{read} octets were read");
    // Nothing of the content is left once it is claimed.
    let left = "SELECT COUNT(*) FROM connects WHERE id = 'c-carol' AND key_id IS NULL \
        AND data_key IS NULL AND content IS NULL";
    assert_eq!(attacked.place.run(left), "1");
}
