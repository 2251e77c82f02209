//! Policies as rules in code: what may be called, with which scope, and what that asks of the upstream.

use std::{fmt, sync::Arc};

use http::Method;

use super::{
    pattern::{PathTemplate, Pattern},
    plain::is_plain_uri,
    policy::{Arguments, Call, Decision, Permit, Policy},
    table::Table,
};
use crate::{
    json::Value,
    mcp::Listed,
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
/// What is allowed is allowed as it is written; what is denied is denied in every spelling. A `deny` of a path ignores one slash at its
/// end. A URI with a step to another place in it (`.` or `..` between slashes, also escaped, or a backslash) or with an escape that
/// needs none is allowed only by a rule that names it exactly, never by a pattern.
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
            Call::Protocol { .. } | Call::Response => {
                let any = self.allow.kinds().any(|kind| !matches!(kind, Kind::Rpc));
                return if any { Decision::allow() } else { Decision::deny(call) };
            }
            Call::Tool { .. } => Kind::Tool,
            Call::Resource { .. } => Kind::Resource,
            Call::Prompt { .. } => Kind::Prompt,
            Call::Method { .. } => Kind::Method,
            Call::Rpc { .. } => Kind::Rpc,
            Call::Http { .. } => Kind::Http,
        };
        if self.deny.matching(kind, call, Reading::Wide).any(|rule| rule.when_holds(call) != Holds::No) {
            return Decision::deny(call);
        }
        let is_ambiguous = matches!(call, Call::Resource { uri } if !is_plain_uri(uri));
        let reading = if is_ambiguous { Reading::Exact } else { Reading::AsWritten };
        let (mut needed, mut wrong_arguments) = (None, false);
        for rule in self.allow.matching(kind, call, reading) {
            match rule.when_holds(call) {
                Holds::No => wrong_arguments = true,
                Holds::Yes | Holds::Unknown if caller.scopes().contains_all(&rule.scopes) => {
                    let permit = Permit::with_upstream_scopes(rule.upstream_scopes.clone());
                    return Decision::Allow(permit.resting_on(rule.scopes.clone()));
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
    pub(super) kind: Kind,
    pub(super) names: Names,
    scopes: Scopes,
    upstream_scopes: Scopes,
    when: Option<Arc<When>>,
}

type When = dyn Fn(Value<'_>) -> bool + Send + Sync;

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
///
/// # Panics
/// If the text is no template: it begins with a slash, braces stand around a whole segment (`{id}`, not `item-{id}`), `{*rest}` stands
/// at the end, and there is no `*` elsewhere, no query, and nothing that a path can't hold.
#[expect(clippy::panic, reason = "a rule that can't be read must not become one that allows, or one that never denies")]
pub fn http(method: Method, template: &str) -> Rule {
    let path =
        PathTemplate::parse(template).unwrap_or_else(|| panic!("the path of a rule is no template: {template:?}"));
    Rule::named(Kind::Http, Names::Path(method, path))
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
    ///
    /// # Panics
    /// If the rule is about something that has no arguments: it would never hold.
    pub fn when<F>(mut self, arguments: F) -> Self
    where
        F: Fn(Value<'_>) -> bool + Send + Sync + 'static,
    {
        assert!(matches!(self.kind, Kind::Tool | Kind::Prompt), "only tools and prompts have arguments to look at");
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
        let permit =
            Permit::with_upstream_scopes(Scopes::parse("w").unwrap()).resting_on(Scopes::parse("a b").unwrap());
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
        let permit = Permit::default().resting_on(Scopes::parse("orders").unwrap());
        assert_eq!(decide("orders", "shop.v1.Orders", "GetOrder"), Decision::Allow(permit));
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
            assert_eq!(decide(uri), Decision::Deny(Reason::ResourceDenied), "{uri}");
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
