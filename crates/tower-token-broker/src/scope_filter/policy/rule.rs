//! One rule: the names it applies to, and its conditions.

use std::{fmt, sync::Arc};

use http::Method;

use super::{
    call::{Call, Known},
    conditions::{CallerCondition, Holds, When},
    decision::Decision,
    digest::Encoder,
    names::{Kind, Names, Reading},
    pattern::{PathTemplate, Pattern},
};
use crate::{
    bad_value::BadValue,
    json::{Value, Watch, changes_prototypes},
    principal::{Principal, Scopes, ScopesError},
    refusal::Reason,
};

/// One rule: the names it applies to, and its conditions.
#[derive(Clone)]
#[must_use = "a rule has no effect until it is allowed or denied"]
pub struct Rule {
    pub(super) kind: Kind,
    pub(super) names: Names,
    pub(super) scopes: Scopes,
    pub(super) upstream_scopes: Scopes,
    pub(super) get_content: bool,
    id: Option<Arc<str>>,
    callers: Vec<CallerCondition>,
    when: Option<Arc<When>>,
}

/// An invalid rule, with the bad value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The path is not a template.
    #[error(
        "{value} is not a path template: it must begin with a slash, braces must enclose a whole \
         segment ({{id}}, not item-{{id}}), {{*rest}} must be the last segment, and there must be \
         no other *, no query, and no character that a path cannot contain"
    )]
    Path {
        /// The template.
        value: BadValue,
    },
    /// The scopes are not a list of scopes (RFC 6749 §3.3).
    #[error("the scopes of a rule: {0}")]
    Scopes(#[from] ScopesError),
}

/// Creates a rule for tools by name. `*` matches any sequence of characters.
pub fn tools<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Tool, names)
}

/// Creates a rule for resources and templates by URI. `*` matches any sequence of characters.
pub fn resources<'a>(uris: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Resource, uris)
}

/// Creates a rule for prompts by name. `*` matches any sequence of characters.
pub fn prompts<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Prompt, names)
}

/// Creates a rule for methods that have no other rule, such as `logging/setLevel`. `*` matches any
/// sequence of characters.
pub fn methods<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Method, names)
}

/// Creates a rule for HTTP requests by method and path template. `{name}` matches one segment,
/// `{*rest}` at the end one or more.
///
/// ```
/// # use http::Method;
/// # use tower_token_broker::scope_filter::{Rules, http};
/// let rules = Rules::new().allow(http(Method::GET, "/v1/items/{id}").with_scope("items:read"));
/// ```
///
/// # Panics
/// If the text is not a template. [`try_http`] returns an error instead.
#[track_caller]
#[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
pub fn http(method: Method, template: &str) -> Rule {
    try_http(method, template).unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`http()`](fn@http), for templates from configuration.
///
/// # Errors
/// If the text is not a template. A template begins with a slash. Braces enclose a whole segment
/// (`{id}`, not `item-{id}`) and `{*rest}` is the last one. No other `*`, no query, and no
/// character that a path cannot contain.
pub fn try_http(method: Method, template: &str) -> Result<Rule, RuleError> {
    let path = PathTemplate::parse(template)
        .ok_or_else(|| RuleError::Path { value: BadValue::new(template) })?;
    Ok(Rule::named(Kind::Http, Names::Path(method, path)))
}

