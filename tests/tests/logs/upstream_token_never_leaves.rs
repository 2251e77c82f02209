//! Leaks of secrets: hostile upstreams, hostile clients, and the logs of all crates at trace level.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Response;
use token_broker_tests::{
    harness::{Broker, CALL},
    marker_scan::Scan,
    token_endpoint::{CLIENT_SECRET, TokenEndpoint},
    upstream::{Received, ScriptedBody, ScriptedServer, events, full, json},
    wire,
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// An upstream that misuses the token it receives in every way.
fn echo(number: usize, request: &Received) -> Response<ScriptedBody> {
    let sent = request.values("authorization").pop().unwrap_or_default();
    let token = sent.trim_start_matches("Bearer ").to_owned();
    let percent: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = token.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect();
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    let result_with = |text: &str| {
        json(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\
             \"result\":{{\"content\":[{{\"type\":\"text\",\
             \"text\":\"{text}\"}}]}}}}"
        ))
    };
    match number {
        0 => json(RESULT),
        1 => result_with(&token),
        2 => result_with(&percent),
        3 => result_with(&escaped),
        4 => result_with(&hex),
        5 => result_with(&STANDARD.encode(format!("a{sent}"))),
        6 => {
            let mut response = json(RESULT);
            for name in ["x-echo", "etag", "set-cookie", "location", "www-authenticate", "server"] {
                response.headers_mut().insert(name, sent.parse().unwrap());
            }
            response
        }
        7 => events(&[
            &format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\
                 \"params\":{{\"data\":\"{token}\"}}}}"
            ),
            RESULT,
        ]),
        8 => Response::builder().status(500).body(full(format!("panicked with {sent}"))).unwrap(),
        9 => Response::builder()
            .status(401)
            .header("www-authenticate", format!("Bearer realm=\"{token}\""))
            .body(full(sent))
            .unwrap(),
        10 => Response::builder()
            .status(404)
            .header("content-type", "text/plain")
            .body(full(sent))
            .unwrap(),
        11 => Response::builder()
            .status(302)
            .header("location", format!("/?access_token={token}"))
            .body(full(sent))
            .unwrap(),
        12 => Response::builder()
            .header("content-type", "application/json")
            .body(full(format!("{{ {sent}")))
            .unwrap(),
        _ => Response::builder().header("content-type", "text/html").body(full(sent)).unwrap(),
    }
}

#[tokio::test]
async fn r311_no_response_log_or_record_has_a_secret() {
    let number = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&number);
    let upstream =
        ScriptedServer::start(move |request| echo(counter.fetch_add(1, Ordering::SeqCst), request))
            .await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let token = broker.token("items:read");
    let bearer = format!("Bearer {token}");

    for _ in 0..14 {
        broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await;
    }
    // Mistakes of clients with their own token must not appear in a log, either.
    let query = format!("/mcp?access_token={token}");
    for bytes in [
        wire::post(
            "/mcp",
            broker.host(),
            &[("authorization", &bearer), ("authorization", &bearer)],
            CALL,
        ),
        wire::post(&query, broker.host(), &[], CALL),
        wire::post("/mcp", broker.host(), &[("cookie", &format!("access_token={token}"))], CALL),
        wire::post("/mcp", broker.host(), &[("authorization", &format!("Basic {token}"))], CALL),
        wire::post("/mcp", broker.host(), &[("authorization", &format!("{bearer}x"))], CALL),
        wire::post(
            "/mcp",
            broker.host(),
            &[("authorization", &bearer)],
            &format!("{{\"{token}\":"),
        ),
    ] {
        broker.send(&bytes).await;
    }

    for received in upstream.received() {
        // The upstream receives its own token, and never the client's.
        let mut towards = Scan::new();
        let sent = received.to_bytes();
        towards
            .secret("the broker token", &token)
            .received(token.as_bytes())
            .source("what the upstream got", sent);
        assert_eq!(towards.run(), Ok(()));
    }
    assert!(
        upstream.received().len() >= 14,
        "every kind of echo was in play: {}",
        upstream.received().len()
    );
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert!(
        logs.contains("hyper_util") && logs.contains("refused"),
        "the logs were captured: {logs}"
    );
    broker.done().await;
}

