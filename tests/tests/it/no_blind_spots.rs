//! Promise 4: no credential is used without a durable record before it, and each request has one terminal record.

use std::sync::Arc;

use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::{Scripted, json},
};
use tower_token_broker::audit::{AuditSink, Records, SinkError};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Fails as a disk does that loses power before fdatasync: it has the bytes and says that it can't keep them.
struct LosesPower(Arc<Mutex<usize>>);

impl AuditSink for LosesPower {
    async fn write(&self, records: &Records) -> Result<(), SinkError> {
        let intents =
            records.iter().filter(|record| record.line().windows(15).any(|window| window == br#""kind":"intent""#));
        let intents = intents.count();
        *self.0.lock() += intents;
        if intents > 0 { Err(SinkError::new("power lost before fdatasync")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn p288_a_crash_in_the_sink_before_it_is_durable_lets_nothing_out() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let seen = Arc::new(Mutex::new(0));
    let broker = Broker::before(&upstream).audit(LosesPower(Arc::clone(&seen)).into()).start().await;
    for _ in 0..3 {
        let answer = broker.call_with(&[], CALL).await;
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
    }
    assert!(*seen.lock() > 0, "an intent was on its way to the disk");
    assert!(upstream.received().is_empty(), "the upstream's own log shows no request");
}

#[tokio::test]
async fn every_request_has_one_terminal_record_whatever_becomes_of_it() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    let host = broker.host().to_owned();
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let mut requests = 0;
    for (fields, body) in [
        (vec![("authorization", bearer.as_str())], CALL),
        (vec![("authorization", bearer.as_str())], "{"),
        (vec![("authorization", "Bearer nonsense")], CALL),
        (vec![], CALL),
        (vec![("authorization", bearer.as_str()), ("origin", "https://evil.example")], CALL),
        (vec![("authorization", bearer.as_str()), ("content-type", "text/plain")], CALL),
    ] {
        broker.send(&token_broker_tests::wire::post("/mcp", &host, &fields, body)).await;
        requests += 1;
        broker.expect_records(requests).await;
    }
    assert_eq!(upstream.received().len(), 1);
}
