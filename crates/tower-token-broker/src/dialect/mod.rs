//! How a refusal is said: in plain HTTP, in MCP over Streamable HTTP, or as a status of gRPC.
//!
//! The dialect is chosen from the request, before the request moves on, and never by the layer that refuses.
//! All refusals carry `Cache-Control: no-store`, and give nothing but a code, a short text and the request's id.

#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod json_rpc;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use bytes::Bytes;

use crate::{
    mcp::headers::{METHOD, PROTOCOL_VERSION, SESSION_ID},
    refusal::{Reason, Refusal},
    scope_filter::RequestStates,
};

/// The MCP revisions that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// Sessions, `initialize`, GET stream, DELETE. Also what is assumed where a request names no revision.
    V2025_11_25,
    /// Stateless; `Mcp-Method` and `Mcp-Name` beside the body.
    V2026_07_28,
}

impl Revision {
    /// As `MCP-Protocol-Version` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}

/// The id of a request in the audit, in our log lines and in the header `x-request-id` of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// From 128 random bits.
    #[must_use]
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    pub(crate) const fn as_bits(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn header_value(self) -> HeaderValue {
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        // Hexadecimal digits are a valid field value.
        HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the client of one request understands, with the JSON-RPC id to answer once the message has been read.
#[derive(Clone, Debug)]
pub struct Dialect {
    wire: Wire,
    request_id: Option<RequestId>,
}

#[derive(Clone, Debug)]
enum Wire {
    Http,
    Mcp(json_rpc::Client),
    #[cfg(feature = "grpc")]
    Grpc {
        is_mcp: bool,
    },
}

impl Dialect {
    /// From the request's own words: gRPC by its content type; MCP if it names an MCP revision or method, or asks for an event
    /// stream.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        #[cfg(feature = "grpc")]
        if let Some(wire) = grpc::wire(request) {
            return Self { wire, request_id: request.extensions().get::<RequestId>().copied() };
        }
        let version = headers.get(&PROTOCOL_VERSION);
        let is_mcp = version.is_some()
            || headers.contains_key(&METHOD)
            || headers.contains_key(&SESSION_ID)
            || (matches!(*request.method(), Method::POST | Method::GET) && accepts_event_stream(headers));
        let wire = if is_mcp {
            let revision = match version.map(HeaderValue::as_bytes) {
                Some(b"2026-07-28") => Revision::V2026_07_28,
                _ => Revision::V2025_11_25,
            };
            Wire::Mcp(json_rpc::Client::new(revision))
        } else {
            Wire::Http
        };
        Self { wire, request_id: request.extensions().get::<RequestId>().copied() }
    }

    /// Plain HTTP, whatever the request's headers say: for a route that is judged by method and path.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.wire = Wire::Http;
        self
    }

    /// MCP, now that the message has been read: its revision, the raw JSON text of its id (`None` for a notification), and whether
    /// the client can send its person to a URL (elicitation in URL mode).
    #[must_use]
    pub(crate) fn mcp(mut self, revision: Revision, id: Option<Bytes>, url_elicitation: bool) -> Self {
        self.wire = Wire::Mcp(json_rpc::Client { id, url_elicitation, ..json_rpc::Client::new(revision) });
        self
    }

    /// The client can keep a state for us (MCP 2026-07-28): a refusal that asks for input gives it one.
    pub(crate) fn keeping(mut self, states: RequestStates) -> Self {
        if let Wire::Mcp(client) = &mut self.wire {
            client.states = Some(states);
        }
        self
    }

    /// Whether a refusal may send the person to a URL.
    pub(crate) const fn elicits_urls(&self) -> bool {
        matches!(&self.wire, Wire::Mcp(client) if client.url_elicitation)
    }

    /// Whether the client speaks MCP here.
    pub(crate) const fn is_mcp(&self) -> bool {
        matches!(self.wire, Wire::Mcp(_))
    }

    /// The MCP revision that the client speaks here, if it does.
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

    /// Says the refusal where an answer has begun: as the trailers that end it.
    #[cfg(feature = "grpc")]
    pub(crate) fn trailers(&self, refusal: &Refusal) -> HeaderMap {
        grpc::status_fields(&self.say(refusal))
    }

    /// Says the refusal.
    #[must_use]
    pub fn say(&self, refusal: &Refusal) -> Response<Bytes> {
        let mut response = match &self.wire {
            Wire::Http => self::http::say(refusal, self.request_id),
            Wire::Mcp(client) => json_rpc::say(refusal, client),
            #[cfg(feature = "grpc")]
            Wire::Grpc { is_mcp } => self::grpc::say(refusal, self.request_id, *is_mcp),
        };
        response.extensions_mut().insert(Said(refusal.reason()));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(id) = self.request_id {
            headers.insert("x-request-id", id.header_value());
        }
        response
    }
}

/// The mark of an answer that is a refusal of ours, for the layers further out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said(Reason);

impl Said {
    /// Whether this answer is one.
    pub(crate) fn is_said<B>(response: &Response<B>) -> bool {
        response.extensions().get::<Self>().is_some()
    }

    /// Why, if this answer is one.
    pub(crate) fn reason<B>(response: &Response<B>) -> Option<Reason> {
        response.extensions().get::<Self>().map(|said| said.0)
    }
}

/// Appends a text as a JSON string.
pub(crate) fn push_json_string(body: &mut String, text: &str) {
    body.push('"');
    for character in text.chars() {
        match character {
            '"' => body.push_str("\\\""),
            '\\' => body.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a String can't fail.
                write!(body, "\\u{:04x}", u32::from(control)).unwrap_or_default();
            }
            other => body.push(other),
        }
    }
    body.push('"');
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|part| {
            let media = part.split(|byte| *byte == b';').next().unwrap_or_default();
            media.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        })
    })
}
