//! Policies combined from other policies.

use super::{
    call::Call,
    decision::{Decision, Permit, Verdict},
    policy_trait::{Policy, PolicySummary},
};
use crate::{audit::PolicyDigest, limits::Protocol, principal::Principal};

/// Methods that combine policies. Implemented for every [`Policy`].
pub trait PolicyExt: Policy + Sized {
    /// Allows what both policies allow.
    ///
    /// | this | other | result |
    /// |---|---|---|
    /// | deny | any | deny, with this policy's reason |
    /// | any | deny | deny, with the other's reason |
    /// | needs scopes | needs scopes | needs the scopes of both |
    /// | needs scopes | allow | needs these and the scopes that the allow is based on |
    /// | allow | needs scopes | needs these and the scopes that the allow is based on |
    /// | allow | allow | allow, with the upstream scopes of both |
    fn and<P: Policy>(self, other: P) -> And<Self, P> {
        And(self, other)
    }

    /// Allows what at least one of the policies allows.
    ///
    /// | this | other | result |
    /// |---|---|---|
    /// | allow | any | allow, with this policy's upstream scopes |
    /// | deny or needs scopes | allow | allow, with the other's upstream scopes |
    /// | needs scopes | deny or needs scopes | needs this policy's scopes |
    /// | deny | needs scopes | needs the other's scopes |
    /// | deny | deny | deny, with this policy's reason |
    fn or<P: Policy>(self, other: P) -> Or<Self, P> {
        Or(self, other)
    }

    /// Denies what `exception` allows or would allow with more scopes. For other calls, this policy
    /// decides.
    ///
    /// | this | exception | result |
    /// |---|---|---|
    /// | any | allow or needs scopes | deny, as if it did not exist |
    /// | any | deny | as this policy |
    ///
    /// The exception names a call in every spelling, as [`Rules::deny`](super::Rules::deny) does;
    /// what it leaves out itself, by a rule that denies or by `unless`, is compared as it is
    /// written. A call without a bounded set of readings is an exception. A closure as the
    /// exception should compare names by [`Call::may_name`].
    fn unless<P: Policy>(self, exception: P) -> Unless<Self, P> {
        Unless(self, exception)
    }
}

impl<P: Policy> PolicyExt for P {}

/// A policy created by [`PolicyExt::and`].
#[derive(Clone, Copy, Debug)]
pub struct And<A, B>(A, B);

/// A policy created by [`PolicyExt::or`].
#[derive(Clone, Copy, Debug)]
pub struct Or<A, B>(A, B);

/// A policy created by [`PolicyExt::unless`].
#[derive(Clone, Copy, Debug)]
pub struct Unless<A, B>(A, B);

impl<A: Policy, B: Policy> Policy for And<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        self.0.decide(caller, call).and(self.1.decide(caller, call))
    }

    fn change_count(&self) -> u64 {
        self.0.change_count().wrapping_add(self.1.change_count())
    }

    fn digest(&self) -> Option<PolicyDigest> {
        combined("and", self.0.digest(), self.1.digest())
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        let (one, digest) = self.0.decide_with_digest(caller, call);
        let (other, with) = self.1.decide_with_digest(caller, call);
        (one.and(other), combined("and", digest, with))
    }

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        let (one, digest) = self.0.except(caller, call);
        let (other, with) = self.1.except(caller, call);
        (
            one.and_then(|one| other.map(|other| one.or_rule_of(&other))),
            combined("and", digest, with),
        )
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.summary(protocol).and(self.1.summary(protocol))
    }
}

impl Decision {
    /// Combines as [`PolicyExt::and`] describes. The rule is the one that decided.
    pub(in crate::scope_filter) fn and(self, other: Self) -> Self {
        match (&self.verdict, &other.verdict) {
            (Verdict::Deny(_), _) => self,
            (_, Verdict::Deny(_)) => other,
            (Verdict::NeedsScope(one), Verdict::NeedsScope(more)) => {
                let scopes = one.union(more);
                self.with_verdict(Verdict::NeedsScope(scopes)).or_rule_of(&other)
            }
            (Verdict::NeedsScope(scopes), Verdict::Allow(permit)) => {
                let scopes = scopes.union(&permit.broker_scopes);
                self.with_verdict(Verdict::NeedsScope(scopes))
            }
            (Verdict::Allow(permit), Verdict::NeedsScope(scopes)) => {
                let scopes = scopes.union(&permit.broker_scopes);
                other.with_verdict(Verdict::NeedsScope(scopes))
            }
            (Verdict::Allow(one), Verdict::Allow(more)) => {
                let permit = Permit {
                    get_content: one.get_content && more.get_content,
                    upstream_scopes: one.upstream_scopes.union(&more.upstream_scopes),
                    broker_scopes: one.broker_scopes.union(&more.broker_scopes),
                };
                self.with_verdict(Verdict::Allow(permit)).or_rule_of(&other)
            }
        }
    }
}

