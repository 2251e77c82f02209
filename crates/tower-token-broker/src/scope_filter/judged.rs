//! The judged request, passed to the exchange layer in the extensions.

use std::sync::Arc;

use bytes::Bytes;
#[cfg(feature = "grpc")]
use http::uri::PathAndQuery;
use http::{Extensions, Method, Uri};

use crate::{
    audit::Operation,
    dialect::Dialect,
    mcp::headers::JudgedHeaders,
    principal::Scopes,
    revocation::Standing,
    sealing::{Kept, RequestStates},
};

/// A request that the scope filter judged. Only the scope filter creates one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Judged(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    dialect: Dialect,
    operation: Operation,
    upstream_scopes: Scopes,
    body: JudgedBody,
    kept: Kept,
    listening: Option<Listening>,
    headers: JudgedHeaders,
    awaits: Awaits,
}

/// The response that the client of a judged request awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// Content: the response to a request, or a stream.
    Content,
    /// A status. The message is a notification or a response, or the end of a session, so that
    /// content would be for no one.
    Status,
}

/// A stream that belongs to no call. It checks its own permission again when the policy changes,
/// and ends as soon as the process shuts down.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    /// The GET stream of a session (MCP 2025-11-25).
    Session,
    /// `subscriptions/listen` (MCP 2026-07-28), for these resources.
    Subscriptions(Vec<Box<str>>),
}

/// The body of a judged request.
#[derive(Clone, Debug)]
pub(crate) enum JudgedBody {
    /// The judged bytes, sent unchanged.
    Bytes(Bytes),
    /// A GET or DELETE of MCP: judged by its method, sent without a body.
    Nothing,
    /// A gRPC call: judged by its path, and by its message if the method carries MCP. Other
    /// messages are streamed.
    #[cfg(feature = "grpc")]
    Rpc(Rpc),
    /// A plain HTTP request, judged by this method and URI. The body is streamed.
    Http(Method, Uri),
}

/// A judged gRPC call.
#[cfg(feature = "grpc")]
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    pub(crate) path: PathAndQuery,
    /// The only message, in its frame, if the method carries MCP.
    pub(crate) message: Option<Bytes>,
    /// The client's deadline.
    pub(crate) deadline: Option<tokio::time::Instant>,
}

impl Judged {
    pub(crate) fn new(
        dialect: Dialect,
        operation: Operation,
        upstream_scopes: Scopes,
        body: JudgedBody,
        kept: Kept,
    ) -> Self {
        let (listening, headers) = (None, JudgedHeaders::default());
        let awaits = Awaits::Content;
        Self(Arc::new(Parts {
            dialect,
            operation,
            upstream_scopes,
            body,
            kept,
            listening,
            headers,
            awaits,
        }))
    }

    /// Sets the headers that repeat the message.
    pub(super) fn with_headers(mut self, headers: JudgedHeaders) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.0) {
            parts.headers = headers;
        }
        self
    }

    /// Sets the response that the client awaits.
    pub(super) fn which_awaits(mut self, awaits: Awaits) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.0) {
            parts.awaits = awaits;
        }
        self
    }

    /// Returns the response that the client awaits.
    pub(crate) fn awaits(&self) -> Awaits {
        self.0.awaits
    }

    /// Marks the request as one that opens a stream without a call.
    pub(super) fn which_listens(mut self, listening: Listening) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.0) {
            parts.listening = Some(listening);
        }
        self
    }

    /// Marks the request in its standing if its stream belongs to no call.
    pub(super) fn mark_idle_stream(&self, extensions: &Extensions) {
        if self.listening().is_some()
            && let Some(standing) = extensions.get::<Standing>()
        {
            standing.mark_idle_stream();
        }
    }

    pub(crate) fn listening(&self) -> Option<&Listening> {
        self.0.listening.as_ref()
    }

    /// Returns the kind of state that the response may give its client to keep.
    pub(crate) fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// Returns the seal for a request state in the response.
    pub(crate) fn states(&self) -> Option<&RequestStates> {
        match self.kept() {
            Kept::RequestState(states) => Some(states),
            Kept::Handshake(_) | Kept::Session(_) | Kept::Nothing => None,
        }
    }

    /// Returns the dialect for refusals, now that the message was parsed.
    pub(crate) fn dialect(&self) -> &Dialect {
        &self.0.dialect
    }

    /// Returns the requested operation.
    pub fn operation(&self) -> &Operation {
        &self.0.operation
    }

    /// Returns the scopes that the upstream credential needs in addition to the operator's own.
    pub(crate) fn upstream_scopes(&self) -> &Scopes {
        &self.0.upstream_scopes
    }

    /// Returns the headers that repeat the judged message.
    pub(crate) fn headers(&self) -> &JudgedHeaders {
        &self.0.headers
    }

    /// Returns the judged body.
    pub(crate) fn body(&self) -> &JudgedBody {
        &self.0.body
    }
}
