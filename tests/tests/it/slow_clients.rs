//! M250: ten thousand clients that send half a message and then nothing.
//!
//! In memory: so many sockets a side are more than a process may have on many machines. The time a
//! header may take, and how long a client may not read, are the server's around the layers; a
//! reader of events that reads nothing is in `many_streams.rs`.

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
        ScriptedServer::start(|_| unreachable!("the service inside answers by itself")).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let service = stack.layer(service_fn(|_: Request<RequestBody<Sent>>| {
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        std::future::ready(Ok::<_, Infallible>(response.body(Full::from("{}")).unwrap()))
    }));
    let bearer = format!("Bearer {}", broker.token("items:read"));
    broker.ledger().sent(SLOW + 1, bearer.as_bytes());
    let request = |body: Sent| {
        Request::post(broker.resource().path())
            .header(header::HOST, broker.host())
            .header(header::AUTHORIZATION, &bearer)
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
    // All of them are where they wait: the half that they sent was taken.
    while clients.iter().any(|sends| sends.capacity() == 0) {
        tokio::task::yield_now().await;
    }
    let other = service.oneshot(request(Full::from(CALL).boxed_unsync())).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "M250: somebody else is served meanwhile");
    drop(other);
    assert!(
        responses.try_join_next().is_none(),
        "M250: nobody was refused before the time was over"
    );

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
