//! Laws of conditions on arguments: no respelling of a member that a rule reads passes.

use proptest::{prelude::*, sample::Index};

use super::super::{Arguments, Call, Policy, PolicyExt as _, Rules, policy_fn, tools};
use crate::{
    json::{Value, push_json_string},
    refusal::Reason,
    scope_filter::{Decision, policy::judge, tests::caller},
};

/// One way to respell a name, at a place.
type Respelling = fn(&str, usize) -> String;

fn insert(name: &str, at: usize, text: &str) -> String {
    let (before, behind) = name.split_at(at);
    format!("{before}{text}{behind}")
}

const RESPELLINGS: &[(&str, Respelling)] = &[
    ("upper case", |name, _| name.to_uppercase()),
    ("a hyphen", |name, at| insert(name, at, "-")),
    ("a line", |name, at| insert(name, at, "_")),
    ("a blank", |name, at| insert(name, at, " ")),
    ("a wide blank", |name, at| insert(name, at, "\u{3000}")),
    ("a dot", |name, at| insert(name, at, ".")),
    ("brackets", |name, at| insert(name, at, "[]")),
    ("an accent", |name, at| insert(name, at, "\u{301}")),
    ("an enclosing mark", |name, at| insert(name, at, "\u{20dd}")),
    ("a zero-width blank", |name, at| insert(name, at, "\u{200b}")),
    ("a word joiner", |name, at| insert(name, at, "\u{2060}")),
    ("a variation selector", |name, at| insert(name, at, "\u{fe0f}")),
    ("a tag", |name, at| insert(name, at, "\u{e0041}")),
    ("a tab", |name, at| insert(name, at, "\t")),
    ("a quotation mark", |name, at| insert(name, at, "\"")),
    ("an end at NUL", |name, _| format!("{name}\0x")),
    ("a path", |name, _| format!("{name}.x")),
    ("a path in brackets", |name, _| format!("{name}[x]")),
    ("a path of slashes", |name, _| format!("{name}/x")),
    ("an arrow", |name, _| format!("{name}->x")),
    ("brackets around", |name, _| format!("[{name}]")),
    ("an equals sign", |name, _| format!("{name}=")),
    ("full width", |name, _| {
        let wide = |char: char| match char {
            '!'..='~' => char::from_u32(u32::from(char) + 0xfee0).unwrap(),
            char => char,
        };
        name.chars().map(wide).collect()
    }),
];

proptest! {
    #[test]
    fn j420_no_respelling_of_a_member_passes(
        name in prop::sample::select(&["owner", "ownerId", "id"][..]),
        is_nested in any::<bool>(),
        is_beside in any::<bool>(),
        places in prop::collection::vec(any::<(Index, Index)>(), 1..4),
    ) {
        let (mut other, mut kinds) = (name.to_owned(), Vec::new());
        for (which, at) in &places {
            let (kind, respell) = RESPELLINGS[which.index(RESPELLINGS.len())];
            let mut ends: Vec<_> = other.char_indices().map(|(at, _)| at).collect();
            ends.push(other.len());
            other = respell(&other, ends[at.index(ends.len())]);
            kinds.push(kind);
        }
        prop_assume!(other != name);
        let mut object = String::from("{");
        if is_beside {
            object.push_str(&format!(r#""{name}":"me","#));
        }
        push_json_string(&mut object, &other);
        object.push_str(r#":"ceo"}"#);
        let arguments = match is_nested {
            true => format!(r#"{{"filter":{object}}}"#),
            false => object,
        };
        let is = move |value: &'static str| {
            move |arguments: Value<'_>| {
                let object = if is_nested { arguments.get("filter") } else { Some(arguments) };
                let read = object.and_then(|object| object.get(name)).and_then(Value::as_str);
                read.is_some_and(|read| *read == *value)
            }
        };
        let call = Call::Tool { name: "push", arguments: Arguments::of_object(&arguments) };
        let all = || Rules::new().allow(tools(["*"]));
        let refused = Decision::deny_for(Reason::CaseVariant);
        let exception = Rules::new().allow(tools(["push"]).when(is("ceo")));
        let decide = |policy: &dyn Policy| policy.decide(&caller(""), &call);
        let allow = Rules::new().allow(tools(["push"]).when(is("me")));
        prop_assert_eq!(&decide(&allow), &refused, "{} {:?}", arguments, kinds);
        let deny = all().deny(tools(["push"]).when(is("ceo")));
        prop_assert_eq!(&decide(&deny), &refused, "{} {:?}", arguments, kinds);
        prop_assert_eq!(&decide(&all().unless(exception)), &refused, "{} {:?}", arguments, kinds);
        // A policy that reads the text.
        let reads = policy_fn(|_, call: &Call<'_>| {
            let Call::Tool { arguments, .. } = call else { return Decision::deny(call) };
            arguments.as_json().map_or_else(|| Decision::deny(call), |_| Decision::allow())
        });
        if is_beside {
            let decision = judge(&reads, &caller(""), &call).0;
            prop_assert_eq!(&decision, &refused, "{} {:?}", arguments, kinds);
        }
        // A rule that reads another member.
        let unread = all().deny(tools(["push"]).when(|it| it.get("other").is_some()));
        prop_assert!(decide(&unread).is_allowed(), "{}", arguments);
    }
}

#[test]
fn j420_a_prototype_is_not_read_past() {
    let is_mine = |arguments: Value<'_>| {
        arguments.get("owner").is_none_or(|owner| owner.as_str().as_deref() == Some("me"))
    };
    let rules = Rules::new().allow(tools(["read"]).when(is_mine)).allow(tools(["write"]));
    let decide = |name, arguments| {
        let call = Call::Tool { name, arguments: Arguments::of_object(arguments) };
        rules.decide(&caller(""), &call)
    };
    for arguments in [
        r#"{"owner":"me","__proto__":{"owner":"ceo"}}"#,
        r#"{"__proto__":{"owner":"ceo"}}"#,
        r#"{"\u005f_proto__":{"owner":"ceo"}}"#,
        r#"{"x":[{"__proto__":{"owner":"ceo"}}]}"#,
        r#"{"constructor":{"prototype":{"owner":"ceo"}}}"#,
        r#"{"x.__proto__.owner":"ceo"}"#,
    ] {
        let refused = Decision::deny_for(Reason::CaseVariant);
        assert_eq!(decide("read", arguments), refused, "J420 {arguments}");
        assert!(decide("write", arguments).is_allowed(), "no rule reads {arguments}");
    }
    for arguments in [
        r#"{"owner":"me","constructor":"ferrari","proto":"tcp"}"#,
        r#"{"owner":"me","note":"__proto__","owners":1,"co_owner":2,"id.owner":3}"#,
    ] {
        assert!(decide("read", arguments).is_allowed(), "{arguments}");
    }
}
