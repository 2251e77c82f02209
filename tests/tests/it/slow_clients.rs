//! Ten thousand clients that send half a message and then nothing.
//!
//! The clients are in memory, because many systems do not allow as many sockets per side. Timeouts
//! for headers and for clients that do not read belong to the server around the layers;
//! `many_streams.rs` has clients that do not read events.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::ScriptedServer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::body::RequestBody;

const SLOW: u64 = 10_000;

type Sent = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::test]
async fn m250_ten_thousand_slow_clients_delay_no_other() {
    let upstream =
        ScriptedServer::start(|_| unreachable!("the inner service responds itself")).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let service = stack.layer(service_fn(|_: Request<RequestBody<Sent>>| {
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        std::future::ready(Ok::<_, Infallible>(response.body(Full::from("{}")).unwrap()))
    }));
    // More than one user may send.
    let bearers = ["alice", "bob", "carol", "dave"]
        .map(|user| format!("Bearer {}", broker.token_of(user, "items:read")));
    broker.ledger().sent(SLOW + 1, bearers.concat().as_bytes());
    let mut next = bearers.iter().cycle();
    let mut request = |body: Sent| {
        Request::post(broker.resource().path())
            .header(header::HOST, broker.host())
            .header(header::AUTHORIZATION, next.next().unwrap())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(body)
            .unwrap()
    };

    let (mut responses, mut clients) = (tokio::task::JoinSet::new(), Vec::new());
    for _ in 0..SLOW {
        let (sends, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        sends.try_send(Ok(Frame::data(Bytes::from_static(&CALL.as_bytes()[..20])))).unwrap();
        clients.push(sends);
        responses.spawn(
            service
                .clone()
                .oneshot(request(StreamBody::new(ReceiverStream::new(frames)).boxed_unsync())),
        );
    }
    // All of them wait: the half that they sent was read.
    while clients.iter().any(|sends| sends.capacity() == 0) {
        tokio::task::yield_now().await;
    }
    let other = service.oneshot(request(Full::from(CALL).boxed_unsync())).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "M250: other clients are served meanwhile");
    drop(other);
    assert!(responses.try_join_next().is_none(), "M250: no one was refused before the timeout");

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    while let Some(response) = responses.join_next().await {
        assert_eq!(response.unwrap().unwrap().status(), StatusCode::BAD_REQUEST, "M250");
    }
    assert!(clients.iter().all(mpsc::Sender::is_closed), "M250: nothing of them is held");
    let records = broker.expect_records(SLOW + 1).await;
    assert_eq!(
        records.iter().filter(|record| record["reason"] == "filter.body_incomplete").count() as u64,
        SLOW
    );
    broker.done_unsent().await;
}
