//! A policy that can be replaced at run time.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

use super::{
    call::Call,
    decision::Decision,
    policy_trait::{BoxPolicy, Policy, PolicySummary},
};
use crate::{audit::PolicyDigest, limits::Protocol, principal::Principal};

/// A policy that can be replaced at run time. Pass a clone to the stack and keep one.
///
/// A call in flight finishes under its decision. Every later event, list entry and message is
/// judged by the new policy. A stream without a call (the GET stream, `subscriptions/listen`) ends
/// before its next event if the new policy does not allow it.
///
/// ```
/// use tower_token_broker::scope_filter::{PolicyHandle, Rules, tools};
///
/// let policy = PolicyHandle::new(Rules::new().allow(tools(["get_*"])));
/// let of_the_stack = policy.clone(); // .scope_filter(of_the_stack)
/// policy.replace(Rules::new().allow(tools(["get_contact"])));
/// # drop(of_the_stack);
/// ```
#[derive(Clone)]
pub struct PolicyHandle(Arc<ArcSwap<Current>>);

struct Current {
    policy: BoxPolicy,
    /// Greater than every count that earlier policies reached.
    base: u64,
}

/// The number of changes that one policy may count before it reaches its successor's base.
const ROOM: u64 = 1 << 32;

impl PolicyHandle {
    /// Creates a handle with its first policy.
    pub fn new(policy: impl Policy) -> Self {
        let policy = BoxPolicy::new(policy);
        Self(Arc::new(ArcSwap::from_pointee(Current { policy, base: 0 })))
    }

    /// Replaces the policy. Once it returns, the new policy makes every decision.
    pub fn replace(&self, policy: impl Policy) {
        let policy = BoxPolicy::new(policy);
        self.0.rcu(|before| {
            let base = before.change_count().saturating_add(ROOM);
            Current { policy: policy.clone(), base }
        });
    }
}

impl Current {
    fn change_count(&self) -> u64 {
        self.base.saturating_add(self.policy.change_count())
    }
}

impl Policy for PolicyHandle {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        self.0.load().policy.decide(caller, call)
    }

    fn digest(&self) -> Option<PolicyDigest> {
        self.0.load().policy.digest()
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        self.0.load().policy.decide_with_digest(caller, call)
    }

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        self.0.load().policy.except(caller, call)
    }

    fn change_count(&self) -> u64 {
        self.0.load().change_count()
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.load().policy.summary(protocol)
    }
}

impl fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change_count = self.change_count();
        f.debug_struct("PolicyHandle").field("change_count", &change_count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_filter::{Arguments, Rules, tests::caller, tools};

    #[test]
    fn a_replaced_policy_decides_at_once_and_is_counted() {
        let handle = PolicyHandle::new(Rules::new().allow(tools(["get_*"])));
        let of_the_stack = handle.clone();
        let call = Call::Tool { name: "get_item", arguments: Arguments::unknown() };
        assert!(of_the_stack.decide(&caller(""), &call).is_allowed());
        let before = of_the_stack.change_count();
        let digest = of_the_stack.digest();
        assert_eq!(digest, Rules::new().allow(tools(["get_*"])).digest());
        assert_eq!(of_the_stack.decide_with_digest(&caller(""), &call).1, digest);
        handle.replace(Rules::new());
        let (_, digest) = of_the_stack.decide_with_digest(&caller(""), &call);
        assert_eq!(digest, Rules::new().digest());
        assert!(of_the_stack.decide(&caller(""), &call).is_denied());
        assert!(of_the_stack.change_count() > before);
        assert_eq!(of_the_stack.summary(Protocol::Mcp).rules, Some(0));
    }
}
