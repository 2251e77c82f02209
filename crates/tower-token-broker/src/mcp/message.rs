//! One JSON-RPC message from a client, parsed once: the judged text is the text that is sent.
//!
//! Sources: JSON-RPC 2.0; MCP 2025-03-26 to 2026-07-28, `schema.ts`.

use std::{borrow::Cow, ops::Range};

use super::{
    completion::Completion,
    method::{McpMethod, Parameter},
};
use crate::{
    json::{JsonError, Kind, Limits, Reader, Value, is_same_as_any, push_json_string},
    refusal::Reason,
};

/// The maximum length of an id, in bytes.
pub(super) const LONGEST_ID: usize = 1024;
/// The members of `_meta` that state the revision and the client's capabilities (2026-07-28).
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Members that affect the decision. In another spelling they are refused, because some parsers
/// ignore case, and others more.
const KNOWN: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
const KNOWN_PARAMS: [&str; 9] = [
    "name",
    "uri",
    "taskId",
    "arguments",
    "ref",
    "notifications",
    "_meta",
    REQUEST_STATE,
    "capabilities",
];
const KNOWN_REF: [&str; 3] = ["type", "name", "uri"];
/// Members of the parameters of a completion, and of these.
const KNOWN_COMPLETION: [&str; 2] = ["argument", "context"];
const KNOWN_ARGUMENT: [&str; 2] = ["name", "value"];
const KNOWN_CONTEXT: [&str; 1] = ["arguments"];
/// The state that the client returns, and its responses to input requests (MCP 2026-07-28,
/// `RetryFields`).
const REQUEST_STATE: &str = "requestState";
const INPUT_RESPONSES: &str = "inputResponses";
const RESOURCE_SUBSCRIPTIONS: &str = "resourceSubscriptions";

/// A parsed message, which borrows from the text.
#[derive(Debug, Default)]
pub(crate) struct Message<'a> {
    /// The JSON text of the id. `None` in a notification.
    pub(crate) id: Option<&'a str>,
    /// `None` in a response.
    pub(crate) method: Option<McpMethod<'a>>,
    pub(crate) params: Params<'a>,
    has_params: bool,
    has_outcome: bool,
    has_jsonrpc: bool,
}