/// A token endpoint that misuses what it receives.
fn token_endpoint_says(kind: usize, request: &Received) -> (u16, String) {
    let form = String::from_utf8(request.body.to_vec()).unwrap();
    let client = request.values("authorization").concat();
    let secrets = format!("{form} {client} {} {}", TokenEndpoint::refresh_token(0), CLIENT_SECRET);
    let tokens = TokenEndpoint::tokens(1);
    match kind {
        0 => (200, tokens),
        1 => (400, format!(r#"{{"error":"invalid_grant","error_description":"{secrets}"}}"#)),
        2 => (400, format!(r#"{{"error":"{secrets}"}}"#)),
        3 => (
            401,
            format!(
                r#"{{"error":"invalid_client","error_uri":"https://evil.example/?{secrets}"}}"#
            ),
        ),
        4 => (500, format!("panicked with {secrets}")),
        5 => (200, format!("{tokens} {secrets}")),
        6 => (200, tokens.replace("Bearer", "mac")),
        7 => (200, tokens.replace("crm:read", "crm:read crm:admin")),
        // I453.
        8 => (200, tokens.replace("crm:read", &TokenEndpoint::access_token(1))),
        _ => (307, secrets),
    }
}

#[tokio::test]
async fn refreshes_leak_no_secret() {
    for kind in 0..10 {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let endpoint =
            TokenEndpoint::responding_with(move |request| token_endpoint_says(kind, request)).await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants(handle, &upstream))
            .await;
        // The second call finds what the first one left: tokens, or a delay before the next
        // attempt.
        for _ in 0..2 {
            broker.call_with(&[], CALL).await;
        }
        assert_eq!(endpoint.posts(), 1, "{kind}");
        let passes = kind == 0;
        assert_eq!(upstream.received().len(), if passes { 2 } else { 0 }, "{kind}");
        let gives_tokens = [0, 5, 6, 7, 8].contains(&kind);
        let given: &[usize] = if gives_tokens { &[1] } else { &[] };
        endpoint.report_to(broker.ledger(), given, if gives_tokens { &[0, 1] } else { &[0] });
        let logs = String::from_utf8(broker.ledger().logs()).unwrap();
        assert!(
            logs.contains("reqwest") || logs.contains("hyper"),
            "{kind}: the client's own lines were captured"
        );
        broker.done().await;
    }
}

/// A token endpoint that misuses an assertion and a client secret.
fn exchange_says(kind: usize, request: &Received) -> (u16, String) {
    let form = String::from_utf8(request.body.to_vec()).unwrap();
    let secrets = format!("{form} {CLIENT_SECRET} {}", TokenEndpoint::access_token(1));
    let kinded =
        r#"{"issued_token_type":"urn:ietf:params:oauth:token-type:access_token","access_token""#;
    let tokens = TokenEndpoint::tokens(1).replace(r#"{"access_token""#, kinded);
    match kind {
        0 => (200, tokens),
        1 => (400, format!(r#"{{"error":"invalid_target","error_description":"{secrets}"}}"#)),
        2 => (400, format!(r#"{{"error":"{secrets}"}}"#)),
        3 => (200, tokens.replace("token-type:access_token", &TokenEndpoint::access_token(1))),
        4 => (500, format!("panicked with {secrets}")),
        5 => (200, format!("{tokens} {secrets}")),
        6 => (200, tokens.replace("crm:read", &TokenEndpoint::access_token(1))),
        _ => (307, secrets),
    }
}

#[tokio::test]
async fn exchanges_leak_no_secret() {
    for kind in 0..8 {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let endpoint =
            TokenEndpoint::responding_with(move |request| exchange_says(kind, request)).await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.exchange(handle, &upstream))
            .await;
        for _ in 0..2 {
            broker.call_with(&[], CALL).await;
        }
        assert_eq!(endpoint.posts(), 1, "{kind}");
        assert_eq!(upstream.received().len(), if kind == 0 { 2 } else { 0 }, "{kind}");
        for assertion in endpoint.presented("subject_token") {
            broker.ledger().secret("an assertion", &assertion);
        }
        // An unrequested refresh token is one of the secrets, if the endpoint sent one.
        let given: &[usize] = if kind == 0 { &[1] } else { &[] };
        endpoint.report_to(broker.ledger(), given, given);
        broker.done().await;
    }
}

#[tokio::test]
async fn echoed_grant_tokens_are_masked() {
    // It refuses the first token and echoes it; then it echoes the second one in every form.
    let number = AtomicUsize::new(0);
    let upstream = ScriptedServer::start(move |request| {
        let sent = request.values("authorization").concat();
        if sent.ends_with(&TokenEndpoint::access_token(1)) {
            let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{sent}\"");
            return Response::builder()
                .status(401)
                .header("www-authenticate", challenge)
                .body(full(sent))
                .unwrap();
        }
        echo(number.fetch_add(1, Ordering::SeqCst), request)
    })
    .await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants(handle, &upstream))
        .await;
    for _ in 0..14 {
        broker.call_with(&[], CALL).await;
    }
    assert!(
        upstream.received().len() >= 15,
        "every kind of echo was in play: {}",
        upstream.received().len()
    );
    endpoint.report_to(broker.ledger(), &[1, 2], &[0, 1, 2]);
    broker.done().await;
}
