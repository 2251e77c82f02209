//! Token families in memory.

use tower_token_broker::clock::Timestamp;

use super::{MemoryAuthority, remove_first};
use crate::{
    StoreError,
    authority::{
        Advance, AdvanceFamily, EndFamilies, Family, FamilyEnd, FamilyFilter, FamilyId,
        FamilyStore, KeyedFamily, Page, PageRequest,
    },
};

impl FamilyStore for MemoryAuthority {
    async fn family(&self, id: &FamilyId) -> Result<Option<KeyedFamily>, StoreError> {
        Ok(self.rows.lock().families.get(id).cloned())
    }

    async fn advance_family(&self, request: &AdvanceFamily) -> Result<Advance, StoreError> {
        let mut rows = self.rows.lock();
        let Some(keyed) = rows.families.get_mut(&request.id) else { return Ok(Advance::Unknown) };
        let advanced = keyed.family.advance(request);
        let family = keyed.family.clone();
        Ok(if advanced {
            Advance::Advanced(family)
        } else if family.has_ended(request.now) {
            Advance::Ended(family)
        } else {
            Advance::Stale(family)
        })
    }

    async fn end_family(&self, id: &FamilyId, end: FamilyEnd) -> Result<bool, StoreError> {
        Ok(self.rows.lock().families.get_mut(id).is_some_and(|keyed| end_now(keyed, end)))
    }

    async fn end_families(&self, request: &EndFamilies) -> Result<Vec<FamilyId>, StoreError> {
        let mut rows = self.rows.lock();
        rows.end_codes(request.end.at, |code| request.filter.selects_code(code));
        let selected =
            rows.families.values_mut().filter(|keyed| request.filter.selects(&keyed.family));
        Ok(selected
            .filter_map(|keyed| end_now(keyed, request.end).then(|| keyed.family.id.clone()))
            .collect())
    }

    async fn families(
        &self,
        filter: &FamilyFilter,
        page: &PageRequest,
    ) -> Result<Page<Family>, StoreError> {
        let rows = self.rows.lock();
        let families = rows.families.values().map(|keyed| &keyed.family);
        let selected = families.filter(|family| filter.selects(family)).cloned();
        Ok(page.page_of(selected, |family| family.id.as_str()))
    }

    async fn remove_families(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let is_old = |keyed: &KeyedFamily| {
            let family = &keyed.family;
            family.idle_until.min(family.ends_at) < before
                || family.end.is_some_and(|end| end.at < before)
        };
        Ok(remove_first(&mut self.rows.lock().families, limit, is_old))
    }
}

fn end_now(keyed: &mut KeyedFamily, end: FamilyEnd) -> bool {
    if keyed.family.end.is_some() {
        return false;
    }
    keyed.family.end = Some(end);
    keyed.key = None;
    true
}
