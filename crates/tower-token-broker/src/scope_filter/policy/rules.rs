//! A policy made of rules in code.

use std::sync::OnceLock;

use super::{
    call::Call,
    canonical::{is_canonical_uri, is_method_respelled},
    conditions::Holds,
    decision::Decision,
    digest::Encoder,
    index::Index,
    names::{Kind, Reading},
    policy_trait::{Policy, PolicySummary},
    readings::Readings,
    rule::Rule,
};
use crate::{audit::PolicyDigest, limits::Protocol, principal::Principal, refusal::Reason};

/// A policy made of rules. A call is denied unless a rule allows it. A rule that denies takes
/// precedence.
///
/// | call | allowed if |
/// |---|---|
/// | any call with a name or path | an `allow` rule names it, and no `deny` rule does |
/// | a list | an `allow` rule names anything of that kind; the entries are judged one by one |
/// | `initialize`, `ping`, notifications, the GET stream, … | there is any `allow` rule for MCP |
/// | a client's response within a session | there is any `allow` rule for MCP |
///
/// If several `allow` rules name a call, the first one whose scopes the caller has decides. If the
/// caller has the scopes of none, the first one determines which scopes are needed.
///
/// An `allow` matches the name exactly as written. A URI that differs from its canonical text (RFC
/// 3986 §6.2.2: scheme and host in lower case, escapes in upper case and only where needed, no dot
/// segments, no empty path of `http`), or that contains a backslash, a control character or octets
/// that are not UTF-8, is allowed only by a rule with exactly this URI, never by a pattern. So is a
/// method that differs from one of MCP only in its spelling, such as `Tools/call`.
///
/// A `deny` matches every spelling that a server may read as the name. It ignores case,
/// percent-escapes (also repeated ones), compatibility forms (NFKC) and invisible characters of
/// Unicode, repeated slashes and a trailing one, dots and blanks at the end of a segment, and the
/// difference between slash and backslash. In names of tools, prompts and methods it also ignores
/// the difference between `_`, `-` and a blank; in URIs and paths parameters (`;v=1`); in URIs
/// query, fragment, user information, default ports, the spelling of an IP address or an
/// internationalized host, the forms of a `file` URI, and the values of variables; around names and
/// URIs delimiters. A URI inside the text (`jar:file:///a!/b`, `url(https://a)`, in a query) is
/// compared as well, and a file or a web server by an unknown scheme or, after `//`, without one. A
/// pattern that a text leaves by `..` and one that it then enters both match. Of a URI template,
/// the text before the first `{` is also compared. A text with octets that are not UTF-8 is denied
/// while there is any `deny` for that kind of call, and one with more readings than are compared
/// (64, or 128 KiB of work) is refused ([`Reason::MemberTooLarge`]). Without such a rule, none of
/// this is computed. [`Call::may_name`] compares in the same way in closures.
///
/// Audit records name the rules that decided by their digest (`policy_version`). It covers
/// everything but the code of closures ([`Rule::when`], [`Rule::for_caller`]). Give such a rule an
/// ID that changes with its code.
///
/// ```
/// use tower_token_broker::scope_filter::{Rules, prompts, tools};
///
/// let rules = Rules::new()
///     .allow(tools(["list_*", "get_*"]).with_scope("crm:read"))
///     .allow(tools(["create_*"]).with_scope("crm:write").with_upstream_scopes("contacts:write"))
///     .allow(prompts(["*"]))
///     .deny(tools(["get_salary"]));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "rules have no effect until they are used as a policy"]
pub struct Rules {
    allow: Index,
    deny: Index,
    digest: OnceLock<PolicyDigest>,
}

