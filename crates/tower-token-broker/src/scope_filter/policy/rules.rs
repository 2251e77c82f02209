//! Policies as rules in code: what may be called, with which scope, and what that asks of the
//! upstream.

use std::{fmt, sync::Arc};

use http::Method;

use super::{
    canonical::is_plain_uri,
    decision::{Arguments, Call, Decision, Policy, PolicySummary},
    index::Table,
    pattern::{PathTemplate, Pattern},
};
use crate::{
    bad_value::BadValue,
    json::Value,
    limits::Protocol,
    mcp::Listed,
    principal::{Principal, Scopes, ScopesError},
    refusal::Reason,
};

/// A policy made of rules. What none of them allows is denied; what one of them denies is denied,
/// whatever others allow.
///
/// | call | allowed if |
/// |---|---|
/// | a tool, resource, prompt, method, HTTP request, gRPC call | an `allow` rule names it, and no `deny` rule does |
/// | the list of a kind | an `allow` rule names anything of that kind; its entries are judged one by one |
/// | `initialize`, `ping`, notifications, the GET stream, … | there is any `allow` rule for MCP |
/// | the client's answer within a session | the same |
///
/// Of several `allow` rules for one call, the first whose scopes the caller has decides; if the
/// caller has none of them, the first names what is needed.
///
/// What is allowed is allowed as it is written; what is denied is denied in every spelling. A
/// `deny` of a path ignores one slash at its end. A URI with a step to another place in it (`.` or
/// `..` between slashes, also escaped, or a backslash) or with an escape that needs none is allowed
/// only by a rule that names it exactly, never by a pattern.
///
/// ```
/// use tower_token_broker::scope_filter::{Rules, prompts, tools};
///
/// let rules = Rules::new()
///     .allow(tools(["list_*", "get_*"]).with_scope("crm:read"))
///     .allow(tools(["create_contact"]).with_scope("crm:write").with_upstream_scopes("contacts:write"))
///     .allow(prompts(["*"]))
///     .deny(tools(["get_salary"]));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "rules decide nothing until they are a policy"]
pub struct Rules {
    allow: Table,
    deny: Table,
}

impl Rules {
    /// No rule: everything is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows what this rule names.
    pub fn allow(mut self, rule: Rule) -> Self {
        self.allow.add(rule);
        self
    }

    /// Whether a rule of such a kind allows something to this caller.
    fn has_kind_for(&self, caller: &Principal, is_kind: impl Fn(Kind) -> bool) -> bool {
        self.allow.kinds().any(&is_kind)
            && (!self.allow.has_conditions()
                || self
                    .allow
                    .rules()
                    .iter()
                    .any(|rule| is_kind(rule.kind) && rule.is_about(caller)))
    }

    /// Denies what this rule names, whatever others allow. Its scopes mean nothing.
    pub fn deny(mut self, rule: Rule) -> Self {
        self.deny.add(rule);
        self
    }
}

