//! gRPC by hand: frames, protobuf and HTTP/2 as a client of any make sends them, and what comes back, byte for byte.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use tonic_types::pb;

use crate::{harness::Broker, upstream::ScriptedBody};

/// The service that carries MCP in frames.
pub const FRAMED: &str = "/token_broker.mcp.v1.Mcp";
/// The service of Google's mapping.
pub const TYPED: &str = "/model_context_protocol.Mcp";

/// One answer, to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// HTTP's status.
    pub http: u16,
    /// Its head.
    pub head: HeaderMap,
    /// Its messages as they came, frames and all.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// It did not end, but broke off.
    pub broken: bool,
}

impl Reply {
    /// Reads an answer to its end.
    pub async fn of<B>(answer: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
    {
        let (parts, body) = answer.into_parts();
        let (mut bytes, mut trailers, mut broken) = (BytesMut::new(), HeaderMap::new(), false);
        let mut body = std::pin::pin!(body);
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(last)) => trailers = last.into_trailers().unwrap_or_default(),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        Self { http: parts.status.as_u16(), head: parts.headers, body: bytes.to_vec(), trailers, broken }
    }

    /// The last value of a field, in the trailers or in the head.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.trailers.get(name).or_else(|| self.head.get(name)).and_then(|value| value.to_str().ok())
    }

    /// The call's status.
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        self.field("grpc-status")?.parse().ok()
    }

    /// `ErrorInfo.reason` of its details.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo").map(|info| info.reason)
    }

    /// `ErrorInfo.metadata` of its details.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo")?.metadata.remove(name)
    }

    /// The first link of `Help` in its details.
    #[must_use]
    pub fn link(&self) -> Option<String> {
        self.detail::<pb::Help>("Help")?.links.pop().map(|link| link.url)
    }

    /// Whether its details say when to try again.
    #[must_use]
    pub fn may_be_retried(&self) -> bool {
        self.detail::<pb::RetryInfo>("RetryInfo").is_some()
    }

    /// The messages.
    ///
    /// # Panics
    /// If the frames are broken.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let (mut rest, mut messages) = (&self.body[..], Vec::new());
        while !rest.is_empty() {
            assert_eq!(rest[0], 0, "not compressed");
            let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]);
            let length = usize::try_from(length).expect("a length");
            messages.push(rest[5..5 + length].to_vec());
            rest = &rest[5 + length..];
        }
        messages
    }

    /// The JSON in its one frame of MCP.
    ///
    /// # Panics
    /// If there is another number of frames, or something else in it.
    #[must_use]
    pub fn json(&self) -> String {
        let [message] = &self.messages()[..] else { panic!("one message: {self:?}") };
        json_of(message)
    }

    fn detail<M: prost::Message + Default>(&self, name: &str) -> Option<M> {
        let coded = self.field("grpc-status-details-bin")?;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, coded).expect("base64");
        let status = pb::Status::decode(&bytes[..]).expect("google.rpc.Status");
        assert_eq!(Some(status.code.to_string().as_str()), self.field("grpc-status"));
        let any =
            status.details.into_iter().find(|any| any.type_url == format!("type.googleapis.com/google.rpc.{name}"));
        any.map(|any| M::decode(&any.value[..]).expect("a detail"))
    }

    /// All that came, with the details decoded.
    #[must_use]
    pub fn everything(&self) -> Vec<u8> {
        let mut all = self.body.clone();
        for (name, value) in self.head.iter().chain(&self.trailers) {
            all.extend_from_slice(format!("\n{name}: ").as_bytes());
            all.extend_from_slice(value.as_bytes());
            if name.as_str().ends_with("-bin") {
                let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
                all.extend(base64::Engine::decode(&engine, value.as_bytes()).unwrap_or_default());
            }
        }
        all
    }
}

/// The JSON in a frame's message.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn json_of(message: &[u8]) -> String {
    let frame = token_broker_grpc::mcp::v1::Frame::decode(message).expect("a frame");
    String::from_utf8(frame.json.to_vec()).expect("text")
}

/// A message in its frame.
#[must_use]
pub fn frame(message: &[u8]) -> Vec<u8> {
    flagged(0, message)
}

