//! Judges each request by a policy, and filters lists in answers by the same.

mod body;
mod compose;
mod judged;
mod layer;
mod pattern;
mod policy;
mod request;
mod response;
mod rules;
mod service;

pub use body::FilterBody;
pub use compose::{And, Or, PolicyExt, Unless};
pub use judged::Judged;
pub use layer::ScopeFilterLayer;
pub use policy::{Arguments, Call, Decision, Listed, Permit, Policy};
pub use rules::{Rule, Rules, http, methods, prompts, resources, tools};
pub use service::{Filtered, ResponseFuture, ScopeFilter};

pub(crate) use judged::JudgedBody;

#[cfg(test)]
mod tests;
