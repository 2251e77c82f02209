//! The dialect of one request, and refusals rendered in it.

use ::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;

#[cfg(feature = "grpc")]
use super::grpc;
use super::{
    http,
    json_rpc::{self, WithoutAccount},
};
use crate::{
    mcp::{
        Revision,
        headers::{METHOD, PROTOCOL_VERSION, SESSION_ID},
    },
    media_type::{EVENT_STREAM, MediaType},
    refusal::{Refusal, Refused},
    request_id::RequestId,
    sealing::RequestStates,
};

/// The protocol that the client of a request understands. Once the message was parsed, it includes
/// the JSON-RPC id to respond to.
#[derive(Clone, Debug)]
pub struct Dialect {
    wire: Wire,
    request_id: Option<RequestId>,
}

#[derive(Clone, Debug)]
pub(super) enum Wire {
    Http,
    Mcp(json_rpc::Client),
    #[cfg(feature = "grpc")]
    Grpc {
        is_mcp: bool,
    },
}

impl Dialect {
    /// Returns the dialect that the audit layer determined and left in the extensions. Without that
    /// layer, the request itself decides: it is gRPC by its content type, and MCP if it names an
    /// MCP revision, method or session, or accepts an event stream.
    pub fn of<B>(request: &Request<B>) -> Self {
        let found = request.extensions().get::<Self>().cloned();
        found.unwrap_or_else(|| Self::determine(request))
    }

    /// Determines the dialect from the request itself.
    pub(crate) fn determine<B>(request: &Request<B>) -> Self {
        let request_id = request.extensions().get::<RequestId>().copied();
        Self { wire: Wire::of(request), request_id }
    }

    /// Returns plain HTTP, whatever the headers are: for a route that is judged by method and path.
    #[must_use = "returns the changed dialect"]
    pub fn plain_http(mut self) -> Self {
        self.wire = Wire::Http;
        self
    }

    /// Returns the dialect for a handler's own request: gRPC if that request (`own`) is gRPC,
    /// otherwise plain HTTP.
    pub(crate) fn of_handler(mut self, own: &Self) -> Self {
        self.wire = match own.wire {
            Wire::Http | Wire::Mcp(_) => Wire::Http,
            #[cfg(feature = "grpc")]
            Wire::Grpc { is_mcp } => Wire::Grpc { is_mcp },
        };
        self
    }

    /// Returns MCP, for a parsed message: its revision, the JSON text of its id (`None` for a
    /// notification), and whether the client supports elicitation in URL mode.
    pub(crate) fn mcp(
        mut self,
        revision: Revision,
        id: Option<Bytes>,
        url_elicitation: bool,
    ) -> Self {
        self.wire =
            Wire::Mcp(json_rpc::Client { id, url_elicitation, ..json_rpc::Client::new(revision) });
        self
    }

    /// Sets the response to the message if no account is connected.
    pub(crate) const fn without_account(mut self, without: WithoutAccount) -> Self {
        if let Wire::Mcp(client) = &mut self.wire {
            client.without_account = without;
        }
        self
    }

    /// Adds the seal for request states (MCP 2026-07-28). A refusal that requests input then
    /// contains one.
    pub(crate) fn keeping(mut self, states: RequestStates) -> Self {
        if let Wire::Mcp(client) = &mut self.wire {
            client.states = Some(states);
        }
        self
    }

    /// Whether a refusal may send the user to a URL.
    pub(crate) const fn elicits_urls(&self) -> bool {
        matches!(&self.wire, Wire::Mcp(client) if client.url_elicitation)
    }

    /// Whether the client speaks MCP.
    pub(crate) const fn is_mcp(&self) -> bool {
        matches!(self.wire, Wire::Mcp(_))
    }

    /// Returns the client's MCP revision, if it speaks MCP.
    pub(crate) const fn revision(&self) -> Option<Revision> {
        match self.wire {
            Wire::Http => None,
            #[cfg(feature = "grpc")]
            Wire::Grpc { .. } => None,
            Wire::Mcp(ref client) => Some(client.revision),
        }
    }

    /// Whether the client speaks gRPC.
    #[cfg(feature = "grpc")]
    pub(crate) const fn is_grpc(&self) -> bool {
        matches!(self.wire, Wire::Grpc { .. })
    }

    /// Renders a refusal as trailers, for a response that has begun.
    #[cfg(feature = "grpc")]
    pub(crate) fn trailers(&self, refusal: &Refusal) -> ::http::HeaderMap {
        grpc::status_fields(&self.render(refusal))
    }

    /// Returns the error for a handler whose own request was refused.
    pub(crate) fn refused_call(&self, refusal: &Refusal) -> RefusedCall {
        let client = match &self.wire {
            Wire::Mcp(client) => Some(client),
            Wire::Http => None,
            #[cfg(feature = "grpc")]
            Wire::Grpc { .. } => None,
        };
        json_rpc::refused_call(refusal, client)
    }

    /// Renders the event that takes the place of one that cannot be judged, for the request with
    /// this id.
    pub(crate) fn error_event(&self, message: &str, id: Option<&Bytes>) -> Bytes {
        json_rpc::error_event(message, id)
    }

    /// Returns the JSON text of the id of the client's message.
    pub(crate) const fn message_id(&self) -> Option<&Bytes> {
        match &self.wire {
            Wire::Mcp(client) => client.id.as_ref(),
            Wire::Http => None,
            #[cfg(feature = "grpc")]
            Wire::Grpc { .. } => None,
        }
    }

    /// Renders an upstream's error status whose body no client can read. Empty, unless the client
    /// speaks MCP.
    pub(crate) fn upstream_status(&self, status: StatusCode) -> Bytes {
        match &self.wire {
            Wire::Mcp(client) => json_rpc::upstream_status(status, client),
            Wire::Http => Bytes::new(),
            #[cfg(feature = "grpc")]
            Wire::Grpc { .. } => Bytes::new(),
        }
    }

    /// Renders a refusal.
    pub fn render(&self, refusal: &Refusal) -> Response<Bytes> {
        let mut response = match &self.wire {
            Wire::Http => http::render(refusal, self.request_id),
            Wire::Mcp(client) => json_rpc::render(refusal, client),
            #[cfg(feature = "grpc")]
            Wire::Grpc { is_mcp } => grpc::render(refusal, self.request_id, *is_mcp),
        };
        response.extensions_mut().insert(Refused::new(refusal));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(id) = self.request_id {
            headers.insert("x-request-id", id.header_value());
        }
        response
    }
}

impl Wire {
    fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        #[cfg(feature = "grpc")]
        if let Some(wire) = grpc::wire(request) {
            return wire;
        }
        let version = headers.get(&PROTOCOL_VERSION);
        let is_mcp = version.is_some()
            || headers.contains_key(&METHOD)
            || headers.contains_key(&SESSION_ID)
            || (matches!(*request.method(), Method::POST | Method::GET)
                && MediaType::accepted(headers).any(|accepted| accepted.is(EVENT_STREAM)));
        if is_mcp {
            let stated = version.and_then(|version| Revision::parse(version.as_bytes()));
            Self::Mcp(json_rpc::Client::new(stated.unwrap_or_default()))
        } else {
            Self::Http
        }
    }
}

/// The JSON-RPC error that a handler returns to its client if the broker refused the handler's own
/// request. Created by [`CallerHandle::refused_call`](crate::exchange::CallerHandle::refused_call).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCall {
    /// The error code.
    pub code: i32,
    /// A short text for the client's log or its user.
    pub message: String,
    /// The error data, as JSON text.
    pub data: Option<String>,
}
