//! HTTP/2 frames that no client library would send, to a broker with gRPC.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::Router;
use http_body_util::BodyExt as _;
use token_broker_tests::{
    grpc::{TYPED, client, frame, response, typed_call},
    harness::{Broker, SECRET, grpc_proxy, serve},
    upstream::ScriptedServer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::ServiceBuilder;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// RFC 9113 §4.1.
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541 §6.2.2: literals without indexing, names and values as they are.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // A prefix of seven bits, and the remainder.
        let mut coded = match u8::try_from(text.len()) {
            Ok(length @ 0..127) => vec![length],
            _ => {
                let (mut coded, mut rest) = (vec![127], text.len() - 127);
                while rest > 127 {
                    coded.push(u8::try_from(rest & 127).unwrap() | 128);
                    rest >>= 7;
                }
                coded.push(u8::try_from(rest).unwrap());
                coded
            }
        };
        coded.extend_from_slice(text.as_bytes());
        coded
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn opening() -> Vec<u8> {
    [PREFACE, &h2_frame(SETTINGS, 0, 0, &[])].concat()
}

/// Sends bytes and reads frames until one matches, or to the end.
///
/// The frames are reported to the ledger as received. Field values may be Huffman-coded in them;
/// `hostile_grpc_requests` checks decoded headers.
async fn until(broker: &Broker, bytes: &[u8], is_last: impl Fn(&H2Frame) -> bool) -> Vec<H2Frame> {
    let mut socket = TcpStream::connect(broker.address()).await.unwrap();
    // A server may close the connection before everything is written.
    drop(socket.write_all(bytes).await);
    let (mut seen, mut frames) = (Vec::new(), Vec::new());
    while let Some(frame) = next_frame(&mut socket).await {
        seen.extend_from_slice(&frame.payload);
        frames.push(frame);
        if frames.last().is_some_and(&is_last) {
            break;
        }
    }
    broker.ledger().received_bytes("what came on a connection", &seen);
    frames
}

async fn next_frame(socket: &mut TcpStream) -> Option<H2Frame> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut payload).await.ok()?;
    Some(H2Frame { kind: head[3], flags: head[4], payload })
}

#[derive(Debug)]
struct H2Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl H2Frame {
    /// Returns type and code of a frame that ends a stream or connection with an error.
    fn error(&self) -> Option<(u8, u32)> {
        let code = match self.kind {
            GOAWAY => self.payload.get(4..8)?,
            RST_STREAM => self.payload.get(0..4)?,
            _ => return None,
        };
        Some((self.kind, u32::from_be_bytes(code.try_into().unwrap())))
    }

    fn ends_its_stream(&self) -> bool {
        [DATA, HEADERS].contains(&self.kind) && self.flags & END_STREAM != 0
    }
}

/// A broker, and the number of requests that its server has passed to the layers.
async fn broker() -> (ScriptedServer, Broker, Arc<AtomicU64>) {
    let upstream = ScriptedServer::start(|_| response([frame(b"")], &[("grpc-status", "0")])).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).grpc().prepare().await;
    let reached = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reached);
    let layers = ServiceBuilder::new().map_request(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        request
    });
    serve(listener, Router::new().fallback_service(layers.layer(stack).service(grpc_proxy())));
    (upstream, broker, reached)
}

/// Returns the count once no task can increase it: in each round, all ready tasks run.
async fn at_rest(count: &AtomicU64) -> u64 {
    loop {
        let before = count.load(Ordering::SeqCst);
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        if count.load(Ordering::SeqCst) == before {
            return before;
        }
    }
}

fn call<'a>(broker: &'a Broker, path: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", broker.host()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", bearer),
    ]
}

