//! Completeness of the audit: no credential is used without a durable record before it, and each
//! request has one terminal record.

use std::{sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL, proxy, serve},
    upstream::{ScriptedServer, json, live_events},
};
use tokio::sync::mpsc;
use tower_token_broker::audit::{InMemory, JsonLines};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

#[tokio::test]
async fn p288_a_failing_sink_stops_all_sends() {
    for breaks in [InMemory::fail, InMemory::panic] {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        // The log's first record is written; the first intent fails.
        broker.flush().await;
        breaks(broker.sink());
        let writes = broker.sink().calls();
        // The first request is accepted and fails on the write; later ones are refused at once.
        for _ in 0..3 {
            let response = broker.call_with(&[], CALL).await;
            assert_eq!(response.status, 503);
            assert!(response.header("retry-after").is_some());
        }
        assert!(broker.sink().calls() > writes, "an intent was on its way to the disk");
        assert!(
            broker.sink().lines().iter().all(|line| !line.contains(r#""intent""#)),
            "no intent is durable"
        );
        // Waiting records are written once the sink works again: each request with its reason and
        // no use.
        broker.sink().work();
        let records = broker.records().await;
        assert_eq!(
            records.iter().filter(|record| record["kind"] == "intent").count(),
            1,
            "{records:#?}"
        );
        for record in records.iter().filter(|record| record["count"].is_u64()) {
            assert_eq!(record["reason"], "audit.unavailable", "{record}");
            assert_eq!(record["uses"].as_u64().unwrap_or_default(), 0, "{record}");
        }
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn p287_every_request_has_one_terminal_record() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let host = broker.host().to_owned();
    let bearer = format!("Bearer {}", broker.token("items:read"));
    for (fields, body) in [
        (vec![("authorization", bearer.as_str())], CALL),
        (vec![("authorization", bearer.as_str())], "{"),
        (vec![("authorization", "Bearer nonsense")], CALL),
        (vec![], CALL),
        (vec![("authorization", bearer.as_str()), ("origin", "https://evil.example")], CALL),
        (vec![("authorization", bearer.as_str()), ("content-type", "text/plain")], CALL),
    ] {
        broker.send(&token_broker_tests::wire::post("/mcp", &host, &fields, body)).await;
        broker.records().await;
    }
    assert_eq!(upstream.received().len(), 1);
    broker.done().await;
}

#[tokio::test]
async fn intents_are_on_disk_before_the_send() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let lines = {
        let file = file.clone();
        move || -> Vec<String> {
            std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect()
        }
    };
    let at_the_upstream = lines.clone();
    let upstream = ScriptedServer::start(move |_| {
        let intents =
            at_the_upstream().iter().filter(|line| line.contains(r#""kind":"intent""#)).count();
        json(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"intents":{intents}}}}}"#))
    })
    .await;
    let sink = JsonLines::append(&file).unwrap();
    let broker = Broker::in_front_of(&upstream).audit(sink, lines).start().await;
    for call in 1..=3 {
        assert_eq!(broker.call_with(&[], CALL).await.json()["result"]["intents"], call);
    }
    assert_eq!(broker.call_with(&[], "{").await.status, 400);
    assert_eq!(broker.records().await.iter().filter(|record| record["uses"] == 1).count(), 3);
    broker.done().await;
}

#[tokio::test]
async fn x37_a_hanging_response_is_cut_and_recorded() {
    const EVENT: &str =
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";
    for first in [None, Some(EVENT)] {
        let hanging = Arc::new(Mutex::new(Vec::new()));
        let upstream = ScriptedServer::start({
            let hanging = Arc::clone(&hanging);
            move |_| {
                let (chunks, response) = mpsc::channel(1);
                if let Some(first) = first {
                    chunks.try_send(Bytes::from_static(first.as_bytes())).unwrap();
                }
                hanging.lock().push(chunks);
                live_events(response)
            }
        })
        .await;
        let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
        serve(
            listener,
            Router::new()
                .fallback_service(stack.layer(proxy().idle_timeout(Duration::from_millis(20)))),
        );
        let response = broker.call_with(&[], CALL).await;
        assert_eq!((response.status, response.body.len()), (200, first.map_or(0, str::len)));
        assert!(
            !response.raw.ends_with(b"0\r\n\r\n"),
            "what was cut has no end that looks like one"
        );
        let records = broker.records().await;
        let result = records.iter().find(|record| record["kind"] == "result").unwrap();
        assert_eq!((&result["outcome"], &result["status"]), (&"failed".into(), &200.into()));
        broker.done().await;
    }
}
