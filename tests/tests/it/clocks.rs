//! Wrong clocks and late dates, through the mounted stack.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use token_broker_authority::issue::Issuer;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    upstream::{ScriptedServer, json as json_response, live_events},
    wire,
};
use tokio::sync::mpsc;
use tower_token_broker::{
    clock::{Clock, Timestamp},
    principal::User,
    revocation::RevocationTarget,
};

use crate::{
    hostile_case::{Case, run},
    hostile_tokens::Fetching,
};

const PROGRESS: &[u8] = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
                          \"params\":{\"progressToken\":1,\"progress\":1}}\n\n";

/// Returns the log as one string.
fn logs(broker: &Broker) -> String {
    String::from_utf8(broker.ledger().logs()).unwrap()
}

#[tokio::test]
async fn x23_setting_the_clock_back_extends_no_token() {
    for minutes in [2, 60] {
        let fetching = Fetching::start().await;
        let token = fetching.with_claims([("exp", json!(fetching.now + 60))]);
        let never_seen =
            fetching.with_claims([("exp", json!(fetching.now + 60)), ("jti", json!("never seen"))]);
        fetching.run([Case::passes("X23", fetching.call(&token))]).await;
        fetching.clock.set_wall_clock(Timestamp::from_unix_seconds(fetching.now - minutes * 60));
        fetching.run([Case::passes("X23", fetching.call(&token))]).await;
        assert!(
            logs(&fetching.broker).contains(r#"alarm="clock.set_back""#),
            "X23: alarm with the next request"
        );
        // Expiry and leeway; the case allows a minute.
        fetching.clock.advance(Duration::from_secs(90));
        let rows = [
            fetching.refused("X23", &token, "jwt.expired"),
            fetching.refused("X23", &never_seen, "jwt.expired"),
        ];
        fetching.run(rows).await;
        fetching.broker.done().await;
    }
}

#[tokio::test]
async fn x23_setting_the_clock_forward_ends_tokens_and_streams() {
    for minutes in [2, 60] {
        let (feed, chunks) = mpsc::channel(1);
        let chunks = parking_lot::Mutex::new(Some(chunks));
        let upstream = ScriptedServer::start(move |_| {
            let first = chunks.lock().take();
            first.map_or_else(|| json_response("{}"), live_events)
        })
        .await;
        let clock = Clock::manual(Clock::system().now());
        let broker = Broker::in_front_of(&upstream).with_clock(clock.clone()).start().await;
        let bearer = format!("Bearer {}", broker.token("items:read"));
        let post = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
        let mut open = broker.open(&post).await;
        feed.send(Bytes::from_static(PROGRESS)).await.unwrap();
        open.until("notifications/progress").await;
        clock.advance(Issuer::LIFETIME - Duration::from_secs(60));
        clock.set_wall_clock(clock.now().plus(Duration::from_secs(minutes * 60)));
        let response = tokio::time::timeout(Duration::from_secs(2), open.rest())
            .await
            .expect("X23: the stream is cut");
        assert_eq!(response.status, 200);
        run(&broker, &upstream, [Case::refused("X23", post, 401, "jwt.expired")]).await;
        assert!(logs(&broker).contains(r#"alarm="clock.set_forward""#), "X23");
        drop(feed);
        broker.done().await;
    }
}

#[tokio::test]
async fn x23_an_issuer_clock_ahead_raises_an_alarm() {
    let fetching = Fetching::start().await;
    let ahead = fetching.with_claims([
        ("iat", json!(fetching.now + 120)),
        ("nbf", json!(fetching.now + 120)),
        ("exp", json!(fetching.now + 420)),
    ]);
    fetching.run([fetching.refused("X23", &ahead, "jwt.not_yet_valid")]).await;
    let logs = logs(&fetching.broker);
    assert!(
        logs.contains(r#"alarm="clock.skewed""#) && logs.contains("is behind that of another"),
        "X23: {logs}"
    );
    fetching.broker.done_unsent().await;
}

#[tokio::test]
async fn x23_the_key_servers_clock_is_compared() {
    // The key server uses the system clock; this broker's clock is two minutes ahead.
    let fetching = Fetching::start().await;
    fetching.clock.set_wall_clock(Clock::system().now().plus(Duration::from_secs(120)));
    let token = fetching.with_claims([("exp", json!(fetching.now + 600))]);
    fetching.run([Case::passes("X23", fetching.call(&token))]).await;
    let logs = logs(&fetching.broker);
    assert!(
        logs.contains(r#"alarm="clock.skewed""#) && logs.contains("is ahead of that of another"),
        "X23: {logs}"
    );
    fetching.broker.done().await;
}

#[tokio::test]
async fn n400_a_revoked_user_stays_out_after_the_clock_was_ahead() {
    let upstream = ScriptedServer::start(|_| json_response("{}")).await;
    let start = Clock::system().now();
    let clock = Clock::manual(start);
    let broker = Broker::in_front_of(&upstream).with_clock(clock.clone()).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let post = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    run(&broker, &upstream, [Case::passes("N400", post.clone())]).await;
    let alice = User::new(ISSUER, "alice");
    broker.revoke(RevocationTarget::User(alice)).await;
    // For 20 s the clock is two days ahead, and another revoke sweeps the tables.
    clock.set_wall_clock(start.plus(Duration::from_secs(2 * 24 * 3600)));
    broker.revoke(RevocationTarget::User(User::new(ISSUER, "bob"))).await;
    clock.advance(Duration::from_secs(20));
    clock.set_wall_clock(start.plus(Duration::from_secs(20)));
    run(&broker, &upstream, [Case::refused("N400", post, 401, "authn.revoked")]).await;
    broker.done().await;
}

#[tokio::test]
async fn x24_late_years_are_accepted() {
    let upstream = ScriptedServer::start(|_| json_response("{}")).await;
    for seconds in
        [(1 << 31) - 1, 1 << 31, 1 << 32, 253_402_300_799, 253_402_300_800, (1 << 53) - 24 * 3600]
    {
        let clock = Clock::manual(Timestamp::from_unix_seconds(seconds));
        let broker = Broker::in_front_of(&upstream).with_clock(clock.clone()).start().await;
        let bearer = format!("Bearer {}", broker.token("items:read"));
        let post = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
        run(&broker, &upstream, [Case::passes("X24", post.clone())]).await;
        clock.advance(Duration::from_secs(24 * 3600));
        run(&broker, &upstream, [Case::refused("X24", post, 401, "jwt.expired")]).await;
        broker.done().await;
    }
}
