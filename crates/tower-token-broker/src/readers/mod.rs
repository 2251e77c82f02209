//! Parsers of untrusted input, exposed for fuzzing. Not a stable API.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::Request;

#[cfg(feature = "grpc")]
pub mod grpc;

use crate::{
    Secret,
    audit::Trail,
    authenticate::PresentedToken,
    exchange::{
        LeakGuardBody,
        leak_guard::{Framing, SecretTails, Watched},
    },
    json::{JsonError, Limits, is_same_as_any},
    mcp::{
        message::{self, Text},
        response::{self, Found, Unjudgeable},
        sse::{self, EventBorder},
    },
    principal::Principal,
    refusal::Reason,
    sealing::{Purpose, SealingKeys},
};

/// The parts of a client's message that decide what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The ID, as it is written.
    pub id: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// `params.name`, if it is a string.
    pub name: Option<String>,
    /// `params.uri`, if it is a string.
    pub uri: Option<String>,
    /// `params.requestState`, if it is a string.
    pub request_state: Option<String>,
}

/// Reads a message of a client.
///
/// # Errors
/// The reason why it is refused.
pub fn message(bytes: &[u8]) -> Result<Message, Reason> {
    let read = message::Message::read(bytes, &Limits::default())?;
    let text = |text: &Text<'_>| text.required().ok().map(str::to_owned);
    Ok(Message {
        id: read.id.map(str::to_owned),
        method: read.method.as_ref().map(|method| method.as_str().to_owned()),
        name: text(&read.params.name),
        uri: text(&read.params.uri),
        request_state: read.params.request_state().ok().flatten().map(str::to_owned),
    })
}

/// Replaces `params.requestState`; `None` if the message has none, or cannot be read.
pub fn with_request_state(bytes: &[u8], state: &str) -> Option<Vec<u8>> {
    message::Message::read(bytes, &Limits::default()).ok()?.with_request_state(bytes, state)
}

/// Removes the members that only a repeated request has; `None` if the message has no parameters,
/// or cannot be read.
pub fn first_request(bytes: &[u8]) -> Option<Vec<u8>> {
    message::Message::read(bytes, &Limits::default()).ok()?.as_first_asked(bytes)
}

/// Removes the entries that are not visible from the lists of a server's message; `None` if the
/// whole message is withheld.
///
/// # Errors
/// The reason why it cannot be read.
pub fn server_message(
    bytes: &[u8],
    mut is_visible: impl FnMut(&str) -> bool,
) -> Result<Option<Vec<u8>>, JsonError> {
    let filtered =
        response::filter(bytes, &Limits::default(), None, |entry| is_visible(entry.name));
    let filtered = filtered.map_err(|unjudgeable| match unjudgeable {
        Unjudgeable::Json(error) => error,
        Unjudgeable::Batch | Unjudgeable::TwoOutcomes => JsonError::Syntax,
    })?;
    Ok(match filtered.found {
        Found::Nothing => Some(bytes.to_vec()),
        Found::Changed(changed) => Some(changed),
        Found::NotForThisCaller => None,
    })
}

/// Whether some reader may take a member of a message for the one that is called `known`. A name of
/// more than 1 KiB that is no word is taken for any.
pub fn is_same_name(name: &str, known: &str) -> bool {
    is_same_as_any(name, &[known])
}

/// Returns the complete events of a stream that arrives in these chunks; `None` if one is longer
/// than `limit`.
pub fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Option<Vec<Bytes>> {
    let (mut events, mut whole) = (sse::Events::new(limit), Vec::new());
    for chunk in chunks {
        events.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = events.next_event().ok()? {
            whole.push(event);
        }
    }
    Some(whole)
}

/// Returns the data of an event.
pub fn event_data(event: &[u8]) -> Option<Vec<u8>> {
    sse::data(event).map(Cow::into_owned)
}

/// Replaces the data of an event.
pub fn event_with_data(event: &[u8], data: &[u8]) -> Bytes {
    sse::with_data(event, data.to_vec())
}

/// Returns the number of bytes that belong to complete events, in a stream that arrives in these
/// chunks: where the stream may be cut.
pub fn event_border<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let (mut border, mut passed, mut whole) = (EventBorder::new(), 0, 0);
    for chunk in chunks {
        if let Some(more) = border.read(chunk) {
            whole = passed + more;
        }
        passed += chunk.len();
    }
    whole
}

/// Removes the token from a request, with every field that may contain a copy, and returns it.
///
/// # Errors
/// The reason why the request is refused.
#[expect(
    clippy::disallowed_methods,
    reason = "the fuzz target compares it with the token that was sent"
)]
pub fn credential(request: &mut Request<()>) -> Result<Vec<u8>, Reason> {
    PresentedToken::take(request).map(|token| token.secret().expose().to_vec())
}

/// Wraps a body so that echoes of the secret are masked; `None` if the secret is empty.
pub fn guarded<R>(inner: R, secret: &Secret, trail: Trail) -> Option<LeakGuardBody<R>> {
    let watched = Watched::default();
    watched.add(&Arc::new(SecretTails::of(secret)?), None).ok()?;
    Some(LeakGuardBody::new(inner, Framing::default(), watched, trail))
}

fn purpose(state_of: Option<&str>) -> Purpose<'_> {
    state_of.map_or(Purpose::Session, |request| Purpose::RequestState { request })
}

/// Seals content for a caller: as a session, or as the state of a request.
pub fn seal(
    keys: &SealingKeys,
    state_of: Option<&str>,
    whose: &Principal,
    content: &[u8],
) -> String {
    keys.seal(purpose(state_of), whose, content)
}

/// Opens a sealed text; `None` if it was sealed for another caller or purpose, or changed.
pub fn open(
    keys: &SealingKeys,
    state_of: Option<&str>,
    whose: &Principal,
    sealed: &[u8],
) -> Option<Vec<u8>> {
    keys.open(purpose(state_of), whose, sealed)
}
