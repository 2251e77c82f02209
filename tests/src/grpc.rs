//! gRPC by hand: frames, protobuf and HTTP/2 as a client of any make sends them, and what comes
//! back, byte for byte.

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
    /// The last value of a field, in the trailers or in the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.trailers
            .get(name)
            .or_else(|| self.head.get(name))
            .and_then(|value| value.to_str().ok())
    }

    /// The call's status.
    pub fn status(&self) -> Option<u32> {
        self.field("grpc-status")?.parse().ok()
    }

    /// `ErrorInfo.reason` of its details.
    pub fn reason(&self) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo").map(|info| info.reason)
    }

    /// `ErrorInfo.metadata` of its details.
    pub fn info(&self, name: &str) -> Option<String> {
        self.detail::<pb::ErrorInfo>("ErrorInfo")?.metadata.remove(name)
    }

    /// The first link of `Help` in its details.
    pub fn link(&self) -> Option<String> {
        self.detail::<pb::Help>("Help")?.links.pop().map(|link| link.url)
    }

    /// Whether its details say when to try again.
    pub fn may_be_retried(&self) -> bool {
        self.detail::<pb::RetryInfo>("RetryInfo").is_some()
    }

    /// The messages.
    ///
    /// # Panics
    /// If the frames are broken.
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

    /// All that came, with the details decoded.
    pub fn everything(&self) -> Vec<u8> {
        [&self.body[..], &text_of(&self.head), &text_of(&self.trailers)].concat()
    }
}

/// An answer that is read bit by bit. Whatever came of it stands in the [books](Broker::ledger),
/// even where the test drops it.
#[derive(Debug)]
#[must_use = "an answer that nobody reads shows nothing"]
pub struct OpenReply<'a, B> {
    head: Parts,
    body: B,
    seen: Seen<'a>,
}

impl<B> OpenReply<'_, B>
where
    B: http_body::Body<Data = Bytes>,
{
    /// Its next bytes.
    ///
    /// # Panics
    /// If it ends or breaks off instead.
    pub async fn data(&mut self) -> Bytes
    where
        B: Unpin,
    {
        let frame = self.body.frame().await.and_then(Result::ok);
        let data = frame.and_then(|frame| frame.into_data().ok()).expect("more of the answer");
        self.seen.bytes.extend_from_slice(&data);
        data
    }

    /// Reads to the end: what has not been read before.
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

/// What came of one answer; told to the books when it is dropped.
#[derive(Debug)]
struct Seen<'a> {
    broker: &'a Broker,
    bytes: Vec<u8>,
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.broker.ledger().got_bytes("a gRPC answer", &self.bytes);
    }
}

/// Fields, line by line; what is binary is there decoded, too.
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

/// The JSON in a frame's message.
///
/// # Panics
/// If it is none.
pub fn json_of(message: &[u8]) -> String {
    let frame = token_broker_grpc::mcp::v1::Frame::decode(message).expect("a frame");
    String::from_utf8(frame.json.to_vec()).expect("text")
}

/// A message in its frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    flagged(0, message)
}

/// A message in its frame, with this flag.
///
/// # Panics
/// If it is longer than 4 GiB.
pub fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// A field of protobuf that holds bytes (shorter than 2^14).
///
/// # Panics
/// If they are longer.
pub fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let low = u8::try_from(bytes.len() & 0x7f).expect("seven bits");
    let high = u8::try_from(bytes.len() >> 7).expect("a short field");
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// A JSON-RPC message in a frame of MCP, in a frame of gRPC.
pub fn framed(json: &str) -> Vec<u8> {
    frame(&field(1, json))
}

/// An answer of an upstream: these frames, one by one, and this status in its trailers.
///
/// # Panics
/// Never: its parts are valid.
pub fn answer(
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

/// An answer of an upstream that is nothing but a status, in its head.
///
/// # Panics
/// Never: its parts are valid.
pub fn status(fields: &[(&'static str, &str)]) -> Response<ScriptedBody> {
    let answer = Response::builder().header("content-type", "application/grpc");
    let answer = fields.iter().fold(answer, |answer, (name, value)| answer.header(*name, *value));
    answer.body(http_body_util::Empty::new().boxed_unsync()).expect("valid parts")
}

/// What a client sends.
pub type SentBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A client that speaks HTTP/2 by prior knowledge.
pub fn client() -> Client<HttpConnector, SentBody> {
    #[expect(clippy::disallowed_methods, reason = "the client of a test goes to loopback")]
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

impl Broker {
    /// A request to a path, with a good token unless these fields have one, and this body. It
    /// stands in the [books](Broker::ledger) with its head; what of its body may not come out is
    /// the test's to tell.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn rpc_request(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: SentBody,
    ) -> Request<SentBody> {
        self.ledger().sent(1, b"");
        self.rpc_request_before_the_layers(path, fields, body)
    }

    /// The same, where the server itself refuses it and no layer is asked: a record of it would be
    /// one too many for the books.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn rpc_request_before_the_layers(
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

    /// An answer that the test reads bit by bit.
    pub fn open_reply<B>(&self, answer: Response<B>) -> OpenReply<'_, B> {
        let (head, body) = answer.into_parts();
        let mut bytes = text_of(&head.headers);
        bytes.push(b'\n');
        OpenReply { head, body, seen: Seen { broker: self, bytes } }
    }

    /// Reads an answer to its end, for the [books](Broker::ledger), too.
    pub async fn reply<B: http_body::Body<Data = Bytes>>(&self, answer: Response<B>) -> Reply {
        self.open_reply(answer).rest().await
    }

    /// Sends it, and reads the answer to its end.
    ///
    /// # Panics
    /// If there is none.
    pub async fn rpc(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        self.ledger().sent(0, &body);
        let body = Full::new(body).boxed_unsync();
        self.reply(client().request(self.rpc_request(path, fields, body)).await.expect("an answer"))
            .await
    }

    /// A channel to it whose requests and answers stand in the [books](Broker::ledger): for clients
    /// of another make. It gives an answer on when it has ended.
    ///
    /// # Panics
    /// If an answer breaks off.
    pub fn noting<S, A, B>(
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
                assert!(!reply.broken, "a whole answer: {reply:?}");
                let data = http_body::Frame::data(Bytes::from(reply.body));
                let trailers = (!reply.trailers.is_empty())
                    .then(|| http_body::Frame::trailers(reply.trailers));
                let frames = [Some(data), trailers].into_iter().flatten().map(Ok).collect();
                let mut answer =
                    Response::new(StreamBody::new(crate::upstream::iter(frames)).boxed_unsync());
                *answer.status_mut() = StatusCode::from_u16(reply.http).expect("a status");
                *answer.headers_mut() = reply.head;
                Ok(answer)
            }
        })
    }

    /// Calls a tool in a frame, in 2025-11-25.
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

/// A call of a tool without arguments.
pub fn call(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// Google's `CallToolRequest` for a tool without arguments.
pub fn typed_call(tool: &str) -> Vec<u8> {
    frame(&field(2, field(1, tool)))
}
