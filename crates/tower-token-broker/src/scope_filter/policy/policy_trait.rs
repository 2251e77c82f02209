//! The trait that decides on a call, and closures and boxed values as policies.

use std::{fmt, sync::Arc};

use super::{call::Call, decision::Decision, readings::in_any_reading};
use crate::{
    audit::PolicyDigest, json::Watch, limits::Protocol, principal::Principal, refusal::Reason,
};

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
/// listed unless the decision [is a denial](Decision::is_denied): allow it if a call with some
/// arguments would be allowed. No call of a client has unknown arguments; a completion has those of
/// [`Arguments::known_so_far`](super::Arguments::known_so_far).
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

    /// Decides on one call as the exception of [`PolicyExt::unless`](super::PolicyExt::unless):
    /// returns a decision if the policy allows the call, or would with more scopes, in any of its
    /// readings. Also returns the digest of the rules.
    ///
    /// The default asks [`Policy::decide`] about the call, and then about each reading, which is in
    /// lower case and without escapes. A policy that compares names in another form must compare
    /// them by [`Call::may_name`].
    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        let (decision, digest) = self.decide_with_digest(caller, call);
        if !decision.is_denied() {
            return (Some(decision), digest);
        }
        let excepts = |call: &Call<'_>| {
            Some(self.decide(caller, call)).filter(|decision| !decision.is_denied())
        };
        (in_any_reading(call, excepts), digest)
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

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        P::except(self, caller, call)
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        P::summary(self, protocol)
    }
}

/// Decides on one call of a request, as [`Policy::decide_with_digest`]. Denies it if the policy
/// read arguments that servers read differently, or that are not all known.
// J420, J427: whatever reads the text of the arguments, a policy of the user's own or a closure.
pub(in crate::scope_filter) fn judge(
    policy: &impl Policy,
    caller: &Principal,
    call: &Call<'_>,
) -> (Decision, Option<PolicyDigest>) {
    let watch = Watch::default();
    let (decision, digest) = policy.decide_with_digest(caller, &call.watched(&watch));
    let reason = match (watch.is_tripped(), watch.has_read_unknown()) {
        (true, _) => Reason::CaseVariant,
        (false, true) => Reason::ArgumentsDenied,
        (false, false) => return (decision, digest),
    };
    if decision.is_denied() {
        return (decision, digest);
    }
    (Decision::deny_for(reason).or_rule_of(&decision), digest)
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

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        self.0.except(caller, call)
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
/// A closure receives the name as the client wrote it. To deny a name, compare it by
/// [`Call::may_name`]: `*name == "get_salary"` does not deny `Get_Salary`, which some servers take
/// for the same. To allow one, compare it exactly.
///
/// ```
/// use tower_token_broker::scope_filter::{Call, Decision, policy_fn};
///
/// let policy = policy_fn(|caller, call| match call {
///     Call::Tool { .. } if call.may_name("get_salary") => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_filter::{Arguments, tests::caller};

    #[test]
    fn j420_a_policy_that_reads_the_text_does_not_decide_on_variants() {
        let reads = policy_fn(|_, call: &Call<'_>| {
            if let Call::Tool { arguments, .. } = call
                && arguments.as_json().is_some()
            {
                return Decision::allow().by_rule("r");
            }
            Decision::deny(call)
        });
        let ignores = policy_fn(|_, _| Decision::allow());
        let refused = Decision::deny_for(Reason::CaseVariant).by_rule("r");
        for json in [r#"{"owner":1,"Owner":2}"#, r#"{"a":[{"b_c":1,"bC":2}]}"#] {
            let call = Call::Tool { name: "x", arguments: Arguments::of_object(json) };
            assert_eq!(judge(&reads, &caller(""), &call).0, refused, "J420 {json}");
            assert_eq!(judge(&ignores, &caller(""), &call).0, Decision::allow(), "{json}");
        }
        let call = Call::Tool { name: "x", arguments: Arguments::of_object(r#"{"a":{"b":1}}"#) };
        assert!(judge(&reads, &caller(""), &call).0.is_allowed());
    }
}
