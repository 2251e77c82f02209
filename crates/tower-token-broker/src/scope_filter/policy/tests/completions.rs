//! Conditions on arguments where some are not known: completions, and entries of lists.

use super::super::{
    Arguments, BoxPolicy, Call, Policy, PolicyExt as _, Rules, policy_fn, prompts, tools,
};
use crate::{
    json::Value,
    refusal::Reason,
    scope_filter::{Decision, policy::judge, tests::caller},
};

fn owner_is(value: &'static str) -> impl Fn(Value<'_>) -> bool + Send + Sync + 'static {
    move |arguments| {
        arguments.get("owner").and_then(Value::as_str).is_some_and(|owner| *owner == *value)
    }
}

/// Returns a completion for a prompt with these arguments.
fn completion<'a>(json: &'a str, completing: &'a str) -> Call<'a> {
    let arguments = Arguments::of_completion(json, Some(completing));
    Call::Prompt { name: "report", arguments }
}

fn decide(policy: &impl Policy, call: &Call<'_>) -> Decision {
    judge(policy, &caller(""), call).0
}

#[test]
fn j427_a_rule_that_allows_needs_the_arguments_that_it_reads() {
    let mine = || Rules::new().allow(prompts(["report"]).when(owner_is("me")));
    let lenient = |arguments: Value<'_>| {
        arguments.get("owner").is_none_or(|owner| owner.as_str().as_deref() == Some("me"))
    };
    let all = |arguments: Value<'_>| {
        let mut members = arguments.members().into_iter().flatten();
        members.all(|(name, value)| *name != *"owner" || value.as_str().as_deref() == Some("me"))
    };
    let text = |arguments: Value<'_>| !arguments.raw().contains("ceo");
    let of = |rule| Rules::new().allow(rule);
    let denied = Decision::deny_for(Reason::ArgumentsDenied);
    for rules in [
        mine(),
        of(prompts(["report"]).when(lenient)),
        of(prompts(["report"]).when(all)),
        of(prompts(["report"]).when(text)),
    ] {
        for (json, completing) in [
            (r#"{"owner":"ceo"}"#, "owner"),
            (r#"{"owner":"ceo","x":"v"}"#, "x"),
            (r#"{"x":"v"}"#, "x"),
            ("{}", "owner"),
            (r#"{"owner":""}"#, "owner"),
        ] {
            assert_eq!(decide(&rules, &completion(json, completing)), denied, "J427 {json}");
        }
        // A request with unknown arguments is no list.
        let unknown = Call::Prompt { name: "report", arguments: Arguments::unknown() };
        assert_eq!(decide(&rules, &unknown), denied, "J427");
        // In a list it is.
        assert!(rules.decide(&caller(""), &unknown).is_allowed());
    }
    for (json, completing) in [(r#"{"owner":"me"}"#, "owner"), (r#"{"owner":"me","x":""}"#, "x")] {
        assert!(decide(&mine(), &completion(json, completing)).is_allowed(), "{json}");
    }
    let unconditional = Rules::new().allow(prompts(["report"]).when(|_| true));
    assert!(decide(&unconditional, &completion("{}", "x")).is_allowed());
}

#[test]
fn j427_a_denial_holds_unless_its_arguments_are_known() {
    let all = || Rules::new().allow(prompts(["*"]));
    let rule = || prompts(["report"]).when(owner_is("ceo"));
    for (how, policy) in [
        ("deny", BoxPolicy::new(all().deny(rule()))),
        ("deny with a scope", BoxPolicy::new(all().deny(rule().with_scope("x")))),
        ("unless", BoxPolicy::new(all().unless(Rules::new().allow(rule())))),
        ("and", BoxPolicy::new(all().and(all().deny(rule())))),
    ] {
        for (json, completing) in [
            (r#"{"owner":"ceo"}"#, "owner"),
            (r#"{"owner":"ce"}"#, "owner"),
            (r#"{"owner":""}"#, "owner"),
            (r#"{"owner":"ceo","x":"v"}"#, "x"),
            (r#"{"x":"v"}"#, "x"),
            ("{}", "x"),
        ] {
            let decision = decide(&policy, &completion(json, completing));
            assert!(decision.is_denied(), "J427 {how} {json}");
        }
        let mine = completion(r#"{"owner":"me","x":"v"}"#, "x");
        assert!(decide(&policy, &mine).is_allowed(), "{how}");
        // It can be called with some arguments, so it is listed.
        let listed = Call::Prompt { name: "report", arguments: Arguments::unknown() };
        assert!(policy.decide(&caller(""), &listed).is_allowed(), "{how}");
    }
}

#[test]
fn j427_a_closure_does_not_take_a_completion_for_a_list() {
    let closure = |call: &Call<'_>| {
        let Call::Prompt { arguments, .. } = call else { return Decision::deny(call) };
        match arguments.as_json() {
            Some(text) if text.contains("ceo") => Decision::deny(call),
            Some(_) | None => Decision::allow(),
        }
    };
    let policy = policy_fn(move |_, call: &Call<'_>| closure(call));
    let denied = Decision::deny_for(Reason::ArgumentsDenied);
    for policy in [
        BoxPolicy::new(policy),
        BoxPolicy::new(policy.and(Rules::new().allow(prompts(["*"])))),
        BoxPolicy::new(Rules::new().or(policy)),
    ] {
        let decision = decide(&policy, &completion(r#"{"owner":"me"}"#, "x"));
        assert_eq!(decision, denied, "J427");
        let get = |json| Call::Prompt { name: "report", arguments: Arguments::of_object(json) };
        assert!(decide(&policy, &get(r#"{"owner":"me"}"#)).is_allowed());
        assert!(decide(&policy, &get(r#"{"owner":"ceo"}"#)).is_denied());
    }
    // One that knows completions.
    let knows = policy_fn(|_, call: &Call<'_>| {
        let Call::Prompt { arguments, .. } = call else { return Decision::deny(call) };
        match arguments.known_so_far() {
            Some((json, completing)) if json.contains("me") && completing == Some("x") => {
                Decision::allow()
            }
            _ => Decision::deny(call),
        }
    });
    assert!(decide(&knows, &completion(r#"{"owner":"me"}"#, "x")).is_allowed());
    let variants = completion(r#"{"owner":"me","Owner":"ceo"}"#, "x");
    assert_eq!(decide(&knows, &variants), Decision::deny_for(Reason::CaseVariant), "J420");
}

#[test]
fn j420_a_variant_in_a_completion_is_refused() {
    let rules = Rules::new().allow(prompts(["report"]).when(owner_is("me")));
    for json in [
        r#"{"owner":"me","Owner":"ceo"}"#,
        r#"{"owner":"me","owner ":"ceo"}"#,
        r#"{"owner":"me","__proto__":"ceo"}"#,
    ] {
        let refused = Decision::deny_for(Reason::CaseVariant);
        assert_eq!(decide(&rules, &completion(json, "x")), refused, "J420 {json}");
    }
}

#[test]
fn an_entry_is_listed_if_it_can_be_called_with_some_arguments() {
    let all = || Rules::new().allow(tools(["*"]));
    let listed = Call::Tool { name: "push", arguments: Arguments::unknown() };
    let is_listed = |policy: &dyn Policy| !policy.decide(&caller(""), &listed).is_denied();
    let some = || tools(["push"]).when(owner_is("me"));
    assert!(is_listed(&Rules::new().allow(some())));
    assert!(is_listed(&all().deny(some())));
    assert!(is_listed(&all().unless(Rules::new().allow(some()))));
    assert!(is_listed(&all().unless(Rules::new().allow(tools(["*"])).deny(some()))));
    assert!(!is_listed(&all().deny(tools(["push"]))));
    assert!(!is_listed(&all().unless(Rules::new().allow(tools(["push"])))));
    assert!(!is_listed(&Rules::new().allow(tools(["other"]).when(owner_is("me")))));
}
