//! Faults of the signing keys.

use token_broker_store::{
    StoreError,
    authority::{AddSigningKey, SigningKeySet, SigningKeyStore},
};
use tower_token_broker::clock::Timestamp;

use super::{Fault, Faulty};

impl Faulty {
    async fn key_generation(&self) -> Result<u64, StoreError> {
        Ok(self.store.signing_keys().await?.generation)
    }
}

impl SigningKeyStore for Faulty {
    async fn signing_keys(&self) -> Result<SigningKeySet, StoreError> {
        let mut set = self.store.signing_keys().await?;
        if self.has(Fault::KeyLosesTimes) {
            for key in &mut set.keys {
                key.times.signs_until = None;
            }
        }
        Ok(set)
    }

    async fn add_signing_key(&self, request: &AddSigningKey) -> Result<bool, StoreError> {
        let mut request = request.clone();
        match self.fault {
            Fault::KeyOfAnyGeneration => request.generation = self.key_generation().await?,
            Fault::KeyTimesAreIgnored => request.times.clear(),
            Fault::KeyRaces if request.generation == self.key_generation().await? => {
                self.race.wait().await;
                request.generation = self.key_generation().await?;
            }
            _ => {}
        }
        self.accept(self.store.add_signing_key(&request).await, true)
    }

    async fn remove_signing_keys(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.store.remove_signing_keys(self.before(before)).await
    }
}
