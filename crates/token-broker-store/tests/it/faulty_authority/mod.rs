//! Stores of the authority with one planted fault each: the law named with it notices.

mod accounts;
mod clients;
mod codes;
mod families;
mod sessions;
mod signing_keys;

use std::time::Duration;

use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, LookupKey, MemoryAuthority, Page},
    contract::{ContractError, authority},
};
use tower_token_broker::clock::Timestamp;

use crate::meeting::Meeting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    AcceptsAnything,
    PagesEndEarly,
    RemovesAtTheInstant,
    ClientLosesVersion,
    ClientLosesSecret,
    ClientIsOverwritten,
    ClientsWithoutBound,
    ClientUseFalls,
    CodeLosesSignIn,
    CodeIsTakenTwice,
    CodeIsRedeemedAgain,
    CodeRaces,
    CodeNeverExpires,
    CodeIsNotEnded,
    CodeIsUsedUpByRefusal,
    CodeOutlivesItsEnd,
    CodesWithoutLimit,
    FamilyLosesSuperseded,
    FamilyAdvancesAny,
    FamilyRaces,
    FamilyNeverExpires,
    FamilyKeepsKey,
    FamilyAdvancesAfterEnd,
    FamilyFoundByPrefix,
    FamiliesOfAnyClient,
    FamiliesEndOfAnyClient,
    SessionLosesEpoch,
    SessionIsTakenTwice,
    SessionNeverExpires,
    SessionSightFalls,
    SessionIsNotEnded,
    SessionsEndOfAnyIssuer,
    AccountLosesMustChange,
    AccountNameIsTakenTwice,
    AccountRaces,
    PasswordOfAnyEpoch,
    RehashOfAnyEpoch,
    DisableRaisesAgain,
    LinkIsNotUsedUp,
    LinkNeverExpires,
    LinkForAnyAccount,
    LinkRaces,
    KeyLosesTimes,
    KeyOfAnyGeneration,
    KeyTimesAreIgnored,
    KeyRaces,
}

/// Creates one test for each law: the law fails for a store with the fault.
macro_rules! noticed {
    ($($law:ident: $fault:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                let noticed = authority::$law(Faulty::new(Fault::$fault)).await;
                assert!(noticed.is_err(), "{:?} is not noticed", Fault::$fault);
                assert_ne!(noticed, Err(ContractError::Panicked));
            }
        )+
    };
}

noticed! {
    a_client_keeps_every_field: ClientLosesVersion,
    hostile_clients_are_kept_or_refused: AcceptsAnything,
    a_client_secret_matches_only_its_client: ClientLosesSecret,
    a_client_id_is_taken_once: ClientIsOverwritten,
    the_number_of_clients_is_bounded: ClientsWithoutBound,
    the_last_use_of_a_client_rises: ClientUseFalls,
    unused_clients_are_removed_after_their_time: RemovesAtTheInstant,
    pages_of_clients_cover_all_once: PagesEndEarly,
    a_code_keeps_every_field: CodeLosesSignIn,
    hostile_codes_are_refused: AcceptsAnything,
    a_code_is_found_by_its_value_only: CodeIsTakenTwice,
    a_code_is_redeemed_once: CodeIsRedeemedAgain,
    concurrent_redemptions_yield_one: CodeRaces,
    an_expired_code_is_not_redeemed: CodeNeverExpires,
    an_ended_code_is_not_redeemed: CodeIsNotEnded,
    a_refused_redemption_leaves_the_code_unused: CodeIsUsedUpByRefusal,
    expired_codes_are_removed_in_pages: CodesWithoutLimit,
    the_current_generation_begins_the_next: FamilyLosesSuperseded,
    a_stale_generation_begins_none: FamilyAdvancesAny,
    concurrent_uses_begin_one_generation: FamilyRaces,
    an_expired_family_begins_no_generation: FamilyNeverExpires,
    an_ended_family_has_no_key: FamilyKeepsKey,
    no_generation_begins_after_the_end: FamilyAdvancesAfterEnd,
    an_unknown_family_is_not_found: FamilyFoundByPrefix,
    families_are_listed_by_user_and_client: FamiliesOfAnyClient,
    pages_of_families_cover_all_once: PagesEndEarly,
    all_selected_families_are_ended: FamiliesEndOfAnyClient,
    the_end_of_families_ends_their_codes: CodeOutlivesItsEnd,
    no_family_survives_an_end_at_once: CodeOutlivesItsEnd,
    ended_families_are_removed_in_pages: RemovesAtTheInstant,
    a_session_keeps_every_field: SessionLosesEpoch,
    a_session_is_found_by_its_value_only: SessionIsTakenTwice,
    an_expired_session_is_not_found: SessionNeverExpires,
    the_last_sight_of_a_session_rises: SessionSightFalls,
    a_session_is_ended_once: SessionIsNotEnded,
    all_sessions_of_a_user_are_ended: SessionsEndOfAnyIssuer,
    the_end_of_a_session_ends_its_codes: CodeOutlivesItsEnd,
    expired_sessions_are_removed_in_pages: RemovesAtTheInstant,
    an_account_keeps_every_field: AccountLosesMustChange,
    a_user_name_is_taken_in_each_case: AccountNameIsTakenTwice,
    concurrent_accounts_of_one_name_yield_one: AccountRaces,
    a_new_password_raises_the_epoch: PasswordOfAnyEpoch,
    a_rehash_overwrites_no_new_password: RehashOfAnyEpoch,
    disabling_raises_the_epoch: DisableRaisesAgain,
    pages_of_accounts_cover_all_once: PagesEndEarly,
    the_link_creates_the_first_account_once: LinkIsNotUsedUp,
    an_invalid_link_creates_no_account: LinkNeverExpires,
    a_link_creates_no_second_account: LinkForAnyAccount,
    concurrent_first_accounts_yield_one: LinkRaces,
    signing_keys_keep_every_field: KeyLosesTimes,
    hostile_signing_keys_are_refused: AcceptsAnything,
    a_signing_key_is_added_at_its_generation: KeyOfAnyGeneration,
    times_of_other_keys_change_with_a_new_one: KeyTimesAreIgnored,
    concurrent_rotations_add_one_key: KeyRaces,
    signing_keys_are_removed_after_their_time: RemovesAtTheInstant,
}

/// The authority's stores in memory, with one fault.
struct Faulty {
    store: MemoryAuthority,
    fault: Fault,
    /// Where callers that race have read the state.
    race: Meeting,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { store: MemoryAuthority::new(), fault, race: Meeting::new() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Accepts a value that was refused, without storing it.
    fn accept<T>(&self, outcome: Result<T, StoreError>, accepted: T) -> Result<T, StoreError> {
        match outcome {
            Err(StoreError::Invalid { .. }) if self.has(Fault::AcceptsAnything) => Ok(accepted),
            outcome => outcome,
        }
    }

    fn page<T>(&self, mut page: Page<T>) -> Page<T> {
        if self.has(Fault::PagesEndEarly) && page.rows.len() > 1 {
            page.next = None;
        }
        page
    }

    /// An instant before which rows are removed.
    fn before(&self, before: Timestamp) -> Timestamp {
        if self.has(Fault::RemovesAtTheInstant) {
            return before.plus(Duration::from_millis(1));
        }
        before
    }
}

impl AuthorityStore for Faulty {
    async fn lookup_key(&self) -> Result<LookupKey, StoreError> {
        self.store.lookup_key().await
    }
}
