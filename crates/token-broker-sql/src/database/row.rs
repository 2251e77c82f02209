//! Bound values and the columns of rows.

use sqlx::{Executor, Postgres, Row as _, Sqlite, postgres::PgRow, sqlite::SqliteRow};
use tower_token_broker::clock::Timestamp;

use super::{Failure, Rows};

/// A bound value.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Int(i64),
    OptionalInt(Option<i64>),
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Bytes(&'a [u8]),
    OptionalBytes(Option<&'a [u8]>),
}

/// A row of a result. Columns are read by their position, from 0.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! run {
    ($sql:ident, $values:ident, $on:ident, $row:path) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match *value {
                Value::Int(value) => query.bind(value),
                Value::OptionalInt(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::OptionalText(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::OptionalBytes(value) => query.bind(value),
            };
        }
        Ok(query.fetch_all($on).await?.into_iter().map($row).collect())
    }};
}

pub(super) async fn sqlite<'c>(
    on: impl Executor<'c, Database = Sqlite>,
    sql: &'static str,
    values: &[Value<'_>],
) -> Rows {
    run!(sql, values, on, Row::Sqlite)
}

pub(super) async fn postgres<'c>(
    on: impl Executor<'c, Database = Postgres>,
    sql: &'static str,
    values: &[Value<'_>],
) -> Rows {
    run!(sql, values, on, Row::Postgres)
}

macro_rules! column {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&self, column: usize) -> Result<$type, Failure> {
            Ok(match self {
                Self::Sqlite(row) => row.try_get(column)?,
                Self::Postgres(row) => row.try_get(column)?,
            })
        }
    };
}

impl Row {
    column!(int, i64);
    column!(optional_int, Option<i64>);
    column!(text, String);
    column!(optional_text, Option<String>);
    column!(bytes, Vec<u8>);
    column!(optional_bytes, Option<Vec<u8>>);

    /// Reads a number that is not negative.
    pub(crate) fn number(&self, column: usize) -> Result<u64, Failure> {
        self.int(column)?.try_into().map_err(|_| Failure::Unreadable)
    }

    pub(crate) fn optional_number(&self, column: usize) -> Result<Option<u64>, Failure> {
        self.optional_int(column)?
            .map(|number| number.try_into().map_err(|_| Failure::Unreadable))
            .transpose()
    }
}

impl Row {
    pub(crate) fn time(&self, column: usize) -> Result<Timestamp, Failure> {
        self.number(column).map(Timestamp::from_unix_millis)
    }

    pub(crate) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, Failure> {
        Ok(self.optional_number(column)?.map(Timestamp::from_unix_millis))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(time: Timestamp) -> Self {
        time.unix_millis().into()
    }
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(time: Option<Timestamp>) -> Self {
        time.map(Timestamp::unix_millis).into()
    }
}

impl From<u64> for Value<'_> {
    /// A database's numbers end at 2^63.
    fn from(number: u64) -> Self {
        Self::Int(signed(number))
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        Self::OptionalInt(number.map(signed))
    }
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
