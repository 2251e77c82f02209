//! HTTP/2 as no client library would send it: frames by hand, before a broker that speaks gRPC.

use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use token_broker_tests::{
    grpc::{TYPED, answer, client, frame, typed_call},
    harness::{Broker, SECRET},
    upstream::Scripted,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// RFC 9113 §4.1.
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541 §6.2.2: literals without indexing, names and values as they are.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // A prefix of seven bits, and what goes beyond it.
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

/// Sends it, and reads frames until one of these kinds comes, or the end: its kind, and its last four bytes as a number.
async fn until(to: SocketAddr, bytes: &[u8], kinds: &[u8]) -> Option<(u8, u32)> {
    let mut socket = TcpStream::connect(to).await.unwrap();
    // A server that has had enough closes before all was written.
    drop(socket.write_all(bytes).await);
    let mut head = [0; 9];
    loop {
        socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        socket.read_exact(&mut payload).await.ok()?;
        if kinds.contains(&head[3]) {
            let word = payload.get(if head[3] == GOAWAY { 4..8 } else { 0..4 });
            return Some((head[3], word.map_or(0, |word| u32::from_be_bytes(word.try_into().unwrap()))));
        }
    }
}

async fn broker() -> (Scripted, Broker) {
    let upstream = Scripted::start(|_| answer([frame(b"")], &[("grpc-status", "0")])).await;
    let broker = Broker::before(&upstream).grpc().start().await;
    (upstream, broker)
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
async fn l235_a_key_in_upper_case_is_no_metadatum_of_http_2() {
    let (upstream, broker) = broker().await;
    let (path, bearer) = (format!("{TYPED}/CallTool"), format!("Bearer {}", broker.token("items:read")));
    let good = call(&broker, &path, &bearer);
    let send = |head: &[(&str, &str)]| {
        let head = h2_frame(HEADERS, 4, 1, &fields(head));
        [opening(), head, h2_frame(DATA, 1, 1, &typed_call("get_item"))].concat()
    };
    assert_eq!(until(broker.address(), &send(&good), &[DATA, RST_STREAM, GOAWAY]).await, Some((DATA, 0)));
    let mut upper = good.clone();
    upper[6].0 = "Authorization";
    let ended = until(broker.address(), &send(&upper), &[HEADERS, RST_STREAM, GOAWAY]).await;
    assert!(matches!(ended, Some((RST_STREAM | GOAWAY, 1))), "a protocol error (RFC 9113 §8.2.1): {ended:?}");
    let mut beside = good;
    beside.push(("AUTHORIZATION", "Bearer other"));
    let ended = until(broker.address(), &send(&beside), &[HEADERS, RST_STREAM, GOAWAY]).await;
    assert!(matches!(ended, Some((RST_STREAM | GOAWAY, 1))), "{ended:?}");
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {SECRET}")]);
}

#[tokio::test]
async fn m247_rapid_resets_end_their_connection_and_no_other() {
    let (upstream, broker) = broker().await;
    let (path, bearer) = (format!("{TYPED}/CallTool"), format!("Bearer {}", broker.token("items:read")));
    let head = fields(&call(&broker, &path, &bearer));
    let mut bytes = opening();
    for stream in (1..4_000_u32).step_by(2) {
        bytes.extend(h2_frame(HEADERS, 4, stream, &head));
        bytes.extend(h2_frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let ended = until(broker.address(), &bytes, &[GOAWAY]).await;
    assert_eq!(ended, Some((GOAWAY, ENHANCE_YOUR_CALM)));
    // Nothing was sent for streams that were gone, and each that was let in has its one record.
    assert_eq!(upstream.received().len(), 0);
    let records = broker.records().await;
    assert!(records.iter().all(|record| record["kind"] != "intent"), "{records:#?}");
    let other = broker.rpc(&path, &[], typed_call("get_item")).await;
    assert_eq!((other.status(), upstream.received().len()), (Some(0), 1));
}

#[tokio::test]
async fn m253_what_is_longer_than_its_limit_is_refused_over_http_2() {
    let (upstream, broker) = broker().await;
    let long = "a".repeat(63 * 1024);
    let many: Vec<_> = (0..1000).map(|number| (format!("x-{number}"), "v".repeat(32))).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (what, path, fields) in [
        ("a long path", format!("/{long}"), vec![]),
        ("a long field", format!("{TYPED}/CallTool"), vec![("x-long", long.as_str())]),
        ("many fields", format!("{TYPED}/CallTool"), many),
    ] {
        let body = http_body_util::Full::new(typed_call("get_item").into()).boxed_unsync();
        let answer = client().request(broker.rpc_request(&path, &fields, body)).await;
        let status = answer.map(|answer| answer.status().as_u16());
        // Beyond its bound on CONTINUATION frames the server ends the connection instead.
        let ended = what == "many fields" && status.is_err();
        assert!(matches!(status, Ok(414 | 431)) || ended, "{what} {status:?}");
    }
    assert_eq!(upstream.received().len(), 0);
}
