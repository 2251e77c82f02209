//! The store of the gateway: grants, revocations and sealing keys.

use token_broker_sql::{SqlStore, StoreUrl};
use tower_token_broker::sealing::SealingKeys;

use super::GatewayError;
use crate::configuration::Configuration;

/// The opened store.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    pub(crate) sql: SqlStore,
    pub(crate) sealing_keys: SealingKeys,
}

impl Stores {
    /// Opens the configured store.
    pub(crate) async fn open(configuration: &Configuration) -> Result<Self, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Store(error.to_string());
        let sql = &configuration.store.url;
        #[expect(clippy::disallowed_methods, reason = "reviewed: parsed here, and never printed")]
        let url = std::str::from_utf8(sql.expose()).map_err(|error| failed(&error))?;
        let url = StoreUrl::parse(url).map_err(|error| failed(&error))?;
        let url = url.relative_to(&configuration.folder);
        let keys = configuration.store.keys.clone();
        let sql = SqlStore::open(&url, keys).await.map_err(|error| failed(&error))?;
        let sealing_keys = sql.sealing_keys().await.map_err(|error| failed(&error))?;
        Ok(Self { sql, sealing_keys })
    }
}
