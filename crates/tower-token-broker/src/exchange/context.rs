//! The facts that the outer layers established about a request.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use http_body::Body;

use super::{
    caller::Stamped,
    headers::{Returned, ReturnedFields},
    layer::Requests,
    leak_guard::{Registry, Watched},
};
use crate::{
    audit::Trail,
    body::RequestBody,
    dialect::Dialect,
    header_rules::ReturnedTo,
    limits::Limits,
    principal::Principal,
    refusal::Reason,
    revocation::Standing,
    scope_filter::{Judged, JudgedBody},
    upload::Upload,
};

/// The facts that the outer layers established about a request.
pub(crate) struct RequestContext {
    pub(crate) trail: Trail,
    pub(crate) principal: Principal,
    pub(crate) standing: Standing,
    pub(crate) judged: Judged,
    pub(crate) dialect: Dialect,
    /// The credentials that the response must not echo. A handler's requests share it with the
    /// handler's own response.
    pub(crate) watched: Watched,
    /// Whether a handler sends the request: then headers and path are the handler's, not a
    /// client's.
    pub(crate) by_handler: bool,
}

impl RequestContext {
    /// Takes the facts from the extensions. Only `Standing` is removed: services further in may
    /// read the caller and the operation.
    pub(super) fn take(
        extensions: &mut Extensions,
        requests: Requests,
        own: &Dialect,
        registry: &Arc<Registry>,
    ) -> Result<Self, &'static str> {
        let stamped = extensions.remove::<Stamped>();
        match (requests, stamped) {
            (Requests::OfAHandler, Some(Stamped(caller))) => return Ok(caller.context(own)),
            // Else the client's message would be sent in place of the handler's request.
            (Requests::OfAHandler, None) => {
                return Err("credential_for_handler (`CallerHandle::stamp`)");
            }
            (Requests::OfClients, _) => {}
        }
        let trail = extensions.get::<Trail>().ok_or("audit")?.clone();
        let principal = extensions.get::<Principal>().ok_or("authenticate")?.clone();
        let standing = extensions.remove::<Standing>().ok_or("authenticate")?;
        let judged = extensions.get::<Judged>().ok_or("scope filter")?.clone();
        let dialect = judged.dialect().clone();
        let watched = Watched::new(registry, principal.user());
        Ok(Self { trail, principal, standing, judged, dialect, watched, by_handler: false })
    }

    /// Records a refusal in the trail of the client's request. A refusal of a handler's own request
    /// is only logged: the handler decides what it means for the client.
    pub(super) fn note(&self, reason: Reason) {
        if self.by_handler {
            tracing::info!(
                request.id = %self.trail.request_id(),
                refusal.reason = reason.code(),
                "a handler's own request was refused"
            );
        } else {
            self.trail.refused(reason);
        }
    }

    /// Returns the fields of the upstream's response that pass.
    pub(super) fn returned_fields(&self, returned: &Arc<Returned>) -> ReturnedFields {
        if self.by_handler {
            return ReturnedFields::ToHandler;
        }
        #[cfg(feature = "grpc")]
        if self.dialect.is_grpc() {
            return ReturnedFields::ToClient(Arc::clone(returned), ReturnedTo::Grpc);
        }
        let to = if self.dialect.is_mcp() { ReturnedTo::Mcp } else { ReturnedTo::Http };
        ReturnedFields::ToClient(Arc::clone(returned), to)
    }

    /// Returns the body to send: the judged bytes, or the stream.
    pub(super) fn body<B: Body<Data = Bytes>>(&self, stream: B) -> OutgoingBody<B> {
        let judged = match self.judged.body() {
            _ if self.by_handler => None,
            JudgedBody::Bytes(bytes) => Some(bytes.clone()),
            JudgedBody::Nothing => Some(Bytes::new()),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => rpc.message.clone(),
            JudgedBody::Http(..) => None,
        };
        match judged {
            Some(bytes) => OutgoingBody::Bytes(bytes),
            None if stream.is_end_stream() => OutgoingBody::Bytes(Bytes::new()),
            None => OutgoingBody::Stream(stream),
        }
    }

    /// Opens the upload of one attempt. The stream of a client has one already, which the scope
    /// filter opened.
    pub(super) fn upload<B>(
        &self,
        body: &OutgoingBody<B>,
        extensions: &Extensions,
        limits: &Limits,
    ) -> Upload {
        let has_body = match body {
            OutgoingBody::Bytes(bytes) => !bytes.is_empty(),
            OutgoingBody::Stream(_) => true,
        };
        let of_client = match body {
            OutgoingBody::Stream(_) if !self.by_handler => extensions.get::<Upload>(),
            OutgoingBody::Stream(_) | OutgoingBody::Bytes(_) => None,
        };
        match of_client {
            Some(upload) => upload.clone(),
            None => self.trail.upload(Some(&self.standing), limits, has_body),
        }
    }
}

/// The body of a request that is about to be sent.
pub(super) enum OutgoingBody<B> {
    /// Bytes, which can be sent again.
    Bytes(Bytes),
    /// A stream, which is sent once.
    Stream(B),
}

impl<B> OutgoingBody<B> {
    /// Returns the bytes with which the request can be sent again.
    pub(super) fn replay(&self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Stream(_) => None,
        }
    }

    /// Returns the body under the watch of its upload.
    pub(super) fn watched(self, upload: &Upload) -> RequestBody<B> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => RequestBody::bytes(bytes),
            Self::Bytes(bytes) => RequestBody::bytes(bytes).watched(upload.watch()),
            Self::Stream(stream) => RequestBody::stream(stream, upload.watch()),
        }
    }
}
