//! Policies as rules in code: what may be called, with which scope, and what that asks of the upstream.

use std::{collections::HashMap, fmt, sync::Arc};

use http::Method;

use super::{
    pattern::{PathTemplate, Pattern},
    policy::{Arguments, Call, Decision, Permit, Policy},
};
use crate::{
    mcp::{Listed, strict_json::Value},
    principal::{Principal, Scopes},
    refusal::Reason,
};

/// A policy made of rules. What none of them allows is denied; what one of them denies is denied, whatever others allow.
///
/// | call | allowed if |
/// |---|---|
/// | a tool, resource, prompt, method, HTTP request, gRPC call | an `allow` rule names it, and no `deny` rule does |
/// | the list of a kind | an `allow` rule names anything of that kind; its entries are judged one by one |
/// | `initialize`, `ping`, notifications, the GET stream, … | there is any `allow` rule for MCP |
/// | the client's answer within a session | the same |
///
/// Of several `allow` rules for one call, the first whose scopes the caller has decides; if the caller has none of them,
/// the first names what is needed.
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
                let listed = self.allow.kinds().any(|kind| kind.is_listed_as(*of));
                return if listed { Decision::allow() } else { Decision::deny(call) };
            }
            Call::Protocol { .. } | Call::Answer => {
                let any = self.allow.kinds().any(|kind| !matches!(kind, Kind::Http | Kind::Rpc));
                return if any { Decision::allow() } else { Decision::deny(call) };
            }
            Call::Tool { .. } => Kind::Tool,
            Call::Resource { .. } => Kind::Resource,
            Call::Prompt { .. } => Kind::Prompt,
            Call::Method { .. } => Kind::Method,
            Call::Rpc { .. } => Kind::Rpc,
            Call::Http { .. } => Kind::Http,
        };
        if self.deny.matching(kind, call).any(|rule| rule.when_holds(call) != Holds::No) {
            return Decision::deny(call);
        }
        let (mut needed, mut wrong_arguments) = (None, false);
        for rule in self.allow.matching(kind, call) {
            match rule.when_holds(call) {
                Holds::No => wrong_arguments = true,
                Holds::Yes | Holds::Unknown if caller.scopes().contains_all(&rule.scopes) => {
                    return Decision::Allow(Permit::with_upstream_scopes(rule.upstream_scopes.clone()));
                }
                Holds::Yes | Holds::Unknown => drop(needed.get_or_insert_with(|| rule.scopes.clone())),
            }
        }
        match needed {
            Some(scopes) => Decision::NeedsScope(scopes),
            None if wrong_arguments => Decision::Deny(Reason::ArgumentsDenied),
            None => Decision::deny(call),
        }
    }
}

/// One rule: what it names, and on which terms.
#[derive(Clone)]
#[must_use = "a rule does nothing until it is allowed or denied"]
pub struct Rule {
    kind: Kind,
    names: Names,
    scopes: Scopes,
    upstream_scopes: Scopes,
    when: Option<Arc<When>>,
}

type When = dyn Fn(Value<'_>) -> bool + Send + Sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tool,
    Resource,
    Prompt,
    Method,
    Rpc,
    Http,
}

#[derive(Clone, Debug)]
enum Names {
    Patterns(Vec<Pattern>),
    #[cfg(feature = "grpc")]
    Rpc(Box<str>, Vec<Pattern>),
    Path(Method, PathTemplate),
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

/// Methods that are not otherwise known, such as `logging/setLevel`; `*` stands for any run of characters.
pub fn methods<'a>(names: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::of(Kind::Method, names)
}

/// HTTP requests by method and path template: `{name}` stands for one segment, `{*rest}` at the end for one or more.
///
/// ```
/// # use http::Method;
/// # use tower_token_broker::scope_filter::{Rules, http};
/// let rules = Rules::new().allow(http(Method::GET, "/v1/items/{id}").with_scope("items:read"));
/// ```
pub fn http(method: Method, template: &str) -> Rule {
    Rule::named(Kind::Http, Names::Path(method, PathTemplate::parse(template)))
}