impl Policy for Rules {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        let kind = match call {
            Call::List { of } => {
                let listed = self.has_kind_for(caller, |kind| kind.is_listed_as(*of));
                return if listed { Decision::allow() } else { Decision::deny(call) };
            }
            Call::Protocol { .. } | Call::Response => {
                let any = self.has_kind_for(caller, |kind| !matches!(kind, Kind::Rpc | Kind::Http));
                return if any { Decision::allow() } else { Decision::deny(call) };
            }
            Call::Tool { .. } => Kind::Tool,
            Call::Resource { .. } => Kind::Resource,
            Call::Prompt { .. } => Kind::Prompt,
            Call::Method { .. } => Kind::Method,
            Call::Rpc { .. } => Kind::Rpc,
            Call::Http { .. } => Kind::Http,
        };
        let mut denying = self.deny.matching(kind, call, Reading::Wide);
        if let Some(rule) =
            denying.find(|rule| rule.may_be_about(caller) && rule.when_holds(call) != Holds::No)
        {
            return rule.decided(Decision::deny(call));
        }
        let is_ambiguous = matches!(call, Call::Resource { uri } if !is_plain_uri(uri));
        let reading = if is_ambiguous { Reading::Exact } else { Reading::AsWritten };
        let (mut needed, mut wrong_arguments) = (None, None);
        let matching = self.allow.matching(kind, call, reading);
        for rule in matching.filter(|rule| rule.is_about(caller)) {
            match rule.when_holds(call) {
                Holds::No => drop(wrong_arguments.get_or_insert(rule)),
                Holds::Yes | Holds::Unknown if caller.scopes().contains_all(&rule.scopes) => {
                    let allowed = Decision::allow()
                        .with_upstream_scopes(rule.upstream_scopes.clone())
                        .resting_on(rule.scopes.clone());
                    return rule.decided(allowed);
                }
                Holds::Yes | Holds::Unknown => drop(needed.get_or_insert(rule)),
            }
        }
        match (needed, wrong_arguments) {
            (Some(rule), _) => rule.decided(Decision::needs_scope(rule.scopes.clone())),
            (None, Some(rule)) => rule.decided(Decision::deny_for(Reason::ArgumentsDenied)),
            (None, None) => Decision::deny(call),
        }
    }

    fn summary(&self, protocol: Protocol) -> PolicySummary {
        let mut without_effect = Vec::new();
        if self.allow.rules().is_empty() {
            without_effect.push("there is no `allow` rule: every call is denied".to_owned());
        }
        let all = || self.allow.rules().iter().chain(self.deny.rules());
        let without_names = all().filter(|rule| rule.is_without_names());
        let elsewhere = all().filter(|rule| !rule.kind.is_spoken_in(protocol));
        without_effect
            .extend(without_names.map(|rule| format!("{} names nothing", rule.in_words())));
        without_effect.extend(elsewhere.map(|rule| {
            format!("{} is about another protocol than that of the stack", rule.in_words())
        }));
        for rule in self.allow.rules() {
            if self.deny.rules().iter().any(|denying| denying.covers(rule)) {
                without_effect.push(format!("{} is denied by another rule", rule.in_words()));
            }
        }
        PolicySummary { rules: Some(all().count()), without_effect }
    }
}

/// One rule: what it names, and on which terms.
#[derive(Clone)]
#[must_use = "a rule does nothing until it is allowed or denied"]
pub struct Rule {
    pub(super) kind: Kind,
    pub(super) names: Names,
    scopes: Scopes,
    upstream_scopes: Scopes,
    id: Option<Arc<str>>,
    callers: Vec<CallerCondition>,
    when: Option<Arc<When>>,
}

