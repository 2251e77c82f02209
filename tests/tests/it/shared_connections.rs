//! HTTP/2 connections to an upstream: what one user leaves unread or unfinished delays no one else.

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
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use token_broker_tests::{
    harness::{self, Broker, SECRET},
    upstream::{ScriptedBody, ScriptedServer, full, live},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tower_token_broker::{principal::User, revocation::RevocationTarget};

/// Streams that the upstream accepts on one connection; HTTP/2 servers accept at least so many.
const STREAMS: u32 = 100;

/// An upstream that counts its connections and the requests it holds.
struct Upstream {
    server: ScriptedServer,
    connections: Arc<AtomicUsize>,
    held: Arc<Semaphore>,
}

impl Upstream {
    async fn start() -> Self {
        Self::with_limits(STREAMS, 1 << 20).await
    }

    /// Starts it with a limit of streams, and a window for the bodies, on a connection.
    async fn with_limits(streams: u32, window: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        tokio::spawn(accept(
            listener,
            (streams, window),
            Arc::clone(&connections),
            Arc::clone(&held),
        ));
        Self { server: ScriptedServer::elsewhere(address), connections, held }
    }

    /// Waits until it holds so many more requests.
    async fn holds(&self, requests: u32) {
        self.held.acquire_many(requests).await.unwrap().forget();
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    (streams, window): (u32, u32),
    connections: Arc<AtomicUsize>,
    held: Arc<Semaphore>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let held = Arc::clone(&held);
        let service = service_fn(move |request: Request<Incoming>| {
            let held = Arc::clone(&held);
            async move { Ok::<_, Infallible>(respond(request, held).await) }
        });
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(streams).initial_connection_window_size(window);
            drop(server.serve_connection(TokioIo::new(socket), service).await);
        });
    }
}

async fn respond(request: Request<Incoming>, held: Arc<Semaphore>) -> Response<ScriptedBody> {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.headers["authorization"], format!("Bearer {SECRET}"));
    let is_grpc = parts.headers.get("content-type").is_some_and(|it| it == "application/grpc");
    let content = match parts.uri.path().rsplit('/').next() {
        Some("big") => {
            held.add_permits(1);
            vec![b' '; 128 * 1024]
        }
        Some("hold") => {
            held.add_permits(1);
            let _unread = body;
            std::future::pending().await
        }
        _ => body.collect().await.map_or(Vec::new(), |body| body.to_bytes().to_vec()),
    };
    if !is_grpc {
        return Response::new(full(content));
    }
    let message = token_broker_tests::grpc::frame(&content);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::from(message).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body.boxed_unsync()).unwrap()
}

/// A broker in front of it that speaks HTTP/2 to it, and its clients.
struct Users {
    broker: Broker,
    address: SocketAddr,
    is_grpc: bool,
    alice: String,
    bob: String,
}

impl Users {
    async fn of(upstream: &Upstream, is_grpc: bool) -> Self {
        let broker = Broker::in_front_of(&upstream.server);
        let broker = if is_grpc { broker.grpc() } else { broker.plain_http() };
        let (listener, stack, secret, broker) = broker.prepare_stack().await;
        let address = listener.local_addr().unwrap();
        let stack = stack.exchange(secret).build().unwrap();
        let proxied = stack.layer(harness::grpc_proxy());
        harness::serve(listener, Router::new().fallback_service(proxied));
        let (alice, bob) =
            (broker.token_of("alice", "items:read"), broker.token_of("bob", "items:read"));
        Self { broker, address, is_grpc, alice, bob }
    }

    /// Begins a request of a user to `name` at the upstream.
    fn begin(&self, user: &str, name: &str, body: ScriptedBody) -> Responding {
        let path = if self.is_grpc { format!("/items.Items/{name}") } else { format!("/{name}") };
        let token = if user == "alice" { &self.alice } else { &self.bob };
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", if self.is_grpc { "application/grpc" } else { "text/plain" })
            .header("te", "trailers")
            .body(body)
            .unwrap();
        self.broker.ledger().sent(1, token.as_bytes());
        // On a connection of its own, which takes 16 KiB that the test does not read.
        let client = Client::builder(TokioExecutor::new())
            .http2_only(self.is_grpc || name == "big")
            .http2_initial_stream_window_size(16 * 1024)
            .build_http();
        let responding = tokio::spawn(client.request(request));
        Responding { responding, _client: client }
    }

