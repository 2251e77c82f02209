//! Time: the system's clock, and a manual one for tests. Every decision about time uses a
//! [`Clock`].
//!
//! - A [`Timestamp`] is a date, by the wall clock: `exp`, `iat`, records, rows of a store. The wall
//!   clock can be set at any time, also to a wrong time.
//! - A [`Moment`] measures durations in this process: retention, pauses, cool-downs.
//! - A [`Deadline`] has passed as soon as either clock has reached it: ages of caches, the silence
//!   of a feed.

mod moment;
mod skew;
mod source;
mod steady;
mod timestamp;

pub use moment::{Deadline, Moment, Reading};
pub use source::{Clock, LEEWAY};
pub use timestamp::Timestamp;
