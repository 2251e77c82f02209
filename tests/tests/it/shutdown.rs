//! `Broker::shutdown`: idle streams end at once, calls get the grace period, and the chain of
//! records is closed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::post as post_to};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use token_broker_store::{Account, Grant, GrantKey, MemoryGrants};
use token_broker_tests::{
    grpc::{client, frame},
    harness::{Broker, BrokerBuilder, CALL, ISSUER, proxy, serve},
    token_endpoint::{CLIENT_SECRET, GRANT, TokenEndpoint, guarded, target},
    upstream::{ScriptedBody, ScriptedServer},
    wire,
};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tower::service_fn;
use tower_token_broker::{
    Secret,
    audit::{
        JsonLines,
        verify::{End, Report},
    },
    body::RequestBody,
    principal::{GrantId, Scopes, User},
    scope_filter::Policy,
};

use crate::{
    records::{last_result, results, summary},
    streams::{
        LIST, RESULT, STREAMED_CALL, Streams, event, get_stream, listen, post, progress, updated,
    },
};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(30);
const SHUTTING_DOWN: &str = "stack.shutting_down";

/// A file of records, verified at the end.
struct AuditFile {
    _folder: TempDir,
    path: PathBuf,
}

impl AuditFile {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Self { _folder: folder, path }
    }

    fn under<P: Policy>(&self, broker: BrokerBuilder<P>) -> BrokerBuilder<P> {
        let path = self.path.clone();
        let lines = move || fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        broker.audit(JsonLines::append(&self.path).unwrap(), lines)
    }

    /// Checks that the chain is valid, ends with `close` and has no gap.
    fn is_closed(&self, requests: u64) {
        let report = verified(&self.path);
        assert_eq!(report.found, Ok(End::Closed), "{report:?}");
        assert_eq!((report.requests, report.unknown), (requests, 0), "{report:?}");
        assert_eq!((report.crashes, report.gaps.len()), (0, 0), "{report:?}");
    }
}

fn verified(file: &Path) -> Report {
    let verified = token_broker::audit::verify(file, &[], |_| {}).unwrap();
    assert_eq!(verified.exit_code(), 0);
    verified.report().clone()
}

#[tokio::test]
async fn idle_streams_end_and_calls_get_grace() {
    let file = AuditFile::new();
    let mut streams = Streams::start().await;
    let broker = file.under(Broker::in_front_of(&streams.scripted)).start().await;
    let mut idle = broker.open(&get_stream(&broker)).await;
    let of_idle = streams.opened().await;
    of_idle.send(&progress(1)).await;
    idle.until(&progress(1)).await;
    let mut listening = broker.open(&listen(&broker, &["crm://1"])).await;
    let of_listening = streams.opened().await;
    of_listening.send(&updated("crm://1")).await;
    listening.until(&updated("crm://1")).await;
    let mut call = broker.open(&post(&broker, STREAMED_CALL)).await;
    let of_call = streams.opened().await;
    of_call.send(&progress(1)).await;
    call.until(&progress(1)).await;
    // Half of an event has been sent.
    of_idle.send(progress(2).get(..20).unwrap()).await;

    let scenario = async {
        // The upstream sends nothing more, and both streams end between two events.
        let (idle, listening) = tokio::join!(idle.rest(), listening.rest());
        for (ended, text) in [(idle, progress(1)), (listening, updated("crm://1"))] {
            assert_eq!((ended.status, ended.text()), (200, text.as_str()));
            assert!(ended.raw.ends_with(b"0\r\n\r\n"), "it ends cleanly: {ended:?}");
        }
        tokio::join!(of_idle.closed(), of_listening.closed());
        // New requests are refused.
        let refused = broker.call_with(&[], CALL).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(refused.header("www-authenticate"), None, "{refused:?}");
        let refused = broker.send(&get_stream(&broker)).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        // The call completes.
        of_call.send(&progress(2)).await;
        call.until(&progress(2)).await;
        assert!(broker.log().is_open(), "the broker waits for it");
        of_call.send(&event(RESULT)).await;
        drop(of_call);
        let response = call.rest().await;
        assert_eq!(response.text(), progress(1) + &progress(2) + &event(RESULT));
    };
    let (ended, ()) = timeout(LONG, async { tokio::join!(broker.shutdown(LONG), scenario) })
        .await
        .expect("the grace was not needed");
    assert_eq!(ended, Ok(()));

    let results = results(&broker, 5).await;
    let mut found: Vec<_> = results.iter().map(summary).collect();
    found.sort_unstable();
    let cut = ("cut", Some(SHUTTING_DOWN), 1, 1);
    let refused = ("refused", Some(SHUTTING_DOWN), 0, 0);
    assert_eq!(found, [("completed", None, 1, 1), cut, cut, refused, refused]);
    assert_eq!(streams.scripted.received().len(), 3);
    file.is_closed(5);
    broker.done().await;
}

