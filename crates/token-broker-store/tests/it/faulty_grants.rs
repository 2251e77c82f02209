//! Stores of grants with one planted fault each: the law named with it notices.

use parking_lot::Mutex;
use token_broker_store::{
    Account, Attempt, AttemptOutcome, Backoff, Grant, GrantFilter, GrantKey, GrantPage, GrantRef,
    GrantState, GrantStore, Lease, LeaseOutcome, LeaseRequest, MemoryGrants, Renewal, StoreError,
    contract::{ContractError, grants},
};
use tower_token_broker::{
    clock::Timestamp,
    principal::{GrantId, User},
};

use crate::meeting::Meeting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    LosesBackoff,
    LosesClient,
    FindsByPrefix,
    PutKeepsVersion,
    PutKeepsLease,
    PutKeepsReplacedId,
    PutOverwritesId,
    FindsByIdAlone,
    IgnoresAccount,
    IgnoresServer,
    IgnoresIssuer,
    FoldsCase,
    LeaseGivenTwice,
    LeaseNeverEnds,
    LeaseOfAnyVersion,
    LeaseOfEnded,
    LeaseRaces,
    MarkIsNoCount,
    MarkWithoutFence,
    MarkWithoutVersion,
    CompleteLosesRefreshToken,
    CompleteKeepsLease,
    CompleteDropsOtherTokens,
    CompleteWantsTheLease,
    CompleteAnyVersion,
    CompleteRaces,
    CompleteIgnoresState,
    CompleteKeepsEnded,
    CompleteRevivesRevoked,
    ReleaseMixesOutcomes,
    ReleaseWithoutFence,
    EndAnyVersion,
    EndRevoked,
    LeaseOfActiveOnly,
    ReleaseRevivesEnded,
    RevokeKeepsTokens,
    RevokeAgainRaisesVersion,
    RevokeUnknown,
    DeleteDoesNothing,
    CompleteRestoresDeleted,
    ListEndsEarly,
    ListIgnoresServer,
    ListFoldsCase,
    ListOfOldState,
    ListCountsOffsets,
}

/// Creates one test for each law: the law fails for a store with the fault.
macro_rules! noticed {
    ($($law:ident: $fault:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                let noticed = grants::$law(Faulty::new(Fault::$fault)).await;
                assert!(noticed.is_err(), "{:?} is not noticed", Fault::$fault);
                assert_ne!(noticed, Err(ContractError::Panicked));
            }
        )+
    };
}

noticed! {
    put_and_load_keep_every_field: LosesBackoff,
    an_unknown_key_or_id_finds_nothing: FindsByPrefix,
    put_replaces_with_a_higher_version: PutKeepsVersion,
    put_overtakes_the_lease_of_what_it_replaces: PutKeepsLease,
    put_forgets_the_id_that_it_replaces: PutKeepsReplacedId,
    an_id_of_another_key_is_refused: PutOverwritesId,
    an_id_of_another_account_is_refused: PutOverwritesId,
    an_id_counts_only_with_its_key: FindsByIdAlone,
    two_accounts_of_one_user_are_apart: IgnoresAccount,
    two_servers_of_one_user_are_apart: IgnoresServer,
    one_subject_at_two_issuers_is_apart: IgnoresIssuer,
    keys_are_compared_octet_by_octet: FoldsCase,
    a_lease_is_given_once: LeaseGivenTwice,
    a_lease_is_held_until_its_end: LeaseNeverEnds,
    a_stale_version_has_no_lease: LeaseOfAnyVersion,
    a_grant_that_ended_has_no_lease: LeaseOfEnded,
    concurrent_leases_yield_one: LeaseRaces,
    marks_count_open_attempts: MarkIsNoCount,
    the_fence_guards_mark_attempt: MarkWithoutFence,
    the_version_guards_mark_attempt: MarkWithoutVersion,
    complete_stores_the_new_tokens: CompleteLosesRefreshToken,
    complete_ends_the_lease: CompleteKeepsLease,
    complete_keeps_what_was_not_renewed: CompleteDropsOtherTokens,
    complete_sets_state_and_refusal: CompleteIgnoresState,
    complete_counts_after_the_lease_expired: CompleteWantsTheLease,
    the_version_guards_complete: CompleteAnyVersion,
    concurrent_completes_store_one: CompleteRaces,
    complete_revives_a_grant_ended_by_server: CompleteKeepsEnded,
    complete_never_revives_a_revoked_grant: CompleteRevivesRevoked,
    release_after_nothing_was_sent_removes_one_mark: ReleaseMixesOutcomes,
    release_after_a_response_removes_all_marks: ReleaseMixesOutcomes,
    release_after_an_unknown_outcome_keeps_marks: ReleaseMixesOutcomes,
    release_of_a_stale_lease_changes_nothing: ReleaseWithoutFence,
    end_counts_only_at_the_current_version: EndAnyVersion,
    end_keeps_a_revoked_grant_revoked: EndRevoked,
    a_grant_that_needs_the_user_is_kept: LeaseOfActiveOnly,
    needing_the_user_revives_no_ended_grant: ReleaseRevivesEnded,
    revoke_erases_tokens_and_raises_the_version: RevokeKeepsTokens,
    revoke_again_changes_nothing: RevokeAgainRaisesVersion,
    revoke_and_delete_return_whether_the_id_exists: RevokeUnknown,
    delete_removes_one_grant: DeleteDoesNothing,
    a_deleted_grant_can_not_be_completed: CompleteRestoresDeleted,
    list_pages_cover_all_once: ListEndsEarly,
    list_selects_by_user_and_server: ListIgnoresServer,
    list_compares_octet_by_octet: ListFoldsCase,
    list_summarizes_without_secrets: ListOfOldState,
    list_is_not_disturbed_by_other_changes: ListCountsOffsets,
    a_grant_keeps_its_client_and_time: LosesClient,
}

