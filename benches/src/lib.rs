//! What the benches share: the messages that are sent, the answers, and the policy that judges them.

pub mod fixtures;
