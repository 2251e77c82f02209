//! The tables, and the steps from each version of them to the next.

use crate::{
    database::{Database, Failure, Value},
    error::OpenError,
    url::StoreUrl,
};

/// The steps, in order. A step that was released is never changed.
const STEPS: &[Step] = &[
    Step {
        sqlite: include_str!("../migrations/0001-sqlite.sql"),
        postgres: include_str!("../migrations/0001-postgres.sql"),
    },
    Step {
        sqlite: include_str!("../migrations/0002-sqlite.sql"),
        postgres: include_str!("../migrations/0002-postgres.sql"),
    },
    Step {
        sqlite: include_str!("../migrations/0003-sqlite.sql"),
        postgres: include_str!("../migrations/0003-postgres.sql"),
    },
    Step {
        sqlite: include_str!("../migrations/0004-sqlite.sql"),
        postgres: include_str!("../migrations/0004-postgres.sql"),
    },
];

struct Step {
    sqlite: &'static str,
    postgres: &'static str,
}

const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS token_broker_schema (\
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL)";
const FIRST_VERSION: &str =
    "INSERT INTO token_broker_schema (one, version) VALUES (1, 0) ON CONFLICT DO NOTHING";
/// Takes the lock on the row, until the end of the transaction.
const LOCK_VERSION: &str = "UPDATE token_broker_schema SET one = 1 RETURNING version";
const SET_VERSION: &str = "UPDATE token_broker_schema SET version = $1";

/// How often the first table is created again, while another process creates it.
const ATTEMPTS: u32 = 20;

/// Brings the tables to the version of this program. Of several processes, one does, and the others
/// wait. A step that fails changes nothing.
pub(crate) async fn migrate(url: &StoreUrl, database: &Database) -> Result<(), OpenError> {
    let failed = |failure: Failure| OpenError::unreachable(url, &failure);
    create_version_table(database).await.map_err(failed)?;
    let mut changes = database.begin().await.map_err(failed)?;
    let rows = changes.run(LOCK_VERSION, &[]).await.map_err(failed)?;
    let found = match rows.first() {
        Some(row) => row.number(0).map_err(failed)?,
        None => return Err(failed(Failure::Unreadable)),
    };
    let supported = STEPS.len() as u64;
    if found > supported {
        return Err(OpenError::NewerSchema { found, supported });
    }
    if database.is_postgres() {
        // A step may take longer than a request.
        changes.run_all("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    }
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(done) {
        let sql = if database.is_postgres() { step.postgres } else { step.sqlite };
        changes.run_all(sql).await.map_err(failed)?;
    }
    if found < supported {
        changes.run(SET_VERSION, &[Value::from(supported)]).await.map_err(failed)?;
    }
    changes.commit().await.map_err(failed)
}

/// Two processes that create one table at the same time may both find none: PostgreSQL then refuses
/// one of them.
async fn create_version_table(database: &Database) -> Result<(), Failure> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut outcome = database.write(VERSION_TABLE, &[]).await;
        if outcome.is_ok() {
            outcome = database.write(FIRST_VERSION, &[]).await;
        }
        match outcome {
            Err(Failure::Taken) if attempt < ATTEMPTS => tokio::task::yield_now().await,
            Err(failure) => return Err(failure),
            Ok(_) => return Ok(()),
        }
    }
}
