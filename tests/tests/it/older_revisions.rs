//! Clients and servers of MCP 2025-03-26, 2025-06-18 and 2025-11-25, which agree on a revision in
//! `initialize`.

use http::header;
use serde_json::Value;
use token_broker_tests::{
    harness::Broker,
    upstream::{Received, ScriptedServer, events, full, json},
    wire::{self, RawResponse},
};

use crate::streams::RESULT;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"get"}}"#;

fn initialize(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{version}",
            "capabilities":{capabilities},"clientInfo":{{"name":"c","version":"1"}}}}}}"#
    )
}

fn agreement(version: &str) -> String {
    let server = r#""capabilities":{},"serverInfo":{"name":"s","version":"1"}"#;
    let result = format!(r#"{{"protocolVersion":"{version}",{server}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)
}

/// A server that agrees on one revision, with a session.
async fn server(agrees_on: &'static str, in_events: bool) -> ScriptedServer {
    ScriptedServer::start(move |request: &Received| {
        let body = std::str::from_utf8(&request.body).unwrap();
        if body.contains(r#""initialize""#) {
            let text = agreement(agrees_on);
            let progress = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
            let mut response =
                if in_events { events(&[progress, text.as_str()]) } else { json(&text) };
            response.headers_mut().insert("mcp-session-id", "up-1".parse().unwrap());
            return response;
        }
        if request.method == http::Method::GET {
            return events(&[r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#]);
        }
        if request.method == http::Method::DELETE || !body.contains(r#""id""#) {
            let mut accepted = json("");
            *accepted.status_mut() = http::StatusCode::ACCEPTED;
            accepted.headers_mut().remove(header::CONTENT_TYPE);
            *accepted.body_mut() = full("");
            return accepted;
        }
        let id = if body.contains("tools/list") { 2 } else { 3 };
        json(&RESULT.replace(r#""id":1"#, &format!(r#""id":{id}"#)))
    })
    .await
}

fn without_message(broker: &Broker, method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "{method} /mcp HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
         accept: text/event-stream\r\nauthorization: Bearer {}\r\n",
        broker.host(),
        broker.token("items:read")
    );
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

async fn session(broker: &Broker, version: &str) -> String {
    let begun = broker.call_with(&[], &initialize(version, "{}")).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    begun.header("mcp-session-id").expect("a session").to_owned()
}

fn code(response: &RawResponse) -> Option<i64> {
    response.json()["error"]["code"].as_i64()
}

#[tokio::test]
async fn j432_a_version_is_spoken_after_it_was_agreed_on() {
    for (version, in_events) in [
        ("2025-03-26", false),
        ("2025-03-26", true),
        ("2025-06-18", false),
        ("2025-06-18", true),
        ("2025-11-25", true),
    ] {
        // The header of 2025-06-18 is optional for the broker: older clients do not send it.
        for stated in [Some(version), None] {
            let upstream = server(version, in_events).await;
            let broker = Broker::in_front_of(&upstream).start().await;
            let session = session(&broker, version).await;
            assert_ne!(session, "up-1");
            let mut fields = vec![("mcp-session-id", session.as_str())];
            fields.extend(stated.map(|version| ("mcp-protocol-version", version)));
            let what = format!("J432 {version} {stated:?} {in_events}");
            assert_eq!(broker.call_with(&fields, INITIALIZED).await.status, 202, "{what}");
            for message in [LIST, CALL] {
                let response = broker.call_with(&fields, message).await;
                assert_eq!(response.status, 200, "{what}: {}", response.text());
                assert!(response.json()["result"].is_object(), "{what}");
            }
            let opened = broker.send(&without_message(&broker, "GET", &fields)).await;
            assert_eq!(opened.status, 200, "{what}");
            let ended = broker.send(&without_message(&broker, "DELETE", &fields)).await;
            assert_eq!(ended.status, 202, "{what}");
            let received = upstream.received();
            assert_eq!(received.len(), 6, "{what}");
            for request in &received[1..] {
                assert_eq!(request.values("mcp-session-id"), ["up-1"], "{what}");
                let versions: Vec<&str> = stated.into_iter().collect();
                assert_eq!(request.values("mcp-protocol-version"), versions, "{what}");
            }
            broker.done().await;
        }
    }
}

#[tokio::test]
async fn j432_other_versions_stay_refused() {
    let upstream = server("2025-06-18", true).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let session = session(&broker, "2025-06-18").await;
    let with = |version| [("mcp-session-id", session.as_str()), ("mcp-protocol-version", version)];
    let two = "2025-06-18, 2025-03-26";
    for version in ["2024-11-05", "2025-06-19", "2025-6-18", "", "draft", two] {
        let response = broker.call_with(&with(version), CALL).await;
        assert_eq!((response.status, code(&response)), (400, Some(-32022)), "J432 {version}");
    }
    let twice = [("mcp-protocol-version", "2025-06-18"), ("mcp-protocol-version", "2025-06-18")];
    let response = broker.call_with(&twice, CALL).await;
    assert_eq!((response.status, code(&response)), (400, Some(-32020)), "J432");
    // A batch, in the revision that had them.
    let response = broker.call_with(&with("2025-03-26"), &format!("[{CALL},{LIST}]")).await;
    assert_eq!((response.status, code(&response)), (400, Some(-32600)), "J200");
    // A message that claims another revision than its headers.
    for (stated, said) in
        [("2025-06-18", "2026-07-28"), ("2025-06-18", "2025-11-25"), ("2026-07-28", "2025-06-18")]
    {
        let meta = format!(r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{said}"}}}}"#);
        let list = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{meta}}}"#);
        let fields = [("mcp-method", "tools/list"), ("mcp-protocol-version", stated)];
        let response = broker.call_with(&fields, &list).await;
        assert_eq!((response.status, code(&response)), (400, Some(-32020)), "J432 {stated} {said}");
    }
    // A session of another user, and one that no one sealed.
    let token = broker.token_of("mallory", "items:read");
    let bearer = format!("Bearer {token}");
    let mut fields = vec![("authorization", bearer.as_str())];
    fields.extend(with("2025-06-18"));
    let response = broker.send(&wire::post("/mcp", broker.host(), &fields, CALL)).await;
    assert_eq!(response.status, 404);
    let unsealed = [("mcp-session-id", "up-1"), ("mcp-protocol-version", "2025-06-18")];
    assert_eq!(broker.call_with(&unsealed, CALL).await.status, 404);
    assert_eq!(upstream.received().len(), 1);
    broker.done().await;
}

#[tokio::test]
async fn j432_an_unsupported_agreement_fails_at_once() {
    for (agreed, in_events) in
        [("2024-11-05", false), ("2024-11-05", true), ("2026-07-28", true), ("x", false)]
    {
        let upstream = server(agreed, in_events).await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let begun = broker.call_with(&[], &initialize("2025-06-18", "{}")).await;
        assert_eq!((begun.status, code(&begun)), (400, Some(-32022)), "J432 {agreed}");
        assert_eq!(begun.json()["error"]["data"]["requested"], agreed, "J432");
        assert_eq!(begun.json()["id"], 1, "J432");
        assert!(begun.header("mcp-session-id").is_none(), "J432");
        broker.done().await;
    }
}

#[tokio::test]
async fn an_initialize_that_fails_keeps_its_error() {
    for in_events in [false, true] {
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#;
        let upstream =
            ScriptedServer::start(move |_| if in_events { events(&[error]) } else { json(error) })
                .await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let begun = broker.call_with(&[], &initialize("2025-06-18", "{}")).await;
        assert_eq!(begun.status, 200);
        let text = begun.text();
        let said: Value = serde_json::from_str(text.trim().trim_start_matches("data: ")).unwrap();
        assert_eq!(said["error"]["code"], -32602);
        broker.done().await;
    }
}
