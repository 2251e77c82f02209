//! One interface to both databases: statements, values and rows.
//!
//! Statements are constants with numbered parameters (`$1`), which both databases support. Values
//! are always bound.

mod postgres;
mod row;
mod sqlite;

use std::{path::Path, time::Duration};

use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, pool::PoolOptions};

pub(crate) use self::row::{Row, Value};
use crate::{
    error::OpenError,
    url::{Place, StoreUrl},
};

/// A pool of connections to one of the databases. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite {
        /// SQLite has one writer at a time: others of this process wait here, in order.
        writer: SqlitePool,
        readers: SqlitePool,
        /// The connection by which revocations are read, so that no other load delays them.
        feed: SqlitePool,
    },
    Postgres {
        pool: PgPool,
        /// As for SQLite.
        feed: PgPool,
    },
}

/// Returns the settings of a pool. Its connections are kept, and tested before each use.
// X512: with a lifetime, or a timeout of idle connections, the pool has a task that removes them.
// Its counter can fall below zero, and then it takes a thread for ever (sqlx issue 3645).
fn pool_options<DB: sqlx::Database>(connections: u32, timeout: Duration) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(true)
}

/// The reason why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A row with this key exists, or a table with this name.
    Taken,
    /// A column does not have the expected content.
    Unreadable,
    /// The database ended the statement, because it and another one waited for each other. Nothing
    /// was changed.
    Deadlock,
    /// Everything else; with a text for the operator, which has no bound value.
    Unreachable(Box<str>),
}

/// The reason why a store was not copied.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// It is none of SQLite.
    Postgres,
    /// The path is not UTF-8.
    Name,
    File(std::io::Error),
    Store(Failure),
}

pub(crate) type Rows = Result<Vec<Row>, Failure>;

impl Database {
    pub(crate) async fn open(url: &StoreUrl) -> Result<Self, OpenError> {
        match &url.place {
            Place::Memory => sqlite::open_in_memory(url).await,
            Place::File(path) => sqlite::open_file(url, path).await,
            Place::Postgres(options) => postgres::open(url, options).await,
        }
    }

    /// Runs one statement that reads.
    pub(crate) async fn read(&self, sql: &'static str, values: &[Value<'_>]) -> Rows {
        match self {
            Self::Sqlite { readers, .. } => row::sqlite(readers, sql, values).await,
            Self::Postgres { pool, .. } => row::postgres(pool, sql, values).await,
        }
    }

    /// Runs one statement that reads revocations.
    pub(crate) async fn read_feed(&self, sql: &'static str, values: &[Value<'_>]) -> Rows {
        match self {
            Self::Sqlite { feed, .. } => row::sqlite(feed, sql, values).await,
            Self::Postgres { feed, .. } => row::postgres(feed, sql, values).await,
        }
    }

    /// Runs one statement that writes, as a transaction of its own.
    pub(crate) async fn write(&self, sql: &'static str, values: &[Value<'_>]) -> Rows {
        match self {
            Self::Sqlite { writer, .. } => row::sqlite(writer, sql, values).await,
            Self::Postgres { pool, .. } => row::postgres(pool, sql, values).await,
        }
    }

    /// Begins a transaction that writes. Dropped, it is rolled back.
    pub(crate) async fn begin(&self) -> Result<Changes, Failure> {
        Ok(match self {
            // Takes the lock at once, so that no statement fails because another has written.
            Self::Sqlite { writer, .. } => {
                Changes::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Self::Postgres { pool, .. } => Changes::Postgres(pool.begin().await?),
        })
    }

    /// Writes a consistent copy of the file to a new one.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<(), CopyError> {
        match self {
            Self::Sqlite { readers, .. } => sqlite::copy_to(readers, path).await,
            Self::Postgres { .. } => Err(CopyError::Postgres),
        }
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, feed } => {
                feed.close().await;
                readers.close().await;
                sqlite::checkpoint(writer).await;
                writer.close().await;
            }
            Self::Postgres { pool, feed } => {
                feed.close().await;
                pool.close().await;
            }
        }
    }
}

/// A transaction.
#[derive(Debug)]
pub(crate) enum Changes {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Changes {
    pub(crate) async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Rows {
        match self {
            Self::Sqlite(changes) => row::sqlite(&mut **changes, sql, values).await,
            Self::Postgres(changes) => row::postgres(&mut **changes, sql, values).await,
        }
    }

    /// Runs statements without parameters, as of a migration.
    pub(crate) async fn run_all(&mut self, sql: &'static str) -> Result<(), Failure> {
        match self {
            Self::Sqlite(changes) => sqlx::raw_sql(sql).execute(&mut **changes).await.map(drop),
            Self::Postgres(changes) => sqlx::raw_sql(sql).execute(&mut **changes).await.map(drop),
        }
        .map_err(Failure::from)
    }

    pub(crate) async fn commit(self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(changes) => changes.commit().await,
            Self::Postgres(changes) => changes.commit().await,
        }
        .map_err(Failure::from)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if let Some(refused) = error.as_database_error() {
            // PostgreSQL names a table that another process creates in three ways.
            let exists = matches!(refused.code().as_deref(), Some("42P07" | "42710"));
            if refused.is_unique_violation() || exists {
                return Self::Taken;
            }
            if refused.code().as_deref() == Some(DEADLOCK) {
                return Self::Deadlock;
            }
            // Without details, which may have values.
            return Self::Unreachable(refused.message().into());
        }
        if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
            return Self::Unreadable;
        }
        Self::Unreachable(error.to_string().into())
    }
}

/// SQLSTATE of a deadlock in PostgreSQL. SQLite has one writer at a time.
const DEADLOCK: &str = "40P01";

/// Bounds a step. What the database does with a step that takes longer is not known.
pub(crate) async fn within<T>(
    timeout: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = || Failure::Unreachable("it did not respond in time".into());
    tokio::time::timeout(timeout, step).await.unwrap_or_else(|_| Err(late()))
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Taken => "a row with this key exists",
            Self::Unreadable => "a column is not readable",
            Self::Deadlock => "another process changed the rows at the same time",
            Self::Unreachable(reason) => reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_without_task<DB: sqlx::Database>(options: &PoolOptions<DB>) -> bool {
        options.get_idle_timeout().is_none() && options.get_max_lifetime().is_none()
    }

    #[tokio::test]
    async fn x512_no_pool_has_a_task_that_removes_connections() {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}/store.db", folder.path().display());
        for url in [file.as_str(), "sqlite::memory:"] {
            let database = Database::open(&StoreUrl::parse(url).unwrap()).await.unwrap();
            let Database::Sqlite { writer, readers, feed } = database else { panic!("{url}") };
            for pool in [writer, readers, feed] {
                assert!(is_without_task(pool.options()), "X512 {url}");
            }
        }
        assert!(is_without_task(&pool_options::<Postgres>(1, Duration::from_secs(1))), "X512");
    }
}