/// Grants in memory with one fault. What a fault does goes through the store in memory, as far as
/// possible.
struct Faulty {
    grants: MemoryGrants,
    fault: Fault,
    /// Grants as they were put, with their last fence.
    put: Mutex<Vec<(Grant, u64)>>,
    /// End of the lease, where it is checked and then written.
    leased_until: Mutex<Option<Timestamp>>,
    /// Where callers that race have read the state.
    race: Meeting,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self {
            grants: MemoryGrants::new(),
            fault,
            put: Mutex::default(),
            leased_until: Mutex::default(),
            race: Meeting::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The key as a store sees it that does not compare all of it.
    fn key(&self, key: &GrantKey) -> GrantKey {
        let mut key = key.clone();
        if self.has(Fault::IgnoresAccount) {
            key.account = Account::default_account();
        }
        if self.has(Fault::IgnoresServer) {
            key.server = "crm".into();
        }
        if self.has(Fault::IgnoresIssuer) {
            key.user = User::new("https://i.example", key.user.subject());
        }
        if self.has(Fault::FoldsCase) {
            key.user = User::new(key.user.issuer(), key.user.subject().to_lowercase());
        }
        key
    }

    fn fence(&self, id: &GrantId) -> u64 {
        let put = self.put.lock();
        put.iter().filter(|(grant, _)| grant.id == *id).map(|(_, fence)| *fence).max().unwrap_or(0)
    }

    /// The reference as a store sees it that does not compare all of it.
    fn of(&self, grant: &GrantRef) -> GrantRef {
        let key = match self.last_put(&grant.id) {
            Some(put) if self.has(Fault::FindsByIdAlone) => put.key,
            _ => self.key(&grant.key),
        };
        GrantRef::new(key, grant.id.clone())
    }

    fn lease_of(&self, lease: &Lease) -> Lease {
        Lease::new(self.of(&lease.grant), lease.version, lease.fence)
    }

    async fn found(&self, grant: &GrantRef) -> Option<Grant> {
        let found = self.grants.load(&self.of(grant).key).await.unwrap();
        found.filter(|found| found.id == grant.id)
    }

    async fn version(&self, grant: &GrantRef) -> u64 {
        self.found(grant).await.map_or(0, |grant| grant.version)
    }

    fn note(&self, grant: &Grant, fence: u64) {
        self.put.lock().push((grant.clone(), fence));
    }

    fn last_put(&self, id: &GrantId) -> Option<Grant> {
        let put = self.put.lock();
        put.iter().rev().find(|(grant, _)| grant.id == *id).map(|(grant, _)| grant.clone())
    }
}

impl GrantStore for Faulty {
    async fn load(&self, key: &GrantKey) -> Result<Option<Grant>, StoreError> {
        let mut found = self.grants.load(&self.key(key)).await?;
        if let Some(grant) = found.as_mut().filter(|_| self.has(Fault::LosesBackoff)) {
            grant.backoff = Backoff::default();
        }
        if let Some(grant) = found.as_mut().filter(|_| self.has(Fault::LosesClient)) {
            grant.client_id = None;
        }
        if self.has(Fault::FindsByPrefix) && found.is_none() {
            let put = self.put.lock();
            let subject = key.user.subject();
            let grants = put.iter().map(|(grant, _)| grant);
            return Ok(grants
                .clone()
                .find(|grant| grant.key.user.subject().starts_with(subject))
                .cloned());
        }
        Ok(found)
    }

