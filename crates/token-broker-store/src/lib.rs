//! Stores of the broker: the traits that a store implements, their types, and in-memory stores.

mod grants;

pub use grants::{
    AccessToken, AttemptOutcome, Grant, GrantState, GrantStore, Lease, LeaseOutcome, MemoryGrants, Renewal, StoreError,
};
