//! Laws that every store must keep, as tests.
//!
//! # Example
//! A law passes for a store that keeps it, and returns an error for one that does not.
//! ```
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! use token_broker_store::{MemoryRevocations, contract::revocations};
//! use tower_token_broker::revocation::{
//!     RevocationEntry, RevocationStore, RevocationStoreError, Sequence,
//! };
//!
//! /// Forgets each entry.
//! struct Forgetful;
//!
//! impl RevocationStore for Forgetful {
//!     async fn append(&self, _: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
//!         Ok(Sequence::new(1))
//!     }
//!
//!     async fn read_after(
//!         &self,
//!         _: Sequence,
//!         _: usize,
//!     ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! let passed = revocations::an_append_is_visible_when_it_returns(MemoryRevocations::new()).await;
//! assert!(passed.is_ok());
//! let refused = revocations::an_append_is_visible_when_it_returns(Forgetful).await;
//! assert!(refused.is_err());
//! # });
//! ```
//!
//! # Use
//! [`grant_store_contract!`](crate::grant_store_contract),
//! [`connect_store_contract!`](crate::connect_store_contract),
//! [`authority_store_contract!`](crate::authority_store_contract) and
//! [`revocation_store_contract!`](crate::revocation_store_contract) create one test for each law.
//! Their argument is an async function that creates an empty store. The tests need `tokio` with the
//! features `macros` and `rt-multi-thread`.
//! ```no_run
//! mod contract {
//!     use token_broker_store::MemoryGrants;
//!
//!     async fn make() -> MemoryGrants {
//!         MemoryGrants::new()
//!     }
//!
//!     token_broker_store::grant_store_contract!(make);
//! }
//! ```
//!
//! # Limits
//! The laws do not restart a store: durability needs tests of its own.

use tower_token_broker::revocation::RevocationStoreError;

use crate::StoreError;

/// Returns an error from a law if a condition does not hold.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::contract::ContractError::Broken { how: format!($($text)+).into() });
        }
    };
}

/// Returns an error from a law if two values differ.
macro_rules! ensure_eq {
    ($actual:expr, $expected:expr, $($text:tt)+) => {
        match (&$actual, &$expected) {
            (actual, expected) => {
                if *actual != *expected {
                    let text = format!($($text)+);
                    let how = format!("{text}: {actual:?}, expected {expected:?}").into();
                    return Err($crate::contract::ContractError::Broken { how });
                }
            }
        }
    };
}

pub mod authority;
pub mod connects;
pub mod grants;
pub mod revocations;