/// gRPC calls by service (with its package, exactly) and method; in the method's name `*` stands for any run of characters.
///
/// Services that carry MCP are judged by what they carry and by no rule of this kind. Reflection (`grpc.reflection.v1.ServerReflection`)
/// and health (`grpc.health.v1.Health`) are services like any other: they pass if a rule names them.
///
/// ```
/// # use tower_token_broker::scope_filter::{Rules, grpc};
/// let rules = Rules::new().allow(grpc("shop.v1.Orders", ["Get*", "Watch*"]).with_scope("orders:read"));
/// ```
#[cfg(feature = "grpc")]
pub fn grpc<'a>(service: &str, methods: impl IntoIterator<Item = &'a str>) -> Rule {
    Rule::named(Kind::Rpc, Names::Rpc(service.into(), methods.into_iter().map(Pattern::parse).collect()))
}

impl Rule {
    fn of<'a>(kind: Kind, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::named(kind, Names::Patterns(names.into_iter().map(Pattern::parse).collect()))
    }

    fn named(kind: Kind, names: Names) -> Self {
        Self { kind, names, scopes: Scopes::none(), upstream_scopes: Scopes::none(), when: None }
    }

    /// Only for callers whose broker token has all of these scopes; others are told which they need.
    ///
    /// # Panics
    /// If the text is no list of scopes (RFC 6749 §3.3): a rule is the operator's own text.
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_scope(mut self, scopes: &str) -> Self {
        self.scopes = Scopes::parse(scopes).unwrap_or_else(|error| panic!("the scope of a rule: {error}"));
        self
    }

    /// The upstream credential needs these scopes too, when this rule is used.
    ///
    /// # Panics
    /// As [`Rule::with_scope`].
    #[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows")]
    pub fn with_upstream_scopes(mut self, scopes: &str) -> Self {
        self.upstream_scopes = Scopes::parse(scopes).unwrap_or_else(|error| panic!("the scope of a rule: {error}"));
        self
    }

    /// Only with arguments (of a tool or prompt) for which this is true. In a list, where no arguments are known, the entry
    /// stands.
    pub fn when<F>(mut self, arguments: F) -> Self
    where
        F: Fn(Value<'_>) -> bool + Send + Sync + 'static,
    {
        self.when = Some(Arc::new(arguments));
        self
    }

    fn names(&self, call: &Call<'_>) -> bool {
        match (&self.names, call) {
            (Names::Patterns(patterns), _) => {
                name_of(call).is_some_and(|name| patterns.iter().any(|p| p.matches(name)))
            }
            (Names::Path(method, template), Call::Http { method: asked, path }) => {
                *asked == method && template.matches(path)
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
        let (Call::Tool { arguments, .. } | Call::Prompt { arguments, .. }) = call else { return Holds::No };
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

impl Kind {
    const fn is_listed_as(self, of: Listed) -> bool {
        matches!(
            (self, of),
            (Self::Tool, Listed::Tools)
                | (Self::Prompt, Listed::Prompts)
                | (Self::Resource, Listed::Resources | Listed::ResourceTemplates)
        )
    }
}

fn name_of<'a>(call: &Call<'a>) -> Option<&'a str> {
    match call {
        Call::Tool { name, .. } | Call::Prompt { name, .. } => Some(name),
        Call::Resource { uri } => Some(uri),
        Call::Method { method } => Some(method),
        Call::List { .. } | Call::Protocol { .. } | Call::Answer | Call::Rpc { .. } | Call::Http { .. } => None,
    }
}

/// Rules in their order, with those that name things exactly found by name.
#[derive(Clone, Debug, Default)]
struct Table {
    rules: Vec<Rule>,
    exact: HashMap<(Kind, Box<str>), Vec<usize>>,
    /// Rules with a pattern or a path: walked.
    walked: Vec<usize>,
}

impl Table {
    fn add(&mut self, rule: Rule) {
        let number = self.rules.len();
        let exact: Option<Vec<&str>> = match &rule.names {
            Names::Patterns(patterns) => patterns.iter().map(Pattern::as_exact).collect(),
            #[cfg(feature = "grpc")]
            Names::Rpc(..) => None,
            Names::Path(..) => None,
        };
        match exact {
            Some(names) => {
                for name in names {
                    self.exact.entry((rule.kind, name.into())).or_default().push(number);
                }
            }
            None => self.walked.push(number),
        }
        self.rules.push(rule);
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.rules.iter().map(|rule| rule.kind)
    }

    /// The rules that name this call, in the order in which they were given.
    fn matching<'t>(&'t self, kind: Kind, call: &Call<'_>) -> impl Iterator<Item = &'t Rule> {
        let exact = name_of(call).and_then(|name| self.exact.get(&(kind, name.into())));
        let walked = self
            .walked
            .iter()
            .filter(|number| self.rules.get(**number).is_some_and(|rule| rule.kind == kind && rule.names(call)));
        let mut numbers: Vec<usize> = exact.into_iter().flatten().chain(walked).copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.rules.get(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_filter::tests::caller;

    fn tool<'a>(name: &'a str, arguments: &'a str) -> Call<'a> {
        Call::Tool { name, arguments: Arguments::of_object(arguments) }
    }

    #[test]
    fn what_no_rule_allows_is_denied_and_deny_wins() {
        let rules = Rules::new().allow(tools(["get_*"])).deny(tools(["get_salary"]));
        let caller = caller("");
        assert_eq!(rules.decide(&caller, &tool("get_item", "{}")), Decision::allow());
        assert_eq!(rules.decide(&caller, &tool("get_salary", "{}")), Decision::Deny(Reason::ToolDenied));
        assert_eq!(rules.decide(&caller, &tool("delete", "{}")), Decision::Deny(Reason::ToolDenied));
        assert!(rules.decide(&caller, &Call::List { of: Listed::Prompts }).is_denied());
        assert!(!rules.decide(&caller, &Call::List { of: Listed::Tools }).is_denied());
        assert!(rules.decide(&caller, &Call::Method { method: "logging/setLevel" }).is_denied());
        assert!(Rules::new().decide(&caller, &Call::Protocol { method: "initialize" }).is_denied());
    }

    #[test]
    fn scopes_of_a_rule_are_asked_for_at_once() {
        let rules = Rules::new().allow(tools(["create"]).with_scope("a b").with_upstream_scopes("w"));
        let needs = Decision::NeedsScope(Scopes::parse("a b").unwrap());
        assert_eq!(rules.decide(&caller("a"), &tool("create", "{}")), needs);
        let permit = Permit::with_upstream_scopes(Scopes::parse("w").unwrap());
        assert_eq!(rules.decide(&caller("a b"), &tool("create", "{}")), Decision::Allow(permit));
    }

    #[test]
    fn arguments_are_judged_where_they_are_known() {
        let acme = |arguments: Value<'_>| {
            arguments.get("repo").and_then(Value::as_str).is_some_and(|repo| repo.starts_with("acme/"))
        };
        let rules = Rules::new().allow(tools(["push"]).when(acme));
        let caller = caller("");
        assert_eq!(rules.decide(&caller, &tool("push", r#"{"repo":"acme/x"}"#)), Decision::allow());
        let other = rules.decide(&caller, &tool("push", r#"{"repo":"evil/x"}"#));
        assert_eq!(other, Decision::Deny(Reason::ArgumentsDenied));
        let listed = Call::Tool { name: "push", arguments: Arguments::unknown() };
        assert_eq!(rules.decide(&caller, &listed), Decision::allow());
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_is_judged_by_service_and_method() {
        let rules = Rules::new().allow(grpc("shop.v1.Orders", ["Get*"]).with_scope("orders"));
        let decide = |scopes, service, method| rules.decide(&caller(scopes), &Call::Rpc { service, method });
        assert_eq!(decide("orders", "shop.v1.Orders", "GetOrder"), Decision::allow());
        assert_eq!(decide("", "shop.v1.Orders", "GetOrder"), Decision::NeedsScope(Scopes::parse("orders").unwrap()));
        for (service, method) in [
            ("shop.v1.Orders", "Delete"),
            ("shop.v1.orders", "GetOrder"),
            ("shop.v1.Order", "GetOrder"),
            ("grpc.health.v1.Health", "Check"),
            ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
        ] {
            assert_eq!(decide("orders", service, method), Decision::Deny(Reason::RpcDenied), "{service}/{method}");
        }
        assert!(rules.decide(&caller("orders"), &Call::Protocol { method: "initialize" }).is_denied());
    }

    #[test]
    fn http_is_judged_by_method_and_template() {
        let rules = Rules::new().allow(http(Method::GET, "/v1/items/{id}")).allow(http(Method::GET, "/files/{*rest}"));
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
}
