//! Tests of the layer, over a real inner service.

mod client_state;
mod withheld;

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{
    audit::{AuditLog, Trail},
    body::RequestBody,
    clock::Timestamp,
    limits::{Limits, Protocol},
    principal::{Principal, Resource, Scopes, TokenTimes, User, Verified},
    sealing::SealingKeys,
};

static LOG: LazyLock<AuditLog> = LazyLock::new(|| AuditLog::in_memory().0);

pub(super) fn caller(scopes: &str) -> Principal {
    let times = TokenTimes {
        id: "t1",
        issued_at: Timestamp::from_unix_seconds(0),
        expires_at: Timestamp::from_unix_seconds(600),
    };
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let user = User::new("https://broker.example.com", "alice");
    let verified = Verified::vouch(user, "test-client", resource, times);
    Principal::of(&verified.with_scopes(Scopes::parse(scopes).unwrap()))
}

struct Outcome {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// The body that the inner service received.
    received: Option<Bytes>,
    received_fields: HeaderMap,
}

/// Sends one request through the layer to a service with this response.
async fn send(
    layer: ScopeFilterLayer<impl Policy>,
    request: Request<&str>,
    response: Response<&str>,
) -> Outcome {
    send_as(&caller("crm:read"), layer, request, response).await
}

async fn send_as(
    caller: &Principal,
    layer: ScopeFilterLayer<impl Policy>,
    request: Request<&str>,
    response: Response<&str>,
) -> Outcome {
    let (trail, _terminal) = Trail::for_test(&LOG);
    let mut request = request.map(|body| Full::from(body.to_owned()));
    request.extensions_mut().insert(trail);
    request.extensions_mut().insert(caller.clone());
    let received = Arc::new(Mutex::new((None, HeaderMap::new())));
    let seen = Arc::clone(&received);
    let response = response.map(str::to_owned);
    let inner = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let (seen, response) = (Arc::clone(&seen), response.clone());
        async move {
            let judged = request.extensions().get::<Judged>().expect("what was judged").clone();
            let fields = request.headers().clone();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            if let JudgedBody::Bytes(bytes) = judged.body() {
                assert_eq!(*bytes, body, "what was judged is what is sent");
            }
            *seen.lock() = (Some(body), fields);
            Ok::<_, Infallible>(response.map(Full::<Bytes>::from))
        }
    });
    let (parts, body) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (received, received_fields) = std::mem::take(&mut *received.lock());
    Outcome { status: parts.status, headers: parts.headers, body, received, received_fields }
}

fn post(body: &str) -> Request<&str> {
    Request::post("/mcp").header("content-type", "application/json").body(body).unwrap()
}

