//! Promise 3: after a revoke returns, nothing passes, and what is open is cut.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    upstream::{Scripted, json},
    wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_token_broker::{principal::Person, revocation::Revoked};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn alice() -> Revoked {
    Revoked::Person(Person::new(ISSUER, "alice"))
}

#[tokio::test]
async fn n258_a_revoke_between_intent_and_send_lets_nothing_out_with_every_cache_warm() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    assert_eq!(broker.send(&call).await.status, 200);
    broker.records().await;

    // The intent is on its way to the disk; its caller has not heard of it.
    broker.sink().hang();
    let writes = broker.sink().calls();
    let revoke = async {
        broker.sink().called(writes + 1).await;
        broker.revocations().revoke(alice());
        broker.sink().work();
    };
    let (refused, ()) = tokio::join!(broker.send(&call), revoke);
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").unwrap().contains("invalid_token"));
    assert_eq!(upstream.received().len(), 1, "nothing was sent after the revoke");
    let records = broker.records().await;
    let last = records.last().unwrap();
    assert_eq!(
        (&last["reason"], &last["intents"], &last["uses"]),
        (&"authn.revoked".into(), &1.into(), &0.into()),
        "{last}"
    );
    broker.done().await;
}

#[tokio::test]
async fn n258_no_request_that_begins_after_the_revoke_passes() {
    for (what, revoked) in [
        ("person", alice()),
        ("client", Revoked::Client { issuer: ISSUER.into(), id: "test-client".into() }),
        ("everything", Revoked::Everything),
    ] {
        let upstream = Scripted::start(|_| json(RESULT)).await;
        let broker = Broker::before(&upstream).start().await;
        let bearer = format!("Bearer {}", broker.token("items:read"));
        let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
        assert_eq!(broker.send(&call).await.status, 200, "{what}");
        broker.revocations().revoke(revoked);
        for _ in 0..100 {
            assert_eq!(broker.send(&call).await.status, 401, "{what}");
        }
        assert_eq!(upstream.received().len(), 1, "{what}");
        broker.done().await;
    }
}

#[tokio::test]
async fn an_open_stream_is_cut_at_the_border_of_an_event_and_recorded() {
    let (events, source) = tokio::sync::mpsc::channel::<Bytes>(8);
    let source = Arc::new(Mutex::new(Some(source)));
    let upstream = Scripted::start(move |_| {
        let mut source = source.lock().take().expect("one stream");
        let frames = tokio_stream(move |cx| source.poll_recv(cx));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(BodyExt::boxed_unsync(StreamBody::new(frames)))
            .unwrap()
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    broker.ledger().sent(1, &call);

    let mut socket = TcpStream::connect(broker.address()).await.unwrap();
    socket.write_all(&call).await.unwrap();
    let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
    events.send(Bytes::from(event)).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8(seen.clone()).unwrap().contains(event.trim_end()) {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the stream ended before its first event");
        seen.extend_from_slice(&buffer[..read]);
    }

    broker.revocations().revoke(alice());
    // The upstream goes on sending; the client hears nothing of it, and its stream ends.
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    broker.ledger().got_bytes("the stream", &[seen.as_slice(), &rest].concat());
    let rest = String::from_utf8(rest).unwrap();
    assert!(!rest.contains("data:"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "an event stream ends cleanly: {rest:?}");
    let records = broker.expect_records(1).await;
    let last = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!((last["outcome"].as_str(), last["reason"].as_str()), (Some("cut"), Some("authn.revoked")), "{last}");
    drop(events);
    broker.done().await;
}

/// A stream of frames out of a poll function.
fn tokio_stream<F>(
    mut next: F,
) -> impl futures_core::Stream<Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>> + Send + 'static
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Send + Unpin + 'static,
{
    struct Polled<F>(F);
    impl<F> futures_core::Stream for Polled<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Unpin,
    {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            (self.0)(cx).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
        }
    }
    Polled(move |cx: &mut std::task::Context<'_>| next(cx))
}
