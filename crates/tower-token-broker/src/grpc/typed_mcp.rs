//! Google's `model_context_protocol.Mcp`: parses requests strictly for the policy, and filters
//! lists entry by entry.
//!
//! Source: PyPI `mcp-grpc-transport-proto` 0.2.0. The field numbers below are from its descriptors.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use super::protobuf::{Field, Reader, Value, WireError, Writer, once};
use crate::{
    json::Limits,
    mcp::{
        Listed,
        completion::{Argument, Completion},
        method::McpMethod,
        response::Entry,
    },
    refusal::Reason,
};

/// The service of Google's typed mapping of MCP.
pub const TYPED_MCP: &str = "model_context_protocol.Mcp";

/// A method of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    ListResources,
    ReadResource,
    ListResourceTemplates,
    ListPrompts,
    GetPrompt,
    ListTools,
    CallTool,
    Complete,
}

pub(crate) const METHODS: [Method; 8] = [
    Method::ListResources,
    Method::ReadResource,
    Method::ListResourceTemplates,
    Method::ListPrompts,
    Method::GetPrompt,
    Method::ListTools,
    Method::CallTool,
    Method::Complete,
];

impl Method {
    /// Recognizes a method by the last segment of the path.
    pub(crate) fn of(name: &str) -> Option<Self> {
        METHODS.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ListResources => "ListResources",
            Self::ReadResource => "ReadResource",
            Self::ListResourceTemplates => "ListResourceTemplates",
            Self::ListPrompts => "ListPrompts",
            Self::GetPrompt => "GetPrompt",
            Self::ListTools => "ListTools",
            Self::CallTool => "CallTool",
            Self::Complete => "Complete",
        }
    }

    /// Returns the MCP method.
    pub(crate) const fn mcp(self) -> McpMethod<'static> {
        match self {
            Self::ListResources => McpMethod::ListResources,
            Self::ReadResource => McpMethod::ReadResource,
            Self::ListResourceTemplates => McpMethod::ListResourceTemplates,
            Self::ListPrompts => McpMethod::ListPrompts,
            Self::GetPrompt => McpMethod::GetPrompt,
            Self::ListTools => McpMethod::ListTools,
            Self::CallTool => McpMethod::CallTool,
            Self::Complete => McpMethod::Complete,
        }
    }
}

/// The content of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TypedCall<'a> {
    List(Listed),
    Tool {
        name: &'a str,
        arguments: String,
    },
    Resource {
        uri: &'a str,
    },
    Prompt {
        name: &'a str,
        arguments: String,
    },
    /// A completion for a prompt.
    CompletionFor {
        name: &'a str,
        known: Completion<'a>,
    },
    /// A completion for a template.
    CompletionIn {
        uri: &'a str,
        known: Completion<'a>,
    },
}

/// Parses the request of a method.
pub(crate) fn read<'a>(
    method: Method,
    message: &'a [u8],
    limits: &Limits,
) -> Result<TypedCall<'a>, Reason> {
    let mut reader = Reader::new(message);
    let (mut common, mut second, mut third) = (None, None, None);
    let (mut argument, mut context) = (None, None);
    let mut entries = Vec::new();
    while let Some(field) = reader.next_field()? {
        match (method, field.number) {
            (_, 1) => once(&mut common, field.value.bytes()?)?,
            (Method::CallTool | Method::ReadResource | Method::GetPrompt | Method::Complete, 2) => {
                once(&mut second, field.value.bytes()?)?
            }
            (Method::GetPrompt, 3) => entries.push(field.value.bytes()?),
            (Method::Complete, 3) => once(&mut third, field.value.bytes()?)?,
            (Method::Complete, 4) => once(&mut argument, field.value.bytes()?)?,
            (Method::Complete, 5) => once(&mut context, field.value.bytes()?)?,
            _ => return Err(WireError::UnknownField.into()),
        }
    }
    let depth = limits.depth;
    request_fields(common.unwrap_or_default(), depth)?;
    match method {
        Method::ListTools => Ok(TypedCall::List(Listed::Tools)),
        Method::ListPrompts => Ok(TypedCall::List(Listed::Prompts)),
        Method::ListResources => Ok(TypedCall::List(Listed::Resources)),
        Method::ListResourceTemplates => Ok(TypedCall::List(Listed::ResourceTemplates)),
        Method::CallTool => tool_call(second.unwrap_or_default(), depth),
        Method::ReadResource => {
            Ok(TypedCall::Resource { uri: named(second.map(text).transpose()?)? })
        }
        Method::GetPrompt => {
            let arguments = map_of_texts(&entries)?;
            Ok(TypedCall::Prompt { name: named(second.map(text).transpose()?)?, arguments })
        }
        Method::Complete => {
            let known = completion(argument, context.unwrap_or_default())?;
            match (second, third) {
                (Some(resource), None) => {
                    let (uri, _) = only_texts(resource, 1)?;
                    Ok(TypedCall::CompletionIn { uri: named(uri)?, known })
                }
                (None, Some(prompt)) => {
                    let (name, _) = only_texts(prompt, 2)?;
                    Ok(TypedCall::CompletionFor { name: named(name)?, known })
                }
                // Ambiguous: either of the two could be completed.
                (Some(_), Some(_)) => Err(WireError::Doubled.into()),
                (None, None) => Err(Reason::NotAMessage),
            }
        }
    }
}

