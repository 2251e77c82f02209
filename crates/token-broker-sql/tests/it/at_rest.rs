//! Rows that an attacker with access to the database has changed.

use sqlx::{Connection as _, SqliteConnection};
use token_broker_sql::SqlStore;
use token_broker_store::{
    Grant, GrantFilter, GrantStore, LeaseOutcome, LeaseRequest, Renewal, StoreError,
};

use crate::support::{Place, grant, key, keys, now, secret, text};

/// A store in a file, and a connection that changes its rows.
struct Attacked {
    store: SqlStore,
    database: SqliteConnection,
    _place: Place,
}

impl Attacked {
    async fn with(grants: impl IntoIterator<Item = Grant>) -> Self {
        let place = Place::sqlite();
        let store = place.open(&keys()).await;
        for grant in grants {
            store.put(grant).await.unwrap();
        }
        let url = format!("sqlite://{}", place.file().display());
        let database = SqliteConnection::connect(&url).await.unwrap();
        Self { store, database, _place: place }
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.database).await.unwrap();
    }

    async fn read(&mut self, column: &str) -> Vec<u8> {
        let sql = format!("SELECT {column} FROM grants WHERE subject = 'alice'");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.database).await.unwrap()
    }

    async fn write(&mut self, column: &str, value: &[u8]) {
        let sql = format!("UPDATE grants SET {column} = $1 WHERE subject = 'alice'");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(value);
        query.execute(&mut self.database).await.unwrap();
    }

    async fn expect_unreadable(&self, case: &str) {
        let expected = StoreError::Unreadable { grant: grant("alice").id };
        assert_eq!(self.store.load(&key("alice")).await.err(), Some(expected), "{case}");
        // Other grants are not affected, and the list has no secrets.
        assert!(self.store.load(&key("bob")).await.unwrap().is_some(), "{case}");
        let page = self.store.list(&GrantFilter::all()).await.unwrap();
        assert_eq!(page.grants.len(), 2, "{case}");
    }

    async fn expect_readable(&self) {
        let loaded = self.store.load(&key("alice")).await.unwrap().unwrap();
        assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "refresh alice");
    }
}

const SEALED: [&str; 3] = ["data_key", "refresh_token", "access_tokens"];

#[tokio::test]
async fn o272_no_flipped_bit_of_a_row_opens() {
    let mut attacked = Attacked::with([grant("alice"), grant("bob")]).await;
    let mut flips = 0;
    for column in SEALED {
        let sealed = attacked.read(column).await;
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            attacked.write(column, &flipped).await;
            let loaded = attacked.store.load(&key("alice")).await;
            let expected = StoreError::Unreadable { grant: grant("alice").id };
            assert_eq!(loaded.err(), Some(expected), "O272 {column} bit {bit}");
            flips += 1;
        }
        attacked.write(column, &sealed).await;
        attacked.expect_readable().await;
    }
    assert!(flips > 1_500, "O272 {flips}");
    attacked.run("UPDATE grants SET key_id = 'AAAAAAAAAAA' WHERE subject = 'alice'").await;
    attacked.expect_unreadable("O272 key ID").await;
}

#[tokio::test]
async fn o273_no_truncated_or_older_value_of_a_row_opens() {
    let mut attacked = Attacked::with([grant("alice"), grant("bob")]).await;
    for column in SEALED {
        let sealed = attacked.read(column).await;
        for length in [0, 1, 20, 21, sealed.len() - 16, sealed.len() - 1] {
            attacked.write(column, &sealed[..length]).await;
            attacked.expect_unreadable(&format!("O273 {column} {length}")).await;
        }
        let mut longer = sealed.clone();
        longer.push(0);
        attacked.write(column, &longer).await;
        attacked.expect_unreadable(&format!("O273 {column} longer")).await;
        for version in [0, 2, 255] {
            let mut other = sealed.clone();
            other[0] = version;
            attacked.write(column, &other).await;
            attacked.expect_unreadable(&format!("O273 {column} version {version}")).await;
        }
        attacked.write(column, &sealed).await;
        attacked.expect_readable().await;
    }
}

