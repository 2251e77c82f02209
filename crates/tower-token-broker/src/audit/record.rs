//! What stands in a record: closed and typed; nothing of a body, an argument's value or a secret.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use http::StatusCode;

use super::line::{Line, cut, push_hex, push_number};
use crate::{
    clock::Timestamp,
    principal::{GrantId, Initiator, Principal, Resource, Scopes},
    refusal::Reason,
    request_id::RequestId,
};

pub use super::line::MAX_TEXT;

/// The version of the schema, in each record that begins or continues a chain
/// (`docs/audit-schema.md`).
pub const SCHEMA_VERSION: u32 = 1;

/// Records that are written together, in the order of their chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    text: Vec<u8>,
    places: Vec<Place>,
    /// The hash of the record before the first one.
    previous: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    kind: &'static str,
    hash: [u8; 32],
    /// Behind its line break.
    end: usize,
}

/// One record as it is written: its place in the chain, and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    place: &'a Place,
    line: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its number in the chain, from 0 on, without a gap.
    pub const fn sequence(&self) -> u64 {
        self.place.sequence
    }

    /// `start`, `open`, `close`, `intent`, `refresh_intent`, `refresh_result`,
    /// `result`, `revoked`, `blocked`, `unblocked` or `grant_restored`.
    pub const fn kind(&self) -> &'static str {
        self.place.kind
    }

    /// SHA-256 over the previous record's hash and this line up to its `hash` member.
    pub const fn hash(&self) -> &'a [u8; 32] {
        &self.place.hash
    }

    /// One JSON object without line breaks.
    pub const fn line(&self) -> &'a [u8] {
        self.line
    }
}

impl Records {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All their lines, each with its line break: what a file takes as it is.
    pub fn as_json_lines(&self) -> &[u8] {
        &self.text
    }

    /// The number of the last one.
    pub fn last_sequence(&self) -> Option<u64> {
        self.places.last().map(|place| place.sequence)
    }

    /// The number of the first one.
    pub fn first_sequence(&self) -> Option<u64> {
        self.places.first().map(|place| place.sequence)
    }

    /// The hash of the record before the first one; zeros at the beginning of a chain.
    pub const fn previous_hash(&self) -> &[u8; 32] {
        &self.previous
    }

    /// The number and hash of the last one.
    pub(super) fn last(&self) -> Option<(u64, [u8; 32])> {
        self.places.last().map(|place| (place.sequence, place.hash))
    }

