//! Request bodies on their way to the upstream: they end with their token, their grant and their
//! response, also while no one polls them.

#![expect(clippy::print_stderr, reason = "the gate reads the figures of n461")]
#![expect(
    clippy::disallowed_methods,
    reason = "clients and servers of the broker stop with the test"
)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::Value;
use token_broker_authority::issue::Mint;
use token_broker_outbound::Proxy;
use token_broker_tests::{
    harness::{self, Broker, SECRET},
    upstream::{ScriptedBody, ScriptedServer, full, json, live},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
};
use tower::ServiceExt as _;
use tower_token_broker::{
    body::RequestBody,
    clock::Clock,
    exchange::{CallerHandle, ExchangeLayer},
    limits::Limits,
    principal::User,
    revocation::RevocationTarget,
    scope_filter::{Rules, http},
};

/// Pieces of a request body, as the upstream reads them.
#[derive(Debug)]
enum Event {
    /// Its headers arrived.
    Begin,
    Data(Bytes),
    /// The body ended, completely or not.
    End {
        is_complete: bool,
    },
}

/// An upstream that responds before it has read the body, or after it, and reads while the test
/// lets it.
struct Upstream {
    server: ScriptedServer,
    events: mpsc::Receiver<Event>,
    connections: Arc<AtomicUsize>,
    reads: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Responds {
    Early,
    Late,
}

impl Upstream {
    async fn start(responds: Responds) -> Self {
        Self::with_window(responds, 64 * 1024).await
    }

    /// Starts it with a window for each HTTP/2 stream.
    async fn with_window(responds: Responds, window: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = mpsc::channel(4096);
        let (reads, is_reading) = watch::channel(true);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (sender, is_reading) = (sender.clone(), is_reading.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (sender, is_reading) = (sender.clone(), is_reading.clone());
                    async move {
                        Ok::<_, Infallible>(respond(request, sender, is_reading, responds).await)
                    }
                });
                tokio::spawn(async move {
                    let mut server = auto::Builder::new(TokioExecutor::new());
                    server.http2().initial_stream_window_size(window);
                    drop(server.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { server: ScriptedServer::elsewhere(address), events, connections, reads }
    }

    async fn arrived(&mut self) {
        assert!(matches!(self.events.recv().await, Some(Event::Begin)));
    }

    async fn data(&mut self, expected: &[u8]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            match self.events.recv().await.unwrap() {
                Event::Begin => {}
                Event::Data(data) => seen.extend_from_slice(&data),
                Event::End { is_complete } => panic!("{seen:?}, then an end: {is_complete}"),
            }
        }
        assert_eq!(seen, expected);
    }

    /// Reads to the end of the body. Returns the bytes before it, and whether it was complete.
    async fn end(&mut self) -> (Vec<u8>, bool) {
        let mut seen = Vec::new();
        loop {
            match self.events.recv().await.unwrap() {
                Event::Begin => {}
                Event::Data(data) => seen.extend_from_slice(&data),
                Event::End { is_complete } => return (seen, is_complete),
            }
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    events: mpsc::Sender<Event>,
    mut is_reading: watch::Receiver<bool>,
    responds: Responds,
) -> Response<ScriptedBody> {
    let is_grpc = request.headers().get("content-type").is_some_and(|it| it == "application/grpc");
    let (parts, mut body) = request.into_parts();
    if parts.uri.path().ends_with("/other") {
        return Response::new(full("other"));
    }
    let credential = parts.headers["authorization"].to_str().unwrap();
    assert_eq!(credential, format!("Bearer {SECRET}"));
    events.send(Event::Begin).await.unwrap();
    let reading = async move {
        loop {
            if is_reading.wait_for(|reads| *reads).await.is_err() {
                return;
            }
            let event = match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Event::Data(data),
                    Err(_) => continue,
                },
                Some(Err(_)) => Event::End { is_complete: false },
                None => Event::End { is_complete: true },
            };
            let is_end = matches!(event, Event::End { .. });
            events.send(event).await.unwrap();
            if is_end {
                return;
            }
        }
    };
    let reading = tokio::spawn(reading);
    if responds == Responds::Late {
        reading.await.unwrap();
    }
    if !is_grpc {
        return Response::new(full("done"));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::from(Bytes::new()).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body.boxed_unsync()).unwrap()
}

/// A broker in front of it, whose route has this proxy.
async fn broker(upstream: &Upstream, is_grpc: bool, proxy: Proxy, limits: Limits) -> Broker {
    let broker = Broker::in_front_of(&upstream.server);
    let broker = if is_grpc { broker.grpc() } else { broker.plain_http() };
    let (listener, stack, secret, broker) = broker.prepare_stack().await;
    let stack = stack.exchange(secret).limits(limits).build().unwrap();
    harness::serve(listener, Router::new().fallback_service(stack.layer(proxy)));
    broker
}

type TestClient = Client<HttpConnector, ScriptedBody>;

/// A client of the broker.
fn client(is_h2: bool) -> TestClient {
    Client::builder(TokioExecutor::new()).http2_only(is_h2).build_http()
}

type Responding =
    tokio::task::JoinHandle<Result<Response<Incoming>, hyper_util::client::legacy::Error>>;

/// A request of alice whose body the test sends.
struct Sending {
    body: mpsc::Sender<Bytes>,
    response: Responding,
    /// Without it, the connection is closed after the response.
    _client: TestClient,
}

impl Sending {
    fn begin(broker: &Broker, is_h2: bool, is_grpc: bool) -> Self {
        let (body, chunks) = mpsc::channel(16);
        let path = if is_grpc { "/items.Items/Put" } else { "/items" };
        let kind = if is_grpc { "application/grpc" } else { "application/octet-stream" };
        let request = Request::post(format!("http://{}{path}", broker.host()))
            .header("authorization", format!("Bearer {}", broker.token("items:read")))
            .header("content-type", kind)
            .header("te", "trailers")
            .body(live(chunks))
            .unwrap();
        broker.ledger().sent(1, format!("{:?}", request.headers()["authorization"]).as_bytes());
        let client = client(is_h2);
        let response = tokio::spawn(client.request(request));
        Self { body, response, _client: client }
    }

