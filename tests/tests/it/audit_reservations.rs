//! Places in the audit log: what is refused holds none, and no one takes those of others.

use std::sync::Arc;

use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::{ScriptedServer, json, live_events},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Broker as Handle,
    audit::{AuditOptions, InMemory},
    authenticate::{VerifyError, VerifyRequest, VerifyToken},
    principal::Verified,
    resource_metadata::ResourceMetadata,
    scope_filter::{Rules, tools},
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The streams that hyper accepts on one connection at one time.
const STREAMS: usize = 200;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541 §6.2.2, for texts of fewer than 16 384 bytes.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut coded = match u8::try_from(text.len()) {
            Ok(length @ 0..127) => vec![length],
            _ => {
                let rest = text.len() - 127;
                let byte = |value: usize| u8::try_from(value).unwrap();
                match rest {
                    0..128 => vec![127, byte(rest)],
                    _ => vec![127, byte(rest & 127) | 128, byte(rest >> 7)],
                }
            }
        };
        coded.extend_from_slice(text.as_bytes());
        coded
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A connection whose client gives no window: it receives headers, and no byte of a body.
struct ZeroWindow {
    socket: TcpStream,
}

impl ZeroWindow {
    /// Sends as many requests as one connection takes, and waits for the headers of each response.
    async fn open(broker: &Broker, head: &[(&str, &str)], body: &str) -> Self {
        let mut socket = TcpStream::connect(broker.address()).await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE (4) is 0.
        let mut bytes = [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        let block = fields(head);
        for stream in (1..).step_by(2).take(STREAMS) {
            let ends = u8::from(body.is_empty());
            bytes.extend(frame(1, 4 | ends, stream, &block));
            if !body.is_empty() {
                bytes.extend(frame(0, 1, stream, body.as_bytes()));
            }
        }
        broker.ledger().sent(STREAMS as u64, &bytes);
        socket.write_all(&bytes).await.unwrap();
        let mut responses = 0;
        while responses < STREAMS {
            let mut start = [0; 9];
            socket.read_exact(&mut start).await.unwrap();
            let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            socket.read_exact(&mut payload).await.unwrap();
            assert!(![0, 3, 7].contains(&start[3]), "DATA, RST_STREAM or GOAWAY: {start:?}");
            if start[3] == 1 {
                assert_eq!(start[4] & 1, 0, "the body is waiting");
                responses += 1;
            }
        }
        Self { socket }
    }
}

/// The places of the log, and the connections that would take all of them.
const fn scale() -> (usize, usize) {
    // The whole: 65 536 and 330. A fortieth in the gate.
    (1_638, 9)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m380_unread_refusals_hold_no_place() {
    let (places, connections) = scale();
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream)
        .policy(Rules::new().allow(tools(["get_*"])))
        // One connection sends 200 requests of one user at once.
        .audit_options(
            AuditOptions::new().queue_capacity(places).queue_capacity_per_user(places / 2),
        )
        .start()
        .await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let unknown = CALL.replace("get_item", "drop_all");
    let common = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/mcp"),
        (":authority", broker.host()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let nonsense = [&common[..], &[("authorization", "Bearer nonsense")]].concat();
    let authorized = [&common[..], &[("authorization", &*bearer)]].concat();
    type Fields<'a> = Vec<(&'a str, &'a str)>;
    let cases: [(&str, Fields<'_>, &str); 4] = [
        ("authn.missing", common.to_vec(), ""),
        ("jwt.format", nonsense, CALL),
        ("filter.tool_denied", authorized.clone(), &unknown),
        ("filter.not_json", authorized, "{"),
    ];
    let mut open = Vec::new();
    for number in 0..connections {
        let (_, head, body) = &cases[number % cases.len()];
        open.push(ZeroWindow::open(&broker, head, body).await);
    }
    assert!(connections * STREAMS > places);
    // All of them are recorded, while every response is unread.
    let records = broker.expect_records((connections * STREAMS) as u64).await;
    for (reason, ..) in &cases[..2] {
        assert!(records.iter().any(|record| record["reason"] == *reason), "{reason}");
    }
    assert!(records.iter().all(|record| record["reason"] != "audit.unavailable"));
    assert!(records.iter().all(|record| record["reason"] != "audit.user_quota"));
    // No one is kept out: neither a user nor a request without one.
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    let without = token_broker_tests::wire::post("/mcp", broker.host(), &[], CALL);
    assert_eq!(broker.send(&without).await.status, 401);
    for connection in &mut open {
        connection.socket.shutdown().await.unwrap();
    }
    broker.done().await;
}

/// The verifier of a custom token that never decides.
struct Hangs;

impl VerifyToken for Hangs {
    async fn verify(&self, _: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn p383_a_verification_that_hangs_takes_no_users_place() {
    let records = InMemory::new();
    let options = AuditOptions::new().queue_capacity(16);
    let handle = Handle::builder().audit(records.clone()).audit_options(options).build().unwrap();
    let upstream = tower_token_broker::exchange::Upstream::parse("items", "http://127.0.0.1:1/mcp");
    let secret = tower_token_broker::Secret::from_text("unused-0123456789abcdef".to_owned());
    let stack = handle
        .protect("https://broker.example.com/mcp")
        .metadata(ResourceMetadata::new().authorization_server("https://issuer.example.com"))
        .authenticate(Hangs)
        .scope_filter(Rules::new().allow(tools(["get_*"])))
        .exchange(token_broker_upstream::StaticSecret::new(secret, upstream.unwrap()).unwrap())
        .build()
        .unwrap();
    let service = stack.layer(service_fn(async |_| {
        Ok::<_, std::convert::Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
    }));
    let request = || {
        Request::post("/mcp")
            .header(header::HOST, "broker.example.com")
            .header(header::AUTHORIZATION, "Bearer opaque")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    let mut hanging = Vec::new();
    for _ in 0..8 {
        let mut response = Box::pin(service.clone().oneshot(request()));
        tokio::select! {
            biased;
            _ = &mut response => panic!("it hangs"),
            () = std::future::ready(()) => hanging.push(response),
        }
    }
    // Half of the places: one more is refused at once.
    let refused = service.clone().oneshot(request()).await.unwrap();
    assert_eq!(refused.status(), 503);
    drop(refused.into_body().collect().await);
    drop(hanging);
    handle.audit_log().flush().await.unwrap();
    let lines = records.lines();
    let ended = |outcome: &str| lines.iter().filter(|line| line.contains(outcome)).count();
    assert_eq!((ended(r#""outcome":"dropped""#), ended(r#""reason":"audit.unavailable""#)), (8, 1));
}

#[tokio::test]
async fn p382_q308_streams_of_one_user_keep_no_other_out() {
    let held = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let upstream = ScriptedServer::start({
        let held = Arc::clone(&held);
        move |request| {
            let text = request.to_bytes();
            if !text.windows(10).any(|part| part == b"get_stream") {
                return json(RESULT);
            }
            let (chunks, response) = mpsc::channel(1);
            held.lock().push(chunks);
            live_events(response)
        }
    })
    .await;
    let broker = Broker::in_front_of(&upstream)
        .audit_options(AuditOptions::new().queue_capacity(64).queue_capacity_per_user(8))
        .start()
        .await;
    let stream = CALL.replace("get_item", "get_stream");
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let bytes = token_broker_tests::wire::post(
        "/mcp",
        broker.host(),
        &[("authorization", &bearer)],
        &stream,
    );
    let mut streams = Vec::new();
    for _ in 0..6 {
        let mut response = broker.open(&bytes).await;
        response.until("200 OK").await;
        streams.push(response);
    }
    let refused = broker.call_with(&[], CALL).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    let bearer = format!("Bearer {}", broker.token_of("bob", "items:read"));
    let fields = [("authorization", bearer.as_str())];
    let other = token_broker_tests::wire::post("/mcp", broker.host(), &fields, CALL);
    assert_eq!(broker.send(&other).await.status, 200);
    held.lock().clear();
    for response in streams {
        drop(response.rest().await);
    }
    broker.flush().await;
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    broker.done().await;
}
