//! Time that tests can set: every instant that decides anything is asked of a [`Clock`].

mod skew;
mod source;
mod steady;
mod timestamp;

pub use source::{Clock, LEEWAY};
pub use timestamp::Timestamp;
