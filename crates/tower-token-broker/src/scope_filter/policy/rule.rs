//! One rule: what it names, and on which terms.

use std::{fmt, sync::Arc};

use http::Method;

use super::{
    call::{Arguments, Call},
    conditions::{CallerCondition, Holds, When},
    decision::Decision,
    names::{Kind, Names, Reading},
    pattern::{PathTemplate, Pattern},
};
use crate::{
    bad_value::BadValue,
    json::Value,
    principal::{Principal, Scopes, ScopesError},
};

/// One rule: what it names, and on which terms.
#[derive(Clone)]
#[must_use = "a rule does nothing until it is allowed or denied"]
pub struct Rule {
    pub(super) kind: Kind,
    pub(super) names: Names,
    pub(super) scopes: Scopes,
    pub(super) upstream_scopes: Scopes,
    id: Option<Arc<str>>,
    callers: Vec<CallerCondition>,
    when: Option<Arc<When>>,
}

/// A rule that cannot be read, with the bad value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The path is not a template.
    #[error(
        "{value} is not a path template: it begins with a slash, braces stand around a whole \
         segment ({{id}}, not item-{{id}}), {{*rest}} stands at the end, and there is no other *, \
         no query, and nothing that a path cannot hold"
    )]
    Path {
        /// The template.
        value: BadValue,
    },
    /// The scopes are not a list of scopes (RFC 6749 §3.3).
    #[error("the scopes of a rule: {0}")]
    Scopes(#[from] ScopesError),
}

/// Tools by name; `*` stands for any run of characters.
pub fn tools<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Tool, names)
}

/// Resources and templates by URI; `*` stands for any run of characters.
pub fn resources<'a>(uris: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Resource, uris)
}

/// Prompts by name; `*` stands for any run of characters.
pub fn prompts<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Prompt, names)
}

/// Methods that are not otherwise known, such as `logging/setLevel`; `*` stands for any run of
/// characters.
pub fn methods<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Method, names)
}

/// HTTP requests by method and path template: `{name}` stands for one segment, `{*rest}` at the end
/// for one or more.
///
/// ```
/// # use http::Method;
/// # use tower_token_broker::scope_filter::{Rules, http};
/// let rules = Rules::new().allow(http(Method::GET, "/v1/items/{id}").with_scope("items:read"));
/// ```
///
/// # Panics
/// If the text is not a template; see [`try_http`], which returns an error.
#[track_caller]
#[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
pub fn http(method: Method, template: &str) -> Rule {
    try_http(method, template).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`http()`](fn@http), for templates from configuration.
///
/// # Errors
/// The text is not a template: it begins with a slash, braces stand around a whole segment (`{id}`,
/// not `item-{id}`), `{*rest}` stands at the end, and there is no `*` elsewhere, no query, and
/// nothing that a path cannot hold.
pub fn try_http(method: Method, template: &str) -> Result<Rule, RuleError> {
    let path = PathTemplate::parse(template)
        .ok_or_else(|| RuleError::Path { value: BadValue::new(template) })?;
    Ok(Rule::named(Kind::Http, Names::Path(method, path)))
}

/// gRPC calls by service (with its package, exactly) and method; in the method's name `*` stands
/// for any run of characters.
///
/// Services that carry MCP are judged by what they carry and by no rule of this kind. Reflection
/// (`grpc.reflection.v1.ServerReflection`) and health (`grpc.health.v1.Health`) are services like
/// any other: they pass if a rule names them.
///
/// ```
/// # use tower_token_broker::scope_filter::{Rules, grpc};
/// let rules = Rules::new().allow(grpc("shop.v1.Orders", ["Get*", "Watch*"]).with_scope("orders:read"));
/// ```
#[cfg(feature = "grpc")]
pub fn grpc<'a>(service: &str, methods: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::named(
        Kind::Rpc,
        Names::Rpc(service.into(), methods.into_iter().map(Pattern::parse).collect()),
    )
}

