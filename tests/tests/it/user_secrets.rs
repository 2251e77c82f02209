//! Configured secrets: one for each user, and short ones.

use http::Response;
use token_broker_store::Account;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    token_endpoint::target,
    upstream::{ScriptedServer, full, json},
    wire,
};
use token_broker_upstream::{StaticSecret, UserSecrets};
use tower_token_broker::{Secret, principal::User};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const ALICES: &str = "tbm-us-alice-Kw8Zr2VxLd0aHs7NfYc4TgUeJ1PoB";
const PAGE: &str = "https://broker.example.com/secrets";

fn secrets(upstream: &ScriptedServer) -> UserSecrets {
    let secrets = UserSecrets::new(target(upstream)).connect_url(|_| PAGE.into());
    let alice = User::new(ISSUER, "alice");
    let secret = Secret::from_text(ALICES.to_owned());
    secrets.set(&alice, &Account::default_account(), secret).unwrap();
    secrets
}

#[tokio::test]
async fn each_user_sends_a_secret_of_its_own() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start_with(|_| secrets(&upstream)).await;
    broker.ledger().secret("alice's own token", ALICES);
    assert_eq!(broker.call_with(&[], CALL).await.text(), RESULT);
    assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {ALICES}")]);

    let bearer = format!("Bearer {}", broker.token_of("bob", "items:read"));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    let response = broker.send(&call).await;
    assert_eq!(response.json()["error"]["code"], -32001, "{}", response.text());
    assert!(response.text().contains(PAGE), "bob enters a secret first");
    assert_eq!(upstream.received().len(), 1);
    broker.done().await;
}

#[tokio::test]
async fn i483_a_refused_secret_of_a_user_is_no_reason_to_connect() {
    let upstream =
        ScriptedServer::start(|_| Response::builder().status(401).body(full("")).unwrap()).await;
    let broker = Broker::in_front_of(&upstream).start_with(|_| secrets(&upstream)).await;
    broker.ledger().secret("alice's own token", ALICES);
    let response = broker.call_with(&[], CALL).await;
    assert_eq!((response.status, response.header("retry-after")), (502, Some("30")), "I483");
    assert_eq!(response.json()["error"]["code"], -32000, "I483");
    assert!(!response.text().contains(PAGE), "I483: {}", response.text());
    assert_eq!(upstream.received().len(), 1, "I483: there is no other secret to try");
    broker.done().await;
}

#[tokio::test]
async fn r485_a_short_secret_leaves_the_length_as_it_is() {
    let length = RESULT.len().to_string();
    for secret in [length.as_str(), "4", "8"] {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let secret = Secret::from_text(secret.to_owned());
        let broker = Broker::in_front_of(&upstream)
            .start_with(|_| StaticSecret::dangerous_short_secret(secret, target(&upstream)))
            .await;
        let response = broker.call_with(&[], CALL).await;
        assert_eq!((response.status, response.text()), (200, RESULT), "R485");
        assert_eq!(response.header("content-length"), Some(length.as_str()), "R485");
        broker.done().await;
    }
}
