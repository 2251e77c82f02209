//! Rows of the authority that an attacker with access to the database has changed.

use sqlx::{Connection as _, SqliteConnection};
use token_broker_sql::SqlStore;
use token_broker_store::{
    StoreError,
    authority::{
        AccountStore, AuthorityStore, FamilyEnd, FamilyEndReason, FamilyId, FamilyStore, LookupKey,
        SessionStore, SetPassword, SigningKeyStore, UserName,
    },
};

use crate::{
    authority_support::{after, family_key, fill, user},
    support::{Place, keys, secret, text},
};

/// A store with rows of alice and bob, and a connection that changes those of alice.
pub(crate) struct Attacked {
    pub(crate) store: SqlStore,
    pub(crate) keys: LookupKey,
    database: SqliteConnection,
    _place: Place,
}

/// A sealed value: table, column of the ID, and ID of the row of alice.
type Sealed = (&'static str, &'static str, &'static str);

const SEALED: [(Sealed, &str); 3] = [
    (("families", "id", "f-alice"), "family_key"),
    (("accounts", "subject", "a-alice"), "password_hash"),
    (("signing_keys", "id", "k-alice"), "private_key"),
];

impl Attacked {
    pub(crate) async fn new() -> Self {
        let place = Place::sqlite();
        let store = place.open(&keys()).await;
        fill(&store, "alice").await;
        fill(&store, "bob").await;
        let url = format!("sqlite://{}", place.file().display());
        let database = SqliteConnection::connect(&url).await.unwrap();
        let keys = store.lookup_key().await.unwrap();
        Self { store, keys, database, _place: place }
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.database).await;
        assert_eq!(ran.unwrap().rows_affected(), 1, "{sql}");
    }

    async fn read(&mut self, (table, id, row): Sealed, column: &str) -> Vec<u8> {
        let sql = format!("SELECT {column} FROM {table} WHERE {id} = '{row}'");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.database).await.unwrap()
    }

    async fn write(&mut self, (table, id, row): Sealed, column: &str, value: &[u8]) {
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {id} = '{row}'");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(value);
        assert_eq!(query.execute(&mut self.database).await.unwrap().rows_affected(), 1);
    }

    /// Reads the sealed value of a row of this user. `Err` has the error of an unreadable row.
    async fn sealed(&self, table: &str, name: &str) -> Result<(), StoreError> {
        let is = |found: bool| assert!(found, "the value of {name} in {table} is another one");
        match table {
            "families" => {
                let id = FamilyId::new(&format!("f-{name}"));
                let key = self.store.family(&id).await?.unwrap().key.unwrap();
                is(key.matches(&family_key(name)));
            }
            "accounts" => {
                let name = UserName::parse(name).unwrap();
                let found = self.store.account_by_name(&name).await?.unwrap();
                is(text(&found.password_hash) == format!("password hash of {name}"));
            }
            _ => {
                let set = self.store.signing_keys().await?;
                let id = format!("k-{name}");
                if set.unreadable.iter().any(|unreadable| **unreadable == *id) {
                    return Err(StoreError::unreadable_row("signing key", &id));
                }
                let key = set.keys.iter().find(|key| *key.id == *id).unwrap();
                is(text(&key.private_key) == format!("private key of {name}"));
            }
        }
        Ok(())
    }

    async fn expect_unreadable(&self, table: &str, case: &str) {
        let refused = self.sealed(table, "alice").await.unwrap_err();
        assert!(matches!(refused, StoreError::UnreadableRow { .. }), "{case}: {refused}");
        assert!(!refused.is_retryable(), "{case}");
        // Other rows are not affected.
        self.sealed(table, "bob").await.unwrap();
    }
}

#[tokio::test]
async fn o272_no_flipped_bit_of_an_authority_row_opens() {
    let mut attacked = Attacked::new().await;
    let mut flips = 0;
    for (row, value_column) in SEALED {
        for column in ["data_key", value_column] {
            let sealed = attacked.read(row, column).await;
            for bit in 0..sealed.len() * 8 {
                let mut flipped = sealed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                attacked.write(row, column, &flipped).await;
                attacked.expect_unreadable(row.0, &format!("O272 {column} bit {bit}")).await;
                flips += 1;
            }
            // O273: and no truncated or longer value.
            for length in [0, 1, 20, 21, sealed.len() - 16, sealed.len() - 1] {
                attacked.write(row, column, &sealed[..length]).await;
                attacked.expect_unreadable(row.0, &format!("O273 {column} {length}")).await;
            }
            attacked.write(row, column, &[sealed.as_slice(), &[0]].concat()).await;
            attacked.expect_unreadable(row.0, &format!("O273 {column} longer")).await;
            attacked.write(row, column, &sealed).await;
            attacked.sealed(row.0, "alice").await.unwrap();
        }
    }
    assert!(flips > 3_000, "O272 {flips}");
}

