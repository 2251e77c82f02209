//! Pages in browsers: preflights, and responses that a page may read.

use token_broker_tests::{
    harness::{Broker, CALL},
    upstream::{ScriptedServer, json},
    wire::{self, RawResponse},
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const ASKED: &str = "authorization,content-type,mcp-protocol-version,mcp-session-id";

/// Sends OPTIONS with these fields.
async fn options(broker: &Broker, path: &str, fields: &[(&str, &str)]) -> RawResponse {
    let mut request = format!("OPTIONS {path} HTTP/1.1\r\nhost: {}\r\n", broker.host());
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("connection: close\r\n\r\n");
    broker.send(request.as_bytes()).await
}

fn preflight(origin: &str) -> [(&'static str, String); 3] {
    [
        ("origin", origin.to_owned()),
        ("access-control-request-method", "POST".to_owned()),
        ("access-control-request-headers", ASKED.to_owned()),
    ]
}

#[tokio::test]
async fn a500_a_preflight_of_an_allowed_origin_passes() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    // The resource's own origin; others by `HostAndOrigin::allow_origin`.
    let own = format!("http://{}", broker.host());
    let fields = preflight(&own);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let response = options(&broker, "/mcp", &fields).await;
    assert_eq!(response.status, 204, "A500 {}", response.text());
    for (name, value) in [
        ("access-control-allow-origin", own.as_str()),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", ASKED),
        ("access-control-max-age", "7200"),
    ] {
        assert_eq!(response.header(name), Some(value), "A500 {name}");
    }
    assert_eq!(response.header("access-control-allow-credentials"), None, "A500");
    assert!(response.header("x-request-id").is_some(), "A500");
    // Nothing was sent, and it has its record.
    let records = broker.expect_records(1).await;
    let end = records.iter().find(|record| record["count"] == 1).unwrap();
    assert_eq!((&end["outcome"], &end["uses"]), (&"completed".into(), &0.into()), "A500 {end}");
    assert!(upstream.received().is_empty(), "A500");
    broker.done_unsent().await;
}

#[tokio::test]
async fn a500_a_preflight_of_another_origin_is_refused() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let fields = preflight(origin);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = options(&broker, "/mcp", &fields).await;
        assert_eq!(response.status, 403, "A500 {origin}");
        assert_eq!(response.header("access-control-allow-origin"), None, "A500 {origin}");
    }
    // No preflight: one without a method, and one of no page.
    let own = format!("http://{}", broker.host());
    for fields in [&[("origin", own.as_str())][..], &[("access-control-request-method", "POST")]] {
        assert_eq!(options(&broker, "/mcp", fields).await.status, 401, "A500 {fields:?}");
    }
    assert!(upstream.received().is_empty(), "A500");
    broker.done_unsent().await;
}

#[tokio::test]
async fn a501_a_page_may_read_results_and_refusals() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let own = format!("http://{}", broker.host());
    let bearer = format!("Bearer {}", broker.token("items:read"));
    for (fields, status) in [
        (&[("origin", own.as_str()), ("authorization", bearer.as_str())][..], 200),
        (&[("origin", own.as_str())], 401),
        (&[("origin", own.as_str()), ("authorization", "Bearer wrong")], 401),
    ] {
        let response = broker.send(&wire::post("/mcp", broker.host(), fields, CALL)).await;
        assert_eq!(response.status, status, "A501 {}", response.text());
        assert_eq!(response.header("access-control-allow-origin"), Some(own.as_str()), "A501");
        assert_eq!(response.header("access-control-expose-headers"), Some("*"), "A501");
        let vary = response.header("vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("origin"), "A501 {vary}");
    }
    // Controls: no page, and a page of another origin.
    let evil = [("origin", "https://evil.example"), ("authorization", bearer.as_str())];
    for (fields, status) in [(&evil[1..], 200), (&evil[..], 403)] {
        let response = broker.send(&wire::post("/mcp", broker.host(), fields, CALL)).await;
        assert_eq!(response.status, status, "A501 {}", response.text());
        assert_eq!(response.header("access-control-allow-origin"), None, "A501 {fields:?}");
    }
    broker.done().await;
}
