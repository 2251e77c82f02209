//! The store of the gateway: grants, revocations and sealing keys.

use token_broker_store::{BoxGrantStore, MemoryGrants, MemoryRevocations};
use tower_token_broker::{revocation::BoxRevocationStore, sealing::SealingKeys};

use super::GatewayError;
use crate::configuration::Configuration;

/// The opened store.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    pub(crate) grants: BoxGrantStore,
    pub(crate) revocations: BoxRevocationStore,
    pub(crate) sealing_keys: SealingKeys,
}

impl Stores {
    /// Opens the configured store.
    pub(crate) async fn open(_: &Configuration) -> Result<Self, GatewayError> {
        Ok(Self {
            grants: BoxGrantStore::new(MemoryGrants::new()),
            revocations: BoxRevocationStore::new(MemoryRevocations::new()),
            sealing_keys: SealingKeys::generate(),
        })
    }
}
