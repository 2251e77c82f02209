//! The facts that the outer layers established about a request.

use bytes::Bytes;
use http::Extensions;
use http_body::Body;

use super::{caller::Stamped, layer::Requests, leak_guard::Watched};
use crate::{
    audit::Trail,
    body::RequestBody,
    dialect::Dialect,
    principal::Principal,
    refusal::Reason,
    revocation::Standing,
    scope_filter::{Judged, JudgedBody},
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
        let (dialect, watched) = (judged.dialect().clone(), Watched::default());
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

    /// Returns the body to send, and its bytes if it can be sent again.
    pub(super) fn body<B: Body<Data = Bytes>>(&self, stream: B) -> (RequestBody<B>, Option<Bytes>) {
        match self.judged.body() {
            _ if self.by_handler => {
                let replay = stream.is_end_stream().then(Bytes::new);
                (RequestBody::stream(stream), replay)
            }
            JudgedBody::Bytes(bytes) => (RequestBody::bytes(bytes.clone()), Some(bytes.clone())),
            JudgedBody::Nothing => (RequestBody::bytes(Bytes::new()), Some(Bytes::new())),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(rpc) => match &rpc.message {
                Some(message) => (RequestBody::bytes(message.clone()), Some(message.clone())),
                None => (RequestBody::stream(stream), None),
            },
            JudgedBody::Http(..) => {
                let replay = stream.is_end_stream().then(Bytes::new);
                (RequestBody::stream(stream), replay)
            }
        }
    }
}