/// Creates a rule for gRPC calls by service (exactly, with its package) and method. In the method,
/// `*` matches any sequence of characters.
///
/// It does not apply to the services that carry MCP; those are judged by their messages. Reflection
/// (`grpc.reflection.v1.ServerReflection`) and health (`grpc.health.v1.Health`) are services like
/// any other: they need a rule.
///
/// ```
/// # use tower_token_broker::scope_filter::{Rules, grpc};
/// let rule = grpc("shop.v1.Orders", ["Get*", "Watch*"]).with_scope("orders:read");
/// let rules = Rules::new().allow(rule);
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
            get_content: false,
            id: None,
            callers: Vec::new(),
            when: None,
        }
    }

    /// Sets the id by which operators know the rule. It appears in the audit record of each call
    /// that the rule decides.
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Requires that the broker token has all of these scopes. The response to other callers names
    /// the scopes that they need.
    ///
    /// # Panics
    /// If the text is not a list of scopes. [`Rule::try_with_scope`] returns an error instead.
    #[track_caller]
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_scope(self, scopes: &str) -> Self {
        self.try_with_scope(scopes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Rule::with_scope`], for scopes from configuration.
    ///
    /// # Errors
    /// If the text is not a list of scopes (RFC 6749 §3.3).
    pub fn try_with_scope(mut self, scopes: &str) -> Result<Self, RuleError> {
        self.scopes = Scopes::parse(scopes)?;
        Ok(self)
    }

    /// Adds scopes that the upstream credential needs when this rule is used.
    ///
    /// # Panics
    /// If the text is not a list of scopes. [`Rule::try_with_upstream_scopes`] returns an error
    /// instead.
    #[track_caller]
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_upstream_scopes(self, scopes: &str) -> Self {
        self.try_with_upstream_scopes(scopes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Allows the content of a GET request, for servers that read it, such as search APIs. Without
    /// this, a GET request with content is refused: a server that ignores the content may take it
    /// for the next request on the connection (RFC 9110 §9.3.1). The content of HEAD and TRACE is
    /// always refused.
    pub const fn with_get_content(mut self) -> Self {
        self.get_content = true;
        self
    }

    /// Like [`Rule::with_upstream_scopes`], for scopes from configuration.
    ///
    /// # Errors
    /// If the text is not a list of scopes (RFC 6749 §3.3).
    pub fn try_with_upstream_scopes(mut self, scopes: &str) -> Result<Self, RuleError> {
        self.upstream_scopes = Scopes::parse(scopes)?;
        Ok(self)
    }

    /// Limits the rule to callers of this group. For other callers the rule does not exist: they
    /// are denied, and the response requests no scope, because no one can grant it. If a rule has
    /// several conditions on the caller, all of them must hold.
    pub fn for_group(self, group: &str) -> Self {
        self.for_callers(CallerCondition::Group(group.into()))
    }

    /// Limits the rule to callers whose token has this claim, either as this text or as a list that
    /// contains it. The verifier must be configured to keep the claim. Other callers are denied, as
    /// with [`Rule::for_group`]. A rule that denies also applies if the claim is neither text nor a
    /// list of texts, because it may have the value.
    pub fn for_claim(self, name: &str, value: &str) -> Self {
        self.for_callers(CallerCondition::Claim(name.into(), value.into()))
    }

    /// Limits the rule to callers for which the closure returns true. Other callers are denied, as
    /// with [`Rule::for_group`].
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

    /// Encodes everything but the code of closures.
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.text(self.kind.word());
        self.names.encode(encoder);
        for scopes in [&self.scopes, &self.upstream_scopes] {
            encoder.count(scopes.iter().count());
            scopes.iter().for_each(|scope| encoder.text(scope));
        }
        encoder.optional(self.id.as_deref());
        encoder.count(self.callers.len());
        self.callers.iter().for_each(|condition| condition.encode(encoder));
        encoder.count(usize::from(self.when.is_some()));
    }

    pub(super) fn has_conditions(&self) -> bool {
        !self.callers.is_empty()
    }

    #[inline]
    pub(super) fn is_about(&self, caller: &Principal) -> bool {
        self.callers.iter().all(|condition| condition.holds(caller))
    }

    #[inline]
    pub(super) fn decided(&self, decision: Decision) -> Decision {
        match &self.id {
            Some(id) => decision.by_rule(Arc::clone(id)),
            None => decision,
        }
    }

    #[inline]
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

    /// Whether this rule denies everything that the other one could allow.
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

    /// Limits the rule to arguments (of a tool or prompt) for which the closure returns true. In a
    /// list, where the arguments are unknown, an entry is kept if it can be called with some.
    ///
    /// A completion names some of the arguments, and the beginning of one. If the closure reads
    /// another argument, or all, a rule that allows does not apply and one that denies does. So it
    /// is with the argument that is completed, if a rule that denies reads it.
    ///
    /// Servers disagree on members that are spelled in two ways: in `{"owner":"me","Owner":"ceo"}`,
    /// some read the one, some the other. The call is refused ([`Reason::CaseVariant`]) if an
    /// object has a variant of a member that the closure reads with [`Value::get`], whether or not
    /// the member itself is present. Variants differ in case, accents, hyphens, underscores,
    /// blanks, dots, brackets, quotation marks or invisible characters (`own.er`, `owner[]`), or
    /// are paths that begin with the member (`owner.id`, `owner[id]`). The call is also refused if
    /// the closure reads all [members](Value::members) of an object, or its [text](Value::raw), and
    /// two of them are such variants; and if it reads any member, and `__proto__` (or `prototype`
    /// in `constructor`) is a member at any depth, which changes what a server in JavaScript reads.
    /// Other objects that it does not read are not looked at. The *values* are compared by the
    /// closure, as they are written.
    ///
    /// # Panics
    /// If the rule is about something without arguments: it would never apply.
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

    #[inline]
    pub(super) fn names(&self, call: &Call<'_>, reading: Reading) -> bool {
        self.names.include(call, reading)
    }

    #[inline]
    pub(super) fn when_holds(&self, call: &Call<'_>) -> Holds {
        let Some(when) = &self.when else { return Holds::Yes };
        let (Call::Tool { arguments, .. } | Call::Prompt { arguments, .. }) = call else {
            return Holds::No;
        };
        let (json, watch) = match arguments.known() {
            Known::Nothing => return Holds::ForSome,
            Known::All(json) => (json, Watch::default()),
            Known::Some { json, completing } => (json, Watch::of_part(completing)),
        };
        let holds = when(Value::watched(json, &watch));
        match holds {
            // J420: another server may read the other member, or inherit one.
            _ if watch.is_tripped() || (watch.has_read() && changes_prototypes(json)) => {
                Holds::Ambiguous
            }
            // J427: no rule decides by an argument that it does not know.
            _ if watch.has_read_unknown() => Holds::Unknown,
            true => Holds::Yes,
            false if watch.has_read_unfinished() => Holds::Unknown,
            false => Holds::No,
        }
    }

    /// Returns the denial of a call that the rule names, unless its condition does not hold, or a
    /// list does not know.
    pub(super) fn denial(&self, call: &Call<'_>) -> Option<Decision> {
        let decision = match self.when_holds(call) {
            // An entry is listed if it can be called with some arguments.
            Holds::No | Holds::ForSome => return None,
            Holds::Yes | Holds::Unknown => Decision::deny(call),
            Holds::Ambiguous => Decision::deny_for(Reason::CaseVariant),
        };
        Some(self.decided(decision))
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
