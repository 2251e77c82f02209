//! A validated authorization request, carried by the browser while its user signs in.

use std::{fmt, time::Duration};

use serde_json::json;
use tower_token_broker::{
    clock::{Clock, Timestamp},
    json::{Limits, Value},
    principal::{Resource, Scopes},
    sealing::SealingKeys,
};

/// Seals validated authorization requests for the browser, and opens them again. No table of them
/// is needed, and no one else can make one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PendingRequests {
    keys: SealingKeys,
    clock: Clock,
    issuer: Box<str>,
    base_path: Box<str>,
}

/// An authorization request whose client and redirect URI were verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Pending {
    pub(super) client: Box<str>,
    pub(super) claimed_name: Option<Box<str>>,
    pub(super) redirect_uri: Box<str>,
    pub(super) state: Option<Box<str>>,
    pub(super) challenge: Box<str>,
    /// The resource that the client named, if any.
    pub(super) resource: Option<Resource>,
    /// The scopes that the client requested; `None` for the default ones.
    pub(super) scopes: Option<Scopes>,
    /// Empty before the request is sealed.
    pub(super) location: Box<str>,
}

const PURPOSE: &str = "authorization request";
const PAGE_PURPOSE: &str = "page";

impl PendingRequests {
    /// The time for which a sealed request can be opened.
    pub const LIFETIME: Duration = Duration::from_secs(60 * 60);
    /// Longest sealed request, in bytes. A longer one is not opened.
    pub const MAX_BYTES: usize = 24 * 1024;

    /// Creates the requests of this issuer, whose endpoints are below `base_path`.
    pub fn new(keys: SealingKeys, clock: Clock, issuer: &str, base_path: &str) -> Self {
        Self { keys, clock, issuer: issuer.into(), base_path: base_path.into() }
    }

    /// Opens a sealed request; `None` if it was changed, has expired, or was sealed by another
    /// broker.
    pub fn open(&self, sealed: &str) -> Option<Pending> {
        if sealed.len() > Self::MAX_BYTES {
            return None;
        }
        let opened = self.keys.open_state(PURPOSE, &[&self.issuer], sealed)?;
        #[expect(clippy::disallowed_methods, reason = "no secret: what the client requested")]
        let opened = Value::parse(opened.expose(), &Limits::default()).ok()?;
        let sealed_at = Timestamp::from_unix_seconds(opened.get("at")?.as_u64()?);
        if self.clock.now() >= sealed_at.plus(Self::LIFETIME) {
            return None;
        }
        Pending::read(opened, self.location(sealed))
    }

    /// Seals the path of a page, to which a browser returns after the sign-in.
    pub(crate) fn seal_page(&self, path: &str) -> String {
        let at = self.clock.now().unix_seconds();
        let content = json!({"path": path, "at": at}).to_string();
        self.keys.seal_state(PAGE_PURPOSE, &[&self.issuer], content.as_bytes())
    }

    /// Opens the path of a page.
    // D525: only a path that was sealed here.
    pub(crate) fn open_page(&self, sealed: &str) -> Option<String> {
        if sealed.len() > Self::MAX_BYTES {
            return None;
        }
        let opened = self.keys.open_state(PAGE_PURPOSE, &[&self.issuer], sealed)?;
        #[expect(clippy::disallowed_methods, reason = "no secret: a path of ours")]
        let opened = Value::parse(opened.expose(), &Limits::default()).ok()?;
        let sealed_at = Timestamp::from_unix_seconds(opened.get("at")?.as_u64()?);
        if self.clock.now() >= sealed_at.plus(Self::LIFETIME) {
            return None;
        }
        Some(opened.get("path")?.as_str()?.into_owned())
    }

    /// Seals a request, and returns it with its location.
    pub(super) fn seal(&self, pending: &Pending) -> String {
        let mut content = pending.to_json();
        if let Some(members) = content.as_object_mut() {
            members.insert("at".into(), self.clock.now().unix_seconds().into());
        }
        self.keys.seal_state(PURPOSE, &[&self.issuer], content.to_string().as_bytes())
    }

    fn location(&self, sealed: &str) -> Box<str> {
        // Base64url needs no escape.
        format!("{}/oauth/continue?request={sealed}", self.base_path).into()
    }
}

impl Pending {
    /// Returns the ID of the client.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Returns the name that the client claims. Render it escaped and truncated.
    pub fn claimed_name(&self) -> Option<&str> {
        self.claimed_name.as_deref()
    }

    /// Returns the path and query at which the request continues when the user has signed in,
    /// always on this server.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "client": self.client,
            "name": self.claimed_name,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "challenge": self.challenge,
            "resource": self.resource.as_ref().map(Resource::as_str),
            "scopes": self.scopes.as_ref().map(ToString::to_string),
        })
    }

    /// Reads what [`Pending::to_json`] wrote; its seal was verified.
    pub(super) fn read(value: Value<'_>, location: Box<str>) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str).map(|text| Box::from(&*text));
        let resource = text("resource").map(|uri| Resource::parse(&uri)).transpose().ok()?;
        let scopes = text("scopes").map(|scopes| Scopes::parse(&scopes)).transpose().ok()?;
        Some(Self {
            client: text("client")?,
            claimed_name: text("name"),
            redirect_uri: text("redirect_uri")?,
            state: text("state"),
            challenge: text("challenge")?,
            resource,
            scopes,
            location,
        })
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("client", &self.client).finish_non_exhaustive()
    }
}
