//! Time: the system's clock, and a manual one for tests. Every decision about time uses a
//! [`Clock`].

mod skew;
mod source;
mod steady;
mod timestamp;

pub use source::{Clock, LEEWAY};
pub use timestamp::Timestamp;
