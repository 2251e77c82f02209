//! What the scope filter judged: sealed, found by the exchange layer in the extensions.

use std::sync::Arc;

use bytes::Bytes;
#[cfg(feature = "grpc")]
use http::uri::PathAndQuery;
use http::{Extensions, Method, Uri};

use crate::{
    audit::Operation,
    dialect::Dialect,
    principal::Scopes,
    revocation::Standing,
    sealing::{Kept, RequestStates},
};

/// The request as it was judged. Only the scope filter makes one. Cheap to clone.
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
}

/// A stream that no call waits for. It checks its own permission again when the policy changed, and
/// ends as soon as the process shuts down.
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
    /// These very bytes were judged, and these are sent.
    Bytes(Bytes),
    /// A GET or DELETE of MCP: judged by its method, sent without a body.
    Nothing,
    /// gRPC: this path was judged, and the message if the method carries MCP; else messages are
    /// streamed as they come.
    #[cfg(feature = "grpc")]
    Rpc(Rpc),
    /// Plain HTTP: this method and URI were judged, and these are sent; the body is streamed as it
    /// comes.
    Http(Method, Uri),
}

/// A gRPC call as it was judged.
#[cfg(feature = "grpc")]
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    pub(crate) path: PathAndQuery,
    /// The one message, in its frame.
    pub(crate) message: Option<Bytes>,
    /// When its client gives up.
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
        let listening = None;
        Self(Arc::new(Parts { dialect, operation, upstream_scopes, body, kept, listening }))
    }

    /// It opens a stream that no call waits for.
    pub(super) fn which_listens(mut self, listening: Listening) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.0) {
            parts.listening = Some(listening);
        }
        self
    }

    /// Tells the standing of the request if no call waits for its stream.
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

    /// What the answer may give its client to keep.
    pub(crate) fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// What seals the state that the answer may hold.
    pub(crate) fn states(&self) -> Option<&RequestStates> {
        match self.kept() {
            Kept::RequestState(states) => Some(states),
            Kept::Session(_) | Kept::Nothing => None,
        }
    }

    /// How this client wants a refusal said, now that its message was read.
    pub(crate) fn dialect(&self) -> &Dialect {
        &self.0.dialect
    }

    /// What was asked for.
    pub fn operation(&self) -> &Operation {
        &self.0.operation
    }

    /// What the upstream credential needs beside the operator's own scopes.
    pub(crate) fn upstream_scopes(&self) -> &Scopes {
        &self.0.upstream_scopes
    }

    /// The bytes that were judged, if it was a message.
    pub(crate) fn body(&self) -> &JudgedBody {
        &self.0.body
    }
}