/// Reads the call of a tool: name = 1, arguments = 2.
fn tool_call(message: &[u8], depth: usize) -> Result<TypedCall<'_>, Reason> {
    let (mut name, mut arguments) = (None, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => once(&mut name, field.value.text()?)?,
            2 => once(&mut arguments, field.value.bytes()?)?,
            _ => return Err(WireError::UnknownField.into()),
        }
    }
    let mut json = String::new();
    structure(arguments.unwrap_or_default(), depth, &mut json)?;
    // The proto requires the name "on the initial request only". Without it, the called tool is
    // unknown.
    Ok(TypedCall::Tool { name: named(name)?, arguments: json })
}

/// Requires a name. In proto3, an empty one is absent.
fn named(name: Option<&str>) -> Result<&str, Reason> {
    name.filter(|name| !name.is_empty()).ok_or(Reason::NotAMessage)
}

fn text(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8)
}

/// Reads a message of at most `count` texts (1 or 2), numbered from 1.
fn only_texts(message: &[u8], count: u32) -> Result<(Option<&str>, Option<&str>), WireError> {
    let (mut first, mut second) = (None, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => once(&mut first, field.value.text()?)?,
            2 if count == 2 => once(&mut second, field.value.text()?)?,
            _ => return Err(WireError::UnknownField),
        }
    }
    Ok((first, second))
}

/// Reads the argument that is completed (name = 1, value = 2) and `Context` (arguments = 1, a map
/// of texts). In proto3, an empty text is absent.
fn completion<'a>(
    argument: Option<&'a [u8]>,
    context: &'a [u8],
) -> Result<Completion<'a>, WireError> {
    let argument = match argument {
        None => None,
        Some(argument) => {
            let (name, value) = only_texts(argument, 2)?;
            Some((name.unwrap_or_default().into(), value.unwrap_or_default().into()))
        }
    };
    let (mut reader, mut entries) = (Reader::new(context), Vec::new());
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => entries.push(field.value.bytes()?),
            _ => return Err(WireError::UnknownField),
        }
    }
    Ok(Completion::new(argument, entries_of_texts(&entries)?))
}

/// Checks `RequestFields`: metadata = 1, input_responses = 6. The fields resume_data = 7 and
/// request_state = 8 hold state for the upstream that cannot be sealed in this mapping. They are
/// refused like unknown fields.
fn request_fields(message: &[u8], depth: usize) -> Result<(), WireError> {
    let mut metadata = None;
    let (mut names, mut nothing) = (HashSet::new(), String::new());
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => {
                once(&mut metadata, ())?;
                structure(field.value.bytes()?, depth, &mut nothing)?;
            }
            6 => {
                let (key, response) = entry(field.value.bytes()?)?;
                if !names.insert(key) {
                    return Err(WireError::Doubled);
                }
                input_response(response.map(Value::bytes).transpose()?.unwrap_or_default())?;
            }
            _ => return Err(WireError::UnknownField),
        }
    }
    Ok(())
}

