//! Authorization codes in memory.

use tower_token_broker::clock::Timestamp;

use super::{MemoryAuthority, Rows, remove_some};
use crate::{
    StoreError,
    authority::{
        Code, CodeState, CodeStore, Family, KeyedFamily, LookupHash, RedeemCode, Redemption,
        StoredCode,
    },
};

impl Rows {
    /// Ends the unused codes that are selected.
    pub(super) fn end_codes(&mut self, now: Timestamp, selects: impl Fn(&Code) -> bool) {
        for stored in self.codes.values_mut() {
            if stored.state == CodeState::Unused && selects(&stored.code) {
                stored.state = CodeState::Ended(now);
            }
        }
    }
}

impl CodeStore for MemoryAuthority {
    async fn put_code(&self, hash: &LookupHash, code: &Code) -> Result<(), StoreError> {
        code.check()?;
        let codes = &mut self.rows.lock().codes;
        let has_family = |stored: &StoredCode| stored.code.family == code.family;
        if codes.contains_key(hash) || codes.values().any(has_family) {
            return Err(StoreError::exists("code of family", code.family.as_str()));
        }
        codes.insert(*hash, StoredCode::new(code.clone(), CodeState::Unused));
        Ok(())
    }

    async fn code(&self, hash: &LookupHash) -> Result<Option<StoredCode>, StoreError> {
        Ok(self.rows.lock().codes.get(hash).cloned())
    }

    async fn redeem_code(&self, request: &RedeemCode) -> Result<Redemption, StoreError> {
        request.check()?;
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        let Some(stored) = rows.codes.get_mut(&request.code) else {
            return Ok(Redemption::Unknown);
        };
        let code = stored.code.clone();
        match stored.state {
            CodeState::Redeemed(at) => return Ok(Redemption::Again(code, at)),
            CodeState::Ended(_) => return Ok(Redemption::Ended(code)),
            CodeState::Unused if request.now >= code.expires_at => {
                return Ok(Redemption::Expired(code));
            }
            CodeState::Unused => {}
        }
        if rows.families.contains_key(&code.family) {
            return Err(StoreError::exists("family", code.family.as_str()));
        }
        stored.state = CodeState::Redeemed(request.now);
        let family = Family::begin(&code, request);
        let keyed = KeyedFamily::new(family.clone(), Some(request.key.clone()));
        rows.families.insert(code.family.clone(), keyed);
        Ok(Redemption::First(code, family))
    }

    async fn end_code(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock();
        let is_unused = |stored: &&mut StoredCode| stored.state == CodeState::Unused;
        let Some(stored) = rows.codes.get_mut(hash).filter(is_unused) else { return Ok(false) };
        stored.state = CodeState::Ended(now);
        Ok(true)
    }

    async fn remove_codes(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let is_old = |stored: &StoredCode| stored.code.expires_at < before;
        Ok(remove_some(&mut self.rows.lock().codes, limit, is_old))
    }
}