#[tokio::test]
async fn o272_no_value_opens_in_another_row_or_column() {
    let mut attacked = Attacked::with([grant("alice"), grant("bob")]).await;
    let of_bob = |column: &str| {
        format!(
            "UPDATE grants SET {column} = (SELECT {column} FROM grants WHERE subject = 'bob') \
             WHERE subject = 'alice'"
        )
    };
    let before = [
        attacked.read("data_key").await,
        attacked.read("refresh_token").await,
        attacked.read("access_tokens").await,
    ];
    for column in SEALED {
        attacked.run(&of_bob(column)).await;
        attacked.expect_unreadable(&format!("O272 {column} of bob")).await;
        // And all of them together: the key opens only in its own row.
        for column in SEALED {
            attacked.run(&of_bob(column)).await;
        }
        attacked.expect_unreadable("O272 all of bob").await;
        for (column, sealed) in SEALED.iter().zip(&before) {
            attacked.write(column, sealed).await;
        }
        attacked.expect_readable().await;
    }
    attacked.write("refresh_token", &before[2]).await;
    attacked.expect_unreadable("O272 another column").await;
    attacked.write("refresh_token", &before[1]).await;
    // Where the tokens are sent, and what they may do, is authenticated, too.
    for change in [
        "authorization_server = 'https://evil.example'",
        "granted = 'crm:admin'",
        "version = 9",
        "data_key = NULL, key_id = NULL",
        "data_key = NULL",
        "state = 'unknown'",
        "version = -1",
        "refused_last = 5",
    ] {
        attacked.run("SAVEPOINT s").await;
        attacked.run(&format!("UPDATE grants SET {change} WHERE subject = 'alice'")).await;
        attacked.run("RELEASE s").await;
        let expected = StoreError::Unreadable { grant: grant("alice").id };
        let loaded = attacked.store.load(&key("alice")).await;
        assert_eq!(loaded.err(), Some(expected), "O272 {change}");
        attacked.store.put(grant("alice")).await.ok();
        attacked.run("DELETE FROM grants WHERE subject = 'alice'").await;
        attacked.store.put(grant("alice")).await.unwrap();
        attacked.expect_readable().await;
    }
}

#[tokio::test]
async fn o272_tokens_of_an_older_version_do_not_open() {
    let mut attacked = Attacked::with([grant("alice"), grant("bob")]).await;
    let older = [attacked.read("refresh_token").await, attacked.read("access_tokens").await];
    let stored = attacked.store.load(&key("alice")).await.unwrap().unwrap();
    let request = LeaseRequest::new(&stored, now(), now().plus(std::time::Duration::from_secs(9)));
    let LeaseOutcome::Acquired(lease) = attacked.store.lease(&request).await.unwrap() else {
        panic!("the lease is free")
    };
    let renewal = Renewal::new(Some(secret("rotated")), None);
    attacked.store.complete(&lease, &renewal).await.unwrap().unwrap();
    attacked.write("refresh_token", &older[0]).await;
    attacked.expect_unreadable("O272 an older refresh token").await;
    attacked.store.put(grant("alice")).await.unwrap();
    attacked.write("access_tokens", &older[1]).await;
    attacked.expect_unreadable("O272 older access tokens").await;
}

#[tokio::test]
async fn revoked_tokens_are_erased_from_the_row() {
    let mut attacked = Attacked::with([grant("alice")]).await;
    assert!(attacked.store.revoke(&grant("alice").to_ref()).await.unwrap());
    let sql = "SELECT COUNT(*) FROM grants WHERE refresh_token IS NULL AND access_tokens IS NULL \
        AND data_key IS NULL AND key_id IS NULL AND access_expires_at IS NULL";
    let erased: i64 = sqlx::query_scalar(sql).fetch_one(&mut attacked.database).await.unwrap();
    assert_eq!(erased, 1);
}

#[tokio::test]
async fn a_rotated_token_is_stored_whatever_the_row_holds() {
    for damage in ["data_key", "refresh_token", "access_tokens"] {
        let mut attacked = Attacked::with([grant("alice"), grant("bob")]).await;
        let stored = attacked.store.load(&key("alice")).await.unwrap().unwrap();
        let until = now().plus(std::time::Duration::from_secs(9));
        let request = LeaseRequest::new(&stored, now(), until);
        let LeaseOutcome::Acquired(lease) = attacked.store.lease(&request).await.unwrap() else {
            panic!("the lease is free")
        };
        attacked.write(damage, b"damaged").await;
        // Without a new refresh token, there is nothing to keep.
        let kept = attacked.store.complete(&lease, &Renewal::new(None, None)).await;
        let unreadable = StoreError::Unreadable { grant: grant("alice").id };
        assert_eq!(kept.err(), Some(unreadable), "{damage}");
        // An access token beyond all limits does not get in the way, either.
        let mut access = grant("alice").access.pop().unwrap();
        access.secret = tower_token_broker::Secret::new(vec![b'x'; 65 * 1_024]);
        let renewal = Renewal::new(Some(secret("rotated")), Some(access));
        let stored = attacked.store.complete(&lease, &renewal).await.unwrap().unwrap();
        assert!(stored.access.is_empty(), "{damage}");
        let loaded = attacked.store.load(&key("alice")).await.unwrap().unwrap();
        assert_eq!(text(loaded.refresh_token.as_ref().unwrap()), "rotated", "{damage}");
    }
}
