//! Shared code of the benches: messages, the policy that judges them, and the pieces that are counted.

pub mod fixtures;
pub mod pieces;
mod services;

pub use services::Dropped;
