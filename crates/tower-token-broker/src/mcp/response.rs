//! One JSON-RPC message from a server, filtered entry by entry.
//!
//! Only what decides is read strictly: the members of the message, the lists of its result with the
//! names of their entries, and what the client keeps. Everything else is content, of which only the
//! grammar is checked.

use std::{borrow::Cow, ops::Range};

use super::{
    decisive::Decisive,
    method::{Listed, McpMethod},
};
use crate::{
    json::{JsonError, Kind, Limits, Reader, push_json_string},
    refusal::Reason,
};

/// A message that was judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filtered<'a> {
    pub(crate) found: Found,
    /// The JSON text of the id, if it is the response to a request.
    pub(crate) responds_to: Option<&'a str>,
    /// Whether it is a message of JSON-RPC at all.
    pub(crate) is_message: bool,
    /// The revision that the result of `initialize` agrees on.
    pub(crate) agreed: Option<Cow<'a, str>>,
}

/// The result of filtering a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The message needs no change.
    Nothing,
    /// The text without the entries that are hidden from the caller.
    Changed(Vec<u8>),
    /// A notification about something that is hidden from the caller.
    NotForThisCaller,
}

/// The reason why a message cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unjudgeable {
    /// It is not JSON, or a member that decides is ambiguous.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A server of MCP 2025-03-26 may send one.
    #[error("the message is a batch")]
    Batch,
    /// Some clients look for the result first, and some for the error.
    #[error("the message has both a result and an error")]
    TwoOutcomes,
}

impl Unjudgeable {
    /// Returns the reason for the record.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Batch => Reason::Batch,
            Self::Json(_) | Self::TwoOutcomes => Reason::ResponseUnreadable,
        }
    }
}

/// A replacement for a part of the text.
type Change = (Range<usize>, Cow<'static, [u8]>);

/// The request state in a result (MCP 2026-07-28, `InputRequiredResult`).
const REQUEST_STATE: &str = "requestState";
/// The cache scope of a result (MCP 2026-07-28, `CacheableResult`).
const CACHE_SCOPE: &str = "cacheScope";
/// The revision that client and server speak (`InitializeResult`).
const PROTOCOL_VERSION: &str = "protocolVersion";

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) of: Listed,
    /// The name, URI or template.
    pub(crate) name: &'a str,
}

/// Seals a request state.
pub(crate) type Seal<'a> = &'a dyn Fn(&str) -> String;

/// Longest text between two words of a name, which some readers ignore.
const BETWEEN: usize = 4;

/// Whether the result of a call contains nothing to change. It does not if neither member is named,
/// in any spelling, and no escape could hide one.
pub(crate) fn stays_as_it_is(text: &[u8]) -> bool {
    // Search for the rarest letter of each name.
    let has_state = places(text, b'q').any(|place| {
        let (before, after) = text.split_at(place);
        ends_with(before, b"re")
            && starts_with(after, b"quest")
            && starts_with(unseparated(after.get(5..).unwrap_or_default()), b"state")
    });
    let has_scope = places(text, b'p').any(|place| {
        let (before, after) = text.split_at(place);
        let separated = before.len().saturating_sub(3);
        let before_word = before.get(..separated).unwrap_or_default();
        let between =
            before_word.iter().rev().take(BETWEEN).take_while(|byte| !byte.is_ascii_alphanumeric());
        let name = before_word.get(..separated.saturating_sub(between.count()));
        starts_with(after, b"pe")
            && ends_with(before, b"sco")
            && name.is_some_and(|name| ends_with(name, b"cache"))
    });
    let is_escaped = memchr::memmem::find(text, b"\\u").is_some();
    // JSON text contains no NUL, but a name in UTF-16 does.
    let has_nul = memchr::memchr(0, text).is_some();
    !is_escaped && !has_nul && !has_state && !has_scope
}

/// Returns where a letter is, in either case.
fn places(text: &[u8], letter: u8) -> impl Iterator<Item = usize> {
    memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), text)
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

