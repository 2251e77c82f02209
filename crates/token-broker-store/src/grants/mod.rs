//! Grants: the types, the trait, and an in-memory store.

mod grant;
mod memory;
mod store;

pub use grant::{AccessToken, Grant, GrantState};
pub use memory::MemoryGrants;
pub use store::{AttemptOutcome, GrantStore, Lease, LeaseOutcome, Renewal, StoreError};
