//! The policy that decides on each call: its trait, and policies made of rules.

mod authority;
mod budget;
mod call;
mod canonical;
mod combine;
mod conditions;
mod decision;
mod digest;
mod handle;
mod index;
mod inner;
mod names;
mod pattern;
mod plain;
mod policy_trait;
mod readings;
mod rule;
mod rules;
mod spelling;
mod wide_index;
mod wide_patterns;

pub use call::{Arguments, Call};
pub use combine::{And, Or, PolicyExt, Unless};
pub use decision::Decision;
pub use handle::PolicyHandle;
pub use policy_trait::{BoxPolicy, Policy, PolicySummary, policy_fn};
#[cfg(feature = "grpc")]
pub use rule::grpc;
pub use rule::{Rule, RuleError, http, methods, prompts, resources, tools, try_http};
pub use rules::Rules;

pub(super) use canonical::is_canonical_path;
pub(super) use decision::{Permit, Verdict};
pub(super) use policy_trait::judge;

#[cfg(test)]
mod tests;
