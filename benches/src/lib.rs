//! Shared code of the benches: messages, the policy that judges them, and the counted pieces.

pub mod fixtures;
pub mod pieces;
mod services;

pub use services::Dropped;