    /// Checks the broker once all requests have ended.
    async fn done(&self) {
        self.broker.ledger().in_use(SECRET.as_bytes());
        let requests = usize::try_from(self.broker.ledger().requests()).unwrap();
        loop {
            self.broker.log().flush().await.unwrap();
            let records = self.broker.sink().lines();
            let results = records.iter().filter(|record| is_result(record)).count();
            if results >= requests {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.broker.done().await;
    }

    async fn echoed(&self, user: &str, body: ScriptedBody) -> (u16, Bytes) {
        let mut sent = self.begin(user, "echo", body);
        let response = sent.response().await;
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }
}

type TestClient = Client<HttpConnector, ScriptedBody>;

/// A request, which ends when it is dropped.
struct Responding {
    responding: JoinHandle<Result<Response<Incoming>, hyper_util::client::legacy::Error>>,
    /// Without it, the connection is closed after the response.
    _client: TestClient,
}

impl Responding {
    async fn response(&mut self) -> Response<Incoming> {
        (&mut self.responding).await.unwrap().unwrap()
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.responding.abort();
    }
}

fn is_result(record: &str) -> bool {
    record.parse::<serde_json::Value>().unwrap()["kind"] == "result"
}

/// A message that both protocols accept.
fn message(content: &[u8]) -> Vec<u8> {
    token_broker_tests::grpc::frame(content)
}

/// A body of unknown length that the test ends when it drops the sender.
fn open_body(first: &[u8]) -> (mpsc::Sender<Bytes>, ScriptedBody) {
    let (sender, chunks) = mpsc::channel(16);
    sender.try_send(Bytes::copy_from_slice(first)).unwrap();
    (sender, live(chunks))
}

fn ended_body(content: &[u8]) -> ScriptedBody {
    open_body(content).1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_unread_responses_of_one_user_delay_no_one() {
    for is_grpc in [false, true] {
        let upstream = Upstream::start().await;
        let users = Users::of(&upstream, is_grpc).await;
        let mut unread = Vec::new();
        for _ in 0..70 {
            let mut sent = users.begin("alice", "big", full(message(b"x")));
            unread.push((sent.response().await, sent));
        }
        upstream.holds(70).await;
        let (status, body) = users.echoed("bob", full(message(b"hello"))).await;
        assert_eq!((status, body.ends_with(b"hello")), (200, true), "gRPC: {is_grpc}");
        drop(unread);
        users.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_unfinished_uploads_of_one_user_delay_no_one() {
    for is_grpc in [false, true] {
        let upstream = Upstream::start().await;
        let users = Users::of(&upstream, is_grpc).await;
        let mut unfinished = Vec::new();
        for _ in 0..STREAMS + 20 {
            let (sender, body) = open_body(&message(b"x"));
            unfinished.push((users.begin("alice", "hold", body), sender));
        }
        upstream.holds(STREAMS + 20).await;
        let before = upstream.connections();
        for body in [full(message(b"hello")), ended_body(&message(b"hello"))] {
            let (status, body) = users.echoed("bob", body).await;
            assert_eq!((status, body.ends_with(b"hello")), (200, true), "gRPC: {is_grpc}");
        }
        assert!(upstream.connections() <= before + 2, "{before} {}", upstream.connections());
        // Alice herself has further connections, too.
        let (status, _) = users.echoed("alice", ended_body(&message(b"hello"))).await;
        assert_eq!(status, 200, "gRPC: {is_grpc}");
        drop(unfinished);
        users.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_an_upload_that_the_upstream_does_not_read_delays_no_other_user() {
    for is_grpc in [false, true] {
        let upstream = Upstream::start().await;
        let users = Users::of(&upstream, is_grpc).await;
        let large = message(&vec![b'x'; 4 << 20]);
        let mut unread = Vec::new();
        for _ in 0..3 {
            unread.push(users.begin("alice", "hold", full(large.clone())));
        }
        upstream.holds(3).await;
        for body in [full(message(b"hello")), ended_body(&message(b"hello"))] {
            let (status, body) = users.echoed("bob", body).await;
            assert_eq!((status, body.ends_with(b"hello")), (200, true), "gRPC: {is_grpc}");
        }
        drop(unread);
        // The server in front does not see that the clients are gone while their uploads wait.
        let alice = RevocationTarget::User(User::new(harness::ISSUER, "alice"));
        assert!(users.broker.revoke(alice).await.was_known());
        users.done().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_small_bodies_that_the_upstream_does_not_read_delay_no_other_user() {
    let upstream = Upstream::with_limits(STREAMS, 65_535).await;
    let users = Users::of(&upstream, false).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(users.begin("alice", "hold", full(vec![b'x'; 40 * 1024])));
    }
    upstream.holds(4).await;
    let (status, body) = users.echoed("bob", full(vec![b'y'; 30 * 1024])).await;
    assert_eq!((status, body.len()), (200, 30 * 1024));
    drop(unread);
    users.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_one_user_leaves_streams_to_others_at_a_server_with_few() {
    let upstream = Upstream::with_limits(10, 1 << 20).await;
    let users = Users::of(&upstream, false).await;
    let held: Vec<_> = (0..15).map(|_| users.begin("alice", "hold", full("x"))).collect();
    upstream.holds(15).await;
    let (status, body) = users.echoed("bob", full("hello")).await;
    assert_eq!((status, &*body), (200, &b"hello"[..]));
    drop(held);
    users.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m390_users_share_a_connection_one_after_the_other() {
    let upstream = Upstream::start().await;
    let users = Users::of(&upstream, false).await;
    for user in ["alice", "bob"].iter().cycle().take(40) {
        let (status, _) = users.echoed(user, full(message(b"small"))).await;
        assert_eq!(status, 200);
        let (status, _) = users.echoed(user, ended_body(&message(b"of unknown length"))).await;
        assert_eq!(status, 200);
    }
    // One for small requests; a second one for uploads, and a third one if the next upload began
    // before the last one had left.
    assert!(upstream.connections() <= 3, "{}", upstream.connections());
    users.done().await;
}
