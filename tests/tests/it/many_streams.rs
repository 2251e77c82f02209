//! Memory of the layers for ten thousand open, idle streams.
//!
//! The streams are in memory: many systems do not allow ten thousand sockets per side, and their
//! memory belongs to kernel and server. Measured is what the broker adds: four layers, their
//! bodies, the trail and the watch on revocations.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::ScriptedServer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    body::RequestBody, exchange::ApplyCredentialLayer, revocation::RevocationTarget,
};

const STREAMS: u64 = 10_000;
/// Limit per stream.
const MOST_BYTES: u64 = 64 * 1024;
const EVENT: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";

/// Returns the resident memory of the process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn x27_m250_ten_thousand_streams_use_little_memory() {
    let upstream =
        ScriptedServer::start(|_| unreachable!("the inner service responds itself")).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    // The upstream's ends of the streams; they stay open until the streams are cut.
    let (opened, mut senders) = mpsc::unbounded_channel();
    let credentials = Arc::new(Mutex::new(Vec::new()));
    let got = Arc::clone(&credentials);
    let inner = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        *got.lock() = request.headers()[header::AUTHORIZATION].as_bytes().to_vec();
        let (sender, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        sender.try_send(Ok(Frame::data(Bytes::from_static(EVENT.as_bytes())))).unwrap();
        opened.send(sender).unwrap();
        let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        std::future::ready(Ok::<_, Infallible>(
            response.body(StreamBody::new(ReceiverStream::new(frames))).unwrap(),
        ))
    });
    let service = stack.layer(ApplyCredentialLayer::new().layer(inner));
    // More than one user may open.
    let bearers = ["alice", "bob", "carol", "dave"]
        .map(|user| format!("Bearer {}", broker.token_of(user, "items:read")));
    broker.ledger().sent(STREAMS, bearers.concat().as_bytes());
    let request = |bearer: &str| {
        Request::post(broker.resource().path())
            .header(header::HOST, broker.host())
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(Full::from(CALL))
            .unwrap()
    };

    let before = resident();
    let mut streams = Vec::new();
    for (_, bearer) in (0..STREAMS).zip(bearers.iter().cycle()) {
        let mut response = service.clone().oneshot(request(bearer)).await.unwrap().into_body();
        let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, EVENT);
        streams.push(response);
    }
    // Measured: 6 400.
    let each = (resident() - before) / STREAMS;
    assert!(each <= MOST_BYTES, "{each} bytes a stream");

    broker.revoke(RevocationTarget::Everything).await;
    for mut stream in streams {
        assert!(stream.frame().await.is_none(), "an event stream ends cleanly");
    }
    while let Ok(sender) = senders.try_recv() {
        assert!(sender.is_closed(), "what feeds a stream ends with it");
    }
    let records = broker.expect_records(STREAMS).await;
    let cut = records
        .iter()
        .filter(|record| record["outcome"] == "cut" && record["reason"] == "authn.revoked");
    assert_eq!(cut.count() as u64, STREAMS);
    broker.ledger().in_use(&credentials.lock());
    broker.done().await;
}
