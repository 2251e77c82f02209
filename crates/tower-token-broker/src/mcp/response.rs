//! One JSON-RPC message from a server, filtered entry by entry.

use std::{borrow::Cow, ops::Range};

use super::method::{Listed, McpMethod};
use crate::json::{JsonError, Kind, Limits, Reader, Value, push_json_string};

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

/// A replacement for a part of the text.
type Change = (Range<usize>, Cow<'static, [u8]>);

/// The request state in a result (MCP 2026-07-28, `InputRequiredResult`).
const REQUEST_STATE: &str = "requestState";
/// The cache scope of a result (MCP 2026-07-28, `CacheableResult`).
const CACHE_SCOPE: &str = "cacheScope";

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) of: Listed,
    /// The name, URI or template.
    pub(crate) name: &'a str,
}

/// Seals a request state.
pub(crate) type Seal<'a> = &'a dyn Fn(&str) -> String;

/// Whether the result of a call contains nothing to change. It does not if neither member is named,
/// in any case, and no escape could hide one.
pub(crate) fn stays_as_it_is(text: &[u8]) -> bool {
    let named = |name: &str, letter: u8, at: usize| {
        let found = memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), text);
        found.into_iter().any(|place| {
            let begins = place.checked_sub(at);
            let word = begins.and_then(|begins| text.get(begins..begins + name.len()));
            word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
        })
    };
    // Search for the rarest letter of each name.
    let is_escaped = memchr::memmem::find(text, b"\\u").is_some();
    // JSON text contains no NUL, but a name in UTF-16 does.
    let has_nul = memchr::memchr(0, text).is_some();
    !is_escaped && !has_nul && !named(REQUEST_STATE, b'q', 2) && !named(CACHE_SCOPE, b'p', 8)
}

/// Removes every hidden entry from `text`, whichever request it responds to, and seals the request
/// state.
///
/// # Errors
/// If the text is not strict JSON, so that it cannot be judged.
pub(crate) fn filter<F>(
    text: &[u8],
    limits: &Limits,
    seal: Option<Seal<'_>>,
    mut is_visible: F,
) -> Result<Found, JsonError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let mut reader = Reader::new(text, limits)?;
    let mut changes = Vec::new();
    let mut method: Option<McpMethod<'_>> = None;
    let mut params: Option<(usize, &str)> = None;
    if reader.kind()? != Kind::Object {
        return Err(JsonError::Syntax);
    }
    reader.object(|reader, name| {
        let kind = reader.kind()?;
        match (name.as_ref(), kind) {
            ("result", Kind::Object) => filter_result(reader, &mut changes, seal, &mut is_visible),
            ("method", Kind::String) => {
                method = Some(McpMethod::parse(reader.string()?));
                Ok(())
            }
            ("params", Kind::Object) => {
                params = Some((reader.position(), reader.skip()?));
                Ok(())
            }
            // A parser that ignores case would find another message here.
            (other, _)
                if ["result", "method", "params"]
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(other)) =>
            {
                reader.skip()?;
                if ["result", "method", "params"].contains(&other) {
                    Ok(())
                } else {
                    Err(JsonError::DuplicateMember)
                }
            }
            _ => reader.skip().map(drop),
        }
    })?;
    reader.end()?;
    // K232: a notification about a hidden resource reveals that it exists.
    if method == Some(McpMethod::ResourceUpdated) {
        let uri =
            params.and_then(|(_, params)| Value::known(params).get("uri")).and_then(Value::as_str);
        let visible =
            uri.is_some_and(|uri| is_visible(Entry { of: Listed::Resources, name: &uri }));
        return Ok(if visible { Found::Nothing } else { Found::NotForThisCaller });
    }
    // K232: so does an acknowledgement that names it.
    if method == Some(McpMethod::SubscriptionsAcknowledged)
        && let Some((from, params)) = params
    {
        filter_acknowledged(params, from, limits, &mut changes, &mut is_visible)?;
    }
    if changes.is_empty() {
        return Ok(Found::Nothing);
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
    Ok(Found::Changed(changed))
}

