//! A request to an endpoint, without a framework.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use tower_token_broker::{
    Broker,
    audit::{AuditError, Note},
    principal::Initiator,
};

use crate::{
    oauth_error::{EndpointError, ErrorCode},
    params::{Params, ParamsError, is_form, is_media_type},
};

/// A request whose body was read.
///
/// From an `http::Request<Bytes>`, which has the address of the peer as a [`SocketAddr`] in its
/// extensions.
#[derive(Debug)]
#[non_exhaustive]
pub struct EndpointRequest {
    /// The method.
    pub method: Method,
    /// The query, still encoded; `None` if there is none.
    pub query: Option<Box<str>>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The address of the caller, if it is known: quotas count by it, and records have it.
    pub peer: Option<SocketAddr>,
}

impl EndpointRequest {
    /// Longest body, in bytes.
    pub const MAX_BODY: usize = 64 * 1024;

    /// Creates a request from its parts.
    pub fn new(parts: Parts, body: Bytes) -> Self {
        let peer = parts.extensions.get::<SocketAddr>().copied();
        let query = parts.uri.query().map(Into::into);
        Self { method: parts.method, query, headers: parts.headers, body, peer }
    }

    pub(crate) fn is_json(&self) -> bool {
        is_media_type(&self.headers, "application/json")
    }

    /// Adds the address of the caller to a note.
    pub(crate) const fn with_peer<'a>(&self, note: Note<'a>) -> Note<'a> {
        match self.peer {
            Some(peer) => note.peer(peer),
            None => note,
        }
    }

    /// Returns the form of a `POST` to the token or revocation endpoint.
    // F138: POST only, one media type, nothing in the query, no parameter twice.
    pub(crate) fn form(&self) -> Result<Params, EndpointError> {
        let refused = |description| EndpointError::new(ErrorCode::InvalidRequest, description);
        if self.method != Method::POST {
            return Err(refused("the method is POST").with_status(StatusCode::METHOD_NOT_ALLOWED));
        }
        if self.query.as_ref().is_some_and(|query| !query.is_empty()) {
            return Err(refused("the parameters are sent in the body, not in the query"));
        }
        if !is_form(&self.headers) {
            return Err(refused("the body is application/x-www-form-urlencoded"));
        }
        let params = Params::parse(&self.body).map_err(|error| match error {
            ParamsError::TooLarge => refused("the body is too large"),
            ParamsError::Encoding => refused("the body is not application/x-www-form-urlencoded"),
        })?;
        if params.is_repeated("resource") {
            let description = "only one resource is supported";
            return Err(EndpointError::new(ErrorCode::InvalidTarget, description));
        }
        if params.has_repeated() {
            return Err(refused("a parameter occurs twice"));
        }
        Ok(params)
    }
}

impl From<Request<Bytes>> for EndpointRequest {
    fn from(request: Request<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        Self::new(parts, body)
    }
}

/// Records, and returns when the record is durable. Nothing is issued without it.
// F503
pub(crate) async fn record(
    broker: &Broker,
    initiator: &Initiator,
    note: Note<'_>,
) -> Result<(), EndpointError> {
    let recorded = broker.audit_log().note(initiator, note).await;
    recorded
        .map_err(|AuditError| EndpointError::unavailable("nothing can be recorded at the moment"))
}