/// Creates a request with this method and parameters.
fn message(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn json(body: &str) -> Response<&str> {
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

fn rules() -> Rules {
    Rules::new()
        .allow(tools(["get_*", "list_*"]).with_scope("crm:read"))
        .allow(tools(["create_*"]).with_scope("crm:write crm:read"))
        .allow(resources(["crm://public/*"]))
        .allow(prompts(["greet"]))
}

fn layer() -> ScopeFilterLayer<Rules> {
    ScopeFilterLayer::for_test(rules())
}

fn layer_with(protocol: Protocol, limits: Limits) -> ScopeFilterLayer<Rules> {
    ScopeFilterLayer::build(rules(), protocol, limits, SealingKeys::generate())
}

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

#[tokio::test]
async fn an_allowed_call_passes_byte_for_byte() {
    let call = r#"{ "jsonrpc":"2.0","id":1,"method":"tools/call","params":
        {"name":"get_x","arguments":{"n":9007199254740993,"e":1E+400}} }"#;
    let outcome = send(layer(), post(call), json(RESULT)).await;
    assert_eq!(outcome.received.as_deref(), Some(call.as_bytes()));
    assert_eq!(outcome.body, RESULT);
}

#[tokio::test]
async fn hostile_messages_are_refused_and_never_sent() {
    let call = message;
    let unknown = concat!(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"#,
        r#""message":"unknown tool, resource or prompt"}}"#
    );
    let not_found =
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}"#;
    for (case, body, status, code) in [
        ("J194", call("tools/call", r#"{"name":"delete_x"}"#), 200, unknown),
        ("J195", call("tools/call", r#"{"name":"no_such_tool"}"#), 200, unknown),
        ("J217", call("resources/read", r#"{"uri":"file:///etc/passwd"}"#), 200, unknown),
        ("J217", call("resources/read", r#"{"uri":"FILE:///etc/passwd"}"#), 200, unknown),
        ("J217", call("resources/subscribe", r#"{"uri":"http://169.254.169.254/"}"#), 200, unknown),
        ("J217", call("prompts/get", r#"{"name":"secret"}"#), 200, unknown),
        (
            "J217",
            call("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"secret"}}"#),
            200,
            unknown,
        ),
        (
            "J217",
            call("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"file:///{p}"}}"#),
            200,
            unknown,
        ),
        ("method", call("logging/setLevel", r#"{"level":"debug"}"#), 200, not_found),
        ("method", call("tools/Call", r#"{"name":"get_x"}"#), 200, not_found),
        ("J199", call("tools/call", "[]"), 400, "-32600"),
        ("J199", call("prompts/get", "{}"), 400, "-32600"),
        ("J199", call("prompts/get", r#"{"name":"greet","arguments":[]}"#), 400, "-32600"),
        ("J199", call("resources/read", r#"{"uri":7}"#), 400, "-32600"),
        ("J199", call("completion/complete", "{}"), 400, "-32600"),
        (
            "J199",
            call("completion/complete", r#"{"ref":{"type":"ref/tool","name":"get_x"}}"#),
            400,
            "-32600",
        ),
        ("J199", call("tools/call", r#"{"name":["get_x"]}"#), 400, "-32600"),
        ("J199", call("tools/call", r#"{"name":"get_x","arguments":[]}"#), 400, "-32600"),
        (
            "J196",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#.into(),
            400,
            "-32600",
        ),
        (
            "J196",
            call("tools/call", r#"{"name":"get_x","arguments":{"a":{"b":1,"b":2}}}"#),
            400,
            "-32600",
        ),
        ("J197", call("tools/call", r#"{"name":"get_x","Name":"delete_x"}"#), 400, "-32600"),
        ("J200", format!("[{}]", call("ping", "{}")), 400, "-32600"),
        ("J200", "[]".into(), 400, "-32600"),
        ("J201", format!("{}{}", call("ping", "{}"), call("ping", "{}")), 400, "-32700"),
        ("J201", "{'jsonrpc':'2.0'}".into(), 400, "-32700"),
        (
            "J203",
            call(
                "tools/call",
                &format!(
                    r#"{{"name":"get_x","arguments":{{"a":{}{}}}}}"#,
                    "[".repeat(129),
                    "]".repeat(129)
                ),
            ),
            400,
            "-32600",
        ),
        ("J205", r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.into(), 400, "-32600"),
        (
            "J215",
            call(
                "tools/call",
                &format!(r#"{{"name":"get_x","arguments":{{"a":"{}"}}}}"#, "x".repeat(1 << 20)),
            ),
            413,
            "-32600",
        ),
        ("response", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), 400, "-32600"),
    ] {
        let outcome = send(layer(), post(&body), json(RESULT)).await;
        let said = std::str::from_utf8(&outcome.body).unwrap();
        assert_eq!(outcome.status, status, "{case}: {said}");
        assert!(said == code || said.contains(&format!("\"code\":{code},")), "{case}: {said}");
        assert_eq!(outcome.received, None, "{case}");
        assert_eq!(outcome.headers["cache-control"], "no-store", "{case}");
    }
}

/// Creates a request of 2026-07-28 from a client that supports elicitation in URL mode.
fn post_2026<'a>(method: &str, name: Option<&str>, body: &'a str) -> Request<&'a str> {
    let request = post(body);
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    parts.headers.insert("mcp-method", method.parse().unwrap());
    if let Some(name) = name {
        parts.headers.insert("mcp-name", name.parse().unwrap());
    }
    Request::from_parts(parts, body)
}

const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{"url":{}}}}"#
);

#[tokio::test]
async fn j217_each_subscribed_resource_is_judged() {
    let listen = |notifications: &str| {
        let params = format!(r#"{{"notifications":{notifications},{META}}}"#);
        message("subscriptions/listen", &params)
    };
    for (notifications, status, said) in [
        (r#"{"toolsListChanged":true}"#, 200, RESULT),
        (r#"{"resourceSubscriptions":[]}"#, 200, RESULT),
        (r#"{"resourceSubscriptions":["crm://public/a","crm://public/b"]}"#, 200, RESULT),
        (
            r#"{"resourceSubscriptions":["crm://public/a","crm://secret/b"]}"#,
            200,
            "unknown tool, resource or prompt",
        ),
        (
            r#"{"resourceSubscriptions":["crm://public/../secret/b"]}"#,
            200,
            "unknown tool, resource or prompt",
        ),
        (r#"{"resourceSubscriptions":["crm://paid/a"]}"#, 403, "-32000"),
        (r#"{"resourceSubscriptions":"crm://public/a"}"#, 400, "-32600"),
        (r#"{"resourceSubscriptions":["crm://public/a",7]}"#, 400, "-32600"),
        (
            r#"{"resourceSubscriptions":[],"ResourceSubscriptions":["crm://secret/b"]}"#,
            400,
            "-32600",
        ),
        ("[]", 400, "-32600"),
    ] {
        let layer = ScopeFilterLayer::for_test(
            rules().allow(resources(["crm://paid/*"]).with_scope("crm:paid")),
        );
        let body = listen(notifications);
        let outcome =
            send(layer, post_2026("subscriptions/listen", None, &body), json(RESULT)).await;
        let text = std::str::from_utf8(&outcome.body).unwrap();
        assert_eq!(outcome.status, status, "{notifications} {text}");
        assert!(text.contains(said), "{notifications} {text}");
        assert_eq!(outcome.received.is_some(), said == RESULT, "{notifications}");
    }
}

#[tokio::test]
async fn k232_an_acknowledgement_names_no_hidden_resource() {
    let listen = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{{META}}}}}"#
    );
    let acknowledged = |uris: &str| {
        let notifications =
            format!(r#"{{"toolsListChanged":true,"resourceSubscriptions":[{uris}]}}"#);
        let method = r#""method":"notifications/subscriptions/acknowledged""#;
        let params = format!(r#""params":{{"notifications":{notifications}}}"#);
        format!("data: {{\"jsonrpc\":\"2.0\",{params},{method}}}\n\n")
    };
    let body = acknowledged(r#""crm://public/a", "crm://secret/b","crm://public/c",7"#);
    let outcome =
        send(layer(), post_2026("subscriptions/listen", None, &listen), events(&body)).await;
    assert_eq!(outcome.body, acknowledged(r#""crm://public/a","crm://public/c""#));
}

#[tokio::test]
async fn j209_uncompared_headers_are_not_forwarded() {
    let unjudged = ["mcp-method", "mcp-name", "mcp-param-region"];
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_x"}}"#;
    let get = Request::get("/mcp").body("").unwrap();
    let plain =
        ScopeFilterLayer::for_test_of_http(Rules::new().allow(http(http::Method::GET, "/mcp")));
    for (layer, mut request) in [(layer(), post(call)), (layer(), get.clone()), (plain, get)] {
        for name in unjudged {
            request.headers_mut().insert(name, "delete_x".parse().unwrap());
        }
        let outcome = send(layer, request, json(RESULT)).await;
        assert!(outcome.received.is_some());
        assert_eq!(unjudged.map(|name| outcome.received_fields.contains_key(name)), [false; 3]);
    }
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"get_x",{META}}}}}"#
    );
    let mut request = post_2026("tools/call", Some("get_x"), &call);
    request.headers_mut().insert("mcp-param-region", "eu".parse().unwrap());
    let outcome = send(layer(), request, json(RESULT)).await;
    assert_eq!(unjudged.map(|name| outcome.received_fields.contains_key(name)), [true; 3]);
}

#[tokio::test]
async fn an_unsupported_version_is_refused_with_the_supported_ones() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let (long, cut) = ("9".repeat(300), "9".repeat(64));
    for (version, requested) in [
        ("2099-01-01", "2099-01-01"),
        ("a\"b\\c", r#"a\"b\\c"#),
        (&long, &cut),
        ("caf\u{e9}", r"caf\\xc3\\xa9"),
    ] {
        for mut request in [post(ping), Request::get("/mcp").body("").unwrap()] {
            let value = http::HeaderValue::from_bytes(version.as_bytes()).unwrap();
            request.headers_mut().insert("mcp-protocol-version", value);
            let outcome = send(layer(), request, json(RESULT)).await;
            let text = std::str::from_utf8(&outcome.body).unwrap();
            // As in the response to `server/discover`, without the version that `initialize`
            // negotiates.
            let data =
                format!(r#""data":{{"supported":["2026-07-28"],"requested":"{requested}"}}"#);
            assert_eq!(outcome.status, 400);
            assert!(text.contains(&data), "{text}");
        }
    }
}

#[tokio::test]
async fn a_2026_07_28_request_must_state_its_version() {
    for (params, said) in [
        ("{}", "-32602"),
        (r#"{"_meta":{}}"#, "-32602"),
        (r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":20260728}}"#, "-32602"),
        (r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}}"#, "-32020"),
    ] {
        let list = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
        let outcome = send(layer(), post_2026("tools/list", None, &list), json(RESULT)).await;
        let text = std::str::from_utf8(&outcome.body).unwrap();
        assert_eq!((outcome.status.as_u16(), outcome.received), (400, None), "{params}");
        assert!(text.contains(&format!(r#""id":1,"error":{{"code":{said},"#)), "{params} {text}");
    }
}

#[tokio::test]
async fn no_rule_allows_methods_removed_in_2026_07_28() {
    let all = || Rules::new().allow(resources(["*"])).allow(methods(["*"]));
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        for uri in ["", r#""uri":"crm://public/a","#] {
            let asked = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{uri}{META}}}}}"#
            );
            let outcome = send(
                ScopeFilterLayer::for_test(all()),
                post_2026(method, None, &asked),
                json(RESULT),
            )
            .await;
            assert_eq!((outcome.status.as_u16(), outcome.received), (404, None), "{asked}");
            let text = std::str::from_utf8(&outcome.body).unwrap();
            assert!(text.contains(r#""id":1,"error":{"code":-32601,"#), "{text}");
        }
    }
}

#[tokio::test]
async fn input_is_requested_only_for_three_methods() {
    for (method, name, params, asks) in [
        ("tools/call", Some("get_x"), r#""name":"get_x","#, true),
        ("prompts/get", Some("greet"), r#""name":"greet","#, true),
        ("resources/read", Some("crm://public/a"), r#""uri":"crm://public/a","#, true),
        ("tools/list", None, "", false),
        ("server/discover", None, "", false),
        ("completion/complete", None, r#""ref":{"type":"ref/prompt","name":"greet"},"#, false),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{META}}}}}"#
        );
        let connecting = service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
            let dialect = request.extensions().get::<Judged>().unwrap().dialect().clone();
            let refusal = crate::refusal::Refusal::new(crate::refusal::Reason::ConnectRequired);
            Ok::<_, Infallible>(
                dialect
                    .render(&refusal.connect_at("https://broker.example.com/connect/1"))
                    .map(Full::from),
            )
        });
        let (trail, _terminal) = Trail::for_test(&LOG);
        let mut request = post_2026(method, name, &body).map(|body| Full::from(body.to_owned()));
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller("crm:read"));
        let response = layer().layer(connecting).oneshot(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(text.contains("input_required"), asks, "{method} {text}");
        assert_eq!(text.contains("-32001"), !asks, "{method} {text}");
    }
}

#[tokio::test]
async fn hostile_framing_is_refused_and_never_sent() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (case, name, value, status) in [
        ("J211", "content-encoding", "gzip", 415),
        ("J211", "content-encoding", "gzip, gzip", 415),
        ("J212", "content-type", "text/plain", 415),
        ("J212", "content-type", "application/json-seq", 415),
        ("J212", "content-type", "multipart/form-data; boundary=x", 415),
        ("J201", "content-type", "application/json; charset=utf-7", 415),
        ("J212", "content-type", "application/json; x=\u{e9}", 415),
        ("version", "mcp-protocol-version", "2099-01-01", 400),
    ] {
        let mut request = post(ping);
        request.headers_mut().insert(name, value.parse().unwrap());
        let outcome = send(layer(), request, json(RESULT)).await;
        assert_eq!((outcome.status.as_u16(), outcome.received), (status, None), "{case} {value}");
    }
    for content_type in [
        "application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/json",
    ] {
        let mut request = post(ping);
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        assert_eq!(send(layer(), request, json(RESULT)).await.status, 200, "J212 {content_type}");
    }
    let mut request = post(ping);
    request.headers_mut().remove("content-type");
    assert_eq!(send(layer(), request, json(RESULT)).await.status, 415, "J212 missing");
    for (method, status) in [
        ("PUT", 405),
        ("HEAD", 405),
        ("OPTIONS", 405),
        ("PATCH", 405),
        ("GET", 200),
        ("DELETE", 200),
    ] {
        let request = Request::builder().method(method).uri("/mcp").body("").unwrap();
        assert_eq!(send(layer(), request, json(RESULT)).await.status, status, "J216 {method}");
    }
    for method in ["GET", "DELETE"] {
        let nothing =
            ScopeFilterLayer::for_test(|_: &Principal, call: &Call<'_>| Decision::deny(call));
        let request = Request::builder().method(method).uri("/mcp").body("").unwrap();
        let outcome = send(nothing, request, json(RESULT)).await;
        assert!(
            outcome.status.is_client_error() && outcome.received.is_none(),
            "{method}: {}",
            outcome.status
        );
    }
}

#[tokio::test]
async fn l241_an_ambiguous_http_path_is_refused() {
    let layer = || {
        ScopeFilterLayer::for_test_of_http(
            Rules::new().allow(super::http(http::Method::GET, "/items/{*rest}")),
        )
    };
    for (method, path, status) in [
        ("GET", "/items/7", 200),
        ("POST", "/items/7", 403),
        ("GET", "/other/7", 403),
        ("GET", "/items/../other/7", 403),
        ("GET", "/items//7", 403),
        ("GET", "/items/%2e%2e/other", 403),
        ("GET", "/items/a%2fb", 403),
        ("GET", "/items/7;a", 403),
    ] {
        let request = Request::builder().method(method).uri(path).body("").unwrap();
        let outcome = send(layer(), request, json(RESULT)).await;
        assert_eq!(outcome.status, status, "L241 {method} {path}");
        assert_eq!(outcome.received.is_some(), status == 200, "L241 {method} {path}");
    }
}

/// A body that never arrives.
struct Nothing;

impl http_body::Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn j214_a_message_that_times_out_is_refused() {
    for (path, media) in [
        ("/mcp", "application/json"),
        ("/model_context_protocol.Mcp/ListTools", "application/grpc"),
    ] {
        let (trail, _terminal) = Trail::for_test(&LOG);
        let mut request = Request::post(path).header("content-type", media).body(Nothing).unwrap();
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller("crm:read"));
        let inner = service_fn(|_: Request<RequestBody<Nothing>>| async {
            Ok::<_, Infallible>(json(RESULT).map(|body| Full::<Bytes>::from(body.to_owned())))
        });
        let limits = Limits::default().body_timeout(std::time::Duration::from_millis(20));
        let protocol = match media {
            "application/json" => Protocol::Mcp,
            _ => Protocol::Grpc(crate::limits::GrpcOptions::default()),
        };
        let layer = layer_with(protocol, limits);
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(
            crate::refusal::Refused::of(&response).map(crate::refusal::Refused::reason),
            Some(crate::refusal::Reason::BodyIncomplete),
            "J214 {path}"
        );
    }
}

/// A body that breaks off after its first bytes.
struct BreaksOff(bool);

impl http_body::Body for BreaksOff {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let has_begun = std::mem::replace(&mut self.0, true);
        std::task::Poll::Ready(Some(if has_begun {
            Err("broken")
        } else {
            Ok(http_body::Frame::data(Bytes::from_static(LIST.as_bytes())))
        }))
    }
}

#[tokio::test]
async fn a_broken_or_hidden_response_is_not_passed_on() {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let (trail, _terminal) = Trail::for_test(&LOG);
    let mut request = post(list).map(|body| Full::<Bytes>::from(body.to_owned()));
    request.extensions_mut().insert(trail);
    request.extensions_mut().insert(caller("crm:read"));
    let inner = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
        Ok::<_, Infallible>(json(LIST).map(|_| BreaksOff(false)))
    });
    let response = layer().layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 502);
    let body = response.into_body().collect().await.map_err(drop).unwrap().to_bytes();
    assert!(!body.windows(5).any(|bytes| bytes == b"get_x"));

    let notice = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated",
        "params":{"uri":"crm://secret/1"}}"#;
    let outcome = send(layer(), post(list), json(notice)).await;
    assert_eq!(outcome.status, 502, "K232");
    assert!(!outcome.body.windows(6).any(|bytes| bytes == b"secret"), "K232");
}

#[tokio::test]
async fn j223_all_scopes_of_the_operation_are_named_at_once() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_x"}}"#;
    let outcome = send(layer(), post(call), json(RESULT)).await;
    assert_eq!(outcome.status, 403);
    let challenge = outcome.headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains(r#"error="insufficient_scope""#)
            && challenge.contains(r#"scope="crm:read crm:write""#),
        "{challenge}"
    );
    assert!(challenge.contains("resource_metadata="), "{challenge}");
}

const LIST: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":["#,
    r#"{"name":"get_x"},{"name":"delete_x"},{"name":"create_x"}]}}"#
);
const VISIBLE: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_x"},{"name":"create_x"}]}}"#;

#[tokio::test]
async fn k224_k225_lists_are_filtered_or_not_passed() {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for content_type in ["application/json", "Application/JSON", "application/json ;charset=utf-8"]
    {
        for status in [200, 201, 203, 299] {
            let mut response = json(LIST);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            response.headers_mut().insert("etag", "\"1\"".parse().unwrap());
            let outcome = send(layer(), post(list), response).await;
            assert_eq!(outcome.body, VISIBLE, "K224 {content_type}, K225 {status}");
            assert_eq!(outcome.headers["content-length"], VISIBLE.len().to_string());
            assert!(!outcome.headers.contains_key("etag"));
        }
    }
    for (case, name, value) in [
        ("K224", "content-type", "text/html"),
        ("I191", "content-encoding", "br"),
        ("K225", "content-range", "bytes 0-1/2"),
    ] {
        let mut response = json(LIST);
        response.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(send(layer(), post(list), response).await.status, 502, "{case}");
    }
    let mut response = json(LIST);
    response.headers_mut().remove("content-type");
    assert_eq!(send(layer(), post(list), response).await.status, 502, "K224 no content-type");
    let mut response = json(LIST);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    assert_eq!(send(layer(), post(list), response).await.status, 502, "K225 206");
}

/// A response of unknown length, such as a chunked one.
struct Chunked(&'static str);

impl http_body::Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.0);
        std::task::Poll::Ready(
            (!data.is_empty()).then(|| Ok(http_body::Frame::data(Bytes::from(data)))),
        )
    }
}

#[tokio::test]
async fn k224_an_empty_chunked_response_passes() {
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for (status, content_type, body, outcome) in [
        (202, None, "", 202),
        (204, None, "", 202),
        (202, Some("text/plain"), "", 202),
        (202, Some("application/json"), "", 202),
        // K500: the content is for no one.
        (202, None, LIST, 202),
        (200, Some("text/plain"), " ", 202),
        (302, None, "", 502),
    ] {
        let chunked = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| async move {
            let mut response = Response::new(Chunked(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(content_type) = content_type {
                response.headers_mut().insert("content-type", content_type.parse().unwrap());
            }
            Ok::<_, Infallible>(response)
        });
        let (trail, _terminal) = Trail::for_test(&LOG);
        let mut request = post(notice).map(|body| Full::from(body.to_owned()));
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller("crm:read"));
        let response = layer().layer(chunked).oneshot(request).await.unwrap();
        assert_eq!(response.status(), outcome, "K224 {status} {content_type:?} {body}");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text.is_empty(), outcome < 300);
    }
}

#[tokio::test]
async fn only_responses_to_calls_are_streamed() {
    let asked = message;
    for (body, is_read) in [
        (asked("tools/call", r#"{"name":"get_x"}"#), false),
        (asked("prompts/get", r#"{"name":"greet"}"#), false),
        (asked("resources/read", r#"{"uri":"crm://public/a"}"#), false),
        (asked("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"greet"}}"#), false),
        (asked("tools/list", "{}"), true),
        (asked("resources/subscribe", r#"{"uri":"crm://public/a"}"#), true),
        (asked("ping", "{}"), true),
    ] {
        let outcome = send(layer(), post(&body), json(LIST)).await;
        assert_eq!(outcome.body == LIST, !is_read, "{body}");
        assert!(outcome.headers["cache-control"] == "private, no-store");
        let mut coded = json(LIST);
        coded.headers_mut().insert("content-encoding", "br".parse().unwrap());
        assert_eq!(send(layer(), post(&body), coded).await.status, 502, "I191 {body}");
    }
}

fn events(body: &str) -> Response<&str> {
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

#[tokio::test]
async fn k230_events_are_filtered_one_by_one() {
    let broken = "data: {\"result\":{\"tools\":[\n\n";
    let replay = Request::get("/mcp").header("accept", "text/event-stream").body("").unwrap();
    for request in [
        post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_x"}}"#),
        replay,
    ] {
        let body = format!(": hello\n\n{broken}id: 4\ndata: {LIST}\n\n");
        let outcome = send(layer(), request, events(&body)).await;
        let expected = format!(": hello\n\n: withheld\n\nid: 4\ndata: {VISIBLE}\n\n");
        assert_eq!(outcome.body, expected);
    }
}

#[tokio::test]
async fn each_layer_has_its_own_body_limit() {
    let first = layer();
    let second = layer_with(Protocol::Mcp, Limits::default().max_body(8));
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(send(second, post(ping), json(RESULT)).await.status, 413);
    assert_eq!(send(first, post(ping), json(RESULT)).await.status, 200);
}

#[tokio::test]
async fn k228_an_event_over_the_limit_ends_the_stream() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let body = format!("data: {}", "x".repeat(4096));
    let outcome = send(
        layer_with(Protocol::Mcp, Limits::default().max_response(1024)),
        post(ping),
        events(&body),
    )
    .await;
    let expected = withheld::unreadable("1").replace(
        "the response of the server cannot be read",
        "an event of the server was too long",
    );
    assert_eq!(outcome.body, expected);
}

#[tokio::test]
async fn x25_dropping_at_any_poll_sends_no_partial_body() {
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let inner = service_fn(move |request: Request<RequestBody<Slow>>| {
        let counted = Arc::clone(&counted);
        async move {
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), SLOW.concat());
            *counted.lock() += 1;
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(json(RESULT).map(Full::<Bytes>::from))
        }
    });
    let service = layer().layer(inner);
    let (log, records) = AuditLog::in_memory();
    let begun = std::cell::Cell::new(0);
    let call = || {
        begun.set(begun.get() + 1);
        let (trail, terminal) = Trail::for_test(&log);
        let mut request = post("").map(|_| Slow(0, false));
        request.extensions_mut().insert(trail);
        request.extensions_mut().insert(caller("crm:read"));
        let service = service.clone();
        async move {
            let response = service.oneshot(request).await.unwrap();
            drop(terminal);
            response.into_body().collect().await.unwrap().to_bytes()
        }
    };
    for polls in 1.. {
        let mut work = Box::pin(call());
        let mut left = polls;
        let done = std::future::poll_fn(|cx| {
            left -= 1;
            match work.as_mut().poll(cx) {
                std::task::Poll::Ready(_) => std::task::Poll::Ready(true),
                std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(false),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await;
        drop(work);
        assert!(*calls.lock() <= 1, "after {polls} polls");
        log.flush().await.unwrap();
        let terminal = records.lines().iter().filter(|line| line.contains(r#""count":1"#)).count();
        assert_eq!(
            terminal,
            begun.get(),
            "each call has its one terminal record, after {polls} polls"
        );
        assert_eq!(call().await, RESULT, "after {polls} polls");
        *calls.lock() = 0;
        if done {
            assert!(polls > SLOW.len());
            break;
        }
    }
}

const SLOW: [&str; 3] =
    [r#"{"jsonrpc":"2.0","id":1,"method":"tools"#, r#"/call","params":{"name":"#, r#""get_x"}}"#];

/// A body with a wait before each piece.
struct Slow(usize, bool);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        self.0 += 1;
        let piece =
            SLOW.get(self.0 - 1).map(|piece| Ok(http_body::Frame::data(Bytes::from(*piece))));
        std::task::Poll::Ready(piece)
    }
}

#[tokio::test]
async fn a_request_without_outer_layers_gets_500() {
    let inner = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let response =
        layer().layer(inner).oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// A policy of rules of all kinds, combined in every way.
#[derive(Clone, Debug)]
enum AnyPolicy {
    Rules(Box<Rules>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Unless(Box<Self>, Box<Self>),
}

impl Policy for AnyPolicy {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        // As closures, so that each is combined by the function that users call.
        let of = |policy: &Self| {
            let policy = policy.clone();
            move |caller: &Principal, call: &Call<'_>| policy.decide(caller, call)
        };
        match self {
            Self::Rules(rules) => rules.decide(caller, call),
            Self::And(one, other) => of(one).and(of(other)).decide(caller, call),
            Self::Or(one, other) => of(one).or(of(other)).decide(caller, call),
            Self::Unless(one, other) => of(one).unless(of(other)).decide(caller, call),
        }
    }
}

fn any_rules() -> impl Strategy<Value = AnyPolicy> {
    let rule = ("[ab*]{0,4}", 0..3_u8, prop::bool::ANY, prop::bool::ANY, 0..3_u8);
    let rules = prop::collection::vec(rule, 0..6).prop_map(|rules| {
        let rules = rules.into_iter().fold(
            Rules::new(),
            |all, (pattern, kind, allow, scoped, condition)| {
                let mut rule = match kind {
                    0 => tools([pattern.as_str()]),
                    1 => prompts([pattern.as_str()]),
                    _ => resources([pattern.as_str()]),
                };
                if scoped {
                    rule = rule.with_scope("crm:write");
                }
                rule = match condition {
                    // A resource has no arguments.
                    _ if kind > 1 => rule,
                    0 => rule,
                    1 => rule.when(|_| false),
                    // If the arguments decide, a list shows what some arguments would allow.
                    _ => rule.when(|arguments| arguments.get("n").is_some()),
                };
                if allow { all.allow(rule) } else { all.deny(rule) }
            },
        );
        AnyPolicy::Rules(Box::new(rules))
    });
    rules.prop_recursive(3, 8, 2, |inner| {
        let two = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            two().prop_map(|(one, other)| AnyPolicy::And(one, other)),
            two().prop_map(|(one, other)| AnyPolicy::Or(one, other)),
            two().prop_map(|(one, other)| AnyPolicy::Unless(one, other)),
        ]
    })
}

/// The lists of the protocol: their members in a result, and the member that names an entry.
const LISTS: [(&str, &str); 4] = [
    ("tools", "name"),
    ("prompts", "name"),
    ("resources", "uri"),
    ("resourceTemplates", "uriTemplate"),
];

fn call_of<'a>(list: &str, name: &'a str) -> Call<'a> {
    match list {
        "tools" => Call::Tool { name, arguments: Arguments::unknown() },
        "prompts" => Call::Prompt { name, arguments: Arguments::unknown() },
        _ => Call::Resource { uri: name },
    }
}

proptest! {
    #[test]
    fn an_entry_is_listed_unless_it_is_denied(
        policy in any_rules(),
        names in prop::collection::vec("[ab]{0,4}", 0..8),
        streamed in prop::bool::ANY,
    ) {
        let caller = caller("crm:read");
        let entries = |list: &str, called: &str, names: &[String]| {
            let entry = |name: &String| format!(r#"{{"{called}":"{name}"}}"#);
            let entries: Vec<_> = names.iter().map(entry).collect();
            format!(r#""{list}":[{}]"#, entries.join(","))
        };
        let message = |keep: &dyn Fn(&str, &str) -> bool| {
            let lists: Vec<_> = LISTS.iter().map(|(list, called)| {
                let kept: Vec<_> = names.iter().filter(|name| keep(list, name)).cloned().collect();
                entries(list, called, &kept)
            }).collect();
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{}}}}}"#, lists.join(","))
        };
        let list = message(&|_, _| true);
        let expected = message(&|list, name| {
            !policy.decide(&caller, &call_of(list, name)).is_denied()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (body, kind) = if streamed {
            (format!("data: {list}\n\n"), "text/event-stream")
        } else {
            (list, "application/json")
        };
        let response = Response::builder().header("content-type", kind);
        let response = response.body(body.as_str()).unwrap();
        // Every policy allows this call, so the list arrives in response to an unrelated request.
        let all = policy.or(|_: &Principal, call: &Call<'_>| {
            let is_protocol = matches!(call, Call::Protocol { .. });
            if is_protocol { Decision::allow() } else { Decision::deny(call) }
        });
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let outcome = runtime.block_on(send(ScopeFilterLayer::for_test(all), post(ping), response));
        let text = std::str::from_utf8(&outcome.body).unwrap();
        let text = text.trim_start_matches("data: ").trim_end();
        prop_assert_eq!(text, expected);
    }
}
