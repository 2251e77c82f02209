//! The readers of foreign bytes, laid open for fuzzing and for comparison with the readers of
//! others.
//!
//! No interface: the readers are nobody's but ours, and this changes with them.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::Request;

use crate::{
    Secret,
    audit::Trail,
    authenticate::PresentedToken,
    exchange::{
        LeakGuardBody,
        leak_guard::{Sought, Watched},
    },
    json::{JsonError, Limits},
    mcp::{
        answer::{self, Found},
        message::{self, Text},
        sse::{self, EventBorder},
    },
    principal::Principal,
    refusal::Reason,
    sealing::{Purpose, SealingKeys},
};

/// What decides in a message of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The id's own text.
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
/// Why it is refused.
pub fn message(bytes: &[u8]) -> Result<Message, Reason> {
    let read = message::Message::read(bytes, &Limits::default())?;
    let text = |text: &Text<'_>| text.required().ok().map(str::to_owned);
    Ok(Message {
        id: read.id.map(str::to_owned),
        method: read.method.as_deref().map(str::to_owned),
        name: text(&read.params.name),
        uri: text(&read.params.uri),
        request_state: read.params.request_state().ok().flatten().map(str::to_owned),
    })
}

/// The message with another state; `None` if it has none, or is none.
pub fn with_request_state(bytes: &[u8], state: &str) -> Option<Vec<u8>> {
    message::Message::read(bytes, &Limits::default()).ok()?.with_request_state(bytes, state)
}

/// The message as if it were sent for the first time; `None` if it has no parameters, or is none.
pub fn as_first_asked(bytes: &[u8]) -> Option<Vec<u8>> {
    message::Message::read(bytes, &Limits::default()).ok()?.as_first_asked(bytes)
}

/// A message of a server without the entries of its lists that are not visible; `None` if nothing
/// of it is for this caller.
///
/// # Errors
/// Why it can't be judged.
pub fn answer(
    bytes: &[u8],
    mut is_visible: impl FnMut(&str) -> bool,
) -> Result<Option<Vec<u8>>, JsonError> {
    Ok(match answer::filter(bytes, &Limits::default(), None, |entry| is_visible(entry.name))? {
        Found::Nothing => Some(bytes.to_vec()),
        Found::Changed(changed) => Some(changed),
        Found::NotForThisCaller => None,
    })
}

/// The whole events of a stream that comes in these chunks; `None` if one is longer than `limit`.
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

/// The data of an event.
pub fn event_data(event: &[u8]) -> Option<Vec<u8>> {
    sse::data(event).map(Cow::into_owned)
}

/// The same event with other data.
pub fn event_with_data(event: &[u8], data: &[u8]) -> Bytes {
    sse::with_data(event, data.to_vec())
}

/// How many bytes of a stream that comes in these chunks belong to whole events, as the cut of a
/// stream counts them.
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

/// Takes the token off a request, and all that may be a copy of it.
///
/// # Errors
/// Why the request is refused.
#[expect(
    clippy::disallowed_methods,
    reason = "what was taken off is compared with what was put on"
)]
pub fn credential(request: &mut Request<()>) -> Result<Vec<u8>, Reason> {
    PresentedToken::take_off(request).map(|token| token.secret().expose().to_vec())
}

/// The body without any echo of the secret; `None` if there is nothing to look for.
pub fn guarded<R>(inner: R, secret: &Secret, trail: Trail) -> Option<LeakGuardBody<R>> {
    let watched = Watched::default();
    watched.add(Arc::new(Sought::of(secret)?));
    Some(LeakGuardBody::new(inner, watched, trail))
}

/// What a sealed text is for: a session, or the state of this request.
fn purpose(state_of: Option<&str>) -> Purpose<'_> {
    state_of.map_or(Purpose::Session, |request| Purpose::RequestState { request })
}

/// Seals for this user, as a session or as the state of this request.
pub fn seal(
    keys: &SealingKeys,
    state_of: Option<&str>,
    whose: &Principal,
    content: &[u8],
) -> String {
    keys.seal(purpose(state_of), whose, content)
}

/// Opens what a client gave back.
pub fn open(
    keys: &SealingKeys,
    state_of: Option<&str>,
    whose: &Principal,
    sealed: &[u8],
) -> Option<Vec<u8>> {
    keys.open(purpose(state_of), whose, sealed)
}