    /// Whether they continue the chain behind this record, or begin it.
    pub(super) fn follow(&self, last: Option<(u64, [u8; 32])>) -> bool {
        let Some(first) = self.first_sequence() else { return true };
        match last {
            Some((sequence, hash)) => {
                sequence.checked_add(1) == Some(first) && self.previous == hash
            }
            None => first == 0 && self.previous == [0; 32],
        }
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut from = 0;
        self.places.iter().map(move |place| {
            let line = self.text.get(from..place.end.saturating_sub(1)).unwrap_or_default();
            from = place.end;
            Record { place, line }
        })
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    /// Gives back what a rush has blown up.
    pub(super) fn shrink(&mut self) {
        const LARGEST_KEPT: usize = 1 << 20;
        if self.text.capacity() > LARGEST_KEPT {
            *self = Self::default();
        }
    }

    /// Appends a record whose own members are `members`, as the next of its chain; gives its hash.
    pub(super) fn append(
        &mut self,
        kind: &'static str,
        members: &[u8],
        sequence: u64,
        previous: &[u8; 32],
    ) -> [u8; 32] {
        let from = self.text.len();
        if self.places.is_empty() {
            self.previous = *previous;
        }
        // The previous hash stands before the line until the line is hashed: one text, hashed in
        // one go.
        self.text.extend_from_slice(previous);
        self.text.extend_from_slice(b"{\"seq\":");
        push_number(&mut self.text, sequence);
        self.text.extend_from_slice(members);
        self.text.extend_from_slice(b",\"prev\":\"");
        push_hex(&mut self.text, previous);
        self.text.push(b'"');
        let mut hash = [0; 32];
        let hashed = self.text.get(from..).unwrap_or_default();
        hash.copy_from_slice(
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, hashed).as_ref(),
        );
        self.text.copy_within(from + previous.len().., from);
        self.text.truncate(self.text.len() - previous.len());
        self.text.extend_from_slice(b",\"hash\":\"");
        push_hex(&mut self.text, &hash);
        self.text.extend_from_slice(b"\"}\n");
        self.places.push(Place { sequence, kind, hash, end: self.text.len() });
        hash
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn extend(&mut self, more: &Self) {
        if self.places.is_empty() {
            self.previous = more.previous;
        }
        let before = self.text.len();
        self.text.extend_from_slice(&more.text);
        self.places.extend(
            more.places.iter().map(|place| Place { end: place.end + before, ..place.clone() }),
        );
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

/// What a client asked for, in few words: the method, and the name of the thing. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation(Arc<OperationParts>);

#[derive(Debug, PartialEq, Eq)]
struct OperationParts {
    method: Box<str>,
    name: Option<Box<str>>,
}

impl Operation {
    /// A method, such as `tools/call`, or `GET` for plain HTTP; and the tool, URI, prompt or path
    /// it names. Of a URI, the user information and all behind `?` or `#` are left out; longer
    /// texts than [`MAX_TEXT`] are cut.
    pub fn new(method: &str, name: Option<&str>) -> Self {
        let name = name.map(|name| cut(&without_secrets(name), MAX_TEXT).into());
        Self(Arc::new(OperationParts { method: cut(method, MAX_TEXT).into(), name }))
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// The name of the thing.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

/// What is about to be done with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent<'a> {
    upstream: &'a str,
    origin: &'a str,
    scopes: &'a Scopes,
    grant: Option<(&'a GrantId, u64)>,
}

impl<'a> Intent<'a> {
    /// To send a credential with these scopes to `origin`, on behalf of the upstream of this name.
    pub const fn new(
        upstream: &'a str,
        origin: &'a str,
        scopes: &'a Scopes,
        grant: Option<(&'a GrantId, u64)>,
    ) -> Self {
        Self { upstream, origin, scopes, grant }
    }

    fn write(&self, line: &mut Line<'_>) {
        line.own_text("upstream", self.upstream);
        line.own_text("origin", self.origin);
        line.scopes("upstream_scopes", self.scopes.iter());
        if let Some((grant, version)) = self.grant {
            line.text("grant", grant.as_str());
            line.number("grant_version", version);
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
    pub(super) const fn as_str(self) -> &'static str {
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

/// The closed list of what can stand in a record.
#[derive(Debug)]
pub(super) enum Event<'a> {
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
        principal: Option<&'a Principal>,
        intent: &'a Intent<'a>,
    },
    RefreshIntent {
        request: RequestId,
        refresh: u64,
        principal: Option<&'a Principal>,
        intent: &'a Intent<'a>,
    },
    RefreshResult {
        request: RequestId,
        refresh: u64,
        outcome: RefreshOutcome,
    },
    Result(&'a RequestResult<'a>),
    /// Refusals that were counted while nothing could be written.
    Counted {
        reason: Reason,
        count: u64,
        since: Timestamp,
    },
    /// A request of an earlier process whose end nobody saw.
    Lost {
        request: &'a str,
    },
    /// A refresh of an earlier process whose end nobody saw.
    LostRefresh {
        request: &'a str,
        refresh: u64,
    },
    /// Something was revoked, blocked, unblocked or restored.
    Revocation {
        kind: &'static str,
        what: &'static str,
        id: &'a str,
        initiator: &'a Initiator,
    },
}

/// The terminal record of one request.
#[derive(Debug)]
pub(super) struct RequestResult<'a> {
    pub(super) request: RequestId,
    pub(super) started: Timestamp,
    pub(super) resource: Option<&'a Resource>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) outer_request: Option<&'a str>,
    pub(super) principal: Option<&'a Principal>,
    pub(super) operation: Option<&'a Operation>,
    pub(super) rule: Option<&'a str>,
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

impl Event<'_> {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Open { .. } => "open",
            Self::Close => "close",
            Self::Intent { .. } => "intent",
            Self::RefreshIntent { .. } => "refresh_intent",
            Self::RefreshResult { .. } | Self::LostRefresh { .. } => "refresh_result",
            Self::Result(_) | Self::Counted { .. } | Self::Lost { .. } => "result",
            Self::Revocation { kind, .. } => kind,
        }
    }

    /// Appends the members, from `time` on to before `prev`.
    pub(super) fn write(&self, at: Timestamp, members: &mut Vec<u8>) {
        let line = &mut Line(members);
        line.time("time", at);
        line.text("kind", self.kind());
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
                line.hex("request", request.as_bits());
                if *is_late {
                    line.flag("late");
                }
                line.principal(*principal);
                intent.write(line);
            }
            Self::RefreshIntent { request, refresh, principal, intent } => {
                line.hex("request", request.as_bits());
                line.number("refresh", *refresh);
                line.principal(*principal);
                intent.write(line);
            }
            Self::RefreshResult { request, refresh, outcome } => {
                line.hex("request", request.as_bits());
                line.number("refresh", *refresh);
                line.text("outcome", outcome.as_str());
            }
            Self::LostRefresh { request, refresh } => {
                line.text("request", request);
                line.number("refresh", *refresh);
                line.text("outcome", RefreshOutcome::Unknown.as_str());
            }
            Self::Result(result) => result.write(line),
            Self::Counted { reason, count, since } => {
                line.number("count", *count);
                line.text("outcome", Outcome::Refused.as_str());
                line.text("reason", reason.code());
                line.time("started", *since);
            }
            Self::Lost { request } => {
                line.text("request", request);
                line.number("count", 1);
                line.text("outcome", Outcome::Unknown.as_str());
            }
            Self::Revocation { what, id, initiator, .. } => {
                line.text("what", what);
                line.identity("id", id);
                line.text("initiator", initiator.kind());
                line.identity("initiator_name", initiator.name());
            }
        }
    }
}

impl RequestResult<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.hex("request", self.request.as_bits());
        line.number("count", 1);
        line.text("outcome", self.outcome.as_str());
        if let Some(reason) = self.reason {
            line.text("reason", reason.code());
        }
        if let Some(status) = self.status {
            line.number("status", u64::from(status.as_u16()));
        }
        line.time("started", self.started);
        if let Some(resource) = self.resource {
            line.own_text("resource", resource.as_str());
        }
        if let Some(peer) = self.peer {
            line.text("peer", &peer.to_string());
        }
        if let Some(outer_request) = self.outer_request {
            line.text("outer_request", outer_request);
        }
        line.principal(self.principal);
        if let Some(operation) = self.operation {
            line.text("method", operation.method());
            if let Some(name) = operation.name() {
                line.text("name", name);
            }
        }
        if let Some(rule) = self.rule {
            line.text("rule", cut(rule, MAX_TEXT));
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

/// P294: what stands in a URI before `@`, or behind `?` or `#`, is a place for secrets. Names
/// without a scheme are no URIs.
fn without_secrets(name: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = name.split_once(':') else { return Cow::Borrowed(name) };
    // The delimiter stays, to say that something was there.
    let rest = rest.split_inclusive(['?', '#']).next().unwrap_or_default();
    let Some(rest) = rest.strip_prefix("//") else { return Cow::Owned(format!("{scheme}:{rest}")) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let start = authority.rfind('@').unwrap_or_default();
    Cow::Owned(format!("{scheme}://{}", rest.get(start..).unwrap_or_default()))
}
