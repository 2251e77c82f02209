//! What stands in a record: closed and typed; nothing of a body, an argument's value or a secret.

use std::{borrow::Cow, fmt::Write as _, net::SocketAddr, sync::Arc};

use http::StatusCode;

use crate::{
    clock::Timestamp,
    dialect::RequestId,
    exchange::GrantId,
    principal::{Actor, Principal, Resource, Scopes},
    refusal::Reason,
};

/// The version of the schema, in each record that begins or continues a chain (`docs/audit-schema.md`).
pub const SCHEMA_VERSION: u32 = 1;

/// Longest text from outside that a record keeps, in bytes; what is longer is cut there.
pub const MAX_TEXT: usize = 256;

/// Longest text of the operator's own: what [`Scopes`] may hold at most stands in a record whole.
const MAX_OWN_TEXT: usize = 16 * 1024;
/// Links of an actor chain that a record keeps; the number of all stands beside them.
const MAX_ACTORS: usize = 16;

/// One record as it is written: its place in the chain, and its line. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    sequence: u64,
    kind: &'static str,
    hash: [u8; 32],
    line: Arc<[u8]>,
}

impl Record {
    /// Its number in the chain, from 0 on, without a gap.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// `start`, `open`, `close`, `intent`, `refresh_intent`, `refresh_result`, `result` or `revoked`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// SHA-256 over the previous record's hash and this line up to its `hash` member.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// One JSON object without line breaks.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Serialises an entry, once, as the next of its chain.
    pub(super) fn of(entry: &Entry, sequence: u64, previous: &[u8; 32]) -> Self {
        let mut line = Line(String::with_capacity(512));
        line.number("seq", sequence);
        line.text("time", &entry.at.to_string());
        line.text("kind", entry.event.kind());
        entry.event.write(&mut line);
        line.hex("prev", previous);
        let hash = chain_hash(previous, line.0.as_bytes());
        line.hex("hash", &hash);
        line.0.push('}');
        Self { sequence, kind: entry.event.kind(), hash, line: line.0.into_bytes().into() }
    }
}

/// SHA-256 over the previous hash and the line up to (and without) `,"hash":`.
pub(super) fn chain_hash(previous: &[u8; 32], head: &[u8]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(previous);
    context.update(head);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// What a client asked for, in few words: the method, and the name of the thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    method: Box<str>,
    name: Option<Box<str>>,
}

impl Operation {
    /// A method, such as `tools/call`, or `GET` for plain HTTP; and the tool, URI, prompt or path it names. Of a URI, the user
    /// information and all behind `?` or `#` are left out; longer texts than [`MAX_TEXT`] are cut.
    #[must_use]
    pub fn new(method: &str, name: Option<&str>) -> Self {
        let name = name.map(|name| cut(&without_secrets(name), MAX_TEXT).into());
        Self { method: cut(method, MAX_TEXT).into(), name }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The name of the thing.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// What is about to be done with a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    upstream: Box<str>,
    origin: Box<str>,
    scopes: Scopes,
    grant: Option<(GrantId, u64)>,
}

impl Intent {
    /// To send a credential with these scopes to `origin`, on behalf of the upstream of this name.
    #[must_use]
    pub fn new(upstream: &str, origin: &str, scopes: &Scopes, grant: Option<(&GrantId, u64)>) -> Self {
        Self {
            upstream: upstream.into(),
            origin: origin.into(),
            scopes: scopes.clone(),
            grant: grant.map(|(id, version)| (id.clone(), version)),
        }
    }

    fn write(&self, line: &mut Line) {
        line.own_text("upstream", &self.upstream);
        line.own_text("origin", &self.origin);
        line.own_text("upstream_scopes", &self.scopes.to_string());
        if let Some((grant, version)) = &self.grant {
            line.text("grant", grant.as_str());
            line.number("grant_version", *version);
        }
    }
}

/// How a refresh came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshOutcome {
    /// New tokens were received and stored.
    Refreshed,
    /// `invalid_grant`: the grant is over.
    GrantEnded,
    /// The authorization server failed or could not be reached; the grant is kept.
    Failed,
    /// It may have rotated the token without our hearing of it.
    Unknown,
}

