//! The arguments of a completion, as far as they are known.
//!
//! Sources: MCP 2025-11-25 and 2026-07-28, `schema.ts`, `CompleteRequestParams`.

use std::borrow::Cow;

use super::uri_template;
use crate::{
    json::{Kind, Value, is_same_member, push_json_string},
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
        let mut json = String::from("{");
        for (name, value) in context.iter().chain(&argument) {
            // J427: an argument with two values is not known. With one, it is written once.
            let values = || context.iter().chain(&argument).filter(|(other, _)| other == name);
            let is_last = argument.as_ref().is_some_and(|argument| std::ptr::eq(&argument.0, name));
            let is_repeated = values().count() > 1;
            if is_repeated && (!is_last || values().any(|(_, other)| other != value)) {
                continue;
            }
            if json.len() > 1 {
                json.push(',');
            }
            push_json_string(&mut json, name);
            json.push(':');
            push_json_string(&mut json, value);
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
    // J428: a server that completes a value looks up what the URI names.
    pub(crate) fn expanded(&self, template: &str) -> Vec<String> {
        let mut uris = Vec::new();
        let (argument, context) = (self.argument.as_slice(), self.context.as_slice());
        for [first, second] in [[argument, context], [context, argument]] {
            let uri = uri_template::expand(template, |name| {
                let mut known = first.iter().chain(second);
                let (_, value) = known.find(|(known, _)| is_same_member(known, name))?;
                Some(value.as_ref().to_owned())
            });
            if uri != template && !uris.contains(&uri) {
                uris.push(uri);
            }
        }
        uris
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn j428_both_values_of_an_argument_are_expanded() {
        let text = |text: &'static str| Cow::Borrowed(text);
        let completion = Completion::new(
            Some((text("p"), text("x"))),
            vec![(text("P"), text("y")), (text("q"), text("z"))],
        );
        assert_eq!(completion.expanded("a:/{p}/{q}"), ["a:/x/z", "a:/y/z"], "J428");
        assert_eq!(completion.expanded("a:/{other}"), Vec::<String>::new());
    }
}
