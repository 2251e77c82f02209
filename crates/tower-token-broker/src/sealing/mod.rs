//! What a client keeps for us, and gives back: sealed, and bound to one user and one resource.
//!
//! A session id of an upstream (MCP 2025-11-25) and a `requestState` (MCP 2026-07-28, "Multi
//! Round-Trip Requests") travel through the client. Sealed, neither can be read, changed, or used
//! by another user or at another server; and no map of them is needed, so any replica that has the
//! same keys can open them.
//!
//! AES-256-GCM-SIV (RFC 8452) with random nonces; the user, the resource and what it is for are
//! authenticated beside it, each behind its length.

mod client_state;
mod keys;

pub(crate) use client_state::{Kept, RequestStates, Session, State};
pub(crate) use keys::Purpose;
pub use keys::SealingKeys;
