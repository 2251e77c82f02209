//! Tests of the harness: a test that proves nothing fails.

use token_broker_tests::{
    harness::{Broker, CALL, SECRET},
    upstream::{ScriptedServer, json},
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

async fn called() -> Broker {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    broker
}

#[tokio::test]
#[should_panic(expected = "ends with `broker.done().await`")]
async fn a_test_that_does_not_settle_fails() {
    called().await;
}

#[tokio::test]
#[should_panic(expected = "requests = sum")]
async fn p287_a_request_without_a_record_fails() {
    let broker = called().await;
    broker.ledger().sent(1, b"");
    broker.done().await;
}

#[tokio::test]
#[should_panic(expected = "is in a response")]
async fn a_secret_in_a_response_fails() {
    let broker = called().await;
    broker.ledger().received_bytes("a response", SECRET.as_bytes());
    broker.done().await;
}

#[tokio::test]
#[should_panic(expected = "a secret of this test is in the logs")]
async fn a_secret_in_any_threads_log_fails() {
    // Not the common secret: other tests in the process search the same log lines.
    let secret = "tbm-k3Xw9QpLr7Vd2mNz";
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    broker.ledger().secret("a secret of this test", secret);
    assert_eq!(
        broker.send(b"GET /mcp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status,
        421
    );
    std::thread::spawn(move || tracing::trace!("sent {secret}")).join().unwrap();
    broker.done_unsent().await;
}

#[tokio::test]
#[should_panic(expected = "a broker token is in the logs")]
async fn a_logged_broker_token_fails() {
    let broker = called().await;
    let token = broker.token("items:read");
    broker.ledger().sent(0, token.as_bytes());
    tracing::trace!("got {token}");
    broker.done().await;
}

#[tokio::test]
#[should_panic(expected = "is in the audit")]
async fn p294_a_secret_in_a_record_fails() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let called = CALL.replace("get_item", SECRET);
    assert_eq!(broker.call_with(&[], &called).await.status, 200);
    broker.done().await;
}

#[tokio::test]
#[should_panic(expected = "was never in play")]
async fn a_secret_never_in_play_fails() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    assert_eq!(
        broker.send(b"GET /mcp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status,
        421
    );
    broker.done().await;
}

#[tokio::test]
#[should_panic(expected = "the upstream was called")]
async fn an_unexpected_call_fails() {
    called().await.done_unsent().await;
}
