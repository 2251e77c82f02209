//! The parts of an upstream's response that reach the client, and those that never do.

use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use token_broker_tests::{
    harness::{Broker, CALL, SECRET, proxy, serve},
    upstream::{Received, ScriptedBody, ScriptedServer, events, frames, full, json},
    wire::{self, RawResponse},
};

use crate::hostile_case::{Case, run};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn masked() -> String {
    "*".repeat(SECRET.len())
}

/// Sends a call with additional fields to a broker whose upstream responds with `response`, and
/// runs the case.
async fn run_call<F>(
    response: F,
    fields: &[(&str, &str)],
    row: impl FnOnce(Vec<u8>) -> Case,
) -> (RawResponse, Received)
where
    F: Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static,
{
    run_message(CALL, response, fields, row).await
}

/// Like [`run_call`], with another message.
async fn run_message<F>(
    message: &str,
    response: F,
    fields: &[(&str, &str)],
    row: impl FnOnce(Vec<u8>) -> Case,
) -> (RawResponse, Received)
where
    F: Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static,
{
    let upstream = ScriptedServer::start(response).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let all = [&[("authorization", bearer.as_str())], fields].concat();
    let mut responses =
        run(&broker, &upstream, [row(wire::post("/mcp", broker.host(), &all, message))]).await;
    broker.done().await;
    (responses.remove(0), upstream.received().remove(0))
}