fn ends_with(text: &[u8], word: &[u8]) -> bool {
    let begins = text.len().checked_sub(word.len());
    begins.and_then(|begins| text.get(begins..)).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// Returns what follows the separators between two words of a name.
fn unseparated(text: &[u8]) -> &[u8] {
    let between = text.iter().take(BETWEEN).take_while(|byte| !byte.is_ascii_alphanumeric());
    text.get(between.count()..).unwrap_or_default()
}

/// Removes every hidden entry from `text`, whichever request it responds to, and seals the request
/// state.
///
/// # Errors
/// What decides cannot be read, or in several ways, so that the message cannot be judged.
pub(crate) fn filter<'a, F>(
    text: &'a [u8],
    limits: &Limits,
    seal: Option<Seal<'_>>,
    mut is_visible: F,
) -> Result<Filtered<'a>, Unjudgeable>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let mut reader = Reader::new(text, limits)?;
    match reader.kind()? {
        Kind::Object => {}
        Kind::Array => return Err(Unjudgeable::Batch),
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
            return Err(JsonError::Syntax.into());
        }
    }
    let mut message = Message::default();
    let mut changes = Vec::new();
    let mut members = Decisive::new(["jsonrpc", "id", "method", "params", "result", "error"]);
    reader.object_of_content(|reader, name| {
        let Some(member) = members.find(name)? else { return reader.skip_content().map(drop) };
        let Some(kind) = reader.kind_unless_null()? else { return Ok(()) };
        match (member, kind) {
            ("jsonrpc", Kind::String) => message.has_jsonrpc = reader.string()? == "2.0",
            ("id", Kind::String | Kind::Number) => message.id = Some(reader.skip()?),
            ("method", Kind::String) => message.method = Some(McpMethod::parse(reader.string()?)),
            ("params", Kind::Object) => {
                message.params = Some((reader.position(), reader.skip_content()?));
            }
            ("result", Kind::Object) => {
                message.has_result = true;
                let result = filter_result(reader, &mut changes, seal, &mut is_visible);
                message.agreed = result?;
            }
            ("result" | "error", _) => {
                *(if member == "result" {
                    &mut message.has_result
                } else {
                    &mut message.has_error
                }) = true;
                reader.skip_content()?;
            }
            _ => drop(reader.skip_content()?),
        }
        Ok::<(), JsonError>(())
    })?;
    reader.end()?;
    // K502
    if message.has_result && message.has_error {
        return Err(Unjudgeable::TwoOutcomes);
    }
    let found = match (&message.method, message.params) {
        (Some(McpMethod::ResourceUpdated), params) => return message.updated(params, is_visible),
        // K232: an acknowledgement reveals that a resource exists, too.
        (Some(McpMethod::SubscriptionsAcknowledged), Some((from, params))) => {
            filter_acknowledged(params, from, &mut changes, &mut is_visible)?;
            changed(text, changes)
        }
        _ => changed(text, changes),
    };
    Ok(message.filtered(found))
}

/// The members of a message.
#[derive(Default)]
struct Message<'a> {
    id: Option<&'a str>,
    method: Option<McpMethod<'a>>,
    /// Their position, and their text.
    params: Option<(usize, &'a str)>,
    agreed: Option<Cow<'a, str>>,
    has_jsonrpc: bool,
    has_result: bool,
    has_error: bool,
}

impl<'a> Message<'a> {
    fn filtered(self, found: Found) -> Filtered<'a> {
        let has_outcome = self.has_result || self.has_error;
        Filtered {
            found,
            responds_to: self.id.filter(|_| has_outcome && self.method.is_none()),
            is_message: self.has_jsonrpc && (has_outcome || self.method.is_some()),
            agreed: self.agreed,
        }
    }

    /// Judges a notification about a resource.
    // K232: one about a hidden resource reveals that it exists.
    fn updated(
        self,
        params: Option<(usize, &'a str)>,
        mut is_visible: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<Filtered<'a>, Unjudgeable> {
        let uri = match params {
            Some((_, params)) => text_of(&mut Reader::of_content(params), "uri")?,
            None => None,
        };
        let is_visible =
            uri.is_some_and(|uri| is_visible(Entry { of: Listed::Resources, name: &uri }));
        Ok(self.filtered(if is_visible { Found::Nothing } else { Found::NotForThisCaller }))
    }
}

/// Returns the text with its changes.
fn changed(text: &[u8], mut changes: Vec<Change>) -> Found {
    if changes.is_empty() {
        return Found::Nothing;
    }
    let mut changed = Vec::with_capacity(text.len());
    let mut from = 0;
    changes.sort_unstable_by_key(|(range, _)| range.start);
    for (range, with) in changes {
        changed.extend_from_slice(text.get(from..range.start).unwrap_or_default());
        changed.extend_from_slice(&with);
        from = range.end;
    }
    changed.extend_from_slice(text.get(from..).unwrap_or_default());
    Found::Changed(changed)
}