/// The parameters that affect the decision.
#[derive(Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) uri: Text<'a>,
    /// The task that a request is about.
    task_id: Text<'a>,
    /// `ref.name` or `ref.uri` of a completion.
    pub(crate) reference: Reference<'a>,
    arguments: Option<(Kind, &'a str)>,
    /// `argument` and `context` of a completion.
    argument: Option<Value<'a>>,
    context: Option<Value<'a>>,
    /// Whether another member may be read as one of these two.
    has_completion_variant: bool,
    /// `notifications` of a `subscriptions/listen`.
    notifications: Option<Value<'a>>,
    /// The protocol version in `_meta` (2026-07-28).
    pub(crate) version: Text<'a>,
    /// Whether `_meta` declares elicitation in URL mode (2026-07-28).
    pub(crate) url_elicitation: bool,
    /// Whether the `capabilities` of `initialize` declare it (2025-11-25).
    pub(crate) declares_url_elicitation: bool,
    /// The state that the client returns, and its position.
    request_state: Option<(Range<usize>, Text<'a>)>,
    /// The position of the parameters.
    at: Range<usize>,
}

/// A member that must be a string.
#[derive(Debug, Default)]
pub(crate) enum Text<'a> {
    #[default]
    Absent,
    Is(Cow<'a, str>),
    NoString,
}

/// The reference of a completion.
#[derive(Debug, Default)]
pub(crate) enum Reference<'a> {
    #[default]
    Absent,
    Prompt(Cow<'a, str>),
    Resource(Cow<'a, str>),
    Unreadable,
}

impl<'a> Message<'a> {
    /// Parses a whole body.
    pub(crate) fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes, limits)?;
        match reader.kind() {
            Ok(Kind::Object) => {}
            // J200: only 2025-03-26 had batches, and they stay refused.
            Ok(Kind::Array) => {
                reader.skip()?;
                reader.end()?;
                return Err(Reason::Batch);
            }
            Ok(_) => {
                reader.skip()?;
                reader.end()?;
                return Err(Reason::NotAMessage);
            }
            Err(error) => return Err(error.into()),
        }
        let mut message = Self::default();
        // The text is read to its end in any case: invalid JSON is reported before other errors.
        let mut wrong = None;
        reader.object(|reader, name| {
            if let Err(reason) = message.member(reader, name)? {
                wrong.get_or_insert(reason);
            }
            Ok::<(), Reason>(())
        })?;
        reader.end()?;
        match wrong {
            Some(reason) => Err(reason),
            None => message.checked(),
        }
    }

    fn member(
        &mut self,
        reader: &mut Reader<'a>,
        name: &str,
    ) -> Result<Result<(), Reason>, Reason> {
        // J430: `null` is not a value of another type, except for an id: a request with such an id
        // would be a notification for some readers.
        let Some(kind) = reader.kind_unless_null()? else {
            return Ok(match name {
                "id" => Err(Reason::NotAMessage),
                known if KNOWN.contains(&known) => Ok(()),
                other => other_case(other, &KNOWN),
            });
        };
        match (name, kind) {
            ("jsonrpc", Kind::String) => {
                self.has_jsonrpc = reader.string()? == "2.0";
            }
            ("id", Kind::String | Kind::Number) => {
                let raw = reader.skip()?;
                if raw.len() > LONGEST_ID {
                    return Ok(Err(Reason::MemberTooLarge));
                }
                // J204, J205: a string or an integer, echoed byte for byte.
                let is_integer =
                    raw.strip_prefix('-').unwrap_or(raw).bytes().all(|byte| byte.is_ascii_digit());
                if kind == Kind::Number && !is_integer {
                    return Ok(Err(Reason::NotAMessage));
                }
                self.id = Some(raw);
            }
            ("method", Kind::String) => self.method = Some(McpMethod::parse(reader.string()?)),
            ("params", Kind::Object) => {
                self.has_params = true;
                return self.params.read(reader);
            }
            ("result" | "error", Kind::Object) => {
                self.has_outcome = true;
                reader.skip()?;
            }
            (known, _) => {
                reader.skip()?;
                // J199: a known member must have its type. J197: its name in another case is
                // refused.
                if KNOWN.contains(&known) {
                    return Ok(Err(Reason::NotAMessage));
                }
                return Ok(other_case(known, &KNOWN));
            }
        }
        Ok(Ok(()))
    }

    /// Returns the text with another request state and no other change.
    pub(crate) fn with_request_state(&self, text: &[u8], state: &str) -> Option<Vec<u8>> {
        let (at, _) = self.params.request_state.as_ref()?;
        let mut quoted = String::with_capacity(state.len() + 2);
        push_json_string(&mut quoted, state);
        Some([text.get(..at.start)?, quoted.as_bytes(), text.get(at.end..)?].concat())
    }

    /// Returns the text as a first request: without a state and without responses to input
    /// requests.
    pub(crate) fn as_first_asked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let at = self.params.at.clone();
        let params = Value::known(std::str::from_utf8(text.get(at.clone())?).ok()?);
        let mut first = String::from("{");
        for (name, value) in params.members()? {
            if name == REQUEST_STATE || name == INPUT_RESPONSES {
                continue;
            }
            if first.len() > 1 {
                first.push(',');
            }
            push_json_string(&mut first, &name);
            first.push(':');
            first.push_str(value.raw());
        }
        first.push('}');
        Some([text.get(..at.start)?, first.as_bytes(), text.get(at.end..)?].concat())
    }

    fn checked(self) -> Result<Self, Reason> {
        let is_answer =
            self.method.is_none() && self.has_outcome && self.id.is_some() && !self.has_params;
        let is_call = self.method.is_some() && !self.has_outcome;
        if self.has_jsonrpc && (is_answer || is_call) { Ok(self) } else { Err(Reason::NotAMessage) }
    }
}