type When = dyn Fn(Value<'_>) -> bool + Send + Sync;

/// Whom a rule is about. Nobody can be granted to be somebody else, so it never leads to a request
/// for more scopes.
#[derive(Clone)]
enum CallerCondition {
    Group(Box<str>),
    Claim(Box<str>, Box<str>),
    Matches(Arc<dyn Fn(&Principal) -> bool + Send + Sync>),
}

impl CallerCondition {
    fn holds(&self, caller: &Principal) -> bool {
        match self {
            Self::Group(group) => caller.groups().iter().any(|one| **one == **group),
            Self::Claim(name, value) => {
                caller.claim(name).is_some_and(|claim| says(claim, value) == Some(true))
            }
            Self::Matches(matches) => matches(caller),
        }
    }

    /// For a denial: a claim of another form than text is not known to be another one.
    fn may_hold(&self, caller: &Principal) -> bool {
        match self {
            Self::Claim(name, value) => {
                caller.claim(name).is_some_and(|claim| says(claim, value) != Some(false))
            }
            Self::Group(_) | Self::Matches(_) => self.holds(caller),
        }
    }
}

/// Whether a claim is this text, or a list of texts with it; `None` for any other form.
fn says(claim: Value<'_>, value: &str) -> Option<bool> {
    if let Some(text) = claim.as_str() {
        return Some(*text == *value);
    }
    let mut all_are_texts = true;
    for element in claim.elements()? {
        match element.as_str() {
            Some(text) if *text == *value => return Some(true),
            Some(_) => {}
            None => all_are_texts = false,
        }
    }
    all_are_texts.then_some(false)
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Tool,
    Resource,
    Prompt,
    Method,
    Rpc,
    Http,
}

#[derive(Clone, Debug)]
pub(super) enum Names {
    Patterns(Vec<Pattern>),
    #[cfg(feature = "grpc")]
    Rpc(Box<str>, Vec<Pattern>),
    Path(Method, PathTemplate),
}

/// How the names of a rule are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To deny: one slash more or less at a path's end is the same path.
    Wide,
    /// To allow.
    AsWritten,
    /// To allow what its reader may resolve to something else: no pattern counts.
    Exact,
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

    fn is_about(&self, caller: &Principal) -> bool {
        self.callers.iter().all(|condition| condition.holds(caller))
    }

    fn decided(&self, decision: Decision) -> Decision {
        match &self.id {
            Some(id) => decision.by_rule(Arc::clone(id)),
            None => decision,
        }
    }

    fn may_be_about(&self, caller: &Principal) -> bool {
        self.callers.iter().all(|condition| condition.may_hold(caller))
    }

    fn is_without_names(&self) -> bool {
        match &self.names {
            Names::Patterns(patterns) => patterns.is_empty(),
            #[cfg(feature = "grpc")]
            Names::Rpc(_, patterns) => patterns.is_empty(),
            Names::Path(..) => false,
        }
    }

    /// Whether this rule denies all that the other one could allow.
    fn covers(&self, other: &Self) -> bool {
        let is_for_all = self.callers.is_empty() && self.when.is_none();
        is_for_all && self.kind == other.kind && self.names.cover(&other.names)
    }

    fn in_words(&self) -> String {
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
        match (&self.names, call) {
            (Names::Patterns(patterns), _) => call.name().is_some_and(|name| {
                patterns.iter().any(|pattern| match reading {
                    Reading::Wide | Reading::AsWritten => pattern.matches(name),
                    Reading::Exact => pattern.as_exact() == Some(name),
                })
            }),
            (Names::Path(method, template), Call::Http { method: asked, path }) => {
                *asked == method
                    && match reading {
                        Reading::Wide => template.matches_but_for_a_slash(path),
                        Reading::AsWritten | Reading::Exact => template.matches(path),
                    }
            }
            #[cfg(feature = "grpc")]
            (Names::Rpc(service, methods), Call::Rpc { service: asked, method }) => {
                **service == **asked && methods.iter().any(|pattern| pattern.matches(method))
            }
            #[cfg(feature = "grpc")]
            (Names::Rpc(..), _) => false,
            (Names::Path(..), _) => false,
        }
    }

    fn when_holds(&self, call: &Call<'_>) -> Holds {
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Unknown,
}

impl Names {
    /// Whether every name here stands there too, or `*` does.
    fn cover(&self, other: &Self) -> bool {
        let all = |here: &[Pattern], there: &[Pattern]| {
            there.iter().all(|name| {
                let covers = |pattern: &Pattern| pattern.is_star() || pattern == name;
                here.iter().any(covers)
            })
        };
        match (self, other) {
            (Self::Patterns(here), Self::Patterns(there)) => !there.is_empty() && all(here, there),
            #[cfg(feature = "grpc")]
            (Self::Rpc(service, here), Self::Rpc(of, there)) => service == of && all(here, there),
            (Self::Path(method, template), Self::Path(of, path)) => {
                method == of && template == path
            }
            _ => false,
        }
    }
}

impl Kind {
    /// Whether a stack that speaks this protocol ever asks about the kind.
    const fn is_spoken_in(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Mcp => !matches!(self, Self::Rpc | Self::Http),
            Protocol::Http => matches!(self, Self::Http),
            #[cfg(feature = "grpc")]
            Protocol::Grpc(_) => !matches!(self, Self::Http),
        }
    }

    const fn is_listed_as(self, of: Listed) -> bool {
        matches!(
            (self, of),
            (Self::Tool, Listed::Tools)
                | (Self::Prompt, Listed::Prompts)
                | (Self::Resource, Listed::Resources | Listed::ResourceTemplates)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_filter::{PolicyExt as _, tests::caller};

    fn tool<'a>(name: &'a str, arguments: &'a str) -> Call<'a> {
        Call::Tool { name, arguments: Arguments::of_object(arguments) }
    }

    #[test]
    fn what_no_rule_allows_is_denied_and_deny_wins() {
        let rules = Rules::new().allow(tools(["get_*"])).deny(tools(["get_salary"]));
        let caller = caller("");
        assert_eq!(rules.decide(&caller, &tool("get_item", "{}")), Decision::allow());
        assert_eq!(
            rules.decide(&caller, &tool("get_salary", "{}")),
            Decision::deny_for(Reason::ToolDenied)
        );
        assert_eq!(
            rules.decide(&caller, &tool("delete", "{}")),
            Decision::deny_for(Reason::ToolDenied)
        );
        assert!(rules.decide(&caller, &Call::List { of: Listed::Prompts }).is_denied());
        assert!(!rules.decide(&caller, &Call::List { of: Listed::Tools }).is_denied());
        assert!(rules.decide(&caller, &Call::Method { method: "logging/setLevel" }).is_denied());
        assert!(Rules::new().decide(&caller, &Call::Protocol { method: "initialize" }).is_denied());
    }

    #[test]
    fn scopes_of_a_rule_are_asked_for_at_once() {
        let rules =
            Rules::new().allow(tools(["create"]).with_scope("a b").with_upstream_scopes("w"));
        let needs = Decision::needs_scope(Scopes::parse("a b").unwrap());
        assert_eq!(rules.decide(&caller("a"), &tool("create", "{}")), needs);
        let allowed = Decision::allow()
            .with_upstream_scopes(Scopes::parse("w").unwrap())
            .resting_on(Scopes::parse("a b").unwrap());
        assert_eq!(rules.decide(&caller("a b"), &tool("create", "{}")), allowed);
    }

    #[test]
    fn arguments_are_judged_where_they_are_known() {
        let acme = |arguments: Value<'_>| {
            arguments
                .get("repo")
                .and_then(Value::as_str)
                .is_some_and(|repo| repo.starts_with("acme/"))
        };
        let rules = Rules::new().allow(tools(["push"]).when(acme));
        let caller = caller("");
        assert_eq!(rules.decide(&caller, &tool("push", r#"{"repo":"acme/x"}"#)), Decision::allow());
        let other = rules.decide(&caller, &tool("push", r#"{"repo":"evil/x"}"#));
        assert_eq!(other, Decision::deny_for(Reason::ArgumentsDenied));
        let listed = Call::Tool { name: "push", arguments: Arguments::unknown() };
        assert_eq!(rules.decide(&caller, &listed), Decision::allow());
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_is_judged_by_service_and_method() {
        let rules = Rules::new().allow(grpc("shop.v1.Orders", ["Get*"]).with_scope("orders"));
        let decide =
            |scopes, service, method| rules.decide(&caller(scopes), &Call::Rpc { service, method });
        let orders = || Scopes::parse("orders").unwrap();
        let allowed = Decision::allow().resting_on(orders());
        assert_eq!(decide("orders", "shop.v1.Orders", "GetOrder"), allowed);
        let needs = Decision::needs_scope(orders());
        assert_eq!(decide("", "shop.v1.Orders", "GetOrder"), needs);
        for (service, method) in [
            ("shop.v1.Orders", "Delete"),
            ("shop.v1.orders", "GetOrder"),
            ("shop.v1.Order", "GetOrder"),
            ("grpc.health.v1.Health", "Check"),
            ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ] {
            assert_eq!(
                decide("orders", service, method),
                Decision::deny_for(Reason::RpcDenied),
                "{service}/{method}"
            );
        }
        assert!(
            rules.decide(&caller("orders"), &Call::Protocol { method: "initialize" }).is_denied()
        );
    }

    #[test]
    fn http_is_judged_by_method_and_template() {
        let rules = Rules::new()
            .allow(http(Method::GET, "/v1/items/{id}"))
            .allow(http(Method::GET, "/files/{*rest}"));
        let caller = caller("");
        for (method, path, allowed) in [
            (Method::GET, "/v1/items/7", true),
            (Method::GET, "/v1/items/", false),
            (Method::GET, "/v1/items/7/notes", false),
            (Method::POST, "/v1/items/7", false),
            (Method::GET, "/files/a/b", true),
            (Method::GET, "/files", false),
        ] {
            let decision = rules.decide(&caller, &Call::Http { method: &method, path });
            assert_eq!(!decision.is_denied(), allowed, "{method} {path}");
        }
        assert!(rules.decide(&caller, &Call::Protocol { method: "initialize" }).is_denied());
    }

    fn http_decision(rules: &Rules, path: &str) -> Decision {
        rules.decide(&caller(""), &Call::Http { method: &Method::GET, path })
    }

    #[test]
    fn l241_what_is_denied_is_denied_however_its_path_is_written() {
        let rules = Rules::new().allow(http(Method::GET, "/{*rest}"));
        for (denied, path) in [
            ("/v1/admin", "/v1/admin"),
            ("/v1/admin", "/v1/admin/"),
            ("/v1/admin/", "/v1/admin"),
            ("/v1/a@b", "/v1/a%40b"),
            ("/v1/a%40b", "/v1/a@b"),
            ("/v1/caf%C3%A9", "/v1/caf%c3%a9"),
            ("/v1/café", "/v1/caf%C3%A9"),
            ("/users/{id}", "/users/7/"),
            ("/", "/"),
        ] {
            let denying = rules.clone().deny(http(Method::GET, denied));
            assert!(http_decision(&denying, path).is_denied(), "{denied} {path}");
            assert!(!http_decision(&denying, "/v1/other").is_denied(), "{denied}");
            let unless = rules.clone().unless(Rules::new().allow(http(Method::GET, denied)));
            let call = Call::Http { method: &Method::GET, path };
            assert!(unless.decide(&caller(""), &call).is_denied(), "unless {denied} {path}");
        }
        // What is allowed is allowed as it is written.
        let one = Rules::new().allow(http(Method::GET, "/v1/admin"));
        assert!(http_decision(&one, "/v1/admin/").is_denied());
    }

    #[test]
    fn j217_no_pattern_allows_a_uri_that_its_reader_resolves_to_another() {
        let rules = Rules::new().allow(resources(["file:///data/*", "repo://a/../b"]));
        let decide = |uri| rules.decide(&caller(""), &Call::Resource { uri });
        for uri in [
            "file:///data/report.txt",
            "file:///data/..hidden/a...b",
            "file:///data/a%20b%2Fc?at=1.2",
            "file:///data/{name}{.ext}",
            "file:///data/{+path}",
            "repo://a/../b",
        ] {
            assert_eq!(decide(uri), Decision::allow(), "{uri}");
        }
        for uri in [
            "file:///data/../etc/passwd",
            "file:///data/..",
            "file:///data/./x",
            "file:///data/%2e%2e/etc/passwd",
            "file:///data/.%2E/etc/passwd",
            "file:///data/..%2fetc/passwd",
            "file:///data/..%5cetc/passwd",
            "file:///data/..\\etc\\passwd",
            "file:///data/x\\y",
            "file:///data/%252e%252e/etc/passwd",
            "file:///data/..;x=1/etc/passwd",
            "file:///data/x?/../../etc/passwd",
            "file:///data/%73ecret",
            "file:///data/x%00.txt",
            "repo://a/./../b",
        ] {
            assert_eq!(decide(uri), Decision::deny_for(Reason::ResourceDenied), "{uri}");
        }
        let denied = Rules::new().allow(resources(["repo://a/../b"])).deny(resources(["repo:*"]));
        assert!(denied.decide(&caller(""), &Call::Resource { uri: "repo://a/../b" }).is_denied());
    }

    #[test]
    fn a_rule_that_would_do_nothing_is_no_rule() {
        let panics = |rule: fn() -> Rule| std::panic::catch_unwind(rule).is_err();
        assert!(panics(|| resources(["*"]).when(|_| true)));
        assert!(panics(|| methods(["*"]).when(|_| true)));
        assert!(panics(|| http(Method::GET, "/v1").when(|_| true)));
        assert!(!panics(|| tools(["*"]).when(|_| true)));
        assert!(!panics(|| prompts(["*"]).when(|_| true)));
        assert!(panics(|| http(Method::GET, "/v1/{*rest}/admin")));
        assert!(panics(|| http(Method::GET, "/v1/item-{id}")));
        assert!(panics(|| http(Method::GET, "/v1/{id}.json")));
        assert!(panics(|| http(Method::GET, "/v1/{}")));
        assert!(panics(|| http(Method::GET, "/v1/{*}")));
        assert!(panics(|| http(Method::GET, "/v1/{{id}}")));
        assert!(panics(|| http(Method::GET, "/v1/*")));
        assert!(panics(|| http(Method::GET, "v1")));
        assert!(panics(|| http(Method::GET, "/v1?all")));
        assert!(panics(|| http(Method::GET, "/v1/../admin")));
        assert!(!panics(|| http(Method::GET, "/v1/{id}/notes/{*rest}")));
    }
}
