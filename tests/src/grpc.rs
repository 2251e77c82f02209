//! A minimal gRPC client: frames, protobuf and HTTP/2 without a gRPC library, with responses kept
//! byte for byte.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header, response::Parts};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use tonic_types::pb;
use tower::{Service, ServiceExt as _};

use crate::{harness::Broker, upstream::ScriptedBody};

/// Path of the service that carries MCP messages in frames.
pub const FRAMED: &str = "/token_broker.mcp.v1.Mcp";
/// Path of the service of Google's typed mapping of MCP.
pub const TYPED: &str = "/model_context_protocol.Mcp";

/// A complete gRPC response.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// HTTP status.
    pub http: u16,
    /// Headers.
    pub head: HeaderMap,
    /// Body as received, including the frame headers.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: HeaderMap,
    /// Whether the body ended with an error.
    pub broken: bool,
}

impl Reply {
    /// Returns the last value of a field, from the trailers or else the headers.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.trailers
            .get(name)
            .or_else(|| self.head.get(name))
            .and_then(|value| value.to_str().ok())
    }

    /// Returns the gRPC status.
    pub fn status(&self) -> Option<u32> {
        self.field("grpc-status")?.parse().ok()
    }

    /// Returns `ErrorInfo.reason` from the details.
    pub fn reason(&self) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo").map(|info| info.reason)
    }

    /// Returns a value of `ErrorInfo.metadata` from the details.
    pub fn info(&self, name: &str) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo")?.metadata.remove(name)
    }

    /// Returns the first link of `Help` from the details.
    pub fn link(&self) -> Option<String> {
        self.detail::<pb::Help>("Help")?.links.pop().map(|link| link.url)
    }

    /// Returns whether the details contain a retry delay.
    pub fn may_be_retried(&self) -> bool {
        self.detail::<pb::RetryInfo>("RetryInfo").is_some()
    }

    /// Returns the messages.
    ///
    /// # Panics
    /// Panics if the frames are malformed.
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

    /// Returns the JSON of the only MCP frame.
    ///
    /// # Panics
    /// Panics if there is not exactly one frame, or if it does not contain JSON.
    pub fn json(&self) -> String {
        let [message] = &self.messages()[..] else { panic!("one message: {self:?}") };
        json_of(message)
    }

    fn detail<M: prost::Message + Default>(&self, name: &str) -> Option<M> {
        let coded = self.field("grpc-status-details-bin")?;
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, coded)
                .expect("base64");
        let status = pb::Status::decode(&bytes[..]).expect("google.rpc.Status");
        assert_eq!(Some(status.code.to_string().as_str()), self.field("grpc-status"));
        let any = status
            .details
            .into_iter()
            .find(|any| any.type_url == format!("type.googleapis.com/google.rpc.{name}"));
        any.map(|any| M::decode(&any.value[..]).expect("a detail"))
    }

    /// Returns headers, body and trailers as bytes, with the details decoded.
    pub fn everything(&self) -> Vec<u8> {
        [&self.body[..], &text_of(&self.head), &text_of(&self.trailers)].concat()
    }
}

/// A response that is read piece by piece.
///
/// When it is dropped, everything received so far is reported to the [ledger](Broker::ledger).
#[derive(Debug)]
#[must_use = "an unread response proves nothing"]
pub struct OpenReply<'a, B> {
    head: Parts,
    body: B,
    seen: Seen<'a>,
}