impl Rule {
    fn of<'a>(kind: Kind, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::named(kind, Names::Patterns(names.into_iter().map(Pattern::parse).collect()))
    }

    fn named(kind: Kind, names: Names) -> Self {
        Self {
            kind,
            names,
            scopes: Scopes::none(),
            upstream_scopes: Scopes::none(),
            id: None,
            callers: Vec::new(),
            when: None,
        }
    }

    /// The name by which operators know the rule: it stands in the audit record of each call that
    /// it decides.
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Only for callers whose broker token has all of these scopes; others are told which they
    /// need.
    ///
    /// # Panics
    /// If the text is not a list of scopes; see [`Rule::try_with_scope`], which returns an error.
    #[track_caller]
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_scope(self, scopes: &str) -> Self {
        self.try_with_scope(scopes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Rule::with_scope`], for scopes from configuration.
    ///
    /// # Errors
    /// The text is not a list of scopes (RFC 6749 §3.3).
    pub fn try_with_scope(mut self, scopes: &str) -> Result<Self, RuleError> {
        self.scopes = Scopes::parse(scopes)?;
        Ok(self)
    }

    /// The upstream credential needs these scopes too, when this rule is used.
    ///
    /// # Panics
    /// If the text is not a list of scopes; see [`Rule::try_with_upstream_scopes`].
    #[track_caller]
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_upstream_scopes(self, scopes: &str) -> Self {
        self.try_with_upstream_scopes(scopes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Rule::with_upstream_scopes`], for scopes from configuration.
    ///
    /// # Errors
    /// The text is not a list of scopes (RFC 6749 §3.3).
    pub fn try_with_upstream_scopes(mut self, scopes: &str) -> Result<Self, RuleError> {
        self.upstream_scopes = Scopes::parse(scopes)?;
        Ok(self)
    }

    /// Only for callers of this group. For others the rule does not exist: they are denied, not
    /// asked for a scope that nobody can grant. Of several conditions on the caller, all must hold.
    pub fn for_group(self, group: &str) -> Self {
        self.for_callers(CallerCondition::Group(group.into()))
    }

    /// Only for callers whose token has this claim with this text, or a list of texts with it; the
    /// verifier must be told to keep it. As [`Rule::for_group`] for everybody else. A rule that
    /// denies counts also for a claim of any other form: nobody can say that it is another one.
    pub fn for_claim(self, name: &str, value: &str) -> Self {
        self.for_callers(CallerCondition::Claim(name.into(), value.into()))
    }

    /// Only for callers for whom this is true. As [`Rule::for_group`] for everybody else.
    pub fn for_caller<F>(self, matches: F) -> Self
    where
        F: Fn(&Principal) -> bool + Send + Sync + 'static,
    {
        self.for_callers(CallerCondition::Matches(Arc::new(matches)))
    }

    fn for_callers(mut self, condition: CallerCondition) -> Self {
        self.callers.push(condition);
        self
    }

    pub(super) fn has_conditions(&self) -> bool {
        !self.callers.is_empty()
    }

    pub(super) fn is_about(&self, caller: &Principal) -> bool {
        self.callers.iter().all(|condition| condition.holds(caller))
    }

    pub(super) fn decided(&self, decision: Decision) -> Decision {
        match &self.id {
            Some(id) => decision.by_rule(Arc::clone(id)),
            None => decision,
        }
    }

    pub(super) fn may_be_about(&self, caller: &Principal) -> bool {
        self.callers.iter().all(|condition| condition.may_hold(caller))
    }

    pub(super) fn is_without_names(&self) -> bool {
        match &self.names {
            Names::Patterns(patterns) => patterns.is_empty(),
            #[cfg(feature = "grpc")]
            Names::Rpc(_, patterns) => patterns.is_empty(),
            Names::Path(..) => false,
        }
    }

    /// Whether this rule denies all that the other one could allow.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_for_all = self.callers.is_empty() && self.when.is_none();
        is_for_all && self.kind == other.kind && self.names.cover(&other.names)
    }

    pub(super) fn in_words(&self) -> String {
        match &self.id {
            Some(id) => format!("the rule {id}"),
            None => format!("the rule about {:?} {:?}", self.kind, self.names),
        }
    }

    /// Only with arguments (of a tool or prompt) for which this is true. In a list, where no
    /// arguments are known, the entry stands.
    ///
    /// # Panics
    /// If the rule is about something that has no arguments: it would never hold.
    #[track_caller]
    pub fn when<F>(mut self, arguments: F) -> Self
    where
        F: Fn(Value<'_>) -> bool + Send + Sync + 'static,
    {
        assert!(
            matches!(self.kind, Kind::Tool | Kind::Prompt),
            "only tools and prompts have arguments to look at"
        );
        self.when = Some(Arc::new(arguments));
        self
    }

    pub(super) fn names(&self, call: &Call<'_>, reading: Reading) -> bool {
        self.names.include(call, reading)
    }

    pub(super) fn when_holds(&self, call: &Call<'_>) -> Holds {
        let Some(when) = &self.when else { return Holds::Yes };
        let (Call::Tool { arguments, .. } | Call::Prompt { arguments, .. }) = call else {
            return Holds::No;
        };
        match Arguments::as_json(arguments).map(Value::known) {
            Some(arguments) if when(arguments) => Holds::Yes,
            Some(_) => Holds::No,
            None => Holds::Unknown,
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("kind", &self.kind)
            .field("names", &self.names)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
