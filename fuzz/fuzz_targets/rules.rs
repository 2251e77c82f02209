//! A name, and rules (one per line: `+` or `-`, patterns between commas): the tables decide as a
//! naive matcher over all rules. A denial may deny more than the matcher, because it compares all
//! readings of a name, and never less; of names with one reading it denies the same.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use tower_token_broker::{
    clock::Timestamp,
    principal::{Principal, Resource, TokenTimes, User, Verified},
    scope_filter::{Arguments, Call, Policy as _, Rules, http, prompts, resources, tools},
};

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    let (mut rules, mut walked) = (Rules::new(), Vec::new());
    // 100 of each are enough to reach every table.
    for line in lines.take(100) {
        let (is_allow, list) = match line.split_at_checked(1) {
            Some(("+", list)) => (true, list),
            Some(("-", list)) => (false, list),
            _ => return,
        };
        let patterns: Vec<&str> = list.split(',').take(100).collect();
        let all = [tools(patterns.clone()), prompts(patterns.clone()), resources(patterns.clone())];
        let add = |rules: Rules, rule| if is_allow { rules.allow(rule) } else { rules.deny(rule) };
        rules = all.into_iter().fold(rules, add);
        if is_template(list) {
            rules = add(rules, http(Method::GET, list));
        }
        walked.push((is_allow, list, patterns));
    }
    let caller = caller();
    let is_allowed = |call: Call<'_>| !rules.decide(&caller, &call).is_denied();
    let any = |wanted, fits: &dyn Fn(&str) -> bool| {
        walked.iter().any(|(is_allow, _, patterns)| {
            *is_allow == wanted && patterns.iter().any(|pattern| fits(pattern))
        })
    };
    let fits = |pattern: &str| matches(pattern.as_bytes(), name.as_bytes());
    let expected = any(true, &fits) && !any(false, &fits);
    let arguments = Arguments::unknown();
    let denies = walked.iter().filter(|(is_allow, ..)| !is_allow);
    let mut denied = denies.flat_map(|(_, _, patterns)| patterns.iter().copied());
    // Then each name and pattern has one reading.
    let is_exact = denied.clone().next().is_none() || (is_word(name) && denied.all(is_word));
    let holds = |decided: bool, expected: bool| match is_exact {
        true => assert_eq!(decided, expected),
        false => assert!(!decided || expected, "denied by the matcher"),
    };
    holds(is_allowed(Call::Tool { name, arguments }), expected);
    holds(is_allowed(Call::Prompt { name, arguments }), expected);
    // A name that an upstream may resolve to another one is allowed only by its exact text.
    let by_name =
        any(true, &|pattern| pattern == name && !pattern.contains('*')) && !any(false, &fits);
    let uri = is_allowed(Call::Resource { uri: name });
    // Upper case may belong to a scheme, and a slash to a host without a path.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if is_exact {
        assert!(uri == expected || (!is_plain && uri == by_name), "{expected} {by_name}");
    } else {
        assert!(!uri || expected || by_name, "{expected} {by_name}");
    }

    let path_fits = |wanted, is_wide| {
        let templates =
            walked.iter().filter(|(is_allow, list, _)| *is_allow == wanted && is_template(list));
        templates.into_iter().any(|(_, template, _)| path_matches(template, name, is_wide))
    };
    let path = is_allowed(Call::Http { method: &Method::GET, path: name });
    if is_simple(name) {
        let expected = path_fits(true, false) && !path_fits(false, true);
        let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let templates = walked.iter().filter(|(is_allow, list, _)| !is_allow && is_template(list));
        if is_lower(name) && templates.into_iter().all(|(_, template, _)| is_lower(template)) {
            assert_eq!(path, expected);
        } else {
            assert!(!path || expected, "denied by the matcher");
        }
    }
    assert!(!is_allowed(Call::Http { method: &Method::POST, path: name }), "no rule names it");
});

/// Matches a pattern: a star is nothing, or one character and a star.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // One row of the table of all prefixes of the name against all prefixes of the pattern.
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for byte in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = if *byte == b'*' {
                row[at] || (at > 0 && next[at - 1])
            } else {
                at > 0 && row[at - 1] && name[at - 1] == *byte
            };
        }
        row = next;
    }
    row[name.len()]
}

/// Lower-case letters, digits and stars.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'*')
}

fn is_simple(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path.bytes().all(|byte| byte == b'/' || byte.is_ascii_alphanumeric())
}

/// Whether a template is unambiguous.
fn is_template(text: &str) -> bool {
    let Some(segments) = text.strip_prefix('/') else { return false };
    let count = segments.split('/').count();
    segments.split('/').enumerate().all(|(at, segment)| {
        let is_last = at + 1 == count;
        let is_name = segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && (is_last || !segment.is_empty());
        is_name || segment == "{x}" || (is_last && segment == "{*r}")
    })
}

/// Matches by segments. If `widely`, a slash at the end makes no difference.
fn path_matches(template: &str, path: &str, is_wide: bool) -> bool {
    let trimmed = |text: &str| text.trim_matches('/').to_owned();
    let (template, path) = if is_wide {
        (trimmed(template), trimmed(path))
    } else {
        (template[1..].to_owned(), path[1..].to_owned())
    };
    let segments = |text: &str| -> Vec<String> {
        if is_wide && text.is_empty() {
            Vec::new()
        } else {
            text.split('/').map(str::to_owned).collect()
        }
    };
    let (mut template, actual) = (segments(&template), segments(&path));
    let has_rest = template.last().is_some_and(|last| last == "{*r}");
    if has_rest {
        template.pop();
        if actual.get(template.len()).is_none_or(String::is_empty) {
            return false;
        }
    } else if template.len() != actual.len() {
        return false;
    }
    template.iter().zip(&actual).all(|(segment, actual)| {
        if segment == "{x}" { !actual.is_empty() } else { segment == actual }
    })
}

fn caller() -> Principal {
    let issued_at = Timestamp::from_unix_seconds(1);
    let times = TokenTimes { id: "t", issued_at, expires_at: issued_at };
    let resource = Resource::parse("https://broker.example.com/mcp").expect("a resource");
    Principal::for_test(&Verified::vouch(
        User::new("https://i.example", "alice"),
        "client",
        resource,
        times,
    ))
}