#[tokio::test]
async fn o272_no_value_opens_in_another_authority_row() {
    let mut attacked = Attacked::new().await;
    for (row, value_column) in SEALED {
        let (table, id, alice) = row;
        let bob = alice.replace("alice", "bob");
        for columns in [vec![value_column], vec!["data_key"], vec!["data_key", value_column]] {
            let mut before = Vec::new();
            for column in &columns {
                before.push(attacked.read(row, column).await);
                let of_bob = format!("(SELECT {column} FROM {table} WHERE {id} = '{bob}')");
                let sql = format!("UPDATE {table} SET {column} = {of_bob} WHERE {id} = '{alice}'");
                attacked.run(&sql).await;
            }
            attacked.expect_unreadable(table, &format!("O272 {columns:?} of bob")).await;
            for (column, sealed) in columns.iter().zip(before) {
                attacked.write(row, column, &sealed).await;
            }
            attacked.sealed(table, "alice").await.unwrap();
        }
    }
}

#[tokio::test]
async fn o272_what_a_row_allows_can_not_be_changed() {
    for (change, table) in [
        ("families SET subject = 'mallory' WHERE id = 'f-alice'", "families"),
        ("families SET issuer = 'https://evil.example' WHERE id = 'f-alice'", "families"),
        ("families SET client = 'evil' WHERE id = 'f-alice'", "families"),
        ("families SET scopes = 'crm:admin' WHERE id = 'f-alice'", "families"),
        ("families SET resource = 'https://evil.example/' WHERE id = 'f-alice'", "families"),
        ("families SET ends_at = ends_at + 1 WHERE id = 'f-alice'", "families"),
        ("families SET superseded = x'00' WHERE id = 'f-alice'", "families"),
        ("families SET generation = -1 WHERE id = 'f-alice'", "families"),
        ("families SET ended_at = 1 WHERE id = 'f-alice'", "families"),
        ("families SET end_reason = 'user', ended_at = 1 WHERE id = 'f-alice'", "families"),
        ("families SET data_key = NULL WHERE id = 'f-alice'", "families"),
        ("accounts SET enabled = 2 WHERE subject = 'a-alice'", "accounts"),
        ("accounts SET name = 'Alice' WHERE subject = 'a-alice'", "accounts"),
        ("signing_keys SET algorithm = 'EdDSA' WHERE id = 'k-alice'", "signing_keys"),
        ("signing_keys SET signs_until = -1 WHERE id = 'k-alice'", "signing_keys"),
    ] {
        let mut attacked = Attacked::new().await;
        attacked.sealed(table, "alice").await.unwrap();
        attacked.run(&format!("UPDATE {change}")).await;
        attacked.expect_unreadable(table, &format!("O272 {change}")).await;
    }
}

#[tokio::test]
async fn rows_that_can_not_be_read_can_be_ended() {
    let mut attacked = Attacked::new().await;
    for (row, column) in SEALED {
        attacked.write(row, column, b"damaged").await;
        attacked.expect_unreadable(row.0, "damaged").await;
    }
    let store = attacked.store.clone();
    let end = FamilyEnd::new(FamilyEndReason::Operator, after(9));
    assert!(store.end_family(&FamilyId::new("f-alice"), end).await.unwrap());
    let ended = store.family(&FamilyId::new("f-alice")).await.unwrap().unwrap();
    assert_eq!((ended.family.end, ended.key.is_none()), (Some(end), true));
    let disabled = store.disable_account("a-alice").await.unwrap().unwrap();
    assert!(!disabled.enabled);
    // A new password is readable again.
    let set = SetPassword::new("a-alice", secret("password hash of alice"));
    assert!(store.set_password(&set).await.unwrap().is_some());
    attacked.sealed("accounts", "alice").await.unwrap();
    assert_eq!(store.end_sessions(&user("alice"), after(8)).await.unwrap(), 1);
}

#[tokio::test]
async fn the_key_of_an_ended_family_is_erased() {
    let mut attacked = Attacked::new().await;
    let end = FamilyEnd::new(FamilyEndReason::RefreshReplay, after(9));
    assert!(attacked.store.end_family(&FamilyId::new("f-alice"), end).await.unwrap());
    let sql = "SELECT COUNT(*) FROM families \
        WHERE key_id IS NULL AND data_key IS NULL AND family_key IS NULL";
    let erased: i64 = sqlx::query_scalar(sql).fetch_one(&mut attacked.database).await.unwrap();
    assert_eq!(erased, 1);
}