#[tokio::test]
async fn calls_are_cut_when_the_grace_is_over() {
    for (message, media, sent, expected, is_clean) in [
        // A stream is cut between two events.
        (STREAMED_CALL, "text/event-stream", progress(1) + "data: {", progress(1), true),
        // A list that is incomplete is refused as a whole.
        (LIST, "application/json", r#"{"jsonrpc":"2.0","#.to_owned(), String::new(), false),
    ] {
        let file = AuditFile::new();
        let mut streams = Streams::of(media).await;
        let broker = file.under(Broker::in_front_of(&streams.scripted)).start().await;
        let mut call = broker.open(&post(&broker, message)).await;
        let feed = streams.opened().await;
        feed.send(&sent).await;
        if is_clean {
            call.until(&progress(1)).await;
        }
        let (ended, response) =
            tokio::join!(broker.shutdown(Duration::from_millis(50)), call.rest());
        assert_eq!(ended, Ok(()), "{media}");
        feed.closed().await;
        let result = last_result(&broker, 1).await;
        if is_clean {
            assert_eq!((response.status, response.text()), (200, expected.as_str()));
            assert!(response.raw.ends_with(b"0\r\n\r\n"), "{response:?}");
            assert_eq!(summary(&result), ("cut", Some(SHUTTING_DOWN), 1, 1), "{result}");
        } else {
            assert_eq!(response.status, 503, "{}", response.text());
            assert_eq!(summary(&result), ("refused", Some(SHUTTING_DOWN), 1, 1), "{result}");
        }
        file.is_closed(1);
        broker.done().await;
    }
}

#[tokio::test]
async fn a_call_without_response_is_refused_after_the_grace() {
    let file = AuditFile::new();
    let upstream = ScriptedServer::start(|_| unreachable!("nothing is sent")).await;
    let (listener, stack, broker) = file.under(Broker::in_front_of(&upstream)).prepare().await;
    let arrived = Arc::new(Notify::new());
    let arrives = Arc::clone(&arrived);
    let silent = service_fn(move |_: Request<RequestBody<Body>>| {
        arrives.notify_one();
        std::future::pending::<Result<Response<ScriptedBody>, std::convert::Infallible>>()
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(silent)));
    let shutdown = async {
        arrived.notified().await;
        broker.shutdown(Duration::from_millis(50)).await
    };
    let (response, ended) = tokio::join!(broker.call_with(&[], CALL), shutdown);
    assert_eq!((response.status, ended), (503, Ok(())), "{}", response.text());
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("refused", Some(SHUTTING_DOWN), 1, 0), "{result}");
    file.is_closed(1);
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_grpc_stream_is_cut_with_a_status() {
    let file = AuditFile::new();
    let (feed, frames) = mpsc::channel::<Result<Frame<bytes::Bytes>, _>>(8);
    let frames = Mutex::new(Some(frames));
    let upstream = ScriptedServer::start(move |_| {
        let frames = frames.lock().take().expect("one stream");
        let body: ScriptedBody = StreamBody::new(ReceiverStream::new(frames)).boxed_unsync();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await;
    let broker = file.under(Broker::in_front_of(&upstream)).grpc().start().await;
    feed.send(Ok(Frame::data(frame(b"one").into()))).await.unwrap();
    let body = Full::from(frame(b"")).boxed_unsync();
    let request = broker.rpc_request("/shop.v1.Orders/Watch", &[], body);
    let mut open = broker.open_reply(client().request(request).await.unwrap());
    assert_eq!(open.data().await, frame(b"one"));
    let (ended, rest) = tokio::join!(broker.shutdown(Duration::from_millis(50)), open.rest());
    assert_eq!(ended, Ok(()));
    assert_eq!((rest.broken, rest.status()), (false, Some(14)), "{rest:?}");
    feed.closed().await;
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("cut", Some(SHUTTING_DOWN), 1, 1), "{result}");
    file.is_closed(1);
    broker.done().await;
}

#[tokio::test]
async fn an_unread_response_does_not_delay_shutdown() {
    let file = AuditFile::new();
    // More than all buffers between both sides can hold.
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let upstream = ScriptedServer::start(move |_| {
        let counted = Arc::clone(&counted);
        let chunks = std::iter::repeat_with(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            progress(1).repeat(1000)
        });
        let chunks = chunks.take(CHUNKS);
        let body = StreamBody::new(token_broker_tests::upstream::frames(chunks)).boxed_unsync();
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    let broker = file.under(Broker::in_front_of(&upstream)).start().await;
    let mut call = broker.open(&post(&broker, STREAMED_CALL)).await;
    call.until(&progress(1)).await;
    stands_still(&made).await;
    let ended = timeout(LONG, broker.shutdown(Duration::ZERO)).await.expect("it is bounded");
    assert_eq!(ended, Ok(()));
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("cut", Some(SHUTTING_DOWN), 1, 1), "{result}");
    file.is_closed(1);
    // The reader finds the end, either between two events or within one.
    call.rest().await;
    assert!(made.load(Ordering::SeqCst) < CHUNKS, "no further data was read");
    broker.done().await;
}

/// These chunks are 80 MB.
const CHUNKS: usize = 1000;

/// Waits until all buffers are full.
async fn stands_still(made: &AtomicUsize) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = made.load(Ordering::SeqCst);
        if now == before && now > 0 {
            return;
        }
        before = now;
    }
}

