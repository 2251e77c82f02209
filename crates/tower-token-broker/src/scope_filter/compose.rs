//! Policies out of policies.

use super::policy::{Call, Decision, Permit, Policy};
use crate::principal::Principal;

/// Puts policies together. Any [`Policy`] has these.
pub trait PolicyExt: Policy + Sized {
    /// Both must allow.
    ///
    /// | this | other | together |
    /// |---|---|---|
    /// | deny | any | deny, for this one's reason |
    /// | any | deny | deny, for the other's reason |
    /// | needs scopes | allow or needs scopes | needs the scopes of both |
    /// | allow | needs scopes | needs those scopes |
    /// | allow | allow | allow, with the upstream scopes of both |
    fn and<P: Policy>(self, other: P) -> And<Self, P> {
        And(self, other)
    }

    /// One of them must allow.
    ///
    /// | this | other | together |
    /// |---|---|---|
    /// | allow | any | allow, with this one's upstream scopes |
    /// | deny or needs scopes | allow | allow, with the other's upstream scopes |
    /// | needs scopes | deny or needs scopes | needs this one's scopes |
    /// | deny | needs scopes | needs those scopes |
    /// | deny | deny | deny, for this one's reason |
    fn or<P: Policy>(self, other: P) -> Or<Self, P> {
        Or(self, other)
    }

    /// This one decides, but what `exception` allows or would allow with more scopes is denied.
    ///
    /// | this | exception | together |
    /// |---|---|---|
    /// | any | allow or needs scopes | deny, as what does not exist |
    /// | any | deny | as this one |
    fn unless<P: Policy>(self, exception: P) -> Unless<Self, P> {
        Unless(self, exception)
    }
}

impl<P: Policy> PolicyExt for P {}

/// See [`PolicyExt::and`].
#[derive(Clone, Copy, Debug)]
pub struct And<A, B>(A, B);

/// See [`PolicyExt::or`].
#[derive(Clone, Copy, Debug)]
pub struct Or<A, B>(A, B);

/// See [`PolicyExt::unless`].
#[derive(Clone, Copy, Debug)]
pub struct Unless<A, B>(A, B);

impl<A: Policy, B: Policy> Policy for And<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        match (self.0.decide(caller, call), self.1.decide(caller, call)) {
            (Decision::Deny(reason), _) | (_, Decision::Deny(reason)) => Decision::Deny(reason),
            (Decision::NeedsScope(one), Decision::NeedsScope(other)) => Decision::NeedsScope(one.union(&other)),
            (Decision::NeedsScope(scopes), Decision::Allow(_)) | (Decision::Allow(_), Decision::NeedsScope(scopes)) => {
                Decision::NeedsScope(scopes)
            }
            (Decision::Allow(one), Decision::Allow(other)) => {
                Decision::Allow(Permit::with_upstream_scopes(one.upstream_scopes().union(other.upstream_scopes())))
            }
        }
    }
}

impl<A: Policy, B: Policy> Policy for Or<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        let first = self.0.decide(caller, call);
        if matches!(first, Decision::Allow(_)) {
            return first;
        }
        match (first, self.1.decide(caller, call)) {
            (_, Decision::Allow(permit)) => Decision::Allow(permit),
            (Decision::Deny(_), Decision::NeedsScope(scopes)) => Decision::NeedsScope(scopes),
            (first, _) => first,
        }
    }
}

impl<A: Policy, B: Policy> Policy for Unless<A, B> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        // The messages that carry no name are nobody's exception.
        let is_named = !matches!(call, Call::List { .. } | Call::Protocol { .. } | Call::Answer);
        if is_named && !self.1.decide(caller, call).is_denied() {
            return Decision::deny(call);
        }
        self.0.decide(caller, call)
    }
}
