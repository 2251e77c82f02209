//! The token-broker gateway. So far: its demo, and the verification of audit files.
//!
//! The layers are in `tower-token-broker`; this crate puts them together. The gateway with its
//! configuration, its authorization server and its store comes with later releases.

pub mod audit;
