//! The decision of a policy on one call.

use std::{sync::Arc, time::Duration};

use super::call::Call;
use crate::{principal::Scopes, refusal::Reason};

/// A policy's decision on one call. Created by [`Decision::allow`], [`Decision::deny`] or
/// [`Decision::needs_scope`], and refined by the other methods.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a decision has no effect until it is returned"]
pub struct Decision {
    pub(in crate::scope_filter) verdict: Verdict,
    rule: Option<Arc<str>>,
    retry_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scope_filter) enum Verdict {
    /// The call is forwarded.
    Allow(Permit),
    /// The call is refused.
    Deny(Reason),
    /// The call would be allowed with all of these scopes.
    NeedsScope(Scopes),
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, rule: None, retry_after: None }
    }
}

impl Decision {
    /// Allows the call, with the operator's own upstream scopes.
    pub fn allow() -> Self {
        Verdict::Allow(Permit::default()).into()
    }

    /// Denies the call, with the reason that fits it: an unknown tool, resource, prompt, method or
    /// path.
    pub fn deny(call: &Call<'_>) -> Self {
        Self::deny_for(match call {
            Call::Tool { .. } => Reason::ToolDenied,
            Call::Resource { .. } => Reason::ResourceDenied,
            Call::Prompt { .. } => Reason::PromptDenied,
            Call::List { .. } | Call::Protocol { .. } | Call::Method { .. } => Reason::MethodDenied,
            Call::Response => Reason::ResponseWithoutSession,
            Call::Rpc { .. } => Reason::RpcDenied,
            Call::Http { .. } => Reason::RequestDenied,
        })
    }

    pub(in crate::scope_filter) fn deny_for(reason: Reason) -> Self {
        Verdict::Deny(reason).into()
    }

    /// Allows the call only with all of these scopes. The response asks the client for them.
    pub fn needs_scope(scopes: Scopes) -> Self {
        Verdict::NeedsScope(scopes).into()
    }

    /// Adds scopes that the upstream credential needs (`upstream_scopes` of a rule). Has no effect
    /// unless the call is allowed.
    pub fn with_upstream_scopes(mut self, scopes: Scopes) -> Self {
        if let Verdict::Allow(permit) = &mut self.verdict {
            permit.upstream_scopes = scopes;
        }
        self
    }

    /// States the scopes of the broker token that the permission is based on. If another policy
    /// needs more scopes, the response names all of them: RFC 6750 §3.1 names all scopes of an
    /// operation at once.
    pub fn resting_on(mut self, scopes: Scopes) -> Self {
        if let Verdict::Allow(permit) = &mut self.verdict {
            permit.broker_scopes = scopes;
        }
        self
    }

    /// Allows the content of an HTTP GET request ([`Rule::with_get_content`](super::Rule)). Has no
    /// effect unless the call is allowed.
    pub const fn with_get_content(mut self) -> Self {
        if let Verdict::Allow(permit) = &mut self.verdict {
            permit.get_content = true;
        }
        self
    }

    /// Records the id of the rule that decided. It appears in the audit record.
    pub fn by_rule(mut self, id: impl Into<Arc<str>>) -> Self {
        self.rule = Some(id.into());
        self
    }

    /// States when a denied call may be allowed. The client is asked to wait that long.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether the call is forwarded.
    pub const fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }

    /// Whether the call is refused whatever scopes the caller obtains.
    pub const fn is_denied(&self) -> bool {
        matches!(self.verdict, Verdict::Deny(_))
    }

    /// Returns the scopes that the call needs, if the decision requests scopes.
    pub const fn needed_scopes(&self) -> Option<&Scopes> {
        match &self.verdict {
            Verdict::NeedsScope(scopes) => Some(scopes),
            Verdict::Allow(_) | Verdict::Deny(_) => None,
        }
    }

    /// Returns the id of the rule that decided, if it has one.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    pub(in crate::scope_filter) fn shared_rule(&self) -> Option<&Arc<str>> {
        self.rule.as_ref()
    }

    pub(in crate::scope_filter) const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(in crate::scope_filter) fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// Takes the rule of the other decision if this one has none.
    pub(in crate::scope_filter) fn or_rule_of(mut self, other: &Self) -> Self {
        self.rule = self.rule.or_else(|| other.rule.clone());
        self
    }
}

/// The scopes that belong to a permission, and what else it covers.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scope_filter) struct Permit {
    pub(in crate::scope_filter) upstream_scopes: Scopes,
    pub(in crate::scope_filter) broker_scopes: Scopes,
    pub(in crate::scope_filter) get_content: bool,
}

impl Default for Permit {
    fn default() -> Self {
        Self { upstream_scopes: Scopes::none(), broker_scopes: Scopes::none(), get_content: false }
    }
}