impl Rules {
    /// Creates a policy that denies everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows the calls that this rule names.
    pub fn allow(mut self, rule: Rule) -> Self {
        self.allow.add(rule);
        self.digest = OnceLock::new();
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

    /// Denies the calls that this rule names, whatever others allow. Its scopes are ignored.
    pub fn deny(mut self, rule: Rule) -> Self {
        self.deny.add(rule);
        self.digest = OnceLock::new();
        self
    }
}

/// Returns the denial of a call by the first of these rules that names it in any of its readings.
#[cold]
fn named_by(rules: &Index, kind: Kind, caller: &Principal, call: &Call<'_>) -> Option<Decision> {
    let readings = Readings::of(call);
    let mut matching = rules.matching_any(kind, call, &readings);
    let denial =
        matching.find_map(|rule| rule.denial(call).filter(|_| rule.may_be_about(caller)))?;
    Some(match readings {
        Ok(_) => denial,
        Err(unbounded) => unbounded.denial(call).or_rule_of(&denial),
    })
}

impl Policy for Rules {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        let Some(kind) = Kind::of(call) else {
            let is_allowed = if let Call::List { of } = call {
                self.has_kind_for(caller, |kind| kind.is_listed_as(*of))
            } else {
                self.has_kind_for(caller, |kind| !matches!(kind, Kind::Rpc | Kind::Http))
            };
            return if is_allowed { Decision::allow() } else { Decision::deny(call) };
        };
        // The readings are computed only if a rule compares them.
        if self.deny.has(kind)
            && let Some(denial) = named_by(&self.deny, kind, caller, call)
        {
            return denial;
        }
        let is_ambiguous = matches!(call, Call::Resource { uri } if !is_canonical_uri(uri))
            || matches!(call, Call::Method { method } if is_method_respelled(method));
        let reading = if is_ambiguous { Reading::Exact } else { Reading::AsWritten };
        let (mut needed, mut wrong_arguments) = (None, None);
        let matching = self.allow.matching(kind, call, reading);
        for rule in matching.filter(|rule| rule.is_about(caller)) {
            match rule.when_holds(call) {
                Holds::No | Holds::Unknown => drop(wrong_arguments.get_or_insert(rule)),
                Holds::Yes | Holds::ForSome if caller.scopes().contains_all(&rule.scopes) => {
                    let allowed = match rule.get_content {
                        true => Decision::allow().with_get_content(),
                        false => Decision::allow(),
                    };
                    let allowed = allowed
                        .with_upstream_scopes(rule.upstream_scopes.clone())
                        .resting_on(rule.scopes.clone());
                    return rule.decided(allowed);
                }
                Holds::Yes | Holds::ForSome => drop(needed.get_or_insert(rule)),
                Holds::Ambiguous => {
                    return rule.decided(Decision::deny_for(Reason::CaseVariant));
                }
            }
        }
        match (needed, wrong_arguments) {
            (Some(rule), _) => rule.decided(Decision::needs_scope(rule.scopes.clone())),
            (None, Some(rule)) => rule.decided(Decision::deny_for(Reason::ArgumentsDenied)),
            (None, None) => Decision::deny(call),
        }
    }

    fn except(
        &self,
        caller: &Principal,
        call: &Call<'_>,
    ) -> (Option<Decision>, Option<PolicyDigest>) {
        let Some(kind) = Kind::of(call).filter(|kind| self.allow.has(*kind)) else {
            return (None, self.digest());
        };
        let exception = named_by(&self.allow, kind, caller, call).filter(|_| {
            // J425: only what is denied as it is written is left out.
            let mut denying = self.deny.matching(kind, call, Reading::AsWritten);
            let holds = |rule: &Rule| matches!(rule.when_holds(call), Holds::Yes | Holds::ForSome);
            !denying.any(|rule| rule.is_about(caller) && holds(rule))
        });
        (exception, self.digest())
    }

    fn digest(&self) -> Option<PolicyDigest> {
        Some(*self.digest.get_or_init(|| {
            let mut encoder = Encoder::new();
            for rules in [self.allow.rules(), self.deny.rules()] {
                encoder.count(rules.len());
                rules.iter().for_each(|rule| rule.encode(&mut encoder));
            }
            encoder.digest()
        }))
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
            format!("{} applies to a protocol that the stack does not speak", rule.in_words())
        }));
        for rule in self.allow.rules() {
            if self.deny.rules().iter().any(|denying| denying.covers(rule)) {
                without_effect.push(format!("{} is denied by another rule", rule.in_words()));
            }
        }
        PolicySummary { rules: Some(all().count()), without_effect }
    }
}

#[cfg(test)]
mod tests {
    use ::http::Method;