impl<'a> Params<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<Result<(), Reason>, Reason> {
        let mut wrong = Ok(());
        let begins = reader.position();
        reader.object(|reader, name| {
            // J430
            let is_known = KNOWN_PARAMS.contains(&&**name) || KNOWN_COMPLETION.contains(&&**name);
            if is_known && reader.kind_unless_null()?.is_none() {
                return Ok(());
            }
            match name.as_ref() {
                "name" => self.name = Text::read(reader)?,
                "uri" => self.uri = Text::read(reader)?,
                "taskId" => self.task_id = Text::read(reader)?,
                "arguments" => self.arguments = Some((reader.kind()?, reader.skip()?)),
                "ref" => {
                    let reference = Value::known(reader.skip()?);
                    wrong = wrong.and(no_other_case(reference, &KNOWN_REF));
                    self.reference = Reference::of(reference);
                }
                "notifications" => {
                    let notifications = Value::known(reader.skip()?);
                    wrong = wrong.and(no_other_case(notifications, &[RESOURCE_SUBSCRIPTIONS]));
                    self.notifications = Some(notifications);
                }
                "_meta" => self.meta(Value::known(reader.skip()?)),
                "capabilities" => {
                    self.declares_url_elicitation = elicits_urls(Some(Value::known(reader.skip()?)))
                }
                "argument" => self.argument = Some(Value::known(reader.skip()?)),
                "context" => self.context = Some(Value::known(reader.skip()?)),
                REQUEST_STATE => {
                    let begins = reader.position();
                    let state = Text::read(reader)?;
                    self.request_state = Some((begins..reader.position_behind(), state));
                }
                other => {
                    reader.skip()?;
                    wrong = wrong.and(other_case(other, &KNOWN_PARAMS));
                    self.has_completion_variant |= other_case(other, &KNOWN_COMPLETION).is_err();
                }
            }
            Ok::<(), Reason>(())
        })?;
        self.at = begins..reader.position_behind();
        Ok(wrong)
    }

    /// Returns the state that the client returns, if there is one.
    pub(crate) fn request_state(&self) -> Result<Option<&str>, Reason> {
        self.request_state.as_ref().map(|(_, state)| state.required()).transpose()
    }

    /// Returns the parameter that names a tool, prompt, resource or task.
    pub(crate) const fn named(&self, by: Parameter) -> &Text<'a> {
        match by {
            Parameter::Name => &self.name,
            Parameter::Uri => &self.uri,
            Parameter::TaskId => &self.task_id,
        }
    }

    /// Returns the arguments of a tool or prompt: the text of an object.
    pub(crate) fn arguments(&self) -> Result<&'a str, Reason> {
        match self.arguments {
            None => Ok("{}"),
            Some((Kind::Object, raw)) => Ok(raw),
            Some(_) => Err(Reason::NotAMessage),
        }
    }

    /// Returns the arguments that a completion names.
    pub(crate) fn completion(&self) -> Result<Completion<'a>, Reason> {
        if self.has_completion_variant {
            return Err(Reason::CaseVariant);
        }
        for (object, known) in
            [(self.argument, &KNOWN_ARGUMENT[..]), (self.context, &KNOWN_CONTEXT[..])]
        {
            object.map_or(Ok(()), |object| no_other_case(object, known))?;
        }
        Completion::read(self.argument, self.context)
    }

    /// Returns the resources to subscribe to (MCP 2026-07-28, `SubscriptionFilter`).
    pub(crate) fn subscriptions(
        &self,
    ) -> Result<impl Iterator<Item = Result<Cow<'a, str>, Reason>>, Reason> {
        let uris = match self.notifications {
            None => None,
            Some(filter) if filter.kind() == Kind::Object => {
                filter.optional(RESOURCE_SUBSCRIPTIONS)
            }
            Some(_) => return Err(Reason::NotAMessage),
        };
        let uris = uris.map(|uris| uris.elements().ok_or(Reason::NotAMessage)).transpose()?;
        Ok(uris.into_iter().flatten().map(|uri| uri.as_str().ok_or(Reason::NotAMessage)))
    }

    fn meta(&mut self, meta: Value<'a>) {
        if let Some(version) = meta.optional(META_VERSION) {
            self.version = version.as_str().map_or(Text::NoString, Text::Is);
        }
        self.url_elicitation = elicits_urls(meta.optional(META_CAPABILITIES));
    }
}

/// Whether the capabilities of a client include `elicitation.url`.
fn elicits_urls(capabilities: Option<Value<'_>>) -> bool {
    capabilities
        .and_then(|can| can.optional("elicitation"))
        .and_then(|elicitation| elicitation.optional("url"))
        .is_some()
}

