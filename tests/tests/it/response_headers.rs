//! Response headers and trailers pass by an allow-list.

#![expect(
    clippy::disallowed_methods,
    reason = "clients and servers of the broker stop with the test"
)]

use axum::Router;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use token_broker_tests::{
    harness::{self, Broker, CALL},
    upstream::{ScriptedBody, ScriptedServer},
};

/// Headers that a proxy in front, a browser, or a client would obey.
const HOSTILE: [&str; 18] = [
    "x-accel-redirect",
    "x-accel-buffering",
    "x-sendfile",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "timing-allow-origin",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "location",
    "link",
    "refresh",
    "clear-site-data",
    "mcp-unknown",
    "x-amzn-remapped-authorization",
    "x-unknown",
];

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn hostile(content_type: &'static str) -> Response<ScriptedBody> {
    let mut trailers = HeaderMap::new();
    for name in HOSTILE {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    let mut response = Response::builder().header("content-type", content_type);
    for (name, value) in &trailers {
        response = response.header(name, value);
    }
    for (name, value) in [
        ("etag", "\"1\""),
        ("x-ratelimit-remaining", "7"),
        ("x-content-type-options", "nosniff"),
        ("x-mine", "1"),
        ("retry-after", "2"),
    ] {
        response = response.header(name, value);
    }
    let body = Full::from(RESULT).with_trailers(async move { Some(Ok(trailers)) });
    response.body(body.boxed_unsync()).unwrap()
}

/// Returns the names of a response's headers and trailers, without the server's own.
fn names(response: &token_broker_tests::wire::RawResponse) -> Vec<String> {
    let raw = String::from_utf8_lossy(&response.raw).to_ascii_lowercase();
    let is_known = |name: &&str| raw.contains(&format!("\r\n{name}:"));
    let all = ["etag", "x-ratelimit-remaining", "x-content-type-options", "x-mine", "retry-after"];
    HOSTILE.into_iter().chain(all).filter(is_known).map(str::to_owned).collect()
}

#[tokio::test]
async fn i460_mcp_clients_receive_few_headers() {
    let upstream = ScriptedServer::start(|_| hostile("application/json")).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let response = broker.call_with(&[("te", "trailers")], CALL).await;
    assert_eq!(response.status, 200);
    assert_eq!(names(&response), ["x-content-type-options", "retry-after"], "{response:?}");
    broker.done().await;
}

#[tokio::test]
async fn i460_http_clients_receive_the_usual_headers() {
    let upstream = ScriptedServer::start(|_| hostile("application/json")).await;
    let broker = Broker::in_front_of(&upstream).plain_http().start().await;
    let expected = ["etag", "x-ratelimit-remaining", "x-content-type-options", "retry-after"];
    let response = broker.get("/items").await;
    assert_eq!(names(&response), expected, "{response:?}");
    broker.done().await;
}

#[tokio::test]
async fn i460_an_operator_adds_headers() {
    let upstream = ScriptedServer::start(|_| hostile("application/json")).await;
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).plain_http().prepare_stack().await;
    let mine = HeaderName::from_static("x-mine");
    let stack = stack.exchange(secret).forward_response_header(mine).build().unwrap();
    let app = Router::new().fallback_service(stack.layer(harness::proxy()));
    harness::serve(listener, app);
    assert!(names(&broker.get("/items").await).contains(&"x-mine".to_owned()));
    broker.done().await;
}

#[tokio::test]
async fn i460_no_operator_adds_instructions_and_cookies() {
    let upstream = ScriptedServer::start(|_| hostile("application/json")).await;
    for name in ["x-accel-redirect", "set-cookie", "access-control-allow-origin", "location"] {
        let (_listener, stack, secret, broker) =
            Broker::in_front_of(&upstream).plain_http().prepare_stack().await;
        let name = HeaderName::from_static(name);
        let built = stack.exchange(secret).forward_response_header(name.clone()).build();
        assert!(built.is_err(), "{name}");
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn h464_coded_content_of_http_keeps_its_coding() {
    let upstream = ScriptedServer::start(|received| {
        assert_eq!(received.values("content-encoding"), ["gzip"]);
        hostile("application/json")
    })
    .await;
    let broker = Broker::in_front_of(&upstream).plain_http().start().await;
    let (host, token) = (broker.host(), broker.token("items:read"));
    let request = format!(
        "POST /items HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\ncoded"
    );
    assert_eq!(broker.send(request.as_bytes()).await.status, 200);
    assert_eq!(&upstream.received()[0].body[..], b"coded");
    broker.done().await;
}
