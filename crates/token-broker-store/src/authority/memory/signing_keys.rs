//! Signing keys in memory.

use tower_token_broker::clock::Timestamp;

use super::MemoryAuthority;
use crate::{
    StoreError,
    authority::{AddSigningKey, SigningKey, SigningKeySet, SigningKeyStore},
};

impl SigningKeyStore for MemoryAuthority {
    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError> {
        Ok(self.rows.lock().signing_keys.clone())
    }

    async fn add_signing_key(&self, request: &AddSigningKey) -> Result<bool, StoreError> {
        request.key.check()?;
        let set = &mut self.rows.lock().signing_keys;
        if set.generation != request.generation {
            return Ok(false);
        }
        if set.keys.iter().any(|key| key.id == request.key.id) {
            return Err(StoreError::exists("signing key", &request.key.id));
        }
        for (id, times) in &request.times {
            if let Some(key) = set.keys.iter_mut().find(|key| key.id == *id) {
                key.times = *times;
            }
        }
        set.keys.push(request.key.clone());
        set.keys.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        set.generation += 1;
        Ok(true)
    }

    async fn remove_signing_keys(&self, before: Timestamp) -> Result<usize, StoreError> {
        let set = &mut self.rows.lock().signing_keys;
        let is_old = |key: &SigningKey| key.times.published_until.is_some_and(|at| at < before);
        let count = set.keys.len();
        set.keys.retain(|key| !is_old(key));
        Ok(count - set.keys.len())
    }
}
