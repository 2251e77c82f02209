//! Stores of the broker: the traits that a store implements, their types, and in-memory stores.
//!
//! - [`GrantStore`] keeps [`Grant`]s by [`GrantKey`] and lets one process at a time refresh each of
//!   them. [`MemoryGrants`] is a store in memory; [`BoxGrantStore`] is a store of any type.
//! - [`MemoryRevocations`] is a
//!   [`RevocationStore`](tower_token_broker::revocation::RevocationStore) in memory.
//! - [`authority`] has the stores of the authorization server: clients, codes, token families,
//!   browser sessions, local accounts and signing keys.
//! - [`connect`] has what users connect: the accounts at servers that become grants.
//! - [`sealing`] encrypts what a store keeps.
//! - `contract` (feature `contract`) has the laws that every store must keep, as tests.
//!
//! # Example
//! The first caller acquires the lease on a grant. A second caller is refused until it ends.
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use token_broker_store::{
//!     Account, Grant, GrantKey, GrantStore, LeaseOutcome, LeaseRequest, MemoryGrants,
//! };
//! use tower_token_broker::{clock::Clock, principal::{GrantId, User}};
//!
//! let alice = User::new("https://broker.example.com", "alice");
//! let key = GrantKey::new(alice, "crm", Account::default_account());
//! let store = MemoryGrants::new();
//! let grant = Grant::new(GrantId::new("7c1f"), key, "https://login.crm.example");
//! let grant = store.put(grant).await.unwrap();
//!
//! let now = Clock::system().now();
//! let until = now.plus(Duration::from_secs(20));
//! let request = LeaseRequest::new(&grant, now, until);
//! assert!(matches!(store.lease(&request).await, Ok(LeaseOutcome::Acquired(_))));
//! assert_eq!(store.lease(&request).await, Ok(LeaseOutcome::Held(until)));
//! # });
//! ```

pub mod authority;
pub mod connect;
#[cfg(feature = "contract")]
pub mod contract;
mod grants;
mod revocations;
pub mod sealing;

pub use grants::{
    AccessToken, Account, AccountError, Attempt, AttemptOutcome, Backoff, BoxGrantStore, Grant,
    GrantFilter, GrantKey, GrantPage, GrantRef, GrantState, GrantStore, GrantSummary, Lease,
    LeaseOutcome, LeaseRequest, MemoryGrants, Renewal, RepeatedRefusal, StoreError,
};
pub use revocations::MemoryRevocations;
