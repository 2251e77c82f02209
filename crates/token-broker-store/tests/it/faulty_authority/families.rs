//! Faults of the token families.

use token_broker_store::{
    StoreError,
    authority::{
        Advance, AdvanceFamily, EndFamilies, Family, FamilyEnd, FamilyFilter, FamilyId,
        FamilyStore, KeyedFamily, Page, PageRequest, Superseded,
    },
};
use tower_token_broker::{Secret, clock::Timestamp};

use super::{Fault, Faulty};

impl Faulty {
    async fn generation(&self, id: &FamilyId) -> Result<u64, StoreError> {
        Ok(self.store.family(id).await?.map_or(0, |keyed| keyed.family.generation))
    }

    /// Waits until another caller has ended the family.
    async fn ended(&self, id: &FamilyId) -> Result<(), StoreError> {
        while self.store.family(id).await?.is_some_and(|keyed| keyed.family.end.is_none()) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

impl FamilyStore for Faulty {
    async fn family(&self, id: &FamilyId) -> Result<Option<KeyedFamily>, StoreError> {
        let mut found = self.store.family(id).await?;
        if found.is_none() && self.has(Fault::FamilyFoundByPrefix) {
            let page = self.store.families(&FamilyFilter::all(), &PageRequest::first()).await?;
            let family =
                page.rows.into_iter().find(|family| family.id.as_str().starts_with(id.as_str()));
            return Ok(family.map(|family| KeyedFamily::new(family, None)));
        }
        if let Some(keyed) = &mut found {
            match self.fault {
                Fault::FamilyLosesSuperseded => keyed.family.superseded = Superseded::default(),
                Fault::FamilyKeepsKey if keyed.key.is_none() => {
                    keyed.key = Some(Secret::new(vec![7; Family::KEY_LENGTH]));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn advance_family(&self, request: &AdvanceFamily) -> Result<Advance, StoreError> {
        let mut request = request.clone();
        match self.fault {
            Fault::FamilyAdvancesAny => request.generation = self.generation(&request.id).await?,
            Fault::FamilyRaces if request.generation == self.generation(&request.id).await? => {
                self.race.wait().await;
                request.generation = self.generation(&request.id).await?;
            }
            Fault::FamilyAdvancesAfterEnd => self.ended(&request.id).await?,
            _ => {}
        }
        match self.store.advance_family(&request).await? {
            Advance::Ended(family) if self.has(Fault::FamilyAdvancesAfterEnd) => {
                Ok(Advance::Advanced(family))
            }
            Advance::Ended(family) if self.has(Fault::FamilyNeverExpires) => {
                request.now = family.created_at;
                self.store.advance_family(&request).await
            }
            outcome => Ok(outcome),
        }
    }

    async fn end_family(&self, id: &FamilyId, end: FamilyEnd) -> Result<bool, StoreError> {
        self.store.end_family(id, end).await
    }

    async fn end_families(&self, request: &EndFamilies) -> Result<Vec<FamilyId>, StoreError> {
        let mut request = request.clone();
        if self.has(Fault::FamiliesEndOfAnyClient) {
            request.filter.client = None;
        }
        self.store.end_families(&request).await
    }

    async fn families(
        &self,
        filter: &FamilyFilter,
        page: &PageRequest,
    ) -> Result<Page<Family>, StoreError> {
        let mut filter = filter.clone();
        if self.has(Fault::FamiliesOfAnyClient) {
            filter.client = None;
        }
        Ok(self.page(self.store.families(&filter, page).await?))
    }

    async fn remove_families(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.remove_families(self.before(before), limit).await
    }
}
