//! Stores of the broker: the traits that a store implements, their types, and in-memory stores.

mod grants;

pub use grants::{
    AccessToken, Account, AccountError, Attempt, AttemptOutcome, Backoff, BoxGrantStore, Grant,
    GrantFilter, GrantKey, GrantPage, GrantState, GrantStore, GrantSummary, Lease, LeaseOutcome,
    LeaseRequest, MemoryGrants, Renewal, StoreError,
};
