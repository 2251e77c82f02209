//! The trait that decides on a call, and closures and boxed values as policies.

use std::{fmt, sync::Arc};

use super::{call::Call, decision::Decision};
use crate::{limits::Protocol, principal::Principal};

/// What a policy says about itself when a stack is built with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicySummary {
    /// The number of its rules, if it is made of rules.
    pub rules: Option<usize>,
    /// One text for each rule that can allow nothing on such a stack, or that denies nothing: an
    /// operator would want to know.
    pub without_effect: Vec<String>,
}

/// Decides on one call. Pure and fast: it runs once per call, and once per entry of a list.
///
/// An entry of a list is judged with [`Arguments::unknown`]; it is listed unless the decision
/// [is a denial](Decision::is_denied).
pub trait Policy: Send + Sync + 'static {
    /// The decision. What is not allowed is denied: the last word of a policy is
    /// [`Decision::deny`].
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision;

    /// Rises whenever the policy decides differently than before ([`PolicyHandle`] counts
    /// replacements). Open streams then check their own permission again.
    ///
    /// [`PolicyHandle`]: super::PolicyHandle
    fn change_count(&self) -> u64 {
        0
    }

    /// What it says about itself, for the log line of a stack that speaks this protocol.
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

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        P::summary(self, protocol)
    }
}

/// A policy whose type was erased: for policies that configuration chooses. Cheap to clone.
#[derive(Clone)]
pub struct BoxPolicy(Arc<dyn Policy>);

impl BoxPolicy {
    /// Erases the type of this policy.
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

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.summary(protocol)
    }
}

impl fmt::Debug for BoxPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxPolicy")
    }
}

/// A closure as a policy, with the types of its arguments given. A closure reports no changes: open
/// streams do not notice when what it reads changes, so a [`PolicyHandle`](super::PolicyHandle)
/// stands around it, not in it.
///
/// ```
/// use tower_token_broker::scope_filter::{Call, Decision, policy_fn};
///
/// let policy = policy_fn(|caller, call| match call {
///     Call::Tool { name, .. } if *name == "get_salary" && !caller.groups().iter().any(|group| **group == *"hr") => {
///         Decision::deny(call)
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