#[tokio::test]
async fn l235_uppercase_metadata_is_refused_over_http_2() {
    let (upstream, broker, reached) = broker().await;
    let (path, bearer) =
        (format!("{TYPED}/CallTool"), format!("Bearer {}", broker.token("items:read")));
    let good = call(&broker, &path, &bearer);
    let send = |head: &[(&str, &str)]| {
        let head = h2_frame(HEADERS, 4, 1, &fields(head));
        [opening(), head, h2_frame(DATA, 1, 1, &typed_call("get_item"))].concat()
    };
    let is_over = |frame: &H2Frame| frame.ends_its_stream() || frame.error().is_some();
    broker.ledger().sent(1, &send(&good));
    let passed = until(&broker, &send(&good), is_over).await;
    assert!(passed.last().is_some_and(H2Frame::ends_its_stream), "{passed:?}");
    let data: Vec<_> =
        passed.iter().filter(|came| came.kind == DATA).flat_map(|came| &came.payload).collect();
    assert_eq!(data, [&0; 5], "the upstream's message");
    let mut upper = good.clone();
    upper[6].0 = "Authorization";
    let mut beside = good;
    beside.push(("AUTHORIZATION", "Bearer other"));
    for malformed in [upper, beside] {
        // The server refuses it before the layers.
        broker.ledger().sent(0, &send(&malformed));
        let ended =
            until(&broker, &send(&malformed), |frame| frame.kind == HEADERS || is_over(frame))
                .await;
        let error = ended.last().and_then(H2Frame::error);
        assert!(matches!(error, Some((_, PROTOCOL_ERROR))), "RFC 9113 §8.2.1: {ended:?}");
    }
    assert_eq!((upstream.received().len(), reached.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {SECRET}")]);
    broker.expect_records(1).await;
    broker.done().await;
}

#[tokio::test]
async fn m247_rapid_resets_end_only_their_connection() {
    let (upstream, broker, reached) = broker().await;
    let (path, bearer) =
        (format!("{TYPED}/CallTool"), format!("Bearer {}", broker.token("items:read")));
    let head = fields(&call(&broker, &path, &bearer));
    let mut bytes = opening();
    for stream in (1..4_000_u32).step_by(2) {
        bytes.extend(h2_frame(HEADERS, 4, stream, &head));
        bytes.extend(h2_frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let ended = until(&broker, &bytes, |frame| frame.kind == GOAWAY).await;
    assert_eq!(ended.last().and_then(H2Frame::error), Some((GOAWAY, ENHANCE_YOUR_CALM)));
    // Nothing was sent for reset streams, and each request that reached the layers has one record.
    assert_eq!(upstream.received().len(), 0);
    broker.ledger().sent(at_rest(&reached).await, &bytes);
    let records = broker.records().await;
    assert!(records.iter().all(|record| record["kind"] != "intent"), "{records:#?}");
    let other = broker.rpc(&path, &[], typed_call("get_item")).await;
    assert_eq!((other.status(), upstream.received().len()), (Some(0), 1));
    broker.done().await;
}

#[tokio::test]
async fn m253_excessive_headers_are_refused_over_http_2() {
    let (upstream, broker, reached) = broker().await;
    let long = "a".repeat(63 * 1024);
    let many: Vec<_> = (0..1000).map(|number| (format!("x-{number}"), "v".repeat(32))).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (what, path, fields) in [
        ("a long path", format!("/{long}"), vec![]),
        ("a long field", format!("{TYPED}/CallTool"), vec![("x-long", long.as_str())]),
        ("many fields", format!("{TYPED}/CallTool"), many),
    ] {
        let body = http_body_util::Full::new(typed_call("get_item").into()).boxed_unsync();
        let request = broker.rpc_request_without_record(&path, &fields, body);
        let status = match client().request(request).await {
            Ok(response) => Ok(broker.reply(response).await.http),
            Err(error) => Err(error),
        };
        // Above its limit of CONTINUATION frames the server ends the connection instead.
        let ended = what == "many fields" && status.is_err();
        assert!(matches!(status, Ok(414 | 431)) || ended, "{what} {status:?}");
    }
    assert_eq!((upstream.received().len(), at_rest(&reached).await), (0, 0));
    // A shorter header passes through the same server.
    let short = broker.rpc(&format!("{TYPED}/CallTool"), &[], typed_call("get_item")).await;
    assert_eq!((short.status(), upstream.received().len()), (Some(0), 1));
    broker.expect_records(1).await;
    broker.done().await;
}