/// The reason why a store does not pass a law.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The store breaks the law.
    #[error("the law is broken: {how}")]
    Broken {
        /// The difference from what the law requires.
        how: Box<str>,
    },
    /// The store of grants, of connects or of the authority failed where the law requires success.
    #[error("the store failed: {0}")]
    Grants(#[from] StoreError),
    /// The store of revocations failed where the law requires success.
    #[error("the store failed: {0}")]
    Revocations(#[from] RevocationStoreError),
    /// A task of the law panicked: the store panics.
    #[error("the store panicked")]
    Panicked,
}

/// Creates one test for each law of a [`GrantStore`](crate::GrantStore). The argument is an async
/// function without parameters that returns an empty store.
#[macro_export]
macro_rules! grant_store_contract {
    ($make:path) => {
        $crate::__contract_tests!(
            grants,
            $make,
            [
                put_and_load_keep_every_field,
                an_unknown_key_or_id_finds_nothing,
                put_replaces_with_a_higher_version,
                put_overtakes_the_lease_of_what_it_replaces,
                put_forgets_the_id_that_it_replaces,
                an_id_of_another_key_is_refused,
                an_id_of_another_account_is_refused,
                an_id_counts_only_with_its_key,
                two_accounts_of_one_user_are_apart,
                two_servers_of_one_user_are_apart,
                one_subject_at_two_issuers_is_apart,
                keys_are_compared_octet_by_octet,
                a_lease_is_given_once,
                a_lease_is_held_until_its_end,
                a_stale_version_has_no_lease,
                a_grant_that_ended_has_no_lease,
                concurrent_leases_yield_one,
                marks_count_open_attempts,
                the_fence_guards_mark_attempt,
                the_version_guards_mark_attempt,
                complete_stores_the_new_tokens,
                complete_ends_the_lease,
                complete_keeps_what_was_not_renewed,
                complete_sets_state_and_refusal,
                complete_counts_after_the_lease_expired,
                the_version_guards_complete,
                concurrent_completes_store_one,
                complete_revives_a_grant_ended_by_server,
                complete_never_revives_a_revoked_grant,
                release_after_nothing_was_sent_removes_one_mark,
                release_after_a_response_removes_all_marks,
                release_after_an_unknown_outcome_keeps_marks,
                release_of_a_stale_lease_changes_nothing,
                end_counts_only_at_the_current_version,
                end_keeps_a_revoked_grant_revoked,
                a_grant_that_needs_the_user_is_kept,
                needing_the_user_revives_no_ended_grant,
                revoke_erases_tokens_and_raises_the_version,
                revoke_again_changes_nothing,
                revoke_and_delete_return_whether_the_id_exists,
                delete_removes_one_grant,
                a_deleted_grant_can_not_be_completed,
                list_pages_cover_all_once,
                list_selects_by_user_and_server,
                list_compares_octet_by_octet,
                list_summarizes_without_secrets,
                list_is_not_disturbed_by_other_changes,
                a_grant_keeps_its_client_and_time,
            ]
        );
    };
}

/// Creates one test for each law of a [`ConnectStore`](crate::connect::ConnectStore). The argument
/// is an async function without parameters that returns an empty store.
#[macro_export]
macro_rules! connect_store_contract {
    ($make:path) => {
        $crate::__contract_tests!(
            connects,
            $make,
            [
                a_connect_keeps_every_field,
                hostile_connects_are_refused,
                a_state_and_an_id_are_taken_once,
                a_connect_is_claimed_once,
                concurrent_claims_yield_one,
                a_connect_belongs_to_its_session,
                an_expired_connect_is_not_claimed,
                a_dropped_connect_is_gone,
                connects_are_ended_by_user_and_server,
                expired_connects_are_removed_in_pages,
                finish_stores_the_grant_once,
                only_a_claimed_connect_is_finished,
                finish_of_another_key_changes_nothing,
                finish_replaces_as_put_does,
                finish_with_a_taken_id_changes_nothing,
                an_ended_connect_is_not_finished,
                disconnect_keeps_the_tokens_to_be_revoked,
                disconnect_again_changes_nothing,
                disconnect_without_tokens_leaves_no_revocation,
                disconnect_finds_a_grant_by_key_and_id,
                disconnect_ends_the_connects_of_its_key,
                disconnect_with_a_taken_id_changes_nothing,
                concurrent_finish_and_disconnect_leave_no_token,
                concurrent_refresh_and_disconnect_leave_no_token,
                a_revocation_keeps_every_field,
                hostile_revocations_are_refused,
                a_revocation_is_claimed_when_it_is_due,
                concurrent_claims_of_a_revocation_yield_one,
                a_finished_revocation_is_gone,
                a_registered_client_keeps_every_field,
                hostile_registered_clients_are_refused,
                a_client_that_is_registered_again_is_replaced,
                the_newest_registered_client_is_found,
                the_last_use_of_a_connection_rises,
                uses_are_listed_by_user,
                hostile_uses_are_refused,
            ]
        );
    };
}

/// Creates one test for each law of a
/// [`RevocationStore`](tower_token_broker::revocation::RevocationStore). The argument is an async
/// function without parameters that returns an empty store.
#[macro_export]
macro_rules! revocation_store_contract {
    ($make:path) => {
        $crate::__contract_tests!(
            revocations,
            $make,
            [
                an_empty_store_reads_nothing,
                the_first_place_is_after_the_start,
                entries_keep_every_field,
                an_append_is_visible_when_it_returns,
                places_rise_with_each_append,
                a_read_starts_after_its_place,
                a_read_returns_at_most_its_limit,
                pages_cover_all_entries_once,
                equal_entries_have_places_of_their_own,
                concurrent_appends_are_read_once_in_order,
                no_entry_appears_before_a_read_place,
            ]
        );
    };
}

/// Creates one test for each law of an [`AuthorityStore`](crate::authority::AuthorityStore). The
/// argument is an async function without parameters that returns an empty store.
#[macro_export]
macro_rules! authority_store_contract {
    ($make:path) => {
        $crate::__contract_tests!(
            authority,
            $make,
            [
                a_client_keeps_every_field,
                hostile_clients_are_kept_or_refused,
                a_client_secret_matches_only_its_client,
                a_client_id_is_taken_once,
                the_number_of_clients_is_bounded,
                the_last_use_of_a_client_rises,
                unused_clients_are_removed_after_their_time,
                pages_of_clients_cover_all_once,
                a_code_keeps_every_field,
                hostile_codes_are_refused,
                a_code_is_found_by_its_value_only,
                a_code_is_redeemed_once,
                concurrent_redemptions_yield_one,
                an_expired_code_is_not_redeemed,
                an_ended_code_is_not_redeemed,
                a_refused_redemption_leaves_the_code_unused,
                expired_codes_are_removed_in_pages,
                the_current_generation_begins_the_next,
                a_stale_generation_begins_none,
                concurrent_uses_begin_one_generation,
                an_expired_family_begins_no_generation,
                an_ended_family_has_no_key,
                no_generation_begins_after_the_end,
                an_unknown_family_is_not_found,
                families_are_listed_by_user_and_client,
                pages_of_families_cover_all_once,
                all_selected_families_are_ended,
                the_end_of_families_ends_their_codes,
                no_family_survives_an_end_at_once,
                ended_families_are_removed_in_pages,
                a_session_keeps_every_field,
                a_session_is_found_by_its_value_only,
                an_expired_session_is_not_found,
                the_last_sight_of_a_session_rises,
                a_session_is_ended_once,
                all_sessions_of_a_user_are_ended,
                the_end_of_a_session_ends_its_codes,
                expired_sessions_are_removed_in_pages,
                an_account_keeps_every_field,
                a_user_name_is_taken_in_each_case,
                concurrent_accounts_of_one_name_yield_one,
                a_new_password_raises_the_epoch,
                a_rehash_overwrites_no_new_password,
                disabling_raises_the_epoch,
                pages_of_accounts_cover_all_once,
                the_link_creates_the_first_account_once,
                an_invalid_link_creates_no_account,
                a_link_creates_no_second_account,
                concurrent_first_accounts_yield_one,
                signing_keys_keep_every_field,
                hostile_signing_keys_are_refused,
                a_signing_key_is_added_at_its_generation,
                times_of_other_keys_change_with_a_new_one,
                concurrent_rotations_add_one_key,
                signing_keys_are_removed_after_their_time,
            ]
        );
    };
}

/// Creates one test for each of the named laws.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_tests {
    ($kind:ident, $make:path, [$($law:ident),+ $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                let kept = $crate::contract::$kind::$law($make().await).await;
                assert_eq!(kept, Ok(()));
            }
        )+
    };
}
