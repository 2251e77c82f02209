//! Token responses that deviate, through a mounted stack.

use std::sync::Arc;

use parking_lot::Mutex;
use token_broker_store::{GrantState, MemoryGrants};
use token_broker_tests::{
    harness::{Broker, CALL},
    token_endpoint::{self, CLIENT_SECRET, TokenEndpoint},
    upstream::{ScriptedServer, full, json},
};
use token_broker_upstream::StaticSecret;
use tower_token_broker::Secret;

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

/// Returns the log lines with this text.
fn lines(broker: &Broker, text: &str) -> Vec<String> {
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    logs.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test]
async fn r499_the_log_has_registered_error_codes_only() {
    for (status, body, code) in [
        (400, r#"{"error":"invalid_client"}"#, Some("invalid_client")),
        (401, r#"{"error":"INVALID_CLIENT"}"#, Some("invalid_client")),
        (400, r#"{"error":"use_dpop_nonce"}"#, Some("use_dpop_nonce")),
        (503, r#"{"error":"temporarily_unavailable"}"#, None),
        (400, r#"{"error":"tbm-secret-of-the-server"}"#, None),
        (
            400,
            r#"{"error":"invalid_client","error_description":"tbm-secret"}"#,
            Some("invalid_client"),
        ),
        (400, "<html>tbm-secret</html>", None),
    ] {
        let upstream = ScriptedServer::start(|_| json(&echo("x"))).await;
        let endpoint = TokenEndpoint::responding_with(move |_| (status, body.to_owned())).await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants(handle, &upstream))
            .await;
        assert_eq!(broker.call_with(&[], CALL).await.status, 503, "R499 {body}");
        let found = lines(&broker, "upstream.token_request_failed");
        let [line] = &found[..] else { panic!("R499 {body}: {found:?}") };
        assert!(line.contains(&format!("status={status}")), "R499 {line}");
        assert!(
            line.contains("/token\"") && line.contains("url=\"http://127.0.0.1:"),
            "R499 {line}"
        );
        match code {
            Some(code) => assert!(line.contains(&format!("oauth.error=\"{code}\"")), "R499 {line}"),
            None => assert!(!line.contains("oauth.error"), "R499 {line}"),
        }
        assert!(!line.contains("tbm-secret"), "R499 {line}");
        endpoint.report_to(broker.ledger(), &[], &[0]);
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn r502_a_grant_under_another_name_or_issuer_is_named() {
    let old_issuer = "https://old.example";
    for (name, issuer, hint) in [
        ("items-old", None, Some(r#"grant.server="items-old""#)),
        ("items", Some(old_issuer), Some(r#"grant.issuer="https://old.example""#)),
        // A grant for another server at another authorization server has nothing to do with it.
        ("mail", Some(old_issuer), None),
    ] {
        let upstream = ScriptedServer::start(|_| json(&echo("x"))).await;
        let endpoint = TokenEndpoint::responding_with(|_| (200, TokenEndpoint::tokens(1))).await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants_of(handle, &upstream, name, issuer))
            .await;
        for _ in 0..2 {
            let refused = broker.call_with(&[], CALL).await;
            assert!(refused.text().contains("-32001"), "R502 {}", refused.text());
            assert!(!refused.text().contains("old"), "R502: only the log has it");
        }
        let hints = lines(&broker, "grant.id=");
        match hint {
            Some(hint) => {
                assert_eq!(hints.len(), 1, "R502 once per 30 s: {hints:?}");
                assert!(hints[0].contains(hint), "R502 {hints:?}");
            }
            None => assert_eq!(hints.len(), 0, "R502 {hints:?}"),
        }
        assert_eq!(endpoint.posts(), 0, "R502: no token is sent to the other server");
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn r502_only_a_grant_that_can_be_used_is_named() {
    for (state, is_named) in [
        (GrantState::Active, true),
        (GrantState::NeedsUser, true),
        (GrantState::EndedByServer, false),
        (GrantState::Revoked, false),
    ] {
        let upstream = ScriptedServer::start(|_| json(&echo("x"))).await;
        let endpoint = TokenEndpoint::responding_with(|_| (200, TokenEndpoint::tokens(1))).await;
        let store = MemoryGrants::new();
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants_in(store.clone(), handle, &upstream))
            .await;
        // A user without any grant does not delay the hint.
        broker.call_with(&[], CALL).await;
        assert_eq!(lines(&broker, "grant.id="), [""; 0], "R502 {state:?}");
        let mut grant = endpoint.grant_of("items-old", None);
        grant.state = state;
        store.insert(grant).unwrap();
        for _ in 0..2 {
            let refused = broker.call_with(&[], CALL).await;
            assert!(refused.text().contains("-32001"), "R502 {}", refused.text());
        }
        let hints = lines(&broker, "grant.id=");
        assert_eq!(hints.len(), usize::from(is_named), "R502 {state:?}: {hints:?}");
        assert!(hints.iter().all(|hint| hint.contains("may have been renamed")), "R502 {hints:?}");
        assert_eq!(endpoint.posts(), 0, "R502: no token is sent to the other server");
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn i453_a_scope_that_repeats_what_was_sent_is_not_in_the_log() {
    let kind = r#""issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;
    for (field, is_exchange) in [
        ("refresh_token", false),
        ("authorization", false),
        ("subject_token", true),
        ("authorization", true),
    ] {
        let upstream = ScriptedServer::start(|_| json(&echo("x"))).await;
        let repeated = Arc::new(Mutex::new(String::new()));
        let repeats = Arc::clone(&repeated);
        let endpoint = TokenEndpoint::responding_with(move |request| {
            let form = String::from_utf8(request.body.to_vec()).unwrap();
            let sent = match field {
                "authorization" => CLIENT_SECRET,
                field => form.split_once(&format!("{field}=")).unwrap().1,
            };
            // Too short to look like a secret by itself.
            let piece = sent.get(9..20).unwrap().to_owned();
            let scopes = format!("crm:read crm:admin x:{piece}");
            *repeats.lock() = piece;
            let access = TokenEndpoint::access_token(1);
            (200, format!(r#"{{"access_token":"{access}",{kind},"scope":"{scopes}"}}"#))
        })
        .await;
        let broker = Broker::in_front_of(&upstream);
        let broker = match is_exchange {
            true => broker.start_with(|handle| endpoint.exchange(handle, &upstream)).await,
            false => broker.start_with(|handle| endpoint.grants(handle, &upstream)).await,
        };
        broker.call_with(&[], CALL).await;
        let found = lines(&broker, "upstream.wider_scopes");
        let [line] = &found[..] else { panic!("I453 {field}: {found:?}") };
        assert!(line.contains("crm:admin (13 octets)"), "I453 {field}: {line}");
        let logs = String::from_utf8(broker.ledger().logs()).unwrap();
        let piece = repeated.lock().clone();
        assert!(piece.len() == 11 && !logs.contains(&piece), "I453 {field} {piece}");
        endpoint.report_to(broker.ledger(), &[1], if is_exchange { &[] } else { &[0] });
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn r518_a_refused_static_secret_is_one_line_with_its_request() {
    let upstream = ScriptedServer::start(|_| {
        let status = http::Response::builder().status(401);
        status.header("www-authenticate", "Bearer").body(full("")).unwrap()
    })
    .await;
    let secret = TokenEndpoint::access_token(7);
    let broker = Broker::in_front_of(&upstream)
        .start_with(|_| {
            let secret = Secret::from_text(secret.clone());
            StaticSecret::new(secret, token_endpoint::target(&upstream)).unwrap()
        })
        .await;
    broker.ledger().secret("the configured secret", &secret);
    for _ in 0..3 {
        assert_eq!(broker.call_with(&[], CALL).await.status, 502, "R518");
    }
    let found = lines(&broker, "upstream.secret_refused");
    let [line] = &found[..] else { panic!("R518: {found:?}") };
    assert!(line.contains("request.id=") && line.contains("items"), "R518 {line}");
    broker.done().await;
}
