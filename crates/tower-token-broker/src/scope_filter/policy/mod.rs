//! The policy that decides on each call: its trait, and policies made of rules.

mod canonical;
mod combine;
mod decision;
mod handle;
mod index;
mod pattern;
mod rules;

pub use combine::{And, Or, PolicyExt, Unless};
pub use decision::{Arguments, BoxPolicy, Call, Decision, Policy, PolicySummary, policy_fn};
pub use handle::PolicyHandle;
#[cfg(feature = "grpc")]
pub use rules::grpc;
pub use rules::{Rule, RuleError, Rules, http, methods, prompts, resources, tools, try_http};

pub(super) use canonical::is_plain_path;
pub(super) use decision::{Permit, Verdict};
