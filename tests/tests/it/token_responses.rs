//! Token responses that deviate, through a mounted stack.

use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL},
    token_endpoint::TokenEndpoint,
    upstream::{ScriptedServer, json},
};

fn echo(text: &str) -> String {
    let content = format!(r#"[{{"type":"text","text":"{text}"}}]"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":{content}}}}}"#)
}

#[tokio::test]
async fn e119_tokens_in_forms_of_providers_are_sent_and_masked() {
    for access in [
        "alice:2o8yRInBD7QfFQ13:GZaCJ7Tw6JXWR30gZXleU62wJKt7S_16",
        "00D5g000004XyzQ!AR8AQNk3lSbhx2Qp7Vd0LmZr",
        "1!Dgs_Kq7|x9Lw2RtYb4NcVh8",
        "tbm-at{7}Kd7Qw2XsLr9VnTz4'HbYc6;JpUfEg",
    ] {
        let upstream = ScriptedServer::start(|request| {
            let sent = request.values("authorization").concat();
            json(&echo(sent.strip_prefix("Bearer ").unwrap()))
        })
        .await;
        let rotated = Mutex::new(0);
        let endpoint = TokenEndpoint::responding_with(move |request| {
            let form = String::from_utf8(request.body.to_vec()).unwrap();
            let mut rotated = rotated.lock();
            let current = TokenEndpoint::refresh_token(*rotated);
            if !form.contains(&format!("refresh_token={current}")) {
                return (400, r#"{"error":"invalid_grant"}"#.to_owned());
            }
            *rotated += 1;
            let refresh = TokenEndpoint::refresh_token(*rotated);
            let body = format!(
                r#"{{"access_token":"{access}","refresh_token":"{refresh}","scope":["crm:read"]}}"#
            );
            (201, body)
        })
        .await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants(handle, &upstream))
            .await;
        broker.ledger().secret("the access token", access);
        let response = broker.call_with(&[], CALL).await;
        assert_eq!(response.status, 200, "E119 {access}: {}", response.text());
        assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {access}")]);
        let masked = "*".repeat(access.len());
        assert_eq!(response.text(), echo(&masked), "E119 {access}");
        endpoint.report_to(broker.ledger(), &[], &[0, 1]);
        broker.done().await;
    }
}

#[tokio::test]
async fn e119_a_refused_access_token_costs_no_refresh_token() {
    let upstream = ScriptedServer::start(|_| json(&echo("x"))).await;
    let endpoint = TokenEndpoint::responding_with({
        let rotated = Mutex::new(0);
        move |request| {
            let form = String::from_utf8(request.body.to_vec()).unwrap();
            let mut rotated = rotated.lock();
            let current = TokenEndpoint::refresh_token(*rotated);
            if !form.contains(&format!("refresh_token={current}")) {
                return (400, r#"{"error":"invalid_grant"}"#.to_owned());
            }
            *rotated += 1;
            (200, TokenEndpoint::tokens(*rotated).replace("Bearer", "DPoP"))
        }
    })
    .await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants(handle, &upstream))
        .await;
    let response = broker.call_with(&[], CALL).await;
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")), "E119");
    assert!(upstream.received().is_empty(), "E119: a DPoP token is not sent");
    let records = broker.records().await;
    let result = records.iter().find(|record| record["kind"] == "token_result").unwrap();
    assert_eq!(result["outcome"], "failed", "E119: {result}");
    endpoint.report_to(broker.ledger(), &[1], &[0, 1]);
    broker.done_unsent().await;
}
