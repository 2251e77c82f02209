//! Client-held state: sealed session IDs (up to MCP 2025-11-25) and request states (MCP
//! 2026-07-28).
//!
//! Both are values of the upstream, sealed for user and server. No session needs an entry in a map,
//! no one can use another user's session, and a client can only return values that the upstream
//! sent.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    mcp::{Lifecycle, Revision, headers::SESSION_ID},
    principal::Principal,
    refusal::{Reason, Refusal},
    sealing::{Purpose, SealingKeys},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A session: the facts from its `initialize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// Whether the client declared that it can send its user to a URL.
    declares_urls: bool,
    /// The revision that client and server agreed on. `None` in an ID that was sealed by a version
    /// of this crate that did not keep it.
    agreed: Option<Revision>,
}

/// The state that the client of one message may hold.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Nothing,
    /// The session ID of an `initialize`, whose response agrees on a revision.
    Handshake(Session),
    /// A session ID.
    Session(Session),
    /// A request state.
    RequestState(RequestStates),
}

impl Kept {
    /// Adds the revision that the response to `initialize` agrees on.
    ///
    /// # Errors
    /// It is none that a client may state afterwards.
    // J432: each message after it would be refused.
    pub(crate) fn agreeing(&self, agreed: Option<&str>) -> Result<Self, Refusal> {
        let (Self::Handshake(session), Some(agreed)) = (self, agreed) else {
            return Ok(self.clone());
        };
        let agreed = Revision::parse(agreed.as_bytes())
            .filter(|agreed| agreed.lifecycle() == Lifecycle::Handshake)
            .ok_or_else(|| Refusal::new(Reason::UnsupportedVersion).requested(agreed.as_bytes()));
        let agreed = agreed?;
        Ok(Self::Session(Session { agreed: Some(agreed), ..*session }))
    }

    /// Seals the session ID of a response; removes it where there are no sessions.
    pub(crate) fn seal_session(
        &self,
        keys: &SealingKeys,
        whose: &Principal,
        fields: &mut HeaderMap,
    ) -> Result<(), Reason> {
        match self {
            Self::Handshake(session) | Self::Session(session) => session.seal(keys, whose, fields),
            Self::RequestState(_) | Self::Nothing => {
                Session::forget(fields);
                Ok(())
            }
        }
    }
}

impl Session {
    /// Creates the session that an `initialize` requests. The response agrees on a revision.
    pub(crate) const fn offered(declares_urls: bool) -> Self {
        Self { declares_urls, agreed: None }
    }

    /// Whether a refusal may send the user to a URL. An ID without a revision is judged by the
    /// headers of its request.
    pub(crate) fn elicits_urls(self, stated: Option<Revision>) -> bool {
        let revision = self.agreed.or(stated);
        self.declares_urls && revision.is_none_or(Revision::has_url_elicitation_error)
    }

    /// Returns the revision of a request: the one that its session agreed on, or the one that its
    /// headers state.
    pub(crate) fn revision(session: Option<Self>, stated: Option<Revision>) -> Revision {
        session.and_then(|session| session.agreed).or(stated).unwrap_or_default()
    }

    /// Opens the session ID of a request and replaces it with the upstream's. A stream is resumed
    /// only within a session.
    pub(crate) fn open(
        keys: &SealingKeys,
        whose: &Principal,
        fields: &mut HeaderMap,
    ) -> Result<Option<Self>, Reason> {
        let mut ids = fields.get_all(SESSION_ID).iter();
        let sealed = match (ids.next(), ids.next()) {
            (None, _) if fields.contains_key(LAST_EVENT_ID) => return Err(Reason::UnknownSession),
            (None, _) => return Ok(None),
            (Some(sealed), None) => sealed,
            (Some(_), Some(_)) => return Err(Reason::UnknownSession),
        };
        let opened = keys.open(Purpose::Session, whose, sealed.as_bytes());
        let (client, id) =
            opened.as_deref().and_then(<[u8]>::split_first).ok_or(Reason::UnknownSession)?;
        let session = Self::of_byte(*client).ok_or(Reason::UnknownSession)?;
        let id = HeaderValue::from_bytes(id).map_err(|_| Reason::UnknownSession)?;
        fields.insert(SESSION_ID, id);
        Ok(Some(session))
    }

    /// Seals the session ID of a response.
    fn seal(
        self,
        keys: &SealingKeys,
        whose: &Principal,
        fields: &mut HeaderMap,
    ) -> Result<(), Reason> {
        let mut ids = fields.get_all(SESSION_ID).iter();
        let id = match (ids.next(), ids.next()) {
            (None, _) => return Ok(()),
            (Some(id), None) => id,
            (Some(_), Some(_)) => return Err(Reason::ResponseUnreadable),
        };
        let content = [&[self.byte()], id.as_bytes()].concat();
        let sealed = keys.seal(Purpose::Session, whose, &content);
        fields.insert(SESSION_ID, HeaderValue::try_from(sealed).map_err(|_| Reason::Internal)?);
        Ok(())
    }

    /// Returns the byte before the upstream's ID. Without a revision, it is the one that earlier
    /// versions of this crate wrote.
    fn byte(self) -> u8 {
        let revision = match self.agreed {
            None => 0,
            Some(Revision::V2025_03_26) => 1,
            Some(Revision::V2025_06_18) => 2,
            Some(Revision::V2025_11_25) => 3,
            Some(Revision::V2026_07_28) => 4,
        };
        revision << 1 | u8::from(self.declares_urls)
    }

    fn of_byte(byte: u8) -> Option<Self> {
        let agreed = match byte >> 1 {
            0 => None,
            1 => Some(Revision::V2025_03_26),
            2 => Some(Revision::V2025_06_18),
            3 => Some(Revision::V2025_11_25),
            4 => Some(Revision::V2026_07_28),
            _ => return None,
        };
        Some(Self { declares_urls: byte & 1 == 1, agreed })
    }

    /// Removes headers that have no meaning without sessions.
    pub(crate) fn forget(fields: &mut HeaderMap) {
        fields.remove(SESSION_ID);
        fields.remove(LAST_EVENT_ID);
    }
}

/// An opened request state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A state of the upstream.
    Upstream(String),
    /// A state of our own: the upstream has not received the request yet.
    Ours,
}

/// Seals and opens the states of one request: of this user, at this server, for this method and
/// target.
#[derive(Clone)]
pub(crate) struct RequestStates {
    keys: SealingKeys,
    whose: Principal,
    /// The method, and the whole name or URI; the audit may record less.
    request: Arc<str>,
}

const OURS: u8 = 0;
const UPSTREAM: u8 = 1;

impl RequestStates {
    pub(crate) fn new(keys: &SealingKeys, whose: &Principal, method: &str, name: &str) -> Self {
        // Methods with a state contain no line break.
        Self {
            keys: keys.clone(),
            whose: whose.clone(),
            request: [method, "\n", name].concat().into(),
        }
    }

    fn purpose(&self) -> Purpose<'_> {
        Purpose::RequestState { request: &self.request }
    }

    /// Seals a state of the upstream.
    pub(crate) fn seal(&self, state: &str) -> String {
        self.keys.seal(self.purpose(), &self.whose, &[&[UPSTREAM], state.as_bytes()].concat())
    }

    /// Creates a state of our own, for a request that no upstream has received.
    pub(crate) fn ours(&self) -> String {
        self.keys.seal(self.purpose(), &self.whose, &[OURS])
    }

    pub(crate) fn open(&self, sealed: &str) -> Result<State, Reason> {
        let opened = self
            .keys
            .open(self.purpose(), &self.whose, sealed.as_bytes())
            .ok_or(Reason::RequestState)?;
        match opened.split_first() {
            Some((&OURS, [])) => Ok(State::Ours),
            Some((&UPSTREAM, state)) => String::from_utf8(state.to_vec())
                .map(State::Upstream)
                .map_err(|_| Reason::RequestState),
            _ => Err(Reason::RequestState),
        }
    }
}

impl fmt::Debug for RequestStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestStates").finish_non_exhaustive()
    }
}
