//! PostgreSQL.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Executor as _, Postgres, postgres::PgConnectOptions};

use super::{Database, Failure, pool_options};
use crate::{error::OpenError, url::StoreUrl};

const CONNECTIONS: u32 = 10;
/// Older connections are replaced when they are needed.
const LONGEST_AGE: Duration = Duration::from_secs(30 * 60);

pub(super) async fn open(
    url: &StoreUrl,
    options: &PgConnectOptions,
) -> Result<Database, OpenError> {
    let options = options.clone().application_name("token-broker").disable_statement_logging();
    let pool_of = |connections| {
        pool_options::<Postgres>(connections, url.timeout)
            // After a switchover, an old connection may lead to a server that takes no writes.
            .before_acquire(|_, meta| Box::pin(async move { Ok(meta.age < LONGEST_AGE) }))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SESSION).await?;
                    Ok(())
                })
            })
    };
    let feed = pool_of(1).connect_lazy_with(options.clone());
    let pool = pool_of(CONNECTIONS)
        .connect_with(options)
        .await
        .map_err(|error| OpenError::unreachable(url, &Failure::from(error)))?;
    Ok(Database::Postgres { pool, feed })
}

/// Settings of each connection: what is committed is durable; and a process that stopped within a
/// transaction does not keep its locks.
const SESSION: &str = "\
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
    SET default_transaction_isolation = 'read committed'; \
    SET idle_in_transaction_session_timeout = '5s'; \
    SET lock_timeout = '5s'; \
    SET statement_timeout = '10s'";
