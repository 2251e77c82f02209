//! The arguments of a completion, as far as they are known.
//!
//! Sources: MCP 2025-11-25 and 2026-07-28, `schema.ts`, `CompleteRequestParams`.

use std::borrow::Cow;

use super::{
    template_values::{Preferred, TemplateValues},
    uri_template,
};
use crate::{
    json::{Kind, Value, push_json_string},
    limits::{LONGEST_NAME, MOST_NAME_BYTES},
    refusal::Reason,
};

/// The name and the value of an argument.
pub(crate) type Argument<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The arguments that a completion names. Those that it does not name may have any value.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion<'a> {
    /// The argument to be completed, with the beginning of its value.
    argument: Option<Argument<'a>>,
    context: Vec<Argument<'a>>,
    /// The text of an object with the arguments.
    json: String,
}

impl<'a> Completion<'a> {
    /// Combines the argument to be completed with those of the context, which are distinct.
    pub(crate) fn new(argument: Option<Argument<'a>>, context: Vec<Argument<'a>>) -> Self {
        let is_argument =
            |name: &str| argument.as_ref().is_some_and(|(argument, _)| is_same(argument, name));
        // J427: an argument with two values is not known. With one, it is written once.
        let mut is_known = argument.is_some();
        let mut json = String::from("{");
        for (name, value) in &context {
            if is_argument(name) {
                is_known = argument.as_ref().is_some_and(|(_, argument)| argument == value);
            } else {
                push_member(&mut json, name, value);
            }
        }
        if let Some((name, value)) = argument.as_ref().filter(|_| is_known) {
            push_member(&mut json, name, value);
        }
        json.push('}');
        Self { argument, context, json }
    }

    /// Reads `params.argument` and `params.context`.
    pub(super) fn read(
        argument: Option<Value<'a>>,
        context: Option<Value<'a>>,
    ) -> Result<Self, Reason> {
        let argument = match argument {
            None => None,
            Some(argument) => {
                let text = |name| argument.get(name).and_then(Value::as_str);
                Some(text("name").zip(text("value")).ok_or(Reason::NotAMessage)?)
            }
        };
        let arguments = match context {
            Some(context) if context.kind() == Kind::Object => context.optional("arguments"),
            Some(_) => return Err(Reason::NotAMessage),
            None => None,
        };
        let mut known = Vec::new();
        if let Some(arguments) = arguments {
            for (name, value) in arguments.members().ok_or(Reason::NotAMessage)? {
                known.push((name, value.as_str().ok_or(Reason::NotAMessage)?));
            }
        }
        Ok(Self::new(argument, known))
    }

    /// Returns the text of an object with the arguments that are known.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// Returns the name of the argument whose value is not final.
    pub(crate) fn completing(&self) -> Option<&str> {
        self.argument.as_ref().map(|(name, _)| name.as_ref())
    }

    /// Returns the URIs of a template with the values that are known, if there are any.
    ///
    /// # Errors
    /// The template or the URIs are too long, or a variable has several values.
    // J428: a server that completes a value looks up what the URI names.
    pub(crate) fn expanded(&self, template: &str) -> Result<Vec<String>, Reason> {
        // J429: no other URI that is judged is longer.
        if template.len() > LONGEST_NAME {
            return Err(Reason::MemberTooLarge);
        }
        let values = TemplateValues::new(self.argument.as_ref(), &self.context);
        let (mut uris, mut budget) = (Vec::new(), MOST_NAME_BYTES);
        for preferred in [Preferred::Argument, Preferred::Context, Preferred::Exact] {
            let value = |name: &str| values.get(name, preferred);
            let uri = uri_template::expand(template, value, &mut budget)?;
            if uri != template && !uris.contains(&uri) {
                uris.push(uri);
            }
        }
        Ok(uris)
    }
}

/// Compares two names; counted in tests.
fn is_same(one: &str, other: &str) -> bool {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + 1);
    one == other
}

