//! The trait that decides on a call, and closures and boxed values as policies.

use std::{fmt, sync::Arc};

use super::{call::Call, decision::Decision};
use crate::{audit::PolicyDigest, limits::Protocol, principal::Principal};

/// A policy's description of itself, for the log when a stack is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicySummary {
    /// The number of rules, if the policy is made of rules.
    pub rules: Option<usize>,
    /// One text for each rule that has no effect on such a stack.
    pub without_effect: Vec<String>,
}

/// Decides on a call. It must be pure and fast: it runs once for each call and once for each entry
/// of a list.
///
/// An entry of a list is judged with [`Arguments::unknown`](super::Arguments::unknown). It is
/// listed unless the decision [is a denial](Decision::is_denied).
pub trait Policy: Send + Sync + 'static {
    /// Decides on one call. Deny by default: end with [`Decision::deny`].
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision;

    /// Returns a number that rises whenever the policy starts to decide differently. Open streams
    /// then check their own permission again. [`PolicyHandle`](super::PolicyHandle) counts
    /// replacements.
    fn change_count(&self) -> u64 {
        0
    }

    /// Returns the digest that identifies the rules in audit records (`policy_version`). `None` if
    /// the policy has no rules that can be hashed, such as a closure.
    fn digest(&self) -> Option<PolicyDigest> {
        None
    }

    /// Decides on one call, and returns the digest of the rules that decided. Called instead of
    /// [`Policy::decide`] where the decision is recorded. A policy that can be replaced must take
    /// both from one state.
    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        (self.decide(caller, call), self.digest())
    }

    /// Describes the policy, for a stack with this protocol.
    fn summary(&self, protocol: Protocol) -> PolicySummary {
        let _ = protocol;
        PolicySummary::default()
    }
}

impl<F> Policy for F
where
    F: Fn(&Principal, &Call<'_>) -> Decision + Send + Sync + 'static,
{
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        self(caller, call)
    }
}

impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        P::decide(self, caller, call)
    }

    fn change_count(&self) -> u64 {
        P::change_count(self)
    }

    fn digest(&self) -> Option<PolicyDigest> {
        P::digest(self)
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        P::decide_with_digest(self, caller, call)
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        P::summary(self, protocol)
    }
}

/// A policy with its type erased, for policies chosen by configuration. Cheap to clone.
#[derive(Clone)]
pub struct BoxPolicy(Arc<dyn Policy>);

impl BoxPolicy {
    /// Erases the type of a policy.
    pub fn new(policy: impl Policy) -> Self {
        Self(Arc::new(policy))
    }
}

impl Policy for BoxPolicy {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        self.0.decide(caller, call)
    }

    fn change_count(&self) -> u64 {
        self.0.change_count()
    }

    fn digest(&self) -> Option<PolicyDigest> {
        self.0.digest()
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        self.0.decide_with_digest(caller, call)
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.summary(protocol)
    }
}

impl fmt::Debug for BoxPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxPolicy")
    }
}

/// Names the argument types of a closure, so that it can be used as a policy.
///
/// A closure reports no changes: open streams do not notice when the data that it reads changes. To
/// replace it, put it into a [`PolicyHandle`](super::PolicyHandle).
///
/// ```
/// use tower_token_broker::scope_filter::{Call, Decision, policy_fn};
///
/// let policy = policy_fn(|caller, call| match call {
///     Call::Tool { name, .. } if *name == "get_salary" => {
///         let is_hr = caller.groups().iter().any(|group| **group == *"hr");
///         if is_hr { Decision::allow() } else { Decision::deny(call) }
///     }
///     _ => Decision::allow(),
/// });
/// # let _ = policy;
/// ```
pub const fn policy_fn<F>(decide: F) -> F
where
    F: Fn(&Principal, &Call<'_>) -> Decision + Send + Sync + 'static,
{
    decide
}