/// Filters the lists of a result. Returns the revision that it agrees on, if it is the one of
/// `initialize`.
fn filter_result<'a, F>(
    reader: &mut Reader<'a>,
    changes: &mut Vec<Change>,
    seal: Option<Seal<'_>>,
    is_visible: &mut F,
) -> Result<Option<Cow<'a, str>>, JsonError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let (mut holds_a_list, mut cache_scope, mut agreed) = (false, None, None);
    let mut lists = Decisive::new(Listed::ALL.map(Listed::member));
    let mut scope = Decisive::new([CACHE_SCOPE]);
    let mut state = Decisive::new([REQUEST_STATE]);
    reader.object_of_content(|reader, name| {
        let list = lists.find(name)?;
        let is_scope = list.is_none() && scope.find(name)?.is_some();
        let sealing = match seal {
            Some(seal) if list.is_none() && !is_scope => state.find(name)?.map(|_| seal),
            Some(_) | None => None,
        };
        let Some(kind) = reader.kind_unless_null()? else { return Ok(()) };
        if let Some(of) = list.and_then(Listed::of_member) {
            // A list that is not an array cannot be judged entry by entry.
            if kind != Kind::Array {
                return Err(JsonError::Syntax);
            }
            holds_a_list = true;
            filter_array(reader, 0, changes, |reader| {
                let name = read_entry(reader, of.entry_name())?;
                Ok(name.is_some_and(|name| is_visible(Entry { of, name: &name })))
            })
        } else if let Some(seal) = sealing {
            let from = reader.position();
            if kind != Kind::String {
                return Err(JsonError::Syntax);
            }
            let mut sealed = String::new();
            push_json_string(&mut sealed, &seal(&reader.string()?));
            changes.push((from..reader.position_behind(), sealed.into_bytes().into()));
            Ok(())
        } else {
            let from = reader.position();
            let value = reader.skip_content()?;
            if is_scope && kind == Kind::String && value != r#""private""# {
                cache_scope = Some(from..reader.position_behind());
            } else if name == PROTOCOL_VERSION {
                agreed = unescaped(value);
            }
            Ok(())
        }
    })?;
    // I188: a result filtered for one caller, or obtained with their credential, is not cached for
    // another.
    if let Some(range) = cache_scope.filter(|_| holds_a_list || seal.is_some()) {
        changes.push((range, br#""private""#.into()));
    }
    Ok(agreed)
}

/// Filters the resources of `params.notifications` (MCP 2026-07-28,
/// `SubscriptionsAcknowledgedNotification`). `params` begins at `from`.
fn filter_acknowledged<F>(
    params: &str,
    from: usize,
    changes: &mut Vec<Change>,
    is_visible: &mut F,
) -> Result<(), JsonError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let (mut outer, mut inner) =
        (Decisive::new(["notifications"]), Decisive::new(["resourceSubscriptions"]));
    Reader::of_content(params).object_of_content(|reader, name| {
        if outer.find(name)?.is_none() || reader.kind()? != Kind::Object {
            return reader.skip_content().map(drop);
        }
        reader.object_of_content(|reader, name| {
            if inner.find(name)?.is_none() || reader.kind()? == Kind::Null {
                return reader.skip_content().map(drop);
            }
            filter_array(reader, from, changes, |reader| {
                let uri = unescaped(reader.skip_content()?);
                Ok(uri.is_some_and(|uri| is_visible(Entry { of: Listed::Resources, name: &uri })))
            })
        })
    })
}

/// Removes the elements of an array for which `keep` returns false. `keep` must read one element.
/// The reader's text begins at `offset`.
fn filter_array<'a, K>(
    reader: &mut Reader<'a>,
    offset: usize,
    changes: &mut Vec<Change>,
    mut keep: K,
) -> Result<(), JsonError>
where
    K: FnMut(&mut Reader<'a>) -> Result<bool, JsonError>,
{
    // After the opening bracket, or after the last element that was kept.
    let mut kept_until = offset + reader.position() + 1;
    let (mut any_kept, mut any_cut) = (false, false);
    reader.array(|reader| {
        let begins = offset + reader.position();
        if !keep(reader)? {
            any_cut = true;
            return Ok(());
        }
        if any_cut {
            changes.push((kept_until..begins, if any_kept { b",".into() } else { Cow::default() }));
        }
        (kept_until, any_kept, any_cut) = (offset + reader.position_behind(), true, false);
        Ok::<(), JsonError>(())
    })?;
    if any_cut {
        // Up to the closing bracket.
        changes.push((kept_until..offset + reader.position_behind() - 1, Cow::default()));
    }
    Ok(())
}

/// Reads one entry of a list and returns its name. Returns `None` if it has none, or several.
// K503: a reader that ignores case may find another name.
fn read_entry<'a>(
    reader: &mut Reader<'a>,
    called_by: &'static str,
) -> Result<Option<Cow<'a, str>>, JsonError> {
    if reader.kind()? != Kind::Object {
        reader.skip_content()?;
        return Ok(None);
    }
    let mut members = Decisive::new([called_by]);
    let (mut called, mut is_ambiguous) = (None, false);
    reader.object_of_content(|reader, name| {
        let member = members.find(name);
        let value = reader.skip_content()?;
        match member {
            Ok(Some(_)) => called = unescaped(value),
            Ok(None) => {}
            Err(_) => is_ambiguous = true,
        }
        Ok::<(), JsonError>(())
    })?;
    Ok(called.filter(|_| !is_ambiguous))
}