/// Checks `InputResponse`: only one of sampling = 7, roots = 8, elicitation = 9, even though the
/// proto has no `oneof`.
fn input_response(message: &[u8]) -> Result<(), WireError> {
    let (mut reader, mut chosen) = (Reader::new(message), None);
    while let Some(field) = reader.next_field()? {
        match field.number {
            7..=9 => once(&mut chosen, field.value.bytes()?)?,
            _ => return Err(WireError::UnknownField),
        }
    }
    Ok(())
}

fn map_of_texts(entries: &[&[u8]]) -> Result<String, WireError> {
    let mut json = String::from("{");
    for (number, (key, value)) in entries_of_texts(entries)?.into_iter().enumerate() {
        if number > 0 {
            json.push(',');
        }
        push_text(&mut json, &key);
        json.push(':');
        push_text(&mut json, &value);
    }
    json.push('}');
    Ok(json)
}

/// Reads the entries of a map of texts, with distinct keys.
fn entries_of_texts<'a>(entries: &[&'a [u8]]) -> Result<Vec<Argument<'a>>, WireError> {
    let (mut texts, mut names) = (Vec::new(), HashSet::new());
    for of_map in entries {
        let (key, value) = entry(of_map)?;
        if !names.insert(key) {
            return Err(WireError::Doubled);
        }
        let value = value.map(Value::text).transpose()?.unwrap_or_default();
        texts.push((key.into(), value.into()));
    }
    Ok(texts)
}

/// Reads an entry of a map: key = 1, value = 2, each at most once.
fn entry(message: &[u8]) -> Result<(&str, Option<Value<'_>>), WireError> {
    let (mut reader, mut key, mut value) = (Reader::new(message), None, None);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => once(&mut key, field.value.text()?)?,
            2 => once(&mut value, field.value)?,
            _ => return Err(WireError::UnknownField),
        }
    }
    Ok((key.unwrap_or_default(), value))
}

/// Converts `google.protobuf.Struct` (fields = 1, a map) into a JSON object.
fn structure(message: &[u8], depth: usize, json: &mut String) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::TooDeep)?;
    let (mut reader, mut names) = (Reader::new(message), HashSet::new());
    json.push('{');
    while let Some(field) = reader.next_field()? {
        let (key, of_key) = match field.number {
            1 => entry(field.value.bytes()?)?,
            _ => return Err(WireError::UnknownField),
        };
        // Of two values, some readers take the last one.
        if !names.insert(key) {
            return Err(WireError::Doubled);
        }
        if names.len() > 1 {
            json.push(',');
        }
        push_text(json, key);
        json.push(':');
        value(of_key.ok_or(WireError::NoValue)?.bytes()?, depth, json)?;
    }
    json.push('}');
    Ok(())
}

/// Converts `google.protobuf.Value`: exactly one of null = 1, number = 2, string = 3, bool = 4,
/// struct = 5, list = 6.
fn value(message: &[u8], depth: usize, json: &mut String) -> Result<(), WireError> {
    let mut reader = Reader::new(message);
    let Field { number, value: found, .. } = reader.next_field()?.ok_or(WireError::NoValue)?;
    match number {
        1 if found.varint()? == 0 => json.push_str("null"),
        2 => push_number(json, found.double()?)?,
        3 => push_text(json, found.text()?),
        4 => match found.varint()? {
            0 => json.push_str("false"),
            1 => json.push_str("true"),
            _ => return Err(WireError::Varint),
        },
        5 => structure(found.bytes()?, depth, json)?,
        6 => list(found.bytes()?, depth, json)?,
        _ => return Err(WireError::UnknownField),
    }
    match reader.next_field()? {
        None => Ok(()),
        Some(_) => Err(WireError::Doubled),
    }
}