fn push_member(json: &mut String, name: &str, value: &str) {
    if json.len() > 1 {
        json.push(',');
    }
    push_json_string(json, name);
    json.push(':');
    push_json_string(json, value);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::json::MemberName;

    thread_local! {
        /// Number of names that were compared.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    fn read(json: &str) -> Result<(String, Option<String>), Reason> {
        let value = Value::known(json);
        let read = Completion::read(value.optional("argument"), value.optional("context"))?;
        Ok((read.json().to_owned(), read.completing().map(str::to_owned)))
    }

    #[test]
    fn j427_what_a_completion_names_is_known() {
        for (json, known, completing) in [
            ("{}", "{}", None),
            (r#"{"argument":{"name":"a","value":"x"}}"#, r#"{"a":"x"}"#, Some("a")),
            (
                r#"{"argument":{"name":"a","value":"x"},"context":{"arguments":{"b":"y"}}}"#,
                r#"{"b":"y","a":"x"}"#,
                Some("a"),
            ),
            (r#"{"context":{"arguments":{"b":"\"y"}}}"#, r#"{"b":"\"y"}"#, None),
            (r#"{"context":null}"#, "{}", None),
            (r#"{"argument":null}"#, "{}", None),
            (r#"{"context":{"arguments":null}}"#, "{}", None),
            // The same value twice is one; of two values, none is known.
            (
                r#"{"argument":{"name":"a","value":"x"},"context":{"arguments":{"a":"x"}}}"#,
                r#"{"a":"x"}"#,
                Some("a"),
            ),
            (
                r#"{"argument":{"name":"a","value":""},"context":{"arguments":{"a":"y","b":"z"}}}"#,
                r#"{"b":"z"}"#,
                Some("a"),
            ),
        ] {
            let expected = (known.to_owned(), completing.map(str::to_owned));
            assert_eq!(read(json), Ok(expected), "J427 {json}");
        }
        for json in [
            r#"{"argument":"a"}"#,
            r#"{"argument":[]}"#,
            r#"{"argument":{"name":"a"}}"#,
            r#"{"argument":{"name":"a","value":null}}"#,
            r#"{"argument":{"name":"a","value":["x"]}}"#,
            r#"{"argument":{"name":1,"value":"x"}}"#,
            r#"{"context":[]}"#,
            r#"{"context":{"arguments":[]}}"#,
            r#"{"context":{"arguments":{"a":1}}}"#,
            r#"{"context":{"arguments":{"a":{"b":"c"}}}}"#,
        ] {
            assert_eq!(read(json), Err(Reason::NotAMessage), "J427 {json}");
        }
    }

    fn completion<'a>(
        argument: (&'a str, &'a str),
        context: &[(&'a str, &'a str)],
    ) -> Completion<'a> {
        let owned = |(name, value): (&'a str, &'a str)| (name.into(), value.into());
        Completion::new(Some(owned(argument)), context.iter().copied().map(owned).collect())
    }

    #[test]
    fn j428_both_values_of_an_argument_are_expanded() {
        let known = completion(("p", "x"), &[("P", "y"), ("q", "z")]);
        let expanded = |template: &str| known.expanded(template).unwrap();
        assert_eq!(expanded("a:/{p}/{q}"), ["a:/x/z", "a:/y/z"], "J428");
        assert_eq!(expanded("a:/{other}"), Vec::<String>::new());
        // A reader that distinguishes the case has one of each.
        assert_eq!(expanded("a:/{p}/{P}"), ["a:/x/x", "a:/y/y", "a:/x/y"], "J428");
        let known = completion(("q", "x"), &[("p", "y"), ("P", "z")]);
        assert_eq!(known.expanded("a:/{p}"), Err(Reason::CaseVariant), "J428");
        assert_eq!(known.expanded("a:/{q}"), Ok(vec!["a:/x".to_owned()]));
    }

    #[test]
    fn j429_an_expansion_has_a_bound() {
        let long = "x".repeat(1 << 20);
        for (template, value) in [
            ("{a}".repeat(5000), long.as_str()),
            ("{a}".repeat(5000), "12345678901234567890"),
            (format!("{{{}}}", "a,".repeat(5000)), "12345678901234567890"),
            ("{?a}".repeat(4000), "\u{e9}\u{e9}\u{e9}\u{e9}"),
            ("{a:50000}".to_owned(), &long),
            ("{a*}{+a}".to_owned(), &long),
            ("a".repeat(LONGEST_NAME + 1), ""),
            (format!("{}{{a}}", "a".repeat(LONGEST_NAME)), ""),
        ] {
            let head = template.get(..template.len().min(12)).unwrap();
            for known in [completion(("a", value), &[]), completion(("b", ""), &[("A", value)])] {
                assert_eq!(known.expanded(&template), Err(Reason::MemberTooLarge), "J429 {head}");
            }
        }
        // Without such values, a template of this length is expanded.
        let template = "{a}".repeat(5000);
        let found = completion(("a", "12345678"), &[]).expanded(&template).unwrap();
        assert_eq!(found, ["12345678".repeat(5000)]);
        assert_eq!(completion(("a", &long), &[]).expanded("{b}"), Ok(Vec::new()));
        let short = completion(("a", &long), &[]).expanded("b:/{a:3}").unwrap();
        assert_eq!(short, ["b:/xxx"]);
    }

    #[test]
    fn j429_variables_and_arguments_are_read_once() {
        let names: Vec<String> = (0..20_000).map(|name| format!("n{name}.a.b")).collect();
        let context: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let template: String = (0..1300).map(|name| format!("{{z{name}.y.x}}")).collect();
        MemberName::count_from_zero();
        assert_eq!(completion(("a", "b"), &context).expanded(&template), Ok(Vec::new()));
        let most = 3 * 1300 + context.len() + 1;
        assert_eq!(MemberName::counted(), most, "J429");
    }

    #[test]
    fn j427_an_argument_is_compared_once_with_the_context() {
        let names: Vec<String> = (0..1000).map(|name| format!("n{name}")).collect();
        let context: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        for (argument, last) in [
            (("n999", "v"), r#""n998":"v","n999":"v"}"#),
            (("n999", "w"), r#""n997":"v","n998":"v"}"#),
            (("n0", "v"), r#""n999":"v","n0":"v"}"#),
            (("other", "v"), r#""n999":"v","other":"v"}"#),
        ] {
            COMPARED.set(0);
            let known = completion(argument, &context);
            assert!(known.json().ends_with(last), "{argument:?} {}", known.json());
            assert_eq!(COMPARED.get(), context.len(), "J427 {argument:?}");
        }
    }
}
