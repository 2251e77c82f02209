//! Grants: their types, the trait of their stores, and an in-memory store.

mod account;
mod boxed;
mod grant;
mod list;
mod memory;
mod refresh;
mod store;

pub use account::{Account, AccountError};
pub use boxed::BoxGrantStore;
pub use grant::{
    AccessToken, Backoff, Grant, GrantKey, GrantRef, GrantState, GrantSummary, RepeatedRefusal,
};
pub use list::{GrantFilter, GrantPage};
pub use memory::MemoryGrants;
pub use refresh::{Attempt, AttemptOutcome, Lease, LeaseOutcome, LeaseRequest, Renewal};
pub use store::{GrantStore, StoreError};
