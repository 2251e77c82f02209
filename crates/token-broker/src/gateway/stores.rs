//! The store of the gateway: grants, revocations and sealing keys.

use token_broker_sql::{OpenError, SqlStore, StoreUrl};
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
    /// Returns whether the store exists already, as far as that is visible without opening it.
    pub(crate) fn exist(configuration: &Configuration) -> bool {
        let url = Self::url(configuration).ok();
        url.is_none_or(|url| !url.is_in_memory() && url.file().is_none_or(std::path::Path::exists))
    }

    /// Returns whether the store is in the memory of each process.
    pub(crate) fn are_in_memory(configuration: &Configuration) -> bool {
        Self::url(configuration).is_ok_and(|url| url.is_in_memory())
    }

    fn url(configuration: &Configuration) -> Result<StoreUrl, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Store(error.to_string());
        let url = &configuration.store.url;
        #[expect(clippy::disallowed_methods, reason = "reviewed: parsed here, and never printed")]
        let url = std::str::from_utf8(url.expose()).map_err(|error| failed(&error))?;
        let url = StoreUrl::parse(url).map_err(|error| failed(&error))?;
        Ok(url.relative_to(&configuration.folder))
    }

    /// Opens the configured store.
    pub(crate) async fn open(configuration: &Configuration) -> Result<Self, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Store(error.to_string());
        let url = Self::url(configuration)?;
        let keys = configuration.store.keys.clone();
        let sql = SqlStore::open(&url, keys).await.map_err(|error| {
            match matches!(error, OpenError::WrongKey { .. }) {
                true => GatewayError::StoreKey(error.to_string()),
                false => failed(&error),
            }
        })?;
        let sealing_keys = sql.sealing_keys().await.map_err(|error| failed(&error))?;
        Ok(Self { sql, sealing_keys })
    }
}