fn filter_result<F>(
    reader: &mut Reader<'_>,
    changes: &mut Vec<Change>,
    seal: Option<Seal<'_>>,
    is_visible: &mut F,
) -> Result<(), JsonError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    let mut holds_a_list = false;
    let mut cache_scope = None;
    reader.object(|reader, name| {
        let kind = reader.kind()?;
        match (list_of(name)?, kind) {
            (Some(of), Kind::Array) => {
                holds_a_list = true;
                filter_array(reader, 0, changes, |reader| {
                    let name = read_entry(reader, of.entry_name())?;
                    Ok(name.is_some_and(|name| is_visible(Entry { of, name: &name })))
                })?;
            }
            // A list that is not an array cannot be judged entry by entry.
            (Some(_), _) => return Err(JsonError::Syntax),
            (None, Kind::String) if is_member(name, CACHE_SCOPE)? => {
                let from = reader.position();
                if reader.string()? != "private" {
                    cache_scope = Some(from..reader.position_behind());
                }
            }
            (None, _) => match seal {
                Some(seal) if is_member(name, REQUEST_STATE)? => {
                    let from = reader.position();
                    if kind != Kind::String {
                        return Err(JsonError::Syntax);
                    }
                    let mut sealed = String::new();
                    push_json_string(&mut sealed, &seal(&reader.string()?));
                    changes.push((from..reader.position_behind(), sealed.into_bytes().into()));
                }
                _ => drop(reader.skip()?),
            },
        }
        Ok::<(), JsonError>(())
    })?;
    // I188: a result filtered for one caller, or obtained with their credential, is not cached for
    // another.
    if let Some(range) = cache_scope.filter(|_| holds_a_list || seal.is_some()) {
        changes.push((range, br#""private""#.into()));
    }
    Ok(())
}

/// Filters the resources of `params.notifications` (MCP 2026-07-28,
/// `SubscriptionsAcknowledgedNotification`). `params` begins at `from`.
fn filter_acknowledged<F>(
    params: &str,
    from: usize,
    limits: &Limits,
    changes: &mut Vec<Change>,
    is_visible: &mut F,
) -> Result<(), JsonError>
where
    F: FnMut(Entry<'_>) -> bool,
{
    Reader::new(params.as_bytes(), limits)?.object(|reader, name| {
        if !is_member(name, "notifications")? || reader.kind()? != Kind::Object {
            return reader.skip().map(drop);
        }
        let filter = reader.object(|reader, name| {
            if !is_member(name, "resourceSubscriptions")? {
                return reader.skip().map(drop);
            }
            filter_array(reader, from, changes, |reader| {
                let uri = Value::known(reader.skip()?).as_str();
                Ok(uri.is_some_and(|uri| is_visible(Entry { of: Listed::Resources, name: &uri })))
            })
        });
        filter.map(drop)
    })?;
    Ok(())
}

/// Whether this is the member. In another case it is refused, because some parsers ignore case.
fn is_member(name: &str, member: &str) -> Result<bool, JsonError> {
    if name != member && name.eq_ignore_ascii_case(member) {
        return Err(JsonError::DuplicateMember);
    }
    Ok(name == member)
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

/// Reads one entry of a list and returns its name. Returns `None` if it has none.
fn read_entry<'a>(
    reader: &mut Reader<'a>,
    called_by: &str,
) -> Result<Option<Cow<'a, str>>, JsonError> {
    if reader.kind()? != Kind::Object {
        reader.skip()?;
        return Ok(None);
    }
    let mut called = None;
    reader.object(|reader, name| {
        if name == called_by && reader.kind()? == Kind::String {
            called = Some(reader.string()?);
            return Ok(());
        }
        reader.skip().map(drop)
    })?;
    Ok(called)
}

fn list_of(name: &str) -> Result<Option<Listed>, JsonError> {
    let named = |of: &Listed| of.member().eq_ignore_ascii_case(name);
    match Listed::ALL.into_iter().find(named) {
        Some(of) if of.member() == name => Ok(Some(of)),
        Some(_) => Err(JsonError::DuplicateMember),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_delete(text: &str) -> Result<Found, JsonError> {
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