/// Like [`run_call`], on a plain HTTP route.
async fn run_plain_http<F>(response: F, row: impl FnOnce(Vec<u8>) -> Case) -> RawResponse
where
    F: Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static,
{
    let upstream = ScriptedServer::start(response).await;
    let broker = Broker::in_front_of(&upstream).plain_http().start().await;
    let (host, token) = (broker.host(), broker.token("items:read"));
    let get = format!(
        "GET /v1/items HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    let mut responses = run(&broker, &upstream, [row(get.into_bytes())]).await;
    broker.done().await;
    responses.remove(0)
}

fn with_fields(
    mut response: Response<ScriptedBody>,
    fields: &[(&'static str, &str)],
) -> Response<ScriptedBody> {
    for (name, value) in fields {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

fn event_stream(chunks: Vec<String>) -> Response<ScriptedBody> {
    let body = StreamBody::new(frames(chunks)).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

#[tokio::test]
async fn i180_the_upstreams_challenge_is_not_forwarded() {
    let upstream_fields = [
        ("set-cookie", "session=1"),
        ("www-authenticate", "Bearer resource_metadata=\"http://upstream.internal/\""),
        ("www-authenticate", "Basic"),
        ("proxy-authenticate", "Basic"),
        ("authentication-info", "nextnonce=1"),
        ("server", "internal/1.0"),
        ("connection", "x-internal"),
        ("x-internal", "host-17"),
    ];
    for (status, said) in [(200, RESULT), (404, RESULT)] {
        let response = move |_: &Received| {
            let mut response = with_fields(json(said), &upstream_fields);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let (response, _) =
            run_call(response, &[], |bytes| Case::passes("I180", bytes).status(status).body(said))
                .await;
        for (gone, _) in upstream_fields.iter().filter(|(name, _)| *name != "connection") {
            assert_eq!(response.header(gone), None, "I180 {gone}");
        }
    }
    // A scope challenge is for the broker. Of a static secret, the user cannot obtain another.
    let wants_more = |_: &Received| {
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"admin\", \
                         resource_metadata=\"http://upstream.internal/\"";
        Response::builder()
            .status(403)
            .header("www-authenticate", challenge)
            .body(full(""))
            .unwrap()
    };
    let (response, _) = run_call(wants_more, &[], |bytes| {
        Case::fails("I180", bytes, 502, "exchange.credential_refused")
    })
    .await;
    assert!(
        response.header("www-authenticate").is_none() && !response.text().contains("internal"),
        "I180"
    );
}

#[tokio::test]
async fn i181_an_echo_is_masked_in_every_form() {
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String =
        SECRET.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect();
    let coded = STANDARD.encode(format!("Bearer {SECRET}"));
    for (form, echo) in
        [("plain", SECRET), ("percent", &percent), ("JSON", &escaped), ("base64", &coded)]
    {
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\
             \"result\":{{\"content\":[{{\"type\":\"text\",\
             \"text\":\"{echo}\"}}]}}}}"
        );
        let length = body.len();
        let response = move |_: &Received| {
            with_fields(json(&body), &[("x-echo", SECRET), ("etag", &format!("\"{SECRET}\""))])
        };
        // Twice in the header fields, once in the body.
        let row = |bytes| Case::passes("I181", bytes).record_holds(r#""echo_masked":3"#);
        let (response, _) = run_call(response, &[], row).await;
        assert_eq!(response.body.len(), length, "I181 {form}");
        assert!(!response.text().contains(echo), "I181 {form}: {}", response.text());
        assert!(response.text().contains("****************"), "I181 {form}: {}", response.text());
        assert_eq!(response.header("x-echo"), Some(masked().as_str()), "I181 {form}");
    }
}

#[tokio::test]
async fn i181_an_echo_is_masked_in_error_responses() {
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"?"}}"#;
    let masked_error = error.replace('?', &masked());
    let said = error.replace('?', SECRET);
    for (case, status) in
        [("I181 an error message", 200), ("I181 an error body", 400), ("I181 an error body", 404)]
    {
        let said = said.clone();
        let response = move |_: &Received| {
            let mut response = json(&said);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let row = |bytes| {
            Case::passes(case, bytes)
                .status(status)
                .body(masked_error.as_str())
                .record_holds(r#""echo_masked":1"#)
        };
        run_call(response, &[], row).await;
    }
    let page = |_: &Received| {
        Response::builder().status(400).body(full(format!("<p>bad token {SECRET}</p>"))).unwrap()
    };
    run_call(page, &[], |bytes| {
        Case::passes("I181 an error page", bytes)
            .status(400)
            .body(error.replace('?', "the server responded with status 400"))
            .record_holds(r#""echo_masked":1"#)
    })
    .await;
    // The error text of a failing upstream is not forwarded, including the echo in it.
    let failing = |_: &Received| Response::builder().status(500).body(full(SECRET)).unwrap();
    run_call(failing, &[], |bytes| {
        Case::fails("I181 a failure", bytes, 502, "exchange.upstream_failed")
    })
    .await;
}

#[tokio::test]
async fn i181_an_echo_is_masked_across_chunks_and_events() {
    let event = |text: &str| {
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\
             \"params\":{{\"a\":\"{text}\"}}}}\n\n"
        )
    };
    for at in 1..SECRET.len() {
        let (head, tail) = SECRET.split_at(at);
        let (first, second) = event("?")
            .split_once('?')
            .map(|(a, b)| (format!("{a}{head}"), format!("{tail}{b}")))
            .unwrap();
        let row = |bytes| {
            Case::passes("I181 two chunks", bytes)
                .body(event(&masked()))
                .record_holds(r#""echo_masked":1"#)
        };
        run_call(move |_| event_stream(vec![first.clone(), second.clone()]), &[], row).await;
    }
}

#[tokio::test]
async fn i181_an_echo_in_a_trailer_is_masked() {
    let upstream = ScriptedServer::raw(|request| {
        let sent = request.values("authorization").concat();
        let event = format!("data: {RESULT}\n\n");
        let length = event.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             transfer-encoding: chunked\r\ntrailer: x-echo, x-after\r\n\r\n\
             {length:x}\r\n{event}\r\n0\r\nx-echo: {sent}\r\nx-after: 7\r\n\
             set-cookie: a={sent}\r\n\r\n"
        )
    })
    .await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    serve(listener, Router::new().fallback_service(stack.layer(proxy())));
    // In HTTP/1.1 both sides must agree on trailers; HTTP/2 sends them without asking.
    let response = broker.call_http_2(CALL).await;
    assert_eq!((response.status, response.text()), (200, format!("data: {RESULT}\n\n").as_str()));
    let came = std::str::from_utf8(&response.raw).unwrap();
    assert!(
        came.contains("x-after: 7") && came.contains(&format!("x-echo: Bearer {}", masked())),
        "{came}"
    );
    assert!(!came.contains("set-cookie"), "{came}");
    let records = broker.expect_records(1).await;
    assert!(records.iter().any(|record| record["echo_masked"] == 2), "{records:?}");
    broker.done().await;
}

#[tokio::test]
async fn i183_an_upstream_401_is_never_forwarded() {
    let refuses = |_: &Received| {
        let challenge = "Bearer error=\"invalid_token\"";
        Response::builder()
            .status(401)
            .header("www-authenticate", challenge)
            .body(full(""))
            .unwrap()
    };
    // A static secret cannot be refreshed, so there is no second attempt.
    let row = |bytes| Case::fails("I183", bytes, 502, "exchange.credential_refused");
    let (response, _) = run_call(refuses, &[], row).await;
    assert_eq!(response.header("www-authenticate"), None, "I183");
    assert_eq!(response.header("retry-after"), Some("30"), "I483");
    assert_eq!(response.json()["error"]["code"], -32000, "I183");
}

#[tokio::test]
async fn i186_upstream_error_details_are_not_forwarded() {
    let inside = "thread panicked at /srv/app.rs https://admin:hunter2@db.internal";
    for status in [500, 502, 503, 504, 407] {
        let response =
            move |_: &Received| Response::builder().status(status).body(full(inside)).unwrap();
        let row = |bytes| {
            Case::fails("I186", bytes, 502, "exchange.upstream_failed").body(concat!(
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"#,
                r#""message":"the upstream server failed"}}"#
            ))
        };
        let (response, _) = run_call(response, &[], row).await;
        let came = String::from_utf8(response.raw).unwrap();
        assert!(!came.contains("internal") && !came.contains("panicked"), "I186 {status}: {came}");
    }
}

#[tokio::test]
async fn i187_redirect_targets_are_not_forwarded() {
    let with_token = format!("/next?access_token={SECRET}");
    for (case, location) in [
        ("I187", "https://evil.example/"),
        ("I187", "javascript:alert(1)"),
        ("I187", "/next?access_token=x"),
        ("I181 in a location", with_token.as_str()),
    ] {
        for name in ["location", "content-location", "link"] {
            let location = location.to_owned();
            let response = move |_: &Received| {
                let mut response = with_fields(json("{}"), &[(name, &location)]);
                *response.status_mut() = StatusCode::CREATED;
                response
            };
            let response =
                run_plain_http(response, |bytes| Case::passes(case, bytes).status(201).body("{}"))
                    .await;
            assert_eq!(response.header(name), None, "{case} {name}");
        }
    }
}

#[tokio::test]
async fn i188_responses_are_not_shared_between_users() {
    for said in ["public, max-age=3600", "public", "s-maxage=60", "max-age=3600, immutable"] {
        let response = move |_: &Received| with_fields(json(RESULT), &[("cache-control", said)]);
        let (response, _) =
            run_call(response, &[], |bytes| Case::passes("I188", bytes).body(RESULT)).await;
        assert_eq!(response.header("cache-control"), Some("private, no-store"), "I188 {said}");
    }
    // A list filtered for one caller is marked "private"; this stays.
    let list = |scope: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[],"ttlMs":1,"cacheScope":"{scope}"}}}}"#
        )
    };
    for scope in ["public", "private", "user"] {
        let said = list(scope);
        let asked = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        run_message(
            asked,
            move |_| json(&said),
            &[],
            |bytes| Case::passes("I188", bytes).body(list("private")),
        )
        .await;
    }
}

#[tokio::test]
async fn i191_encoded_bodies_are_not_forwarded_unread() {
    for coding in ["gzip", "br", "zstd", "identity, br", "x-none"] {
        let response =
            move |_: &Received| with_fields(json(RESULT), &[("content-encoding", coding)]);
        let row = |bytes| Case::fails("I191", bytes, 502, "filter.response_unreadable");
        let (_, received) = run_call(response, &[("accept-encoding", "gzip, br, zstd")], row).await;
        assert_eq!(received.values("accept-encoding"), ["identity"], "I191 {coding}");
    }
}

#[tokio::test]
async fn a_streamed_response_passes_event_by_event() {
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    let row = |bytes| {
        Case::passes("a stream", bytes).body(format!("data: {progress}\n\ndata: {RESULT}\n\n"))
    };
    run_call(move |_| events(&[progress, RESULT]), &[], row).await;
}