    use super::*;
    #[cfg(feature = "grpc")]
    use crate::scope_filter::grpc;
    use crate::{
        json::Value,
        mcp::Listed,
        principal::Scopes,
        scope_filter::{
            Arguments, PolicyExt as _, http, methods, prompts, resources, tests::caller, tools,
        },
    };

    fn tool<'a>(name: &'a str, arguments: &'a str) -> Call<'a> {
        Call::Tool { name, arguments: Arguments::of_object(arguments) }
    }

    #[test]
    fn deny_wins_and_is_the_default() {
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
    fn all_scopes_of_a_rule_are_requested_together() {
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
    fn arguments_are_judged_if_known() {
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

    #[test]
    fn j420_a_variant_of_a_member_that_is_read_is_refused() {
        let owner_is = |path: &'static [&'static str], owner: &'static str| {
            move |arguments: Value<'_>| {
                let read = path.iter().try_fold(arguments, |value, name| match *name {
                    "[]" => value.elements()?.next(),
                    name => value.get(name),
                });
                read.and_then(Value::as_str).is_some_and(|read| *read == *owner)
            }
        };
        let refused = Decision::deny_for(Reason::CaseVariant);
        let caller = caller("");
        for (path, arguments) in [
            (&["owner"][..], r#"{"owner":"me","Owner":"ceo"}"#),
            (&["owner"], r#"{"owner":"me","\u004fWNER":"ceo"}"#),
            (&["owner"], r#"{"owner":"me","owner\u0000":"ceo"}"#),
            (&["owner"], r#"{"Owner":"ceo"}"#),
            (&["status"], r#"{"status":"me","\u017ftatus":"ceo"}"#),
            (&["key"], r#"{"key":"me","\u212aey":"ceo"}"#),
            (&["id"], r#"{"id":"me","ıd":"ceo"}"#),
            (&["owner_id"], r#"{"owner_id":"me","ownerId":"ceo"}"#),
            (&["filter", "owner"], r#"{"filter":{"owner":"me","OWNER":"ceo"}}"#),
            (&["filter", "owner"], r#"{"filter":{"owner":"me"},"Filter":{"owner":"ceo"}}"#),
            (&["all", "[]", "owner"], r#"{"all":[{"owner":"me","Owner":"ceo"}]}"#),
        ] {
            let allow = Rules::new().allow(tools(["push"]).when(owner_is(path, "me")));
            let all = || Rules::new().allow(tools(["*"]));
            let deny = all().deny(tools(["push"]).when(owner_is(path, "ceo")));
            let exception = Rules::new().allow(tools(["push"]).when(owner_is(path, "ceo")));
            let unless = all().unless(exception);
            let call = tool("push", arguments);
            assert_eq!(allow.decide(&caller, &call), refused, "J420 {arguments}");
            assert_eq!(deny.decide(&caller, &call), refused, "J420 {arguments}");
            assert_eq!(unless.decide(&caller, &call), refused, "J420 {arguments}");
            let unread = all().deny(tools(["push"]).when(owner_is(&["other"], "ceo")));
            assert_eq!(unread.decide(&caller, &call), Decision::allow(), "{arguments}");
        }
        // All members are read, or the text.
        let names = |arguments: Value<'_>| arguments.members().is_some_and(|it| it.count() > 0);
        let text = |arguments: Value<'_>| arguments.raw().contains("me");
        for (rule, is_deep) in
            [(tools(["push"]).when(names), false), (tools(["push"]).when(text), true)]
        {
            let rules = Rules::new().allow(rule);
            let flat = tool("push", r#"{"owner":"me","Owner":"ceo"}"#);
            assert_eq!(rules.decide(&caller, &flat), refused, "J420");
            let deep = tool("push", r#"{"a":[{"owner":"me","Owner":"ceo"}]}"#);
            assert_eq!(rules.decide(&caller, &deep) == refused, is_deep, "J420");
            let plain = tool("push", r#"{"a":"me","b":{"a":1}}"#);
            assert_eq!(rules.decide(&caller, &plain), Decision::allow());
        }
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
    fn l241_a_denied_path_is_denied_in_any_spelling() {
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
        // An allowed path must match exactly.
        let one = Rules::new().allow(http(Method::GET, "/v1/admin"));
        assert!(http_decision(&one, "/v1/admin/").is_denied());
    }

    #[test]
    fn j217_no_pattern_allows_an_ambiguous_uri() {
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
    fn a_rule_that_can_never_apply_panics() {
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

    #[test]
    fn different_rules_have_different_digests() {
        let base = || tools(["get_*"]).with_scope("crm:read");
        let variants = [
            Rules::new(),
            Rules::new().allow(base()),
            Rules::new().deny(base()),
            Rules::new().allow(base()).allow(base()),
            Rules::new().allow(tools(["get_"]).with_scope("crm:read")),
            Rules::new().allow(tools(["get_*", ""]).with_scope("crm:read")),
            Rules::new().allow(resources(["get_*"]).with_scope("crm:read")),
            Rules::new().allow(tools(["get_*"])),
            Rules::new().allow(tools(["get_*"]).with_scope("crm:read crm:write")),
            Rules::new().allow(tools(["get_*"]).with_upstream_scopes("crm:read")),
            Rules::new().allow(base().with_id("")),
            Rules::new().allow(base().with_id("a")),
            Rules::new().allow(base().for_group("hr")),
            Rules::new().allow(base().for_claim("hr", "")),
            Rules::new().allow(base().for_caller(|_| true)),
            Rules::new().allow(base().when(|_| true)),
            Rules::new().allow(http(Method::GET, "/a/{b}")),
            Rules::new().allow(http(Method::GET, "/a/b")),
            Rules::new().allow(http(Method::POST, "/a/b")),
            Rules::new().allow(http(Method::GET, "/a/b/{*rest}")),
        ];
        let digests: std::collections::BTreeSet<_> =
            variants.iter().map(|rules| rules.digest().unwrap()).collect();
        assert_eq!(digests.len(), variants.len());
        let same = Rules::new().allow(base()).digest();
        assert_eq!(variants[1].digest(), same);
        assert_eq!(variants[1].clone().allow(base()).digest(), variants[3].digest());
        // Part of the record format: a change needs a new number in the encoder.
        assert_eq!(same.unwrap().to_string(), "08d7a74052ba58ea64131705f1cc6ee8");
    }

    #[test]
    fn a_combined_policy_has_its_own_digest() {
        let (one, other) =
            (|| Rules::new().allow(tools(["a"])), || Rules::new().allow(tools(["b"])));
        let digests = [
            one().digest(),
            one().and(other()).digest(),
            other().and(one()).digest(),
            one().or(other()).digest(),
            one().unless(other()).digest(),
        ];
        let different: std::collections::BTreeSet<_> = digests.iter().flatten().collect();
        assert_eq!(different.len(), digests.len());
        let closure = crate::scope_filter::policy_fn(|_, call| Decision::deny(call));
        assert_eq!(one().and(closure).digest(), None);
    }

    #[test]
    fn the_recorded_digest_is_that_of_the_rules_that_decided() {
        use crate::scope_filter::{Policy as _, PolicyHandle, policy_fn};
        let (one, other) =
            (|| Rules::new().allow(tools(["a"])), || Rules::new().allow(tools(["b"])));
        let call = Call::Tool { name: "b", arguments: Arguments::unknown() };
        let decide = |policy: &dyn Policy| {
            let (decision, digest) = policy.decide_with_digest(&caller(""), &call);
            (decision.is_allowed(), digest)
        };
        let inner = PolicyHandle::new(one());
        let outer = PolicyHandle::new(inner.clone());
        let combined = PolicyHandle::new(inner.clone().and(other()));
        inner.replace(other());
        assert_eq!(decide(&outer), (true, other().digest()));
        assert_eq!(decide(&combined), (true, other().and(other()).digest()));
        assert_eq!(decide(&inner.clone().or(one())), (true, other().or(one()).digest()));
        assert_eq!(decide(&inner.clone().unless(one())), (true, other().unless(one()).digest()));
        // A closure around a handle decides itself, by rules that have no digest.
        let within = inner.clone();
        let opposite = policy_fn(move |caller: &Principal, call: &Call<'_>| {
            if within.decide(caller, call).is_allowed() {
                Decision::deny(call)
            } else {
                Decision::allow()
            }
        });
        assert_eq!(decide(&opposite), (false, None));
        assert_eq!(decide(&PolicyHandle::new(opposite)), (false, None));
    }
}