/// Returns the text of a member that decides.
fn text_of<'a>(
    reader: &mut Reader<'a>,
    member: &'static str,
) -> Result<Option<Cow<'a, str>>, JsonError> {
    let mut members = Decisive::new([member]);
    let mut text = None;
    reader.object_of_content(|reader, name| {
        let is_member = members.find(name)?.is_some();
        let value = reader.skip_content()?;
        if is_member {
            text = unescaped(value);
        }
        Ok::<(), JsonError>(())
    })?;
    Ok(text)
}

/// Returns the text of a string without lone surrogates.
fn unescaped(value: &str) -> Option<Cow<'_, str>> {
    Reader::of_content(value).string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_delete(text: &str) -> Result<Found, Unjudgeable> {
        read(text).map(|filtered| filtered.found)
    }

    fn read(text: &str) -> Result<Filtered<'_>, Unjudgeable> {
        filter(text.as_bytes(), &Limits::default(), None, |entry| !entry.name.contains("delete"))
    }

    #[test]
    fn denied_entries_are_removed_and_others_unchanged() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{
            "tools":[{"name":"get","n":1e5}, {"name":"delete"}], "cacheScope":"public","x": 1}}"#;
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{
            "tools":[{"name":"get","n":1e5}], "cacheScope":"private","x": 1}}"#;
        assert_eq!(without_delete(text), Ok(Found::Changed(expected.as_bytes().to_vec())));
    }

    #[test]
    fn k508_a_state_or_scope_in_any_spelling_is_read() {
        for name in ["requestState", "request_state", "REQUEST-STATE", "request . State"] {
            let text = format!(r#"{{"id":7,"result":{{"{name}":"RAW"}}}}"#);
            assert!(!stays_as_it_is(text.as_bytes()), "K508 {name}");
        }
        for name in ["cacheScope", "cache_scope", "Cache-Scope", "CACHESCOPE"] {
            let text = format!(r#"{{"id":7,"result":{{"{name}":"public"}}}}"#);
            assert!(!stays_as_it_is(text.as_bytes()), "K508 {name}");
        }
        for text in ["the request of a state", "scope of the cache", "sp", "qp", "a pe", ""] {
            assert!(stays_as_it_is(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn an_entry_without_a_name_is_removed() {
        let text = r#"{"result":{"tools":[{"title":"get"},7],"prompts":[{"name":"a"}]}}"#;
        let expected = r#"{"result":{"tools":[],"prompts":[{"name":"a"}]}}"#;
        assert_eq!(without_delete(text), Ok(Found::Changed(expected.as_bytes().to_vec())));
    }

    #[test]
    fn a_message_without_lists_is_unchanged() {
        for text in [
            r#"{"result":{"content":[{"name":"delete"}]}}"#,
            r#"{"id":1,"error":{"code":1}}"#,
            "{}",
        ] {
            assert_eq!(without_delete(text), Ok(Found::Nothing), "{text}");
        }
    }

    #[test]
    fn ambiguous_members_are_refused() {
        for text in [
            r#"{"result":{"Tools":[{"name":"delete"}]}}"#,
            r#"{"Result":{"tools":[{"name":"delete"}]}}"#,
            r#"{"result":{},"result":{"tools":[]}}"#,
            r#"{"result":{"tools":{"0":{"name":"delete"}}}}"#,
            r#"[{"result":{"tools":[{"name":"delete"}]}}]"#,
        ] {
            assert!(without_delete(text).is_err(), "{text}");
        }
    }

    #[test]
    fn k232_a_notification_about_a_hidden_resource_is_dropped() {
        let notice = |uri| {
            let method = "notifications/resources/updated";
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":"{uri}"}}}}"#)
        };
        assert_eq!(without_delete(&notice("db://delete")), Ok(Found::NotForThisCaller));
        assert_eq!(without_delete(&notice("db://items")), Ok(Found::Nothing));
    }
}
