//! Open gRPC streams: cut on revocation and expiry, deadlines, cancellation, and refresh of a
//! refused credential.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use serde_json::Value;
use token_broker_tests::{
    grpc::{TYPED, client, frame, framed, response, status, typed_call},
    harness::{Broker, ISSUER, SECRET, grpc_proxy},
    polls,
    upstream::{ScriptedBody, ScriptedServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    body::RequestBody,
    clock::Clock,
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    revocation::RevocationTarget,
};

type Frames = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

const WATCH: &str = "/shop.v1.Orders/Watch";

/// An upstream that streams what the test sends; the first sender belongs to the first request.
async fn streaming() -> (Frames, ScriptedServer) {
    let (sender, frames) = mpsc::channel(8);
    let frames = Mutex::new(Some(frames));
    let upstream = ScriptedServer::start(move |_| {
        let frames = frames.lock().take().expect("one stream");
        let body: ScriptedBody = StreamBody::new(ReceiverStream::new(frames)).boxed_unsync();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await;
    (sender, upstream)
}

async fn send_chunk(frames: &Frames, bytes: Vec<u8>) {
    frames.send(Ok(Frame::data(bytes.into()))).await.unwrap();
}

/// Returns the terminal record of the last request. A revocation has its own record, which may come
/// later.
async fn terminal(broker: &Broker, requests: u64) -> Value {
    let records = broker.expect_records(requests).await;
    records.into_iter().rfind(|record| record["count"].is_u64()).unwrap()
}

fn one(bytes: Vec<u8>) -> token_broker_tests::grpc::SentBody {
    http_body_util::Full::new(Bytes::from(bytes)).boxed_unsync()
}

#[tokio::test]
async fn l244_a_revoked_stream_is_cut() {
    for (inside, path) in
        [(false, WATCH), (true, WATCH), (false, "/token_broker.mcp.v1.Mcp/Stream")]
    {
        let (frames, upstream) = streaming().await;
        let broker = Broker::in_front_of(&upstream).grpc().start().await;
        let listen = r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#;
        let fields = [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "resources/list")];
        let request = broker.rpc_request(path, &fields, one(framed(listen)));
        let notice = framed(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#);
        send_chunk(&frames, notice.clone()).await;
        let mut response = broker.open_reply(client().request(request).await.unwrap());
        assert_eq!(response.data().await, notice);
        if inside {
            send_chunk(&frames, notice[..19].to_vec()).await;
            assert_eq!(response.data().await, notice[..19]);
        }
        let client = RevocationTarget::Client { issuer: ISSUER.into(), id: "test-client".into() };
        assert!(broker.revoke(client).await.was_known());
        let rest = response.rest().await;
        assert_eq!((rest.broken, rest.body.len()), (inside, 0), "{rest:?}");
        if !inside {
            assert_eq!(
                (rest.status(), rest.reason().as_deref()),
                (Some(16), Some("INVALID_TOKEN"))
            );
            assert_eq!(
                rest.info("resource_metadata").as_deref(),
                Some(broker.resource().metadata_url())
            );
        }
        // The upstream's stream ends, too.
        frames.closed().await;
        let record = terminal(&broker, 1).await;
        assert_eq!(
            (&record["outcome"], &record["reason"]),
            (&"cut".into(), &"authn.revoked".into()),
            "{record:#}"
        );
        assert_eq!(
            (&record["messages_in"], &record["messages_out"]),
            (&1.into(), &u64::from(inside).saturating_add(1).into())
        );
        broker.done().await;
    }
}

#[tokio::test]
async fn l244_a_stream_ends_with_its_token() {
    // The harness mints with the system clock; from here on the broker's clock is fixed.
    let clock = Clock::manual(Clock::system().now());
    let (frames, upstream) = streaming().await;
    let broker = Broker::in_front_of(&upstream).grpc().with_clock(clock.clone()).start().await;
    send_chunk(&frames, frame(b"one")).await;
    let request = broker.rpc_request(WATCH, &[], one(frame(b"")));
    let mut response = broker.open_reply(client().request(request).await.unwrap());
    assert_eq!(response.data().await, frame(b"one"));
    clock.advance(Duration::from_secs(24 * 3600));
    let rest = response.rest().await;
    assert_eq!(
        (rest.status(), rest.reason().as_deref()),
        (Some(16), Some("INVALID_TOKEN")),
        "{rest:?}"
    );
    assert_eq!(broker.expect_records(1).await.last().unwrap()["reason"], "jwt.expired");
    broker.done().await;
}

#[tokio::test]
async fn a_revoked_caller_ends_an_unfinished_request() {
    let upstream = ScriptedServer::start(|_| response([], &[("grpc-status", "0")])).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).grpc().prepare().await;
    let (reports, mut reported) = mpsc::channel(8);
    let service = service_fn(move |request: Request<RequestBody<_>>| {
        let reports = reports.clone();
        async move {
            let mut body = std::pin::pin!(request.into_body());
            while let Some(frame) = body.as_mut().frame().await {
                reports
                    .send(frame.map(|frame| frame.into_data().unwrap()).map_err(
                        |error: tower_token_broker::body::BodyError<Infallible>| error.to_string(),
                    ))
                    .await
                    .unwrap();
            }
            Ok::<_, Infallible>(response([], &[("grpc-status", "0")]))
        }
    });
    let (sender, frames) = mpsc::channel(8);
    let body = StreamBody::new(ReceiverStream::new(frames)).boxed_unsync();
    let request = broker.rpc_request(WATCH, &[], body);
    let calling = tokio::spawn(stack.layer(service).oneshot(request));
    send_chunk(&sender, frame(b"one")).await;
    assert_eq!(reported.recv().await.unwrap().unwrap(), frame(b"one"));
    broker.revoke(RevocationTarget::Everything).await;
    let refused = broker.reply(calling.await.unwrap().unwrap()).await;
    assert_eq!(refused.status(), Some(16), "{refused:?}");
    assert!(reported.recv().await.is_none_or(|last| last.is_err()));
    assert_eq!(terminal(&broker, 1).await["reason"], "authn.revoked");
    // The inner service is in this process.
    broker.done_unsent().await;
}

#[tokio::test]
async fn the_remaining_deadline_is_forwarded_and_enforced() {
    let upstream =
        ScriptedServer::start(|_| response([frame(b"hi")], &[("grpc-status", "0")])).await;
    let broker = Broker::in_front_of(&upstream).grpc().start().await;
    let passed = broker.rpc(WATCH, &[("grpc-timeout", "30S")], frame(b"")).await;
    assert_eq!(passed.status(), Some(0));
    let left = upstream.received()[0].values("grpc-timeout").concat();
    let micros: u64 = left.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=30_000_000).contains(&micros), "{left}");
    for unreadable in ["", "1", "1.5S", "100000000S", "1s"] {
        let refused = broker.rpc(WATCH, &[("grpc-timeout", unreadable)], frame(b"")).await;
        assert_eq!(refused.status(), Some(3), "{unreadable:?}");
    }
    assert_eq!(broker.rpc(WATCH, &[("grpc-timeout", "0n")], frame(b"")).await.status(), Some(4));
    assert_eq!(upstream.received().len(), 1);
    broker.done().await;

    // An upstream that never responds, and a message that never ends.
    let upstream = ScriptedServer::start(|_| response([], &[("grpc-status", "0")])).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).grpc().prepare().await;
    let service = stack.layer(service_fn(|_: Request<RequestBody<_>>| {
        std::future::pending::<Result<Response<ScriptedBody>, Infallible>>()
    }));
    let request = broker.rpc_request(WATCH, &[("grpc-timeout", "50m")], one(frame(b"")));
    let refused = broker.reply(service.clone().oneshot(request).await.unwrap()).await;
    assert_eq!(
        (refused.status(), refused.reason().as_deref()),
        (Some(4), Some("DEADLINE_EXCEEDED"))
    );
    let (_sender, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let endless = StreamBody::new(ReceiverStream::new(frames)).boxed_unsync();
    let request =
        broker.rpc_request(&format!("{TYPED}/CallTool"), &[("grpc-timeout", "50m")], endless);
    assert_eq!(broker.reply(service.oneshot(request).await.unwrap()).await.status(), Some(4));
    let records = broker.expect_records(2).await;
    assert!(
        records
            .iter()
            .filter(|record| record["count"].is_u64())
            .all(|r| r["reason"] == "filter.deadline_exceeded")
    );
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_client_that_cancels_cancels_the_upstream() {
    let (frames, upstream) = streaming().await;
    let broker = Broker::in_front_of(&upstream).grpc().start().await;
    send_chunk(&frames, frame(b"one")).await;
    let request = broker.rpc_request(WATCH, &[], one(frame(b"")));
    let mut response = broker.open_reply(client().request(request).await.unwrap());
    assert_eq!(response.data().await, frame(b"one"));
    drop(response);
    frames.closed().await;
    let record = loop {
        let records = broker.records().await;
        if let Some(record) = records.into_iter().find(|record| record["count"].is_u64()) {
            break record;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&record["outcome"], &record["messages_out"]), (&"dropped".into(), &1.into()));
    assert!(record["grpc_status"].is_null());
    broker.done().await;
}

/// Returns a new secret after each refusal.
struct Rotating {
    upstream: Upstream,
    generation: AtomicU64,
}

impl ProvideCredential for Rotating {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let secret = format!("{SECRET}-{}", self.generation.load(Ordering::SeqCst));
        Ok(Credential::vouch(Secret::from_text(secret), self.upstream.origin().clone()))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_refused_credential_is_refreshed_and_replayed_once() {
    let upstream = ScriptedServer::start(|request| {
        if request.values("authorization") == [format!("Bearer {SECRET}-1")] {
            response([frame(b"")], &[("grpc-status", "0")])
        } else {
            status(&[("grpc-status", "16"), ("grpc-message", "expired")])
        }
    })
    .await;
    let provider = Rotating {
        upstream: Upstream::parse("items", &upstream.url("/")).unwrap(),
        generation: AtomicU64::new(0),
    };
    let broker = Broker::in_front_of(&upstream).grpc().start_with(|_| provider).await;
    broker.ledger().secret("the refused credential", &format!("{SECRET}-0"));
    broker.ledger().secret("the refreshed credential", &format!("{SECRET}-1"));
    let reply = broker.rpc(&format!("{TYPED}/CallTool"), &[], typed_call("get_item")).await;
    assert_eq!(reply.status(), Some(0), "{reply:?}");
    let received = upstream.received();
    assert_eq!((received.len(), &received[0].body), (2, &received[1].body));
    let record = broker.expect_records(1).await.last().unwrap().clone();
    assert_eq!((&record["intents"], &record["uses"]), (&2.into(), &2.into()));
    broker.done().await;

    // A request that was not judged as a message is not kept for a second attempt.
    let provider = Rotating {
        upstream: Upstream::parse("items", &upstream.url("/")).unwrap(),
        generation: AtomicU64::new(5),
    };
    let broker = Broker::in_front_of(&upstream).grpc().start_with(|_| provider).await;
    broker.ledger().secret("the credential", &format!("{SECRET}-5"));
    let reply = broker.rpc(WATCH, &[], frame(b"")).await;
    assert_eq!((reply.status(), upstream.received().len()), (Some(9), 3));
    broker.done().await;
}

#[tokio::test]
async fn x25_each_dropped_call_has_one_terminal_record() {
    for (path, body) in
        [(format!("{TYPED}/CallTool"), typed_call("get_item")), (WATCH.to_owned(), frame(b""))]
    {
        // One message for a unary method; two would be refused.
        let frames = if path == WATCH { 2 } else { 1 };
        let upstream = ScriptedServer::start(move |_| {
            response(vec![frame(b""); frames], &[("grpc-status", "0")])
        })
        .await;
        let (_listener, stack, broker) = Broker::in_front_of(&upstream).grpc().prepare().await;
        let service = stack.layer(grpc_proxy());
        let mut requests = 0;
        for polls in 0.. {
            let request = || broker.rpc_request(&path, &[], one(body.clone()));
            let whole =
                async { broker.reply(service.clone().oneshot(request()).await.unwrap()).await };
            let done = polls::at_most(polls, whole).await;
            requests += u64::from(polls > 0);
            broker.expect_records(requests).await;
            // The next call succeeds, so nothing is still held.
            let next = broker.reply(service.clone().oneshot(request()).await.unwrap()).await;
            assert_eq!(next.status(), Some(0), "after {polls} polls");
            requests += 1;
            broker.expect_records(requests).await;
            if let Some(done) = done {
                assert!(polls > 1, "a call waits for the upstream at least: {done:?}");
                break;
            }
        }
        let intents = broker
            .expect_records(requests)
            .await
            .iter()
            .filter(|record| record["kind"] == "intent")
            .count();
        assert!(upstream.received().len() <= intents, "{path}");
        broker.done().await;
    }
}