/// An authorization server that responds when the test allows it.
async fn slow_authorization_server(responses: Arc<Semaphore>, asked: Arc<Notify>) -> String {
    let token = post_to(async move || {
        asked.notify_one();
        responses.acquire().await.unwrap().forget();
        ([(header::CONTENT_TYPE, "application/json")], TokenEndpoint::tokens(1))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, Router::new().route("/token", token));
    format!("http://{address}")
}

#[tokio::test]
async fn shutdown_waits_for_a_running_refresh() {
    let file = AuditFile::new();
    let upstream = ScriptedServer::start(|_| unreachable!("nothing is sent")).await;
    let (responses, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let url = slow_authorization_server(Arc::clone(&responses), Arc::clone(&asked)).await;
    let store = MemoryGrants::new();
    let key = GrantKey::new(User::new(ISSUER, "alice"), "items", Account::default_account());
    let scopes = || Scopes::parse("crm:read").unwrap();
    let refresh_token = Secret::from_text(TokenEndpoint::refresh_token(0));
    let grant = Grant::new(GrantId::new(GRANT), key.clone(), &url).granted(scopes());
    store.insert(grant.refresh_token(refresh_token)).unwrap();
    let secret = Secret::from_text(CLIENT_SECRET.into());
    let client = ClientAuthentication::basic("broker", secret);
    let endpoint = format!("{url}/token").parse().unwrap();
    let server = AuthorizationServer::new(&url, endpoint, client).scopes(scopes());
    let of_broker = store.clone();
    let broker = file
        .under(Broker::in_front_of(&upstream))
        .start_with(|handle| {
            StoredGrants::new(handle, of_broker, target(&upstream), server, guarded())
        })
        .await;
    for number in [0, 1] {
        let token = TokenEndpoint::refresh_token(number);
        broker.ledger().secret(&format!("refresh token {number}"), &token);
    }
    broker.ledger().secret("access token 1", &TokenEndpoint::access_token(1));

    let scenario = async {
        asked.notified().await;
        let refused = async {
            let response = broker.call_with(&[], CALL).await;
            assert_eq!(response.status, 503, "{}", response.text());
        };
        tokio::join!(broker.shutdown(Duration::ZERO), async {
            refused.await;
            // The call that needed it is over; the refresh may finish.
            responses.add_permits(1);
        })
        .0
    };
    let (response, ended) = tokio::join!(broker.call_with(&[], CALL), scenario);
    assert_eq!((response.status, ended), (503, Ok(())), "{}", response.text());
    let text = fs::read_to_string(&file.path).unwrap();
    let records: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    let position = |kind: &str| records.iter().position(|record| record["kind"] == kind).unwrap();
    let refreshed = &records[position("token_result")];
    assert_eq!(refreshed["outcome"], "issued", "{refreshed}");
    assert!(position("token_request") < position("token_result"));
    assert_eq!(records.last().unwrap()["kind"], "close");
    // The rotated refresh token is stored.
    let stored = store.get(&key).expect("the grant");
    assert!(stored.version > 0, "{stored:?}");
    file.is_closed(2);
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_server_shuts_down_gracefully_with_it() {
    let file = AuditFile::new();
    let mut streams = Streams::start().await;
    let (listener, stack, broker) =
        file.under(Broker::in_front_of(&streams.scripted)).prepare().await;
    let app = Router::new().route_service("/mcp", stack.layer(proxy()));
    let stops = Arc::new(Notify::new());
    let (stop, handle) = (Arc::clone(&stops), broker.handle().clone());
    let server = tokio::spawn(async move {
        let stop = async move {
            stop.notified().await;
            handle.shutdown(LONG).await.unwrap();
        };
        axum::serve(listener, app).with_graceful_shutdown(stop).await
    });
    let mut idle = broker.open(&get_stream(&broker)).await;
    let feed = streams.opened().await;
    feed.send(&progress(1)).await;
    idle.until(&progress(1)).await;
    stops.notify_one();
    // Without the broker's shutdown, the server would wait for this stream.
    assert_eq!(idle.rest().await.text(), progress(1));
    timeout(LONG, server).await.expect("the server stops").unwrap().unwrap();
    assert_eq!(broker.shutdown(LONG).await, Ok(()), "it has ended already");
    file.is_closed(1);
    broker.done().await;
}

#[tokio::test]
async fn two_shutdowns_wait_for_the_same_end() {
    let file = AuditFile::new();
    let mut streams = Streams::start().await;
    let broker = file.under(Broker::in_front_of(&streams.scripted)).start().await;
    let mut call = broker.open(&post(&broker, STREAMED_CALL)).await;
    let feed = streams.opened().await;
    feed.send(&progress(1)).await;
    call.until(&progress(1)).await;
    let ends = async {
        feed.send(&event(RESULT)).await;
        drop(feed);
        call.rest().await
    };
    let both = async { tokio::join!(broker.shutdown(LONG), broker.shutdown(LONG), ends) };
    let (first, second, response) = timeout(LONG, both).await.expect("the grace was not needed");
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(response.text(), progress(1) + &event(RESULT));
    assert_eq!(broker.shutdown(LONG).await, Ok(()));
    file.is_closed(1);
    broker.done().await;
}

#[tokio::test]
async fn an_open_connection_is_refused_after_the_end() {
    let file = AuditFile::new();
    let upstream = Streams::start().await;
    let broker = file.under(Broker::in_front_of(&upstream.scripted)).start().await;
    let mut socket = TcpStream::connect(broker.address()).await.unwrap();
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let fields = [("authorization", bearer.as_str())];
    let call = wire::post("/mcp", broker.host(), &fields, CALL);
    let text = String::from_utf8(call.clone()).unwrap();
    let kept_alive = text.replace("connection: close\r\n", "");
    broker.ledger().sent(1, kept_alive.as_bytes());
    socket.write_all(kept_alive.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(RESULT.as_bytes()) {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert_eq!(broker.shutdown(LONG).await, Ok(()));
    let before = fs::read(&file.path).unwrap();
    // The log is closed, so there is no record either.
    broker.ledger().sent(0, &call);
    socket.write_all(&call).await.unwrap();
    let mut raw = Vec::new();
    socket.read_to_end(&mut raw).await.unwrap();
    let response = wire::parse(raw);
    broker.ledger().received(&response);
    broker.ledger().received_bytes("the first response", &seen);
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(upstream.scripted.received().len(), 1);
    assert_eq!(fs::read(&file.path).unwrap(), before);
    file.is_closed(1);
    broker.done().await;
}