impl<B> OpenReply<'_, B>
where
    B: http_body::Body<Data = Bytes>,
{
    /// Returns the next chunk.
    ///
    /// # Panics
    /// Panics if the body ends or fails first.
    pub async fn data(&mut self) -> Bytes
    where
        B: Unpin,
    {
        let frame = self.body.frame().await.and_then(Result::ok);
        let data = frame.and_then(|frame| frame.into_data().ok()).expect("another chunk");
        self.seen.bytes.extend_from_slice(&data);
        data
    }

    /// Reads the rest of the response.
    pub async fn rest(self) -> Reply {
        let Self { head, body, mut seen } = self;
        let (mut bytes, mut trailers, mut broken) = (BytesMut::new(), HeaderMap::new(), false);
        let mut body = std::pin::pin!(body);
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => {
                    seen.bytes.extend_from_slice(&data);
                    bytes.extend_from_slice(&data);
                }
                Ok(Err(last)) => trailers = last.into_trailers().unwrap_or_default(),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        seen.bytes.extend(text_of(&trailers));
        Reply {
            http: head.status.as_u16(),
            head: head.headers,
            body: bytes.to_vec(),
            trailers,
            broken,
        }
    }
}

/// The parts of a response received so far; reported to the ledger when dropped.
#[derive(Debug)]
struct Seen<'a> {
    broker: &'a Broker,
    bytes: Vec<u8>,
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.broker.ledger().received_bytes("a gRPC response", &self.bytes);
    }
}

/// Formats fields one per line, followed by binary values in decoded form.
fn text_of(fields: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in fields {
        text.extend_from_slice(format!("\n{name}: ").as_bytes());
        text.extend_from_slice(value.as_bytes());
        if name.as_str().ends_with("-bin") {
            let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
            text.extend(base64::Engine::decode(&engine, value.as_bytes()).unwrap_or_default());
        }
    }
    text
}

/// Returns the JSON of an MCP frame's message.
///
/// # Panics
/// Panics if it does not contain JSON.
pub fn json_of(message: &[u8]) -> String {
    let frame = token_broker_grpc::mcp::v1::Frame::decode(message).expect("a frame");
    String::from_utf8(frame.json.to_vec()).expect("text")
}

/// Frames a message.
pub fn frame(message: &[u8]) -> Vec<u8> {
    flagged(0, message)
}

/// Frames a message with the given compression flag.
///
/// # Panics
/// Panics if the message is longer than 4 GiB.
pub fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// Encodes a length-delimited protobuf field of less than 2^14 bytes.
///
/// # Panics
/// Panics if the bytes are longer.
pub fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let low = u8::try_from(bytes.len() & 0x7f).expect("seven bits");
    let high = u8::try_from(bytes.len() >> 7).expect("a short field");
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// Encodes a JSON-RPC message as an MCP frame in a gRPC frame.
pub fn framed(json: &str) -> Vec<u8> {
    frame(&field(1, json))
}