impl Decision {
    /// Combines as [`PolicyExt::or`] describes.
    fn or(self, other: Self) -> Self {
        let is_other = other.is_allowed() || (self.is_denied() && !other.is_denied());
        if is_other && !self.is_allowed() { other } else { self }
    }
}

impl<A: Policy, B: Policy> Policy for Or<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        let first = self.0.decide(caller, call);
        if first.is_allowed() { first } else { first.or(self.1.decide(caller, call)) }
    }

    fn change_count(&self) -> u64 {
        self.0.change_count().wrapping_add(self.1.change_count())
    }

    fn digest(&self) -> Option<PolicyDigest> {
        combined("or", self.0.digest(), self.1.digest())
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        let (first, digest) = self.0.decide_with_digest(caller, call);
        let (second, with) = self.1.decide_with_digest(caller, call);
        (first.or(second), combined("or", digest, with))
    }

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        let (one, digest) = self.0.except(caller, call);
        let (other, with) = self.1.except(caller, call);
        (one.or(other), combined("or", digest, with))
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.summary(protocol).and(self.1.summary(protocol))
    }
}

impl<A: Policy, B: Policy> Policy for Unless<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        denied(call, self.1.except(caller, call).0).unwrap_or_else(|| self.0.decide(caller, call))
    }

    fn change_count(&self) -> u64 {
        self.0.change_count().wrapping_add(self.1.change_count())
    }

    fn digest(&self) -> Option<PolicyDigest> {
        combined("unless", self.0.digest(), self.1.digest())
    }

    fn decide_with_digest(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Decision, Option<PolicyDigest>) {
        let (decision, digest) = self.0.decide_with_digest(caller, call);
        let (exception, with) = self.1.except(caller, call);
        (denied(call, exception).unwrap_or(decision), combined("unless", digest, with))
    }

    // J425: as an exception, this is wide in the first policy, and narrow in the second: only what
    // the second names as it is written is left out.
    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        let (exception, digest) = self.0.except(caller, call);
        let (left_out, with) = self.1.decide_with_digest(caller, call);
        let exception = exception.filter(|_| left_out.is_denied());
        (exception, combined("unless", digest, with))
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        self.0.summary(protocol).and(self.1.summary(protocol))
    }
}

/// Returns the denial if an exception names the call.
// J425: the exception was compared in all readings of the call.
fn denied(call: &Call<'_>, exception: Option<Decision>) -> Option<Decision> {
    // A message without a name cannot be an exception.
    if matches!(call, Call::List { .. } | Call::Protocol { .. } | Call::Response) {
        return None;
    }
    exception.map(|exception| {
        let denial = match &exception.verdict {
            Verdict::Deny(reason) => Decision::deny_for(*reason),
            Verdict::Allow(_) | Verdict::NeedsScope(_) => Decision::deny(call),
        };
        denial.or_rule_of(&exception)
    })
}

/// The digest of two policies that decide together.
fn combined(
    word: &str,
    one: Option<PolicyDigest>,
    other: Option<PolicyDigest>,
) -> Option<PolicyDigest> {
    Some(PolicyDigest::of(word.as_bytes()).and(one?).and(other?))
}

impl PolicySummary {
    /// Combines the summaries of two policies.
    fn and(mut self, other: Self) -> Self {
        let count = |rules: Option<usize>| rules.unwrap_or_default();
        let rules = count(self.rules).saturating_add(count(other.rules));
        self.rules = (self.rules.is_some() || other.rules.is_some()).then_some(rules);
        self.without_effect.extend(other.without_effect);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        principal::Scopes,
        scope_filter::{Arguments, Rules, tests::caller, tools},
    };

    fn needed(decision: &Decision) -> Option<Scopes> {
        decision.needed_scopes().cloned()
    }

    #[test]
    fn j223_and_names_the_scopes_of_both_policies() {
        let rule = |scope| Rules::new().allow(tools(["create"]).with_scope(scope));
        let call = Call::Tool { name: "create", arguments: Arguments::unknown() };
        let both = || rule("crm:read").and(rule("crm:write"));
        let all = Scopes::parse("crm:read crm:write").unwrap();
        for has in ["", "crm:read", "crm:write", "other"] {
            assert_eq!(needed(&both().decide(&caller(has), &call)), Some(all.clone()), "{has}");
        }
        let three = both().and(rule("crm:admin"));
        let all = Scopes::parse("crm:admin crm:read crm:write").unwrap();
        assert_eq!(needed(&three.decide(&caller("crm:read crm:write"), &call)), Some(all));
    }
}
