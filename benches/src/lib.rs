//! What the benches share: the messages that are sent, the policy that judges them, and the pieces
//! that are counted.

pub mod fixtures;
pub mod pieces;
mod services;

pub use services::Dropped;
