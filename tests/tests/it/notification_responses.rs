//! Responses whose content is for no one, and error pages that no client reads.

use http::{Response, StatusCode};
use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedBody, ScriptedServer, full},
};

const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get"}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;

type Fields = &'static [(&'static str, &'static str)];

fn respond(status: u16, fields: Fields, body: &'static str) -> Response<ScriptedBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(full(body)).unwrap()
}

async fn broker(status: u16, fields: Fields, body: &'static str) -> Broker {
    let upstream = ScriptedServer::start(move |_| respond(status, fields, body)).await;
    Broker::in_front_of(&upstream).start().await
}

const TEXT: Fields = &[("content-type", "text/plain")];
const JSON: Fields = &[("content-type", "application/json")];
const EVENTS: Fields = &[("content-type", "text/event-stream")];
const HTML: Fields = &[("content-type", "text/html; charset=utf-8")];
const CODED: Fields = &[("content-type", "text/plain"), ("content-encoding", "gzip")];

#[tokio::test]
async fn k500_any_success_accepts_a_notification() {
    for (status, fields, body) in [
        (202, TEXT, "Accepted"),
        (200, JSON, "null"),
        (200, JSON, "{}"),
        (200, JSON, "\"ok\""),
        (200, JSON, ""),
        (200, JSON, "{broken"),
        (200, HTML, "<p>ok"),
        (200, EVENTS, ": ok\n\n"),
        (200, EVENTS, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"),
        (201, &[], "created"),
        (204, &[], ""),
        (206, TEXT, "part"),
        (299, TEXT, "x"),
        (202, CODED, "\u{1f}\u{8b}"),
    ] {
        let broker = broker(status, fields, body).await;
        let what = format!("K500 {status} {body:?}");
        for message in [NOTIFICATION, r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#] {
            let response = broker.call_with(&[], message).await;
            assert_eq!((response.status, response.text()), (202, ""), "{what}");
            assert_eq!(response.header("content-type"), None, "{what}");
            assert_eq!(response.header("content-encoding"), None, "{what}");
        }
        let records = broker.expect_records(2).await;
        for end in records.iter().filter(|record| record["count"] == 1) {
            assert_eq!((&end["outcome"], &end["status"]), (&"completed".into(), &202.into()));
        }
        broker.done().await;
    }
}

#[tokio::test]
async fn k500_a_failed_notification_keeps_its_status() {
    for (status, fields, body, expected) in [
        (404, HTML, "<h1>secret internals", 404),
        (429, TEXT, "slow down", 429),
        (400, JSON, "{broken", 400),
        (400, JSON, r#"{"detail":"secret internals"}"#, 400),
        (405, &[], "", 405),
        (403, TEXT, "no", 403),
        (410, CODED, "\u{1f}\u{8b}", 410),
        (500, TEXT, "secret internals", 502),
        (503, TEXT, "secret internals", 502),
        (302, TEXT, "elsewhere", 502),
    ] {
        let broker = broker(status, fields, body).await;
        let response = broker.call_with(&[], NOTIFICATION).await;
        assert_eq!(response.status, expected, "K500 {status}");
        assert!(!response.text().contains("internals"), "K500 {status}");
        broker.done().await;
    }
}

#[tokio::test]
async fn k500_an_error_page_passes_as_a_status() {
    for (status, fields, body) in [
        (404, HTML, "<h1>internals"),
        (400, TEXT, "internals"),
        (429, TEXT, "internals"),
        (404, JSON, r#"{"detail":"internals"}"#),
        (400, JSON, r#"["internals"]"#),
        (400, JSON, "{internals"),
        (422, JSON, r#"{"error":"internals","id":7}"#),
        (400, EVENTS, "data: internals\n\n"),
        (400, &[], "internals"),
        (404, JSON, r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[],"Tools":["internals"]}}"#),
    ] {
        for message in [CALL, LIST] {
            let broker = broker(status, fields, body).await;
            let response = broker.call_with(&[], message).await;
            let what = format!("K500 {status} {body}");
            assert_eq!(response.status, status, "{what}");
            let said = response.json();
            assert_eq!((&said["id"], &said["error"]["code"]), (&7.into(), &(-32000).into()));
            assert!(!response.text().contains("internals"), "{what}");
            assert!(response.text().contains(&status.to_string()), "{what}");
            broker.done().await;
        }
    }
}

#[tokio::test]
async fn an_error_that_is_a_message_passes() {
    for (status, body) in [
        (400, r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"\ud83d"}}"#),
        (404, r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no session"},"id":null}"#),
        (400, r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"},"result":null,"id":7}"#),
    ] {
        for message in [CALL, LIST] {
            let broker = broker(status, JSON, body).await;
            let response = broker.call_with(&[], message).await;
            assert_eq!((response.status, response.text()), (status, body));
            broker.done().await;
        }
    }
    // A page that claims to be a success stays refused.
    let broker = broker(200, HTML, "<h1>login").await;
    let response = broker.call_with(&[], LIST).await;
    assert_eq!(StatusCode::from_u16(response.status).unwrap(), StatusCode::BAD_GATEWAY);
    broker.done().await;
}
