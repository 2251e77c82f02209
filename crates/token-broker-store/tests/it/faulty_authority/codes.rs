//! Faults of the codes.

use token_broker_store::{
    StoreError,
    authority::{
        Code, CodeState, CodeStore, Family, FamilyStore as _, LookupHash, RedeemCode, Redemption,
        StoredCode,
    },
};
use tower_token_broker::clock::Timestamp;

use super::{Fault, Faulty};

impl Faulty {
    /// The outcome of the first redemption, whatever it is.
    async fn as_first(&self, outcome: Redemption) -> Result<Redemption, StoreError> {
        let Redemption::Again(code, _) = outcome else { return Ok(outcome) };
        let family: Option<Family> =
            self.store.family(&code.family).await?.map(|keyed| keyed.family);
        Ok(Redemption::First(code, family.unwrap()))
    }
}

impl CodeStore for Faulty {
    async fn put_code(&self, hash: &LookupHash, code: &Code) -> Result<(), StoreError> {
        let outcome = self.accept(self.store.put_code(hash, code).await, ());
        match outcome {
            Err(StoreError::Exists { .. }) if self.has(Fault::CodeIsTakenTwice) => Ok(()),
            outcome => outcome,
        }
    }

    async fn code(&self, hash: &LookupHash) -> Result<Option<StoredCode>, StoreError> {
        let mut found = self.store.code(hash).await?;
        if let Some(stored) = found.as_mut().filter(|_| self.has(Fault::CodeLosesSignIn)) {
            stored.code.authenticated_at = stored.code.issued_at;
        }
        Ok(found)
    }

    async fn redeem_code(&self, request: &RedeemCode) -> Result<Redemption, StoreError> {
        if self.has(Fault::CodeRaces) {
            let before = self.store.code(&request.code).await?;
            self.race.wait().await;
            let outcome = self.store.redeem_code(request).await?;
            if before.is_some_and(|stored| stored.state == CodeState::Unused) {
                return self.as_first(outcome).await;
            }
            return Ok(outcome);
        }
        let outcome = self.store.redeem_code(request).await;
        if outcome.is_err() && self.has(Fault::CodeIsUsedUpByRefusal) {
            self.store.end_code(&request.code, request.now).await?;
        }
        match outcome? {
            Redemption::Expired(code) if self.has(Fault::CodeNeverExpires) => {
                let mut request = request.clone();
                request.now = code.issued_at;
                self.store.redeem_code(&request).await
            }
            Redemption::Ended(code) if self.has(Fault::CodeOutlivesItsEnd) => {
                let family = Family::begin(&code, request);
                Ok(Redemption::First(code, family))
            }
            outcome if self.has(Fault::CodeIsRedeemedAgain) => self.as_first(outcome).await,
            outcome => Ok(outcome),
        }
    }

    async fn end_code(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        if self.has(Fault::CodeIsNotEnded) {
            return Ok(true);
        }
        self.store.end_code(hash, now).await
    }

    async fn remove_codes(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let limit = if self.has(Fault::CodesWithoutLimit) { usize::MAX } else { limit };
        self.store.remove_codes(before, limit).await
    }
}