    async fn list(&self, filter: &GrantFilter) -> Result<GrantPage, StoreError> {
        let mut filter = filter.clone();
        match self.fault {
            Fault::ListIgnoresServer => filter.server = None,
            Fault::ListFoldsCase => {
                filter.server = filter.server.map(|server| server.to_lowercase().into());
            }
            _ => {}
        }
        if self.has(Fault::ListCountsOffsets) && filter.after.is_some() {
            // The third page of two: counted, not found by the cursor.
            filter.after = None;
            let mut page = self.grants.list(&filter.limit(100)).await?;
            page.grants.drain(..2);
            return Ok(page);
        }
        let mut page = self.grants.list(&filter).await?;
        match self.fault {
            Fault::ListEndsEarly if page.grants.len() > 1 => page.next = None,
            Fault::ListOfOldState => {
                for summary in &mut page.grants {
                    summary.state = GrantState::Active;
                }
            }
            _ => {}
        }
        Ok(page)
    }

    async fn put(&self, mut grant: Grant) -> Result<Grant, StoreError> {
        let key = grant.key.clone();
        grant.key = self.key(&grant.key);
        if let Some(old) = self.last_put(&grant.id).filter(|_| self.has(Fault::PutOverwritesId)) {
            self.grants.delete(&old.to_ref()).await?;
        }
        if self.has(Fault::PutKeepsVersion)
            && let Some(old) = self.grants.load(&grant.key).await?
        {
            self.grants.delete(&old.to_ref()).await?;
        }
        let mut stored = self.grants.put(grant).await?;
        self.note(&stored, self.fence(&stored.id));
        if self.has(Fault::PutKeepsLease) && self.fence(&stored.id) > 0 {
            // The old lease is still counted: the same fence is issued again.
            self.grants.delete(&stored.to_ref()).await?;
            stored = self.grants.put(stored).await?;
        }
        stored.key = key;
        Ok(stored)
    }

    async fn revoke(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        let before = self.found(grant).await;
        let revoked = self.grants.revoke(&self.of(grant)).await?;
        let raises_again = |grant: &Grant| {
            self.has(Fault::RevokeAgainRaisesVersion) && grant.state == GrantState::Revoked
        };
        if let Some(mut grant) = before
            && (self.has(Fault::RevokeKeepsTokens) || raises_again(&grant))
        {
            grant.state = GrantState::Revoked;
            self.grants.put(grant).await?;
        }
        let is_kept = self.has(Fault::PutKeepsReplacedId) && self.last_put(&grant.id).is_some();
        Ok(revoked || self.has(Fault::RevokeUnknown) || is_kept)
    }