impl<'a> Text<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        if reader.kind()? == Kind::String {
            return Ok(Self::Is(reader.string()?));
        }
        reader.skip()?;
        Ok(Self::NoString)
    }

    /// Returns the text of a required member.
    pub(crate) fn required(&self) -> Result<&str, Reason> {
        match self {
            Self::Is(text) => Ok(text),
            Self::Absent | Self::NoString => Err(Reason::NotAMessage),
        }
    }
}

impl<'a> Reference<'a> {
    fn of(reference: Value<'a>) -> Self {
        let text = |name: &str| reference.get(name).and_then(Value::as_str);
        match text("type").as_deref() {
            Some("ref/prompt") => text("name").map_or(Self::Unreadable, Self::Prompt),
            Some("ref/resource") => text("uri").map_or(Self::Unreadable, Self::Resource),
            _ => Self::Unreadable,
        }
    }
}

/// Refuses an object with a known member in another case.
// J197, J420: some parsers ignore case, and some hyphens, underscores and blanks.
fn no_other_case(object: Value<'_>, known: &[&str]) -> Result<(), Reason> {
    let mut others =
        object.members().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_ref()));
    others.try_for_each(|(name, _)| other_case(&name, known))
}

fn other_case(name: &str, known: &[&str]) -> Result<(), Reason> {
    // J420: a reader that merges the object may inherit any member from `__proto__`.
    if name.contains("__proto__") || is_same_as_any(name, known) {
        Err(Reason::CaseVariant)
    } else {
        Ok(())
    }
}

impl From<JsonError> for Reason {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::NotUtf8 | JsonError::Syntax | JsonError::LoneSurrogate => Self::NotJson,
            JsonError::DuplicateMember => Self::DuplicateMember,
            JsonError::TooDeep => Self::TooDeep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message<'_>, Reason> {
        Message::read(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn requests_notifications_and_responses_are_distinguished() {
        let call = read(
            r#"{"jsonrpc":"2.0","id":"a","method":"tools/call",
                "params":{"name":"x","arguments":{"n":1e999}}}"#,
        );
        let call = call.unwrap();
        assert_eq!(
            (call.params.name.required(), call.params.arguments()),
            (Ok("x"), Ok(r#"{"n":1e999}"#))
        );
        assert_eq!((call.id, call.method), (Some("\"a\""), Some(McpMethod::CallTool)));
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap().id,
            None
        );
        assert!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap().method.is_none());
        let id = read(r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}"#).unwrap().id;
        assert_eq!(id, Some("9007199254740993"));
    }

    #[test]
    fn each_invalid_message_has_its_reason() {
        for (case, text, reason) in [
            (
                "J196",
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#,
                Reason::DuplicateMember,
            ),
            (
                "J197",
                r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"ping","method":"ping"}"#,
                Reason::DuplicateMember,
            ),
            (
                "J197",
                r#"{"jsonrpc":"2.0","id":1,"Method":"ping","method":"ping"}"#,
                Reason::CaseVariant,
            ),
            (
                "J197",
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
                    "params":{"name":"a","NAME":"b"}}"#,
                Reason::CaseVariant,
            ),
            (
                "J197",
                r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete",
                    "params":{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}}"#,
                Reason::CaseVariant,
            ),
            (
                "J197",
                r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete",
                    "params":{"ref":{"TYPE":"ref/resource","type":"ref/prompt","name":"a"}}}"#,
                Reason::CaseVariant,
            ),
            (
                "J199",
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
                Reason::NotAMessage,
            ),
            ("J199", r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Reason::NotAMessage),
            ("J200", "[]", Reason::Batch),
            ("J200", r#"[[{"jsonrpc":"2.0"}]]"#, Reason::Batch),
            ("J201", "\u{feff}{}", Reason::NotJson),
            ("J201", "{}{}", Reason::NotJson),
            ("J201", r#"{"jsonrpc":"2.0",}"#, Reason::NotJson),
            ("J204", r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, Reason::NotAMessage),
            ("J205", r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, Reason::NotAMessage),
            ("J205", r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, Reason::NotAMessage),
            ("J199", r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, Reason::NotAMessage),
            (
                "J199",
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
                Reason::NotAMessage,
            ),
            ("J199", "7", Reason::NotAMessage),
        ] {
            assert_eq!(read(text).err(), Some(reason), "{case}: {text}");
        }
        let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(2000));
        assert_eq!(read(&long).err(), Some(Reason::MemberTooLarge), "J205");
    }
}
