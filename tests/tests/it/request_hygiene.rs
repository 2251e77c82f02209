//! Group H: what of a client's request reaches the upstream, and what never does.

use token_broker_tests::{
    harness::{Broker, CALL, SECRET},
    upstream::{Scripted, full, json},
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

#[tokio::test]
async fn hop_by_hop_fields_stay_here() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    for (case, fields) in [
        ("H167", &[("connection", "close, authorization"), ("keep-alive", "timeout=5")][..]),
        ("H167", &[("connection", "close, x-user"), ("x-user", "root")]),
        ("H167", &[("te", "trailers"), ("trailer", "x-after"), ("upgrade", "h2c"), ("proxy-connection", "close")]),
    ] {
        let before = upstream.received().len();
        let answer = broker.call_with(fields, CALL).await;
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let received = upstream.received();
        assert_eq!(received.len(), before + 1, "{case}");
        let last = received.last().unwrap();
        assert_eq!(last.values("authorization"), [format!("Bearer {SECRET}")], "{case}");
        for gone in ["connection", "keep-alive", "x-user", "te", "trailer", "upgrade", "proxy-connection"] {
            assert!(last.headers.get(gone).is_none(), "{case}: {gone}");
        }
    }
    broker.done().await;
}

#[tokio::test]
async fn h168_the_clients_authorization_is_gone_where_the_credential_has_a_field_of_its_own() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).credential_in("x-api-key").start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 200);
    let received = upstream.received();
    assert!(received[0].headers.get("authorization").is_none());
    assert_eq!(received[0].values("x-api-key"), [SECRET]);
    broker.done().await;
}

#[tokio::test]
async fn h170_the_field_of_the_credential_is_set_once_whatever_the_client_sent() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).credential_in("x-api-key").start().await;
    let fields = [("x-api-key", "attacker"), ("X-Api-Key", "attacker"), ("x_api_key", "attacker")];
    let answer = broker.call_with(&fields, CALL).await;
    assert_eq!(answer.status, 200);
    let received = upstream.received();
    assert_eq!(received[0].values("x-api-key"), [SECRET]);
    assert!(received[0].headers.get("x_api_key").is_none());
    broker.done().await;
}

#[tokio::test]
async fn a018_who_a_client_says_it_is_reaches_nobody() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    let said =
        ["x-forwarded-user", "x-user-id", "x-tenant", "x-mcp-subject", "x_forwarded_user", "cookie", "forwarded"];
    let fields: Vec<_> = said.iter().map(|name| (*name, "root")).collect();
    assert_eq!(broker.call_with(&fields, CALL).await.status, 200);
    let received = upstream.received();
    for name in said {
        assert!(received[0].headers.get(name).is_none(), "{name}");
    }
    broker.done().await;
}

#[tokio::test]
async fn h172_a_redirect_is_neither_followed_nor_shown() {
    let elsewhere = Scripted::start(|_| json(RESULT)).await;
    let target = elsewhere.url("/stolen");
    let upstream = Scripted::start(move |_| {
        http::Response::builder().status(307).header("location", &target).body(full("")).unwrap()
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 502);
    assert!(answer.header("location").is_none());
    assert!(elsewhere.received().is_empty());
    broker.done().await;
}

#[tokio::test]
async fn h177_trace_fields_are_bounded_and_baggage_is_dropped() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    let long = "a=".repeat(4096);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [("traceparent", parent), ("tracestate", long.as_str()), ("baggage", "user=alice")];
    assert_eq!(broker.call_with(&fields, CALL).await.status, 200);
    let received = upstream.received();
    assert_eq!(received[0].values("traceparent"), [parent]);
    assert!(received[0].headers.get("tracestate").is_none());
    assert!(received[0].headers.get("baggage").is_none());
    broker.done().await;
}

#[tokio::test]
async fn j216_no_header_overrides_the_method() {
    let upstream = Scripted::start(|_| json(RESULT)).await;
    let broker = Broker::before(&upstream).start().await;
    assert_eq!(broker.call_with(&[("x-http-method-override", "DELETE")], CALL).await.status, 200);
    let received = upstream.received();
    assert_eq!(received[0].method, http::Method::POST);
    assert!(received[0].headers.get("x-http-method-override").is_none());
    broker.done().await;
}
