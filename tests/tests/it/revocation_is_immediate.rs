//! Promise 3: after a revoke returns, nothing passes, and what is open is cut.

use bytes::Bytes;
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    upstream::{Scripted, json, live_events},
    wire,
};
use tokio::sync::mpsc;
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
    let (events, chunks) = mpsc::channel(8);
    let chunks = Mutex::new(Some(chunks));
    let upstream = Scripted::start(move |_| live_events(chunks.lock().take().expect("one stream"))).await;
    let broker = Broker::before(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);

    let mut stream = broker.open(&call).await;
    let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
    events.send(Bytes::from(event)).await.unwrap();
    stream.until(event.trim_end()).await;

    broker.revocations().revoke(alice());
    // The upstream goes on sending; the client hears nothing of it, and its stream ends.
    drop(events.try_send(Bytes::from(event)));
    let answer = stream.rest().await;
    assert_eq!(answer.text(), event);
    assert!(answer.raw.ends_with(b"0\r\n\r\n"), "an event stream ends cleanly: {answer:?}");
    let records = broker.expect_records(1).await;
    let last = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!((last["outcome"].as_str(), last["reason"].as_str()), (Some("cut"), Some("authn.revoked")), "{last}");
    drop(events);
    broker.done().await;
}