/// Converts `google.protobuf.ListValue`: values = 1.
fn list(message: &[u8], depth: usize, json: &mut String) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::TooDeep)?;
    let (mut reader, mut is_first) = (Reader::new(message), true);
    json.push('[');
    while let Some(field) = reader.next_field()? {
        if field.number != 1 {
            return Err(WireError::UnknownField);
        }
        if !std::mem::take(&mut is_first) {
            json.push(',');
        }
        value(field.value.bytes()?, depth, json)?;
    }
    json.push(']');
    Ok(())
}

/// Appends a double. An integer within ±2^53 is written as one, so that a rule can compare it. JSON
/// has no number that is not finite.
fn push_number(json: &mut String, number: f64) -> Result<(), WireError> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !number.is_finite() {
        return Err(WireError::NoValue);
    }
    let written = if number == 0.0 {
        json.push('0');
        Ok(())
    } else if number.fract() == 0.0 && number.abs() <= EXACT {
        write!(json, "{number:.0}")
    } else {
        write!(json, "{number:e}")
    };
    // Writing to a `String` cannot fail.
    written.map_err(|_| WireError::NoValue)
}

fn push_text(json: &mut String, text: &str) {
    crate::json::push_json_string(json, text);
}

/// Removes the hidden entries of a response. The other entries keep their bytes. `cache_scope` (4)
/// becomes `CACHE_SCOPE_PRIVATE` (2), because the response was filtered for one caller.
pub(crate) fn filter<F>(
    of: Listed,
    response: &[u8],
    mut is_visible: F,
) -> Result<Cow<'_, [u8]>, WireError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let (mut reader, mut filtered) = (Reader::new(response), Writer::default());
    while let Some(field) = reader.next_field()? {
        match field.number {
            // Field 1 is the name of a tool or prompt, the URI of a resource, and the template of a
            // resource template.
            2 => {
                let name = name_of_entry(field.value.bytes()?)?;
                if name.is_some_and(|name| is_visible(Entry { of, name })) {
                    filtered.raw(field.raw);
                }
            }
            4 => drop(field.value.varint()?),
            _ => filtered.raw(field.raw),
        }
    }
    Ok(filtered.number(4, 2).finish().into())
}