    /// Sends an upload without a byte, on a token of another user.
    async fn other(broker: &Broker, is_grpc: bool) -> u16 {
        let path = if is_grpc { "/items.Items/other" } else { "/other" };
        let mint = Mint::for_user("bob").client("test-client").resource(broker.resource());
        let token = broker.issuer().mint(mint).unwrap().into_text();
        let request = Request::post(format!("http://{}{path}", broker.host()))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", if is_grpc { "application/grpc" } else { "text/plain" })
            .body(live(mpsc::channel(1).1))
            .unwrap();
        broker.ledger().token(&token);
        broker.ledger().sent(1, token.as_bytes());
        client(true).request(request).await.unwrap().status().as_u16()
    }

    async fn send(&self, piece: &'static [u8]) {
        // After a cut, no one reads it.
        drop(self.body.send(Bytes::from_static(piece)).await);
    }

    async fn response(&mut self) -> (StatusCode, Option<Bytes>) {
        let response = (&mut self.response).await.unwrap().unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.ok().map(|body| body.to_bytes()))
    }
}

async fn last_result(broker: &Broker) -> Value {
    let requests = usize::try_from(broker.ledger().requests()).unwrap();
    nth_result(broker, requests - 1).await
}

async fn nth_result(broker: &Broker, number: usize) -> Value {
    loop {
        broker.log().flush().await.unwrap();
        let records = broker.sink().lines();
        let parsed = records.iter().map(|line| line.parse::<Value>().unwrap());
        if let Some(result) = parsed.filter(|record| record["kind"] == "result").nth(number) {
            return result;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A message of three bytes, in a gRPC frame.
const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";

/// The protocols and HTTP versions: of the stack, the client, and the upstream.
const WAYS: [(&str, bool, bool, bool); 5] = [
    ("HTTP, h1 to h1", false, false, false),
    ("HTTP, h2 to h1", false, true, false),
    ("HTTP, h1 to h2", false, false, true),
    ("HTTP, h2 to h2", false, true, true),
    ("gRPC", true, true, true),
];

fn proxy(is_h2: bool) -> Proxy {
    if is_h2 { harness::grpc_proxy() } else { harness::proxy() }
}

/// The revocations of each way. `.ci/run` and `.ci/long` set more.
fn runs() -> usize {
    std::env::var("TOKEN_BROKER_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n461_no_piece_arrives_after_a_revoke() {
    for (way, is_grpc, client_h2, upstream_h2) in WAYS {
        for responds in [Responds::Early, Responds::Late] {
            // A gRPC upload ends with its response.
            if is_grpc && responds == Responds::Early {
                continue;
            }
            for _ in 0..runs() {
                let mut upstream = Upstream::start(responds).await;
                let broker =
                    broker(&upstream, is_grpc, proxy(upstream_h2), Limits::default()).await;
                let mut sending = Sending::begin(&broker, client_h2, is_grpc);
                sending.send(MESSAGE).await;
                upstream.data(MESSAGE).await;
                if responds == Responds::Early {
                    let (status, body) = sending.response().await;
                    assert_eq!((status.as_u16(), body.as_deref()), (200, Some(&b"done"[..])));
                }
                let alice = User::new(harness::ISSUER, "alice");
                assert!(broker.revoke(RevocationTarget::User(alice)).await.was_known());
                for _ in 0..5 {
                    sending.send(MESSAGE).await;
                }
                assert_eq!(upstream.end().await, (Vec::new(), false), "{way}, {responds:?}");
                let result = last_result(&broker).await;
                let outcome = match responds {
                    Responds::Early => "cut",
                    Responds::Late => "refused",
                };
                assert_eq!(result["outcome"], outcome, "{way}, {responds:?}: {result}");
                assert_eq!(result["reason"], "authn.revoked", "{way}, {responds:?}: {result}");
                // The upstream has compared it.
                broker.ledger().in_use(SECRET.as_bytes());
                broker.done().await;
            }
            let runs = runs();
            eprintln!("{way}, {responds:?}: {runs} revocations, 0 bytes after them");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n462_a_stream_that_the_peer_does_not_read_is_reset_alone() {
    for (is_grpc, responds) in
        [(false, Responds::Early), (false, Responds::Late), (true, Responds::Late)]
    {
        let mut upstream = Upstream::with_window(responds, 1024).await;
        upstream.reads.send_replace(false);
        let broker = broker(&upstream, is_grpc, proxy(true), Limits::default()).await;
        // From here on, the client knows the window.
        assert_eq!(Sending::other(&broker, is_grpc).await, 200);
        let mut sending = Sending::begin(&broker, true, is_grpc);
        // More than the window: hyper and h2 hold a part of it, and the body is not polled.
        let piece = Bytes::from([&[0, 0, 0, 15, 255][..], &[b'x'; 4095]].concat());
        sending.body.send(piece).await.unwrap();
        if responds == Responds::Early {
            assert_eq!(sending.response().await.0.as_u16(), 200);
        }
        upstream.arrived().await;
        let alice = User::new(harness::ISSUER, "alice");
        assert!(broker.revoke(RevocationTarget::User(alice)).await.was_known());
        // Its record, and that of the other request, in any order.
        let results = [nth_result(&broker, 0).await, nth_result(&broker, 1).await];
        let is_revoked = |result: &Value| result["reason"] == "authn.revoked";
        assert!(results.iter().any(is_revoked), "{responds:?}: {results:?}");
        // The reset is in the socket before anything of another request is.
        let other = Sending::other(&broker, is_grpc);
        assert_eq!(other.await, 200);
        upstream.reads.send_replace(true);
        let (seen, is_complete) = upstream.end().await;
        assert!(seen.len() <= 1024 && !is_complete, "{} bytes", seen.len());
        // M390: bob has another one if the upload of alice was not over yet.
        assert!(upstream.connections.load(Ordering::SeqCst) <= 2);
        last_result(&broker).await;
        broker.ledger().in_use(SECRET.as_bytes());
        broker.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n463_an_upload_after_its_response_is_cut() {
    let settings = [
        (Limits::default().upload_grace(Duration::from_millis(300)), Responds::Early, "upload_cut"),
        (
            Limits::default().upload_idle_timeout(Duration::from_millis(300)),
            Responds::Early,
            "upload_cut",
        ),
        (
            Limits::default().upload_idle_timeout(Duration::from_millis(300)),
            Responds::Late,
            "refused",
        ),
    ];
    for (limits, responds, outcome) in settings {
        for is_h2 in [false, true] {
            let mut upstream = Upstream::start(responds).await;
            let broker = broker(&upstream, false, proxy(is_h2), limits).await;
            let mut sending = Sending::begin(&broker, false, false);
            sending.send(MESSAGE).await;
            upstream.data(MESSAGE).await;
            let (status, _) = sending.response().await;
            assert_eq!(status.as_u16(), if responds == Responds::Early { 200 } else { 400 });
            assert_eq!(upstream.end().await, (Vec::new(), false), "{limits:?}, h2: {is_h2}");
            let result = last_result(&broker).await;
            assert_eq!(result["outcome"], outcome, "{limits:?}, h2: {is_h2}: {result}");
            broker.ledger().in_use(SECRET.as_bytes());
            broker.done().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n464_the_record_waits_for_the_upload() {
    for is_h2 in [false, true] {
        let mut upstream = Upstream::start(Responds::Early).await;
        let broker = broker(&upstream, false, proxy(is_h2), Limits::default()).await;
        let mut sending = Sending::begin(&broker, false, false);
        sending.send(MESSAGE).await;
        upstream.data(MESSAGE).await;
        assert_eq!(sending.response().await.0.as_u16(), 200);
        let kinds: Vec<_> = broker.sink().lines();
        assert!(kinds.iter().all(|line| !line.contains(r#""kind":"result""#)), "{kinds:?}");
        sending.send(MESSAGE).await;
        let Sending { body, _client, .. } = sending;
        drop(body);
        assert_eq!(upstream.end().await, (MESSAGE.to_vec(), true), "a whole body");
        assert_eq!(last_result(&broker).await["outcome"], "completed");
        broker.ledger().in_use(SECRET.as_bytes());
        broker.done().await;
        drop(_client);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n465_an_upload_ends_when_its_client_is_gone() {
    for is_h2 in [false, true] {
        for responds in [Responds::Early, Responds::Late] {
            let mut upstream = Upstream::start(responds).await;
            let broker = broker(&upstream, false, proxy(is_h2), Limits::default()).await;
            let (host, token) = (broker.host(), broker.token("items:read"));
            let request = format!(
                "POST /items HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
                 transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
            );
            let mut response = broker.open(request.as_bytes()).await;
            upstream.data(b"abc").await;
            if responds == Responds::Early {
                response.until("done").await;
            }
            drop(response);
            assert_eq!(upstream.end().await, (Vec::new(), false), "{responds:?}, h2: {is_h2}");
            let result = last_result(&broker).await;
            // Before the response, the end of the body may be seen before that of the connection.
            let is_incomplete = result["reason"] == "filter.body_incomplete";
            let is_late = responds == Responds::Late;
            assert!(
                result["outcome"] == "dropped" || (is_late && is_incomplete),
                "{responds:?}, h2: {is_h2}: {result}"
            );
            broker.ledger().in_use(SECRET.as_bytes());
            broker.done().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n466_an_upload_ends_when_its_token_expires() {
    let mut upstream = Upstream::start(Responds::Early).await;
    let clock = Clock::manual(Clock::system().now());
    let (listener, stack, broker) = Broker::in_front_of(&upstream.server)
        .plain_http()
        .with_clock(clock.clone())
        .prepare()
        .await;
    harness::serve(listener, Router::new().fallback_service(stack.layer(harness::proxy())));
    let mut sending = Sending::begin(&broker, false, false);
    sending.send(MESSAGE).await;
    upstream.data(MESSAGE).await;
    assert_eq!(sending.response().await.0.as_u16(), 200);
    clock.advance(Duration::from_secs(24 * 60 * 60));
    for _ in 0..5 {
        sending.send(MESSAGE).await;
    }
    assert_eq!(upstream.end().await, (Vec::new(), false));
    let result = last_result(&broker).await;
    assert_eq!((&result["outcome"], &result["reason"]), (&"cut".into(), &"jwt.expired".into()));
    broker.ledger().in_use(SECRET.as_bytes());
    broker.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h461_content_of_safe_methods_needs_a_rule() {
    let upstream = ScriptedServer::start(|received| {
        json(&format!("{:?}", String::from_utf8_lossy(&received.body)))
    })
    .await;
    let rules = Rules::new()
        .allow(http(Method::GET, "/read"))
        .allow(http(Method::GET, "/search").with_get_content())
        .allow(http(Method::HEAD, "/search").with_get_content())
        .allow(http(Method::TRACE, "/search").with_get_content())
        .allow(http(Method::DELETE, "/search"))
        .allow(http(Method::OPTIONS, "/search"));
    let broker = Broker::in_front_of(&upstream).plain_http().policy(rules).start().await;
    let smuggled = "POST /api/admin/delete-everything HTTP/1.1\r\nx: y";
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let sized = format!("content-length: {}", smuggled.len());
    let refused = (400, Some("filter.unexpected_content"));
    for (case, method, path, framing, content, expected) in [
        ("no content", "GET", "/read", "accept: */*", "", (200, None)),
        ("length of zero", "GET", "/read", "content-length: 0", "", (200, None)),
        ("no chunk", "GET", "/read", "transfer-encoding: chunked", "0\r\n\r\n", (200, None)),
        ("sized", "GET", "/read", &sized, smuggled, refused),
        ("chunked", "GET", "/read", "transfer-encoding: chunked", &chunked, refused),
        ("a rule", "GET", "/search", &sized, smuggled, (200, None)),
        ("HEAD", "HEAD", "/search", &sized, smuggled, refused),
        ("TRACE", "TRACE", "/search", &sized, smuggled, refused),
        ("DELETE", "DELETE", "/search", &sized, smuggled, (200, None)),
        ("OPTIONS", "OPTIONS", "/search", &sized, smuggled, (200, None)),
    ] {
        let (host, token) = (broker.host(), broker.token("items:read"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\n{framing}\r\n\r\n{content}"
        );
        let response = broker.send(request.as_bytes()).await;
        let result = last_result(&broker).await;
        assert_eq!((response.status, result["reason"].as_str()), expected, "{case}: {result}");
    }
    let bodies = upstream.received();
    let with_content: Vec<_> =
        bodies.iter().filter(|it| !it.body.is_empty()).map(|it| it.method.as_str()).collect();
    assert_eq!(with_content, ["GET", "DELETE", "OPTIONS"]);
    broker.done().await;
}

/// A server that ignores the content of every request but POST, as some do: it reads the content as
/// the next request.
async fn ignorant_server() -> (SocketAddr, mpsc::Receiver<(usize, String)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel(64);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                        let rest = bytes.split_off(end + 4);
                        let head = String::from_utf8(std::mem::replace(&mut bytes, rest)).unwrap();
                        sender.send((connection, head)).await.unwrap();
                        let response = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if socket.write_all(response.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h462_a_connection_with_ignored_content_is_not_used_again() {
    for method in ["GET", "DELETE", "OPTIONS", "PROPFIND"] {
        let (address, mut requests) = ignorant_server().await;
        let upstream = ScriptedServer::elsewhere(address);
        let method_of_rule = Method::from_bytes(method.as_bytes()).unwrap();
        let rules = Rules::new()
            .allow(http(method_of_rule, "/status").with_get_content())
            .allow(http(Method::GET, "/next"));
        let broker = Broker::in_front_of(&upstream).plain_http().policy(rules).start().await;
        let smuggled = "POST /api/admin/delete-everything HTTP/1.1\r\nx: y";
        let (host, token) = (broker.host().to_owned(), broker.token("items:read"));
        let length = smuggled.len();
        let first = format!(
            "{method} /status HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\ncontent-length: {length}\r\n\r\n{smuggled}"
        );
        assert_eq!(broker.send(first.as_bytes()).await.status, 200, "{method}");
        assert_eq!(broker.get("/next").await.status, 200, "{method}");
        let (first, head) = requests.recv().await.unwrap();
        assert!(head.starts_with(&format!("{method} /mcp/status")), "{head}");
        let (second, head) = requests.recv().await.unwrap();
        assert!(head.starts_with("GET /mcp/next"), "{method}: {head}");
        assert_ne!(first, second, "{method}: another connection");
        broker.ledger().in_use(SECRET.as_bytes());
        broker.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h463_trailers_of_a_request_are_not_forwarded() {
    for is_h2 in [false, true] {
        let (sender, mut seen) = mpsc::channel(1);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let body = request.into_body().collect().await.unwrap();
                sender.send((body.trailers().cloned(), body.to_bytes())).await.unwrap();
                Ok::<_, Infallible>(Response::new(full("done")))
            }
        });
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let server = auto::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(socket), service).await);
        });
        let upstream = ScriptedServer::elsewhere(address);
        let (listener, stack, broker) = Broker::in_front_of(&upstream).plain_http().prepare().await;
        harness::serve(listener, Router::new().fallback_service(stack.layer(proxy(is_h2))));
        let token = broker.token("items:read");
        let mut trailers = HeaderMap::new();
        for name in ["authorization", "cookie", "x-copy"] {
            trailers.insert(name, format!("Bearer {token}").parse().unwrap());
        }
        let body = Full::<Bytes>::from("content").with_trailers(async move { Some(Ok(trailers)) });
        let request = Request::post(format!("http://{}/items", broker.host()))
            .header("authorization", format!("Bearer {token}"))
            .body(body.boxed_unsync())
            .unwrap();
        broker.ledger().sent(1, token.as_bytes());
        assert_eq!(client(true).request(request).await.unwrap().status(), 200);
        let (trailers, content) = seen.recv().await.unwrap();
        assert_eq!((trailers, &content[..]), (None, &b"content"[..]), "h2: {is_h2}");
        broker.ledger().in_use(SECRET.as_bytes());
        last_result(&broker).await;
        broker.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n467_no_connection_is_upgraded() {
    let upstream = ScriptedServer::start(|_| Response::new(full("unused"))).await;
    let (listener, stack, _secret, broker) =
        Broker::in_front_of(&upstream).plain_http().prepare_for_handler().await;
    let (upgraded, mut is_upgraded) = mpsc::channel(8);
    // A handler that upgrades its client's connection.
    let handler = tower::service_fn(move |mut request: Request<RequestBody<axum::body::Body>>| {
        let upgraded = upgraded.clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { upgraded.send(upgrade.await.is_ok()).await });
        let is_connect = request.method() == Method::CONNECT;
        let status = if is_connect { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        async move {
            let response = Response::builder().status(status).header("connection", "upgrade");
            Ok::<_, Infallible>(response.header("upgrade", "echo").body(full("")).unwrap())
        }
    });
    harness::serve(listener, Router::new().fallback_service(stack.layer(handler)));
    for (method, target, status) in
        [("GET", "/echo", 502), ("POST", "/echo", 502), ("CONNECT", "db.internal:5432", 405)]
    {
        let (host, token) = (broker.host(), broker.token("items:read"));
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             connection: upgrade, close\r\nupgrade: echo\r\n\r\n"
        );
        let response = broker.send(request.as_bytes()).await;
        assert_eq!(response.status, status, "{method}: {}", response.text());
        if method != "CONNECT" {
            assert_eq!(is_upgraded.recv().await, Some(false), "{method}");
        }
    }
    broker.done_unsent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n469_a_revoke_ends_no_request_of_another_user() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = ScriptedServer::elsewhere(listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, (arrived, mut arrivals)) = (Arc::clone(&connections), mpsc::channel(4));
    let (release, released) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let (arrived, released) = (arrived.clone(), released.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (arrived, mut released) = (arrived.clone(), released.clone());
                async move {
                    let is_slow = request.uri().path().ends_with("/slow");
                    drop(request.into_body().collect().await);
                    arrived.send(is_slow).await.unwrap();
                    if is_slow {
                        released.wait_for(|released| *released).await.unwrap();
                    }
                    Ok::<_, Infallible>(Response::new(full("done")))
                }
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).plain_http().prepare_for_handler().await;
    let api = ExchangeLayer::for_handler(broker.handle(), secret).layer(harness::proxy());
    let base = upstream.url("/mcp");
    // A handler that sends one request, and for alice keeps its own response open.
    let handler = tower::service_fn(move |request: Request<RequestBody<axum::body::Body>>| {
        let (api, url) = (api.clone(), format!("{base}{}", request.uri().path()));
        let caller = request.extensions().get::<CallerHandle>().unwrap().clone();
        async move {
            let mut own = Request::post(&url).body(full("content")).unwrap();
            caller.stamp(&mut own);
            let response = api.oneshot(own).await.unwrap();
            let status = response.status();
            response.into_body().collect().await.unwrap();
            if url.ends_with("/slow") {
                return Ok::<_, Infallible>(
                    Response::builder().status(status).body(full("")).unwrap(),
                );
            }
            let (sender, chunks) = mpsc::channel(1);
            // The guard holds a word back until its end is known.
            sender.send(Bytes::from_static(b"first ")).await.unwrap();
            tokio::spawn(async move { sender.closed().await });
            Ok(Response::new(live(chunks)))
        }
    });
    harness::serve(listener, Router::new().fallback_service(stack.layer(handler)));
    let request = |user: &str, path: &str| {
        let token = broker.token_of(user, "items:read");
        broker.ledger().sent(1, token.as_bytes());
        Request::get(format!("http://{}{path}", broker.host()))
            .header("authorization", format!("Bearer {token}"))
            .body(full(""))
            .unwrap()
    };
    let (of_alice, of_bob) = (client(false), client(false));
    let mut alice = of_alice.request(request("alice", "/keep")).await.unwrap();
    assert!(alice.body_mut().frame().await.unwrap().is_ok());
    assert_eq!(arrivals.recv().await, Some(false));
    let bob = tokio::spawn(of_bob.request(request("bob", "/slow")));
    assert_eq!(arrivals.recv().await, Some(true));
    let user = User::new(harness::ISSUER, "alice");
    assert!(broker.revoke(RevocationTarget::User(user)).await.was_known());
    assert!(alice.into_body().collect().await.is_err(), "alice's response is cut");
    release.send_replace(true);
    assert_eq!(bob.await.unwrap().unwrap().status(), 200, "bob's request continues");
    assert_eq!(connections.load(Ordering::SeqCst), 1, "on the connection that alice used");
    broker.ledger().in_use(SECRET.as_bytes());
    last_result(&broker).await;
    broker.done().await;
}