/// Creates an upstream response: the given frames, one chunk each, and the given status in the
/// trailers.
///
/// # Panics
/// Never: all parts are valid.
pub fn response(
    frames: impl IntoIterator<Item = Vec<u8>>,
    trailers: &[(&'static str, &str)],
) -> Response<ScriptedBody> {
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

/// Creates a trailers-only upstream response: a status in the headers.
///
/// # Panics
/// Never: all parts are valid.
pub fn status(fields: &[(&'static str, &str)]) -> Response<ScriptedBody> {
    let response = Response::builder().header("content-type", "application/grpc");
    let response =
        fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(http_body_util::Empty::new().boxed_unsync()).expect("valid parts")
}

/// Request body of the test client.
pub type SentBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Creates an HTTP/2 client with prior knowledge.
pub fn client() -> Client<HttpConnector, SentBody> {
    #[expect(clippy::disallowed_methods, reason = "the client connects to loopback")]
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

impl Broker {
    /// Creates a request; a valid token is added unless `fields` has one.
    ///
    /// The headers are reported to the [ledger](Broker::ledger). If the body contains a secret, the
    /// test must register it.
    ///
    /// # Panics
    /// Panics if the request is invalid.
    pub fn rpc_request(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: SentBody,
    ) -> Request<SentBody> {
        self.ledger().sent(1, b"");
        self.rpc_request_without_record(path, fields, body)
    }

    /// Creates a request that the server refuses before it reaches the layers, and which has no
    /// audit record for that reason.
    ///
    /// # Panics
    /// Panics if the request is invalid.
    pub fn rpc_request_without_record(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: SentBody,
    ) -> Request<SentBody> {
        let has = |name: &str| fields.iter().any(|(field, _)| *field == name);
        let mut request = Request::post(format!("http://{}{path}", self.address()));
        if !has("content-type") {
            request = request.header(header::CONTENT_TYPE, "application/grpc");
        }
        if !has("authorization") {
            request = request
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token("items:read")));
        }
        let request = request.header(header::TE, "trailers");
        let request = fields
            .iter()
            .filter(|(_, value)| *value != "-")
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body).expect("a request");
        self.note(0, &request);
        request
    }

    fn note<B>(&self, requests: u64, request: &Request<B>) {
        self.ledger().sent(requests, request.uri().to_string().as_bytes());
        self.ledger().sent(0, &text_of(request.headers()));
    }

    /// Wraps a response that the test reads piece by piece.
    pub fn open_reply<B>(&self, response: Response<B>) -> OpenReply<'_, B> {
        let (head, body) = response.into_parts();
        let mut bytes = text_of(&head.headers);
        bytes.push(b'\n');
        OpenReply { head, body, seen: Seen { broker: self, bytes } }
    }

    /// Reads a whole response and reports it to the [ledger](Broker::ledger).
    pub async fn reply<B: http_body::Body<Data = Bytes>>(&self, response: Response<B>) -> Reply {
        self.open_reply(response).rest().await
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn rpc(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        self.ledger().sent(0, &body);
        let body = Full::new(body).boxed_unsync();
        self.reply(
            client().request(self.rpc_request(path, fields, body)).await.expect("a response"),
        )
        .await
    }

    /// Wraps a client so that its requests and responses are reported to the
    /// [ledger](Broker::ledger).
    ///
    /// Each response is buffered until it has ended.
    ///
    /// # Panics
    /// Panics if a response body fails.
    pub fn reporting_client<S, A, B>(
        &self,
        channel: S,
    ) -> impl Service<Request<A>, Response = Response<ScriptedBody>, Error = S::Error> + Clone
    where
        S: Service<Request<A>, Response = Response<B>> + Clone,
        B: http_body::Body<Data = Bytes>,
    {
        tower::service_fn(move |request: Request<A>| {
            let channel = channel.clone();
            async move {
                self.note(1, &request);
                let reply = self.reply(channel.oneshot(request).await?).await;
                assert!(!reply.broken, "a complete response: {reply:?}");
                let data = http_body::Frame::data(Bytes::from(reply.body));
                let trailers = (!reply.trailers.is_empty())
                    .then(|| http_body::Frame::trailers(reply.trailers));
                let frames = [Some(data), trailers].into_iter().flatten().map(Ok).collect();
                let mut response =
                    Response::new(StreamBody::new(crate::upstream::iter(frames)).boxed_unsync());
                *response.status_mut() = StatusCode::from_u16(reply.http).expect("a status");
                *response.headers_mut() = reply.head;
                Ok(response)
            }
        })
    }

    /// Calls a tool in an MCP frame (MCP 2025-11-25).
    pub async fn call_in_frame(&self, fields: &[(&str, &str)], tool: &str) -> Reply {
        let message = call(tool);
        let mirrored = [
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "tools/call"),
            ("mcp-name", tool),
        ];
        let missing: Vec<_> = mirrored
            .into_iter()
            .filter(|(name, _)| !fields.iter().any(|(field, _)| field == name))
            .collect();
        self.rpc(&format!("{FRAMED}/Call"), &[fields, &missing].concat(), framed(&message)).await
    }
}

/// Returns a `tools/call` message without arguments.
pub fn call(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// Encodes Google's `CallToolRequest` without arguments.
pub fn typed_call(tool: &str) -> Vec<u8> {
    frame(&field(2, field(1, tool)))
}