    async fn delete(&self, grant: &GrantRef) -> Result<bool, StoreError> {
        if self.has(Fault::DeleteDoesNothing) {
            return Ok(true);
        }
        self.grants.delete(&self.of(grant)).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<LeaseOutcome, StoreError> {
        let mut request = request.clone();
        request.grant = self.of(&request.grant);
        match self.fault {
            Fault::LeaseOfAnyVersion => request.version = self.version(&request.grant).await,
            Fault::LeaseNeverEnds => request.now = Timestamp::from_unix_millis(0),
            _ => {}
        }
        if self.has(Fault::LeaseOfActiveOnly) {
            let found = self.found(&request.grant).await;
            if found.is_some_and(|grant| grant.state != GrantState::Active) {
                return Ok(LeaseOutcome::Stale);
            }
        }
        if self.has(Fault::LeaseRaces) {
            let held = *self.leased_until.lock();
            if let Some(until) = held.filter(|until| *until > request.now) {
                return Ok(LeaseOutcome::Held(until));
            }
            self.race.wait().await;
            *self.leased_until.lock() = Some(request.until);
            request.now = Timestamp::from_unix_millis(u64::MAX);
            return self.grants.lease(&request).await;
        }
        let outcome = self.grants.lease(&request).await?;
        match &outcome {
            LeaseOutcome::Acquired(lease) => {
                if let Some(grant) = self.last_put(&lease.grant.id) {
                    self.note(&grant, lease.fence);
                }
            }
            LeaseOutcome::Held(until) if self.has(Fault::LeaseGivenTwice) => {
                request.now = *until;
                return self.grants.lease(&request).await;
            }
            LeaseOutcome::Stale if self.has(Fault::LeaseOfEnded) => {
                return Ok(LeaseOutcome::Acquired(Lease::new(request.grant, request.version, 9)));
            }
            _ => {}
        }
        Ok(outcome)
    }

    async fn mark_attempt(&self, lease: &Lease) -> Result<(), StoreError> {
        if self.has(Fault::MarkIsNoCount) {
            return Ok(());
        }
        let marked = self.grants.mark_attempt(&self.lease_of(lease)).await;
        if matches!(self.fault, Fault::MarkWithoutFence | Fault::MarkWithoutVersion) {
            return Ok(());
        }
        marked
    }

    async fn complete(
        &self,
        lease: &Lease,
        renewal: &Renewal,
    ) -> Result<Option<Grant>, StoreError> {
        let (mut lease, mut renewal) = (self.lease_of(lease), renewal.clone());
        let before = self.found(&lease.grant).await;
        match self.fault {
            Fault::CompleteLosesRefreshToken => renewal.refresh_token = None,
            Fault::CompleteWantsTheLease if lease.fence != self.fence(&lease.grant.id) => {
                return Ok(None);
            }
            Fault::CompleteAnyVersion => lease.version = self.version(&lease.grant).await,
            Fault::CompleteRaces if lease.version == self.version(&lease.grant).await => {
                self.race.wait().await;
                lease.version = self.version(&lease.grant).await;
            }
            Fault::CompleteIgnoresState => {
                (renewal.state, renewal.refused) = (GrantState::Active, None);
            }
            Fault::CompleteKeepsEnded
                if before.as_ref().is_some_and(|grant| grant.state != GrantState::Active) =>
            {
                return Ok(None);
            }
            _ => {}
        }
        let mut stored = self.grants.complete(&lease, &renewal).await?;
        match (&mut stored, before) {
            (Some(stored), _) if self.has(Fault::CompleteKeepsLease) => {
                let (now, until) =
                    (Timestamp::from_unix_millis(0), Timestamp::from_unix_millis(u64::MAX));
                self.grants.lease(&LeaseRequest::new(stored, now, until)).await?;
            }
            (Some(stored), _) if self.has(Fault::CompleteDropsOtherTokens) => {
                stored.access.retain(|token| token.version == stored.version);
                *stored = self.grants.put(stored.clone()).await?;
            }
            (None, Some(mut revoked)) if self.has(Fault::CompleteRevivesRevoked) => {
                revoked.state = GrantState::Active;
                return Ok(Some(self.grants.put(revoked).await?));
            }
            (None, None) if self.has(Fault::CompleteRestoresDeleted) => {
                let Some(deleted) = self.last_put(&lease.grant.id) else { return Ok(None) };
                return Ok(Some(self.grants.put(deleted).await?));
            }
            _ => {}
        }
        Ok(stored)
    }

    async fn release(&self, lease: &Lease, attempt: &Attempt) -> Result<(), StoreError> {
        let (mut lease, mut attempt) = (self.lease_of(lease), *attempt);
        match self.fault {
            Fault::ReleaseMixesOutcomes => {
                attempt.outcome = match attempt.outcome {
                    AttemptOutcome::NotSent => AttemptOutcome::Responded,
                    AttemptOutcome::Responded => AttemptOutcome::Unknown,
                    AttemptOutcome::Unknown => AttemptOutcome::NotSent,
                };
            }
            Fault::ReleaseWithoutFence => lease.fence = self.fence(&lease.grant.id),
            Fault::ReleaseRevivesEnded => {
                if let Some(mut grant) = self.found(&lease.grant).await {
                    grant.state = GrantState::NeedsUser;
                    self.grants.put(grant).await?;
                }
            }
            _ => {}
        }
        self.grants.release(&lease, &attempt).await
    }

    async fn end(&self, grant: &GrantRef, version: u64) -> Result<bool, StoreError> {
        if self.has(Fault::EndAnyVersion) {
            return self.grants.end(&self.of(grant), self.version(grant).await).await;
        }
        if self.has(Fault::EndRevoked)
            && let Some(mut grant) = self.found(grant).await
        {
            grant.state = GrantState::EndedByServer;
            self.grants.put(grant).await?;
            return Ok(true);
        }
        self.grants.end(&self.of(grant), version).await
    }
}
