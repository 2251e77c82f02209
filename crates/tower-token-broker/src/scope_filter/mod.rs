//! Judges each message by the policy. (Being written.)

mod judged;
mod policy;

pub use judged::Judged;
pub use policy::{Arguments, Call, Decision, Listed, Permit, Policy};

pub(crate) use judged::JudgedBody;
