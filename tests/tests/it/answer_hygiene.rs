//! Group I: what of an upstream's answer reaches the client, and what never does.

use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Response;
use token_broker_tests::{
    harness::{Broker, CALL, SECRET, proxy, serve},
    upstream::{Scripted, events, full, json},
};
use tower::Layer as _;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn masked() -> String {
    "*".repeat(SECRET.len())
}

#[tokio::test]
async fn i180_the_upstreams_own_door_is_not_shown() {
    let upstream = Scripted::start(|_| {
        let mut answer = json(RESULT);
        for (name, value) in [
            ("set-cookie", "session=1"),
            ("www-authenticate", "Bearer resource_metadata=\"http://upstream.internal/\""),
            ("www-authenticate", "Basic"),
            ("proxy-authenticate", "Basic"),
            ("authentication-info", "nextnonce=1"),
            ("server", "internal/1.0"),
            ("connection", "x-internal"),
            ("x-internal", "host-17"),
        ] {
            answer.headers_mut().append(name, value.parse().unwrap());
        }
        answer
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 200);
    for gone in ["set-cookie", "www-authenticate", "proxy-authenticate", "authentication-info", "server", "x-internal"]
    {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    broker.done().await;
}

#[tokio::test]
async fn i181_an_echo_is_masked_in_every_form_and_place() {
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = SECRET.bytes().map(|byte| format!("\\\\u{:04x}", u32::from(byte))).collect();
    let coded = STANDARD.encode(format!("Bearer {SECRET}"));
    for (form, echo) in
        [("plain", SECRET), ("percent", &percent), ("JSON", &escaped.replace("\\\\", "\\")), ("base64", &coded)]
    {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{echo}"}}]}}}}"#);
        let length = body.len();
        let upstream = Scripted::start(move |_| {
            let mut answer = json(&body);
            answer.headers_mut().insert("x-echo", SECRET.parse().unwrap());
            answer.headers_mut().insert("etag", format!("\"{SECRET}\"").parse().unwrap());
            answer
        })
        .await;
        let broker = Broker::before(&upstream).start().await;
        let answer = broker.call_with(&[], CALL).await;
        assert_eq!(answer.status, 200, "I181 {form}");
        assert_eq!(answer.body.len(), length, "I181 {form}");
        assert!(!answer.text().contains(echo), "I181 {form}: {}", answer.text());
        assert!(answer.text().contains("****************"), "I181 {form}: {}", answer.text());
        let records = broker.expect_records(1).await;
        assert!(records.iter().any(|record| record["echo_masked"].as_u64() >= Some(2)), "I181 {form}: {records:?}");
        broker.done().await;
    }
}

#[tokio::test]
async fn i181_an_echo_is_masked_over_the_borders_of_chunks_and_events() {
    let upstream = Scripted::start(|_| {
        let (head, tail) = SECRET.split_at(11);
        let frames = [
            format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"a\":\"{head}"),
            format!("{tail}\"}}}}\n\n"),
        ];
        let body = http_body_util::StreamBody::new(token_broker_tests::upstream::frames(frames));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(http_body_util::BodyExt::boxed_unsync(body))
            .unwrap()
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(&masked()), "{}", answer.text());
    broker.done().await;
}

#[tokio::test]
async fn i181_an_echo_in_a_trailer_is_masked() {
    let upstream = Scripted::raw(|request| {
        let sent = request.values("authorization").concat();
        let event = format!("data: {RESULT}\n\n");
        let length = event.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\ntrailer: x-echo, x-after\r\n\r\n\
             {length:x}\r\n{event}\r\n0\r\nx-echo: {sent}\r\nx-after: 7\r\nset-cookie: a={sent}\r\n\r\n"
        )
    })
    .await;
    let (listener, stack, broker) = Broker::before(&upstream).prepare().await;
    serve(listener, Router::new().fallback_service(stack.layer(proxy())));
    // HTTP/1.1 needs both sides to agree on trailers, HTTP/2 just sends them.
    let answer = broker.call_http_2(CALL).await;
    assert_eq!((answer.status, answer.text()), (200, format!("data: {RESULT}\n\n").as_str()));
    let came = std::str::from_utf8(&answer.raw).unwrap();
    assert!(came.contains("x-after: 7") && came.contains(&format!("x-echo: Bearer {}", masked())), "{came}");
    assert!(!came.contains("set-cookie"), "{came}");
    let records = broker.expect_records(1).await;
    assert!(records.iter().any(|record| record["echo_masked"] == 1), "{records:?}");
    broker.done().await;
}

#[tokio::test]
async fn i183_a_401_of_the_upstream_is_never_the_brokers() {
    let upstream = Scripted::start(|_| {
        let challenge = "Bearer error=\"invalid_token\"";
        Response::builder().status(401).header("www-authenticate", challenge).body(full("")).unwrap()
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(answer.json()["error"]["code"], -32001);
    // A static secret can't be refreshed, so trying the same one again would be no other try.
    assert_eq!(upstream.received().len(), 1);
    let records = broker.expect_records(1).await;
    assert!(records.iter().any(|record| record["reason"] == "exchange.credential_refused"), "{records:?}");
    broker.done().await;
}

#[tokio::test]
async fn i186_a_failing_upstream_says_nothing_of_its_inside() {
    for status in [500, 502, 503, 504, 407] {
        let upstream = Scripted::start(move |_| {
            let body = "thread panicked at /srv/app.rs https://admin:hunter2@db.internal";
            Response::builder().status(status).body(full(body)).unwrap()
        })
        .await;
        let broker = Broker::before(&upstream).start().await;
        let answer = broker.call_with(&[], CALL).await;
        assert_eq!(answer.status, 502, "I186 {status}");
        assert!(!answer.text().contains("internal") && !answer.text().contains("panicked"), "I186 {status}");
        assert!(answer.header("cache-control").unwrap().contains("no-store"));
        broker.done().await;
    }
}

#[tokio::test]
async fn i187_where_the_upstream_would_send_a_client_is_not_said() {
    for location in ["https://evil.example/", "javascript:alert(1)", "/next?access_token=x"] {
        let upstream = Scripted::start(move |_| {
            let mut answer = json("{}");
            *answer.status_mut() = http::StatusCode::CREATED;
            answer.headers_mut().insert("location", location.parse().unwrap());
            answer
        })
        .await;
        let broker = Broker::before(&upstream).plain_http().start().await;
        let answer = broker.get("/v1/items").await;
        assert_eq!(answer.status, 201, "I187");
        assert_eq!(answer.header("location"), None, "I187 {location}");
        broker.done().await;
    }
}

#[tokio::test]
async fn i188_one_persons_answer_is_no_others() {
    let upstream = Scripted::start(|_| {
        let mut answer = json(RESULT);
        answer.headers_mut().insert("cache-control", "public, max-age=3600".parse().unwrap());
        answer
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    broker.done().await;
}

#[tokio::test]
async fn i191_what_is_coded_is_not_passed_on_blind() {
    let upstream = Scripted::start(|_| {
        let mut answer = json(RESULT);
        answer.headers_mut().insert("content-encoding", "br".parse().unwrap());
        answer
    })
    .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[("accept-encoding", "gzip, br, zstd")], CALL).await;
    assert_eq!(answer.status, 502);
    assert_eq!(upstream.received()[0].values("accept-encoding"), ["identity"]);
    broker.done().await;
}

#[tokio::test]
async fn a_streamed_answer_passes_event_by_event() {
    let upstream =
        Scripted::start(|_| events(&[r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#, RESULT]))
            .await;
    let broker = Broker::before(&upstream).start().await;
    let answer = broker.call_with(&[], CALL).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with(&format!("data: {RESULT}\n\n")), "{}", answer.text());
    broker.done().await;
}
