//! Seals the state that clients hold for the broker, bound to one user and one resource.
//!
//! A session ID of an upstream (MCP 2025-11-25) and a `requestState` (MCP 2026-07-28, "Multi
//! Round-Trip Requests") pass through the client. Sealed, they cannot be read, changed, or used by
//! another user or at another server. No map of them is needed, so any replica with the same keys
//! can open them.
//!
//! [`SealingKeys::seal_state`] does the same for state of other code, such as the pages of the
//! authorization server.
//!
//! The algorithm is AES-256-GCM-SIV (RFC 8452) with random nonces. User, resource and purpose are
//! authenticated in addition, each preceded by its length.

mod client_state;
mod keys;

pub(crate) use client_state::{Kept, RequestStates, Session, State};
pub(crate) use keys::Purpose;
pub use keys::SealingKeys;