impl RefreshOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::GrantEnded => "grant_ended",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// How a request came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Its answer was passed on to the end.
    Completed,
    /// It was refused, for the reason given.
    Refused,
    /// The inner service or its answer's body failed.
    Failed,
    /// The client went away before the end.
    Dropped,
    /// Its answer was cut, for the reason given.
    Cut,
    /// The process ended before the outcome was known; written when the log was opened again.
    Unknown,
}

impl Outcome {
    /// The word of the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Cut => "cut",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that happened, on its way to become a [`Record`].
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) event: Event,
}

/// The closed list of what can stand in a record.
#[derive(Debug)]
pub(super) enum Event {
    Start {
        chain: [u8; 16],
    },
    Open {
        dropped_bytes: u64,
    },
    Close,
    Intent {
        request: RequestId,
        /// The request has ended: its result stands already.
        is_late: bool,
        principal: Option<Principal>,
        intent: Intent,
    },
    RefreshIntent {
        request: RequestId,
        refresh: u64,
        principal: Option<Principal>,
        intent: Intent,
    },
    RefreshResult {
        request: Box<str>,
        refresh: u64,
        outcome: RefreshOutcome,
    },
    Result(Box<RequestResult>),
    /// Refusals that were counted while nothing could be written.
    Counted {
        reason: Reason,
        count: u64,
        since: Timestamp,
    },
    /// A request of an earlier process whose end nobody saw.
    Lost {
        request: Box<str>,
    },
    Revoked {
        what: &'static str,
        id: Box<str>,
    },
}

/// The terminal record of one request.
#[derive(Debug)]
pub(super) struct RequestResult {
    pub(super) request: RequestId,
    pub(super) started: Timestamp,
    pub(super) resource: Option<Resource>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) principal: Option<Principal>,
    pub(super) operation: Option<Operation>,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) status: Option<StatusCode>,
    pub(super) intents: u32,
    pub(super) uses: u32,
    pub(super) echo_masked: u64,
    pub(super) answer_bytes: u64,
    #[cfg(feature = "grpc")]
    pub(super) grpc: Option<super::grpc::GrpcResult>,
}

impl Event {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Open { .. } => "open",
            Self::Close => "close",
            Self::Intent { .. } => "intent",
            Self::RefreshIntent { .. } => "refresh_intent",
            Self::RefreshResult { .. } => "refresh_result",
            Self::Result(_) | Self::Counted { .. } | Self::Lost { .. } => "result",
            Self::Revoked { .. } => "revoked",
        }
    }

    fn write(&self, line: &mut Line) {
        match self {
            Self::Start { chain } => {
                line.number("schema", u64::from(SCHEMA_VERSION));
                line.hex("chain", chain);
            }
            Self::Open { dropped_bytes } => {
                line.number("schema", u64::from(SCHEMA_VERSION));
                line.number("dropped_bytes", *dropped_bytes);
            }
            Self::Close => {}
            Self::Intent { request, is_late, principal, intent } => {
                line.text("request", &request.to_string());
                if *is_late {
                    line.name("late");
                    line.0.push_str("true");
                }
                write_principal(line, principal.as_ref());
                intent.write(line);
            }
            Self::RefreshIntent { request, refresh, principal, intent } => {
                line.text("request", &request.to_string());
                line.number("refresh", *refresh);
                write_principal(line, principal.as_ref());
                intent.write(line);
            }
            Self::RefreshResult { request, refresh, outcome } => {
                line.text("request", request);
                line.number("refresh", *refresh);
                line.text("outcome", outcome.as_str());
            }
            Self::Result(result) => result.write(line),
            Self::Counted { reason, count, since } => {
                line.number("count", *count);
                line.text("outcome", Outcome::Refused.as_str());
                line.text("reason", reason.code());
                line.text("started", &since.to_string());
            }
            Self::Lost { request } => {
                line.text("request", request);
                line.number("count", 1);
                line.text("outcome", Outcome::Unknown.as_str());
            }
            Self::Revoked { what, id } => {
                line.text("what", what);
                line.text("id", id);
            }
        }
    }
}

