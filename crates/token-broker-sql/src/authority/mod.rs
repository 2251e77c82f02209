//! The stores of the authorization server.
//!
//! Each change is one statement that compares what it replaces, or a transaction of some. In a
//! transaction, a row of `authority_counters` is locked before other rows, so that no two wait for
//! each other. Secrets are sealed before it begins.

mod accounts;
mod clients;
mod codes;
mod decoys;
mod families;
pub(crate) mod sealed;
mod sessions;
mod signing_keys;

use aws_lc_rs::constant_time;
use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, LookupKey, Page},
    sealing::SealingContext,
};
use tower_token_broker::principal::{Resource, Scopes};

pub(crate) use self::{
    decoys::Decoys,
    sealed::{SealedTable, TABLES},
};
use crate::{
    database::{Changes, Database, Failure, Row, Value},
    store::SqlStore,
};

/// How often a statement is run again after a deadlock. Each time, another one has ended.
const ATTEMPTS: u32 = 10;

/// Changes a counter, locks it, and returns its value.
const COUNT: &str =
    "UPDATE authority_counters SET value = value + $2 WHERE name = $1 RETURNING value";
const COUNT_IF: &str = "UPDATE authority_counters SET value = value + 1 \
    WHERE name = $1 AND value = $2 RETURNING value";

impl AuthorityStore for SqlStore {
    async fn lookup_key(&self) -> Result<LookupKey, StoreError> {
        Ok(self.lookup_key.clone())
    }
}

impl SqlStore {
    /// Authenticates the columns of a row that never change.
    pub(crate) fn mac(&self, row: &SealingContext) -> [u8; 32] {
        self.lookup_key.authenticate(row)
    }

    /// Returns whether the columns of a row are as they were written.
    pub(crate) fn is_authentic(&self, row: &SealingContext, mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.mac(row), mac).is_ok()
    }

    /// Runs one statement that writes, and returns the rows that it returns. Two that change
    /// several rows may wait for each other: one of them is run again.
    pub(crate) async fn write(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.again_after_deadlock(|| self.database.write(sql, values)).await
    }

    /// Runs a step that writes, with a bound on its time, and again after a deadlock.
    pub(crate) async fn again_after_deadlock<T, F>(
        &self,
        step: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.within(step()).await {
                Err(Failure::Deadlock) if attempt < ATTEMPTS => {}
                outcome => return outcome,
            }
        }
    }

    pub(crate) async fn read(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.within(self.database.read(sql, values)).await
    }
}

/// Raises or lowers a counter, and returns its new value.
async fn count(changes: &mut Changes, name: &'static str, by: i64) -> Result<u64, Failure> {
    let rows = changes.run(COUNT, &[Value::Text(name), Value::Int(by)]).await?;
    rows.first().ok_or(Failure::Unreadable)?.number(0)
}

/// Begins a step that changes many rows: no two of them wait for each other. The counter of the
/// accounts is the row that is locked; it does not change.
pub(crate) async fn begin_for_many(database: &Database) -> Result<Changes, Failure> {
    let mut changes = database.begin().await?;
    count(&mut changes, accounts::COUNTER, 0).await?;
    Ok(changes)
}

/// Raises a counter, if it has this value, and returns whether it had.
async fn count_if(changes: &mut Changes, name: &'static str, is: u64) -> Result<bool, Failure> {
    let rows = changes.run(COUNT_IF, &[Value::Text(name), Value::from(is)]).await?;
    Ok(!rows.is_empty())
}

fn resource(row: &Row, column: usize) -> Result<Resource, Failure> {
    let resource = Resource::parse(&row.text(column)?).map_err(|_| Failure::Unreadable)?;
    Ok(resource)
}

fn scopes(row: &Row, column: usize) -> Result<Scopes, Failure> {
    Scopes::parse(&row.text(column)?).map_err(|_| Failure::Unreadable)
}

/// Makes the page of these rows, whose first column is their ID. A row that cannot be read keeps no
/// other one from being listed.
fn page_of<T>(
    rows: &[Row],
    size: usize,
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let (mut page, mut unreadable) = (Page::new(Vec::new(), None), Vec::new());
    for row in rows.iter().take(size) {
        match read(row) {
            Ok(row) => page.rows.push(row),
            Err(StoreError::UnreadableRow { .. }) => unreadable.push(row.text(0)?.into()),
            Err(error) => return Err(error),
        }
    }
    let last = rows.iter().take(size).last().filter(|_| rows.len() > size);
    page.next = last.map(|row| row.text(0)).transpose()?.map(Into::into);
    Ok(page.unreadable(unreadable))
}

pub(crate) fn contended() -> StoreError {
    Failure::Unreachable("other processes changed the row each time".into()).into()
}

/// Makes the error of a row: what is unreadable in it concerns no other one.
pub(crate) fn of_row(kind: &'static str, id: &str) -> impl FnOnce(Failure) -> StoreError + use<> {
    let id: Box<str> = id.into();
    move |failure| match failure {
        Failure::Unreadable => StoreError::unreadable_row(kind, &id),
        other @ (Failure::Taken | Failure::Deadlock | Failure::Unreachable(_)) => other.into(),
    }
}