/// Returns the name of an entry. Returns `None` for an entry without a name or with two, which is
/// hidden.
fn name_of_entry(entry: &[u8]) -> Result<Option<&str>, WireError> {
    let (mut reader, mut name, mut doubled) = (Reader::new(entry), None, false);
    while let Some(field) = reader.next_field()? {
        if field.number == 1 {
            doubled |= name.replace(field.value.text()?).is_some();
        }
    }
    Ok(name.filter(|_| !doubled))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json;

    fn message(number: u32, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        Writer::default().bytes(number, bytes.as_ref()).finish()
    }

    fn double(number: f64) -> Vec<u8> {
        [&[0x11][..], &number.to_le_bytes()].concat()
    }

    fn number(number: u32, value: u64) -> Vec<u8> {
        Writer::default().number(number, value).finish()
    }

    fn member(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
        message(1, [message(1, name), message(2, value)].concat())
    }

    fn call(name: &str, arguments: impl AsRef<[u8]>) -> Vec<u8> {
        message(2, [message(1, name), message(2, arguments)].concat())
    }

    fn parsed(method: &str, message: &[u8]) -> Result<(String, String), Reason> {
        let method = Method::of(method).ok_or(Reason::MethodDenied)?;
        read(method, message, &Limits::default()).map(|call| match call {
            TypedCall::Tool { name, arguments } | TypedCall::Prompt { name, arguments } => {
                (name.to_owned(), arguments)
            }
            TypedCall::CompletionIn { uri, known } if known.completing().is_some() => {
                (uri.to_owned(), known.json().to_owned())
            }
            TypedCall::Resource { uri } | TypedCall::CompletionIn { uri, .. } => {
                (uri.to_owned(), String::new())
            }
            TypedCall::CompletionFor { name, known } => (name.to_owned(), known.json().to_owned()),
            TypedCall::List(of) => (format!("{of:?}"), String::new()),
        })
    }

    #[test]
    fn each_method_is_parsed_as_its_call() {
        let arguments = [
            member("id", double(7.0)),
            member("rate", double(0.5)),
            member("big", double(1e300)),
            member(
                "all",
                message(
                    6,
                    [number(4, 1), number(4, 0), number(1, 0)]
                        .map(|value| message(1, value))
                        .concat(),
                ),
            ),
            member("of", message(5, member("é\"", message(3, "x\n")))),
        ]
        .concat();
        let json =
            r#"{"id":7,"rate":5e-1,"big":1e300,"all":[true,false,null],"of":{"é\"":"x\u000a"}}"#;
        assert_eq!(parsed("CallTool", &call("get", arguments)), Ok(("get".into(), json.into())));
        assert_eq!(
            parsed("CallTool", &message(2, message(1, "get"))),
            Ok(("get".into(), "{}".into()))
        );
        assert_eq!(
            parsed("ReadResource", &message(2, "db://a")),
            Ok(("db://a".into(), String::new()))
        );
        let entry = |name: &str, value: &str| [message(1, name), message(2, value)].concat();
        let prompt =
            [message(2, "hello"), message(3, entry("who", "Ada")), message(3, entry("by", ""))]
                .concat();
        assert_eq!(
            parsed("GetPrompt", &prompt),
            Ok(("hello".into(), r#"{"who":"Ada","by":""}"#.into()))
        );
        assert_eq!(
            parsed("Complete", &message(2, message(1, "db://{x}"))),
            Ok(("db://{x}".into(), String::new()))
        );
        let so_far =
            [message(4, entry("who", "A")), message(5, message(1, entry("of", "x")))].concat();
        let completed = [message(3, entry("hello", "its title")), so_far.clone()].concat();
        let known = r#"{"of":"x","who":"A"}"#;
        assert_eq!(parsed("Complete", &completed), Ok(("hello".into(), known.into())), "J427");
        let completed = [message(2, message(1, "db://{who}")), so_far].concat();
        assert_eq!(parsed("Complete", &completed), Ok(("db://{who}".into(), known.into())), "J428");
        let answered = message(6, [message(1, "q"), message(2, message(9, []))].concat());
        let common = message(1, [message(1, member("x", double(1.0))), answered].concat());
        assert_eq!(parsed("ListTools", &common), Ok(("Tools".into(), String::new())));
        for (method, listed) in [
            ("ListTools", "Tools"),
            ("ListPrompts", "Prompts"),
            ("ListResources", "Resources"),
            ("ListResourceTemplates", "ResourceTemplates"),
        ] {
            assert_eq!(parsed(method, &message(1, [])), Ok((listed.into(), String::new())));
        }
    }

    #[test]
    fn undefined_encodings_are_refused() {
        let doubled = Reason::DuplicateMember;
        for (what, method, request, reason) in [
            ("no request", "CallTool", vec![], Reason::NotAMessage),
            ("no name", "CallTool", call("", []), Reason::NotAMessage),
            ("two requests", "CallTool", [call("a", []), call("b", [])].concat(), doubled),
            (
                "two names",
                "CallTool",
                message(2, [message(1, "a"), message(1, "b")].concat()),
                doubled,
            ),
            (
                "two arguments",
                "CallTool",
                message(2, [message(1, "a"), message(2, []), message(2, [])].concat()),
                doubled,
            ),
            (
                "two of a member",
                "CallTool",
                call("a", [member("x", double(1.0)), member("x", double(2.0))].concat()),
                doubled,
            ),
            (
                "two kinds",
                "CallTool",
                call("a", member("x", [double(1.0), message(3, "b")].concat())),
                doubled,
            ),
            ("no kind", "CallTool", call("a", member("x", [])), Reason::NotProtobuf),
            ("no value", "CallTool", call("a", message(1, message(1, "x"))), Reason::NotProtobuf),
            (
                "not a number",
                "CallTool",
                call("a", member("x", double(f64::NAN))),
                Reason::NotProtobuf,
            ),
            (
                "infinite",
                "CallTool",
                call("a", member("x", double(f64::INFINITY))),
                Reason::NotProtobuf,
            ),
            (
                "another field",
                "CallTool",
                [call("a", []), message(9, "b")].concat(),
                Reason::NotProtobuf,
            ),
            (
                "another field inside",
                "CallTool",
                message(2, [message(1, "a"), message(3, "b")].concat()),
                Reason::NotProtobuf,
            ),
            ("not UTF-8", "CallTool", message(2, message(1, [0xff])), Reason::NotProtobuf),
            ("two common", "ListTools", [message(1, []), message(1, [])].concat(), doubled),
            (
                "another field in common",
                "ListTools",
                message(1, message(5, "x")),
                Reason::NotProtobuf,
            ),
            (
                "a state that is not sealed",
                "ListTools",
                message(1, message(8, "x")),
                Reason::NotProtobuf,
            ),
            ("data to resume from", "ListTools", message(1, message(7, [])), Reason::NotProtobuf),
            (
                "two responses to one input request",
                "ListTools",
                message(
                    1,
                    message(
                        6,
                        [message(1, "q"), message(2, [message(7, []), message(9, [])].concat())]
                            .concat(),
                    ),
                ),
                doubled,
            ),
            (
                "two references",
                "Complete",
                [message(2, message(1, "a")), message(3, message(1, "b"))].concat(),
                doubled,
            ),
            ("no reference", "Complete", message(4, message(1, "a")), Reason::NotAMessage),
            ("an unknown method", "WatchTools", vec![], Reason::MethodDenied),
            (
                "two metadata",
                "ListTools",
                message(1, [message(1, []), message(1, [])].concat()),
                doubled,
            ),
            (
                "two responses with one key",
                "ListTools",
                message(1, [message(6, []), message(6, [])].concat()),
                doubled,
            ),
            (
                "a response of another kind",
                "ListTools",
                message(1, message(6, message(2, message(1, [])))),
                Reason::NotProtobuf,
            ),
            (
                "two arguments with one key",
                "GetPrompt",
                [message(3, []), message(3, [])].concat(),
                doubled,
            ),
            (
                "another field in an argument",
                "GetPrompt",
                message(3, message(3, "x")),
                Reason::NotProtobuf,
            ),
            (
                "another field in a reference",
                "Complete",
                message(2, message(2, "x")),
                Reason::NotProtobuf,
            ),
            (
                "another field in what is completed",
                "Complete",
                message(4, message(3, "x")),
                Reason::NotProtobuf,
            ),
            (
                "two values of what is completed",
                "Complete",
                message(4, [message(2, []), message(2, [])].concat()),
                doubled,
            ),
            (
                "another field in the context",
                "Complete",
                message(5, message(2, "x")),
                Reason::NotProtobuf,
            ),
            (
                "two of the context with one key",
                "Complete",
                message(5, [message(1, []), message(1, [])].concat()),
                doubled,
            ),
            (
                "another field in a structure",
                "CallTool",
                call("a", message(2, "x")),
                Reason::NotProtobuf,
            ),
            (
                "another field in a list",
                "CallTool",
                call("a", member("x", message(6, message(2, [])))),
                Reason::NotProtobuf,
            ),
            (
                "another kind",
                "CallTool",
                call("a", member("x", message(7, []))),
                Reason::NotProtobuf,
            ),
            (
                "neither true nor false",
                "CallTool",
                call("a", member("x", number(4, 2))),
                Reason::NotProtobuf,
            ),
            ("another null", "CallTool", call("a", member("x", number(1, 1))), Reason::NotProtobuf),
            (
                "a number of another type",
                "CallTool",
                call("a", member("x", number(2, 1))),
                Reason::NotProtobuf,
            ),
            (
                "a boolean of another type",
                "CallTool",
                call("a", member("x", message(4, "1"))),
                Reason::NotProtobuf,
            ),
        ] {
            assert_eq!(parsed(method, &request), Err(reason), "{what}");
        }
        let mut deep = double(1.0);
        for _ in 0..200 {
            deep = message(6, message(1, deep));
        }
        assert_eq!(parsed("CallTool", &call("a", member("x", deep))), Err(Reason::TooDeep));
        let deep = (0..200).fold(double(1.0), |value, _| message(5, member("x", value)));
        assert_eq!(parsed("CallTool", &call("a", member("x", deep))), Err(Reason::TooDeep));
    }

    #[test]
    fn a_wrong_wire_type_is_refused_everywhere() {
        for (method, within, place) in [
            ("CallTool", &[][..], 1),
            ("CallTool", &[], 2),
            ("CallTool", &[2], 1),
            ("CallTool", &[2], 2),
            ("CallTool", &[2, 2], 1),
            ("CallTool", &[2, 2, 1], 1),
            ("CallTool", &[2, 2, 1], 2),
            ("CallTool", &[2, 2, 1, 2], 3),
            ("CallTool", &[2, 2, 1, 2], 5),
            ("CallTool", &[2, 2, 1, 2], 6),
            ("CallTool", &[2, 2, 1, 2, 6], 1),
            ("ReadResource", &[], 2),
            ("GetPrompt", &[], 3),
            ("GetPrompt", &[3], 1),
            ("GetPrompt", &[3], 2),
            ("Complete", &[], 3),
            ("Complete", &[], 4),
            ("Complete", &[], 5),
            ("Complete", &[2], 1),
            ("Complete", &[3], 1),
            ("Complete", &[3], 2),
            ("Complete", &[4], 1),
            ("Complete", &[5], 1),
            ("ListTools", &[1], 1),
            ("ListTools", &[1], 6),
            ("ListTools", &[1, 6], 2),
            ("ListTools", &[1, 6, 2], 7),
        ] {
            let request =
                within.iter().rev().fold(number(place, 1), |inner, outer| message(*outer, inner));
            assert_eq!(
                parsed(method, &request),
                Err(Reason::NotProtobuf),
                "{method} {within:?} {place}"
            );
            // A message that ends inside a field is refused as well.
            let half =
                within.iter().rev().fold(vec![0x0a, 9], |inner, outer| message(*outer, inner));
            assert_eq!(parsed(method, &half), Err(Reason::NotProtobuf), "{method} {within:?}");
        }
    }

    #[test]
    fn denied_entries_are_removed_and_others_unchanged() {
        let tool = |name: &str| message(2, [message(2, "text"), message(1, name)].concat());
        let (get, delete) = (tool("get"), tool("delete"));
        let nameless = message(2, message(2, "text"));
        let two_names = message(2, [message(1, "get"), message(1, "get")].concat());
        let common = message(1, message(1, "instructions"));
        let public = [0x20, 1];
        let response = [&common[..], &delete, &get, &nameless, &public, &two_names].concat();
        let visible = |entry: Entry<'_>| entry.name != "delete";
        let filtered = filter(Listed::Tools, &response, visible).unwrap();
        assert_eq!(*filtered, [&common[..], &get, &[0x20, 2]].concat());
        assert_eq!(*filter(Listed::Tools, &[], visible).unwrap(), [0x20, 2]);
        assert_eq!(filter(Listed::Tools, &[0x12, 9], visible), Err(WireError::Truncated));
        assert_eq!(
            filter(Listed::Tools, &message(2, [0x0a, 9]), visible),
            Err(WireError::Truncated)
        );
        assert_eq!(
            filter(Listed::Tools, &message(2, number(1, 1)), visible),
            Err(WireError::UnknownField)
        );
        assert_eq!(filter(Listed::Tools, &number(2, 1), visible), Err(WireError::UnknownField));
        assert_eq!(filter(Listed::Tools, &message(4, "x"), visible), Err(WireError::UnknownField));
    }

    proptest! {
        #[test]
        fn arguments_become_strict_json(number: f64, text: String, key: String) {
            let (first, second) = (double(number), message(3, &text));
            let arguments = [member(&key, first), member(&format!("{key}2"), second)].concat();
            match parsed("CallTool", &call("a", arguments)) {
                Ok((_, json)) => {
                    let read = json::Value::parse(json.as_bytes(), &Limits::default()).unwrap();
                    prop_assert_eq!(read.get(&key).unwrap().raw().parse::<f64>().unwrap(), number);
                    let second = read.get(&format!("{key}2")).unwrap();
                    prop_assert_eq!(second.as_str().unwrap(), text.as_str());
                }
                Err(reason) => prop_assert!(reason == Reason::NotProtobuf && !number.is_finite()),
            }
        }
    }
}