/// A message in its frame, with this flag.
///
/// # Panics
/// If it is longer than 4 GiB.
#[must_use]
pub fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// A field of protobuf that holds bytes (shorter than 2^14).
///
/// # Panics
/// If they are longer.
#[must_use]
pub fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let low = u8::try_from(bytes.len() & 0x7f).expect("seven bits");
    let high = u8::try_from(bytes.len() >> 7).expect("a short field");
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A JSON-RPC message in a frame of MCP, in a frame of gRPC.
#[must_use]
pub fn framed(json: &str) -> Vec<u8> {
    frame(&field(1, json))
}

/// An answer of an upstream: these frames, one by one, and this status in its trailers.
///
/// # Panics
/// Never: its parts are valid.
#[must_use]
pub fn answer(frames: impl IntoIterator<Item = Vec<u8>>, trailers: &[(&'static str, &str)]) -> Response<ScriptedBody> {
    let mut fields = HeaderMap::new();
    for (name, value) in trailers {
        fields.append(*name, value.parse().expect("a value"));
    }
    let frames: Vec<_> = frames
        .into_iter()
        .map(|frame| Ok(http_body::Frame::data(Bytes::from(frame))))
        .chain([Ok(http_body::Frame::trailers(fields))])
        .collect();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(crate::upstream::iter(frames)).boxed_unsync())
        .expect("valid parts")
}

/// An answer of an upstream that is nothing but a status, in its head.
///
/// # Panics
/// Never: its parts are valid.
#[must_use]
pub fn status(fields: &[(&'static str, &str)]) -> Response<ScriptedBody> {
    let answer = Response::builder().header("content-type", "application/grpc");
    let answer = fields.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value));
    answer.body(http_body_util::Empty::new().boxed_unsync()).expect("valid parts")
}

/// What a client sends.
pub type SentBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A client that speaks HTTP/2 by prior knowledge.
#[must_use]
pub fn client() -> Client<HttpConnector, SentBody> {
    #[expect(clippy::disallowed_methods, reason = "the client of a test goes to loopback")]
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

impl Broker {
    /// A request to a path, with a good token unless these fields have one, and these bytes. It stands in the [books](Broker::ledger).
    ///
    /// # Panics
    /// If it can't be made.
    pub fn rpc_request(&self, path: &str, fields: &[(&str, &str)], body: SentBody) -> Request<SentBody> {
        let request = self.uncounted_rpc_request(path, fields, body);
        let authorization = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        self.ledger().sent(1, authorization);
        request
    }

    /// The same, where the test sees by itself whether the server lets it through to the layers.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn uncounted_rpc_request(&self, path: &str, fields: &[(&str, &str)], body: SentBody) -> Request<SentBody> {
        let has = |name: &str| fields.iter().any(|(field, _)| *field == name);
        let mut request = Request::post(format!("http://{}{path}", self.address()));
        if !has("content-type") {
            request = request.header(header::CONTENT_TYPE, "application/grpc");
        }
        if !has("authorization") {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token("items:read")));
        }
        let request = request.header(header::TE, "trailers");
        let request = fields
            .iter()
            .filter(|(_, value)| *value != "-")
            .fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(body).expect("a request")
    }

    /// Reads an answer to its end, for the [books](Broker::ledger), too.
    pub async fn reply<B: http_body::Body<Data = Bytes>>(&self, answer: Response<B>) -> Reply {
        let reply = Reply::of(answer).await;
        self.ledger().got_bytes("a gRPC answer", &reply.everything());
        reply
    }

    /// Sends it, and reads the answer to its end.
    ///
    /// # Panics
    /// If there is none.
    pub async fn rpc(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let body = Full::new(body.into()).boxed_unsync();
        self.reply(client().request(self.rpc_request(path, fields, body)).await.expect("an answer")).await
    }

    /// Calls a tool in a frame, in 2025-11-25.
    pub async fn call_in_frame(&self, fields: &[(&str, &str)], tool: &str) -> Reply {
        let message = call(tool);
        let mirrored = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/call"), ("mcp-name", tool)];
        let missing: Vec<_> =
            mirrored.into_iter().filter(|(name, _)| !fields.iter().any(|(field, _)| field == name)).collect();
        self.rpc(&format!("{FRAMED}/Call"), &[fields, &missing].concat(), framed(&message)).await
    }
}

/// A call of a tool without arguments.
#[must_use]
pub fn call(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// Google's `CallToolRequest` for a tool without arguments.
#[must_use]
pub fn typed_call(tool: &str) -> Vec<u8> {
    frame(&field(2, field(1, tool)))
}
