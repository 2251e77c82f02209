//! The trait that decides on one call, and the call as a policy sees it.

use std::{fmt, sync::Arc, time::Duration};

use http::Method;

use crate::{
    limits::Protocol,
    mcp::Listed,
    principal::{Principal, Scopes},
    refusal::Reason,
};

/// One operation that a client asks for, as it was judged. Borrowed from the one reading of the
/// message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// `tools/call`; and a tool in a list, then without arguments.
    Tool {
        /// The tool's name.
        name: &'a str,
        /// Its arguments, if they are known.
        arguments: Arguments<'a>,
    },
    /// `resources/read`, `subscribe`, `unsubscribe`; each resource of a `subscriptions/listen`; a
    /// resource or a template in a list; a completion for a template.
    Resource {
        /// The resource's URI, or the template.
        uri: &'a str,
    },
    /// `prompts/get`; a prompt in a list; a completion for a prompt.
    Prompt {
        /// The prompt's name.
        name: &'a str,
        /// Its arguments, if they are known.
        arguments: Arguments<'a>,
    },
    /// A list of tools, resources, templates or prompts. Its entries are judged one by one in the
    /// answer.
    List {
        /// Of what.
        of: Listed,
    },
    /// A message without which no client works, and which touches nothing: `initialize`, `ping`,
    /// `server/discover`, `subscriptions/listen`, notifications that both revisions have, the GET
    /// stream, the DELETE of a session.
    Protocol {
        /// The method, or `GET`, `DELETE`.
        method: &'a str,
    },
    /// An answer of the client to a request of the server, within a session.
    Response,
    /// Any other method: refused unless a rule names it.
    Method {
        /// The method as the message names it.
        method: &'a str,
    },
    /// A gRPC call that is not MCP.
    Rpc {
        /// Its service, with the package.
        service: &'a str,
        /// Its method.
        method: &'a str,
    },
    /// A request that is not MCP.
    Http {
        /// Its method.
        method: &'a Method,
        /// Its path, percent-encoding and all, without the query.
        path: &'a str,
    },
}

impl<'a> Call<'a> {
    /// What the call is about, by name; a path is none.
    pub(in crate::scope_filter) const fn name(&self) -> Option<&'a str> {
        match self {
            Self::Tool { name, .. } | Self::Prompt { name, .. } => Some(name),
            Self::Resource { uri } => Some(uri),
            Self::Method { method } => Some(method),
            Self::Rpc { method, .. } => Some(method),
            Self::List { .. } | Self::Protocol { .. } | Self::Response | Self::Http { .. } => None,
        }
    }
}

/// The arguments of a call: the raw JSON text of an object, or not known (in a list).
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(Option<&'a str>);

impl<'a> Arguments<'a> {
    /// Not known: an entry of a list is judged without them.
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// The JSON object's own text, from the one strict reading.
    pub const fn of_object(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// The JSON text of the object, as it will be forwarded, or `None` if the arguments are not
    /// known.
    pub const fn as_json(&self) -> Option<&'a str> {
        self.0
    }
}

/// What a policy decides about one call. Opaque: it is made by [`Decision::allow`],
/// [`Decision::deny`] and [`Decision::needs_scope`], and refined by the methods behind them.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a decision that nobody looks at decides nothing"]
pub struct Decision {
    pub(in crate::scope_filter) verdict: Verdict,
    rule: Option<Arc<str>>,
    retry_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scope_filter) enum Verdict {
    /// The call continues.
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
    /// Continues, with the operator's own upstream scopes.
    pub fn allow() -> Self {
        Verdict::Allow(Permit::default()).into()
    }

    /// Refused in the way that fits the call: an unknown tool, resource, prompt, method or path.
    pub fn deny(call: &Call<'_>) -> Self {
        Self::deny_for(match call {
            Call::Tool { .. } => Reason::ToolDenied,
            Call::Resource { .. } => Reason::ResourceDenied,
            Call::Prompt { .. } => Reason::PromptDenied,
            Call::List { .. } | Call::Protocol { .. } | Call::Method { .. } => Reason::MethodDenied,
            Call::Response => Reason::AnswerWithoutSession,
            Call::Rpc { .. } => Reason::RpcDenied,
            Call::Http { .. } => Reason::RequestDenied,
        })
    }

    pub(in crate::scope_filter) fn deny_for(reason: Reason) -> Self {
        Verdict::Deny(reason).into()
    }

    /// Would be allowed with all of these scopes: the client is told to ask for them.
    pub fn needs_scope(scopes: Scopes) -> Self {
        Verdict::NeedsScope(scopes).into()
    }

    /// The upstream credential needs these scopes too (`upstream_scopes` of a rule). Means
    /// something only where the call is allowed.
    pub fn with_upstream_scopes(mut self, scopes: Scopes) -> Self {
        if let Verdict::Allow(permit) = &mut self.verdict {
            permit.upstream_scopes = scopes;
        }
        self
    }

    /// The permission rests on these scopes of the broker token. Where another policy needs more,
    /// the client is told of these too: all scopes of the operation at once (RFC 6750 §3.1).
    pub fn resting_on(mut self, scopes: Scopes) -> Self {
        if let Verdict::Allow(permit) = &mut self.verdict {
            permit.broker_scopes = scopes;
        }
        self
    }

    /// The id of the rule that decided; it stands in the audit record.
    pub fn by_rule(mut self, id: impl Into<Arc<str>>) -> Self {
        self.rule = Some(id.into());
        self
    }

    /// When a call that is denied now may be allowed: the client is told to wait as long.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether the call continues.
    pub const fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }

    /// Whether the call is refused, whatever scopes the caller gets.
    pub const fn is_denied(&self) -> bool {
        matches!(self.verdict, Verdict::Deny(_))
    }

    /// The scopes that the caller lacks or that the permission needs, if more are needed.
    pub const fn needed_scopes(&self) -> Option<&Scopes> {
        match &self.verdict {
            Verdict::NeedsScope(scopes) => Some(scopes),
            Verdict::Allow(_) | Verdict::Deny(_) => None,
        }
    }

    /// The id of the rule that decided, if it has one.
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

    /// The rule of the other decision, where this one has none.
    pub(in crate::scope_filter) fn or_rule_of(mut self, other: &Self) -> Self {
        self.rule = self.rule.or_else(|| other.rule.clone());
        self
    }
}

/// What belongs to a permission.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scope_filter) struct Permit {
    pub(in crate::scope_filter) upstream_scopes: Scopes,
    pub(in crate::scope_filter) broker_scopes: Scopes,
}

impl Default for Permit {
    fn default() -> Self {
        Self { upstream_scopes: Scopes::none(), broker_scopes: Scopes::none() }
    }
}

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