impl RequestResult {
    fn write(&self, line: &mut Line) {
        line.text("request", &self.request.to_string());
        line.number("count", 1);
        line.text("outcome", self.outcome.as_str());
        if let Some(reason) = self.reason {
            line.text("reason", reason.code());
        }
        if let Some(status) = self.status {
            line.number("status", u64::from(status.as_u16()));
        }
        line.text("started", &self.started.to_string());
        if let Some(resource) = &self.resource {
            line.own_text("resource", resource.as_str());
        }
        if let Some(peer) = self.peer {
            line.text("peer", &peer.to_string());
        }
        write_principal(line, self.principal.as_ref());
        if let Some(operation) = &self.operation {
            line.text("method", operation.method());
            if let Some(name) = operation.name() {
                line.text("name", name);
            }
        }
        line.number("intents", u64::from(self.intents));
        line.number("uses", u64::from(self.uses));
        line.number("echo_masked", self.echo_masked);
        line.number("answer_bytes", self.answer_bytes);
        #[cfg(feature = "grpc")]
        if let Some(grpc) = &self.grpc {
            if let Some(status) = grpc.status {
                line.number("grpc_status", status);
            }
            line.number("messages_in", grpc.messages_in);
            line.number("messages_out", grpc.messages_out);
        }
    }
}

fn write_principal(line: &mut Line, principal: Option<&Principal>) {
    let Some(principal) = principal else { return };
    line.text("issuer", principal.issuer());
    line.text("subject", principal.subject());
    line.text("client", principal.client());
    line.text("token", principal.token_id());
    if let Some(family) = principal.family() {
        line.text("family", family);
    }
    if let Some(actor) = principal.actor() {
        line.actors(actor);
    }
}

/// One JSON object on its way, member by member.
struct Line(String);

impl Line {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.write(format_args!("{value}"));
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        self.0.push('"');
        for byte in bytes {
            self.write(format_args!("{byte:02x}"));
        }
        self.0.push('"');
    }

    /// A text that may come from outside.
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value, MAX_TEXT);
    }

    /// A text of the operator's, which is evidence to its last byte.
    fn own_text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value, MAX_OWN_TEXT);
    }

    /// The chain of who acts, from the nearest on. Objects and not one text: a subject can't pretend to be two links.
    fn actors(&mut self, nearest: &Actor) {
        self.name("actors");
        self.0.push('[');
        let (mut links, mut next) = (0, Some(nearest));
        while let Some(link) = next {
            if links < MAX_ACTORS {
                self.0.push_str(if links == 0 { "{\"issuer\":" } else { ",{\"issuer\":" });
                self.quoted(link.person().issuer(), MAX_TEXT);
                self.0.push_str(",\"subject\":");
                self.quoted(link.person().subject(), MAX_TEXT);
                self.0.push('}');
            }
            links += 1;
            next = link.before();
        }
        self.0.push(']');
        self.number("actor_links", links as u64);
    }

    /// Nothing but printable ASCII stands in the log as it is.
    fn quoted(&mut self, value: &str, longest: usize) {
        self.0.push('"');
        for character in cut(value, longest).chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                ' '..='~' => self.0.push(character),
                other => {
                    let mut units = [0; 2];
                    for unit in other.encode_utf16(&mut units) {
                        self.write(format_args!("\\u{unit:04x}"));
                    }
                }
            }
        }
        self.0.push('"');
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        self.0.write_fmt(arguments).unwrap_or_default();
    }
}

fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// P294: what stands in a URI before `@`, or behind `?` or `#`, is a place for secrets. Names without a scheme are no URIs.
fn without_secrets(name: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = name.split_once(':') else { return Cow::Borrowed(name) };
    // The delimiter stays, to say that something was there.
    let rest = rest.split_inclusive(['?', '#']).next().unwrap_or_default();
    let Some(rest) = rest.strip_prefix("//") else { return Cow::Owned(format!("{scheme}:{rest}")) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let start = authority.rfind('@').unwrap_or_default();
    Cow::Owned(format!("{scheme}://{}", rest.get(start..).unwrap_or_default()))
}
