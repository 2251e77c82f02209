//! Blocked users, restored grants, and two brokers that share a revocation store.

use std::time::Duration;

use serde_json::Value;
use token_broker_authority::issue::Mint;
use token_broker_store::MemoryRevocations;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    token_endpoint::{GRANT, TokenEndpoint},
    upstream::{ScriptedServer, json},
    wire::{self, RawResponse},
};
use tokio::time::timeout;
use tower_token_broker::{
    clock::Clock,
    principal::{Actor, GrantId, Initiator, User},
    revocation::RevocationTarget,
};

use crate::{
    records::{last_result, results, summary},
    streams::{RESULT, STREAMED_CALL, Streams, get_stream, post, progress},
};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(30);

fn alice() -> User {
    User::new(ISSUER, "alice")
}

fn olga() -> Initiator {
    Initiator::operator("olga")
}

/// Calls with a new token of a user.
async fn call_as(broker: &Broker, user: &str) -> RawResponse {
    let mint = Mint::for_user(user).client("test-client").resource(broker.resource());
    let token = broker.issuer().mint(mint).unwrap().into_text();
    broker.ledger().token(&token);
    let bearer = format!("Bearer {token}");
    let path = broker.resource().path();
    broker.send(&wire::post(path, broker.host(), &[("authorization", &bearer)], CALL)).await
}

/// Returns the records of revocations, blocks, unblocks and restorations: kind, target and
/// initiator.
async fn changes(broker: &Broker) -> Vec<[String; 5]> {
    let records = broker.records().await;
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    records
        .iter()
        .filter(|record| record["initiator"].is_string())
        .map(|record| {
            ["kind", "subject", "grant", "initiator", "initiator_name"]
                .map(|name| text(record, name))
        })
        .collect()
}

#[tokio::test]
async fn n258_a_block_ends_streams_and_refuses_all_tokens() {
    let mut streams = Streams::start().await;
    let broker = Broker::in_front_of(&streams.scripted).start().await;
    let handle = broker.handle();
    assert!(!handle.unblock(&alice(), &olga()).await.unwrap().was_known(), "no one is blocked");
    let mut of_alice = Vec::new();
    for request in [get_stream(&broker), post(&broker, STREAMED_CALL)] {
        let mut stream = broker.open(&request).await;
        let feed = streams.opened().await;
        feed.send(&progress(1)).await;
        stream.until(&progress(1)).await;
        of_alice.push((stream, feed));
    }
    assert_eq!(call_as(&broker, "bob").await.status, 200);

    let blocked = handle.block(&alice(), &olga()).await.unwrap();
    assert!(blocked.was_known(), "she has open streams");
    for (stream, feed) in of_alice {
        let response = stream.rest().await;
        assert_eq!((response.status, response.text()), (200, progress(1).as_str()));
        assert!(response.raw.ends_with(b"0\r\n\r\n"), "it ends cleanly: {response:?}");
        feed.closed().await;
    }
    // A token issued after the block is refused, too.
    for _ in 0..3 {
        let refused = call_as(&broker, "alice").await;
        assert_eq!(refused.status, 401, "{}", refused.text());
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(!refused.text().contains("block"), "no reason is revealed: {}", refused.text());
    }
    assert_eq!(call_as(&broker, "bob").await.status, 200, "only she is blocked");

    assert!(handle.unblock(&alice(), &olga()).await.unwrap().was_known());
    assert_eq!(call_as(&broker, "alice").await.status, 200);
    let results = results(&broker, 8).await;
    let found: Vec<_> = results.iter().map(summary).collect();
    let cut = ("cut", Some("authn.blocked"), 1, 1);
    assert_eq!(found.iter().filter(|one| **one == cut).count(), 2, "{found:?}");
    let refused = ("refused", Some("authn.blocked"), 0, 0);
    assert_eq!(found.iter().filter(|one| **one == refused).count(), 3, "{found:?}");
    // The record names the initiator.
    let of_refusal = results.iter().find(|result| result["uses"] == 0).unwrap();
    assert_eq!(of_refusal["subject"], "alice", "{of_refusal}");

    let expected = ["unblocked", "blocked", "unblocked"]
        .map(|kind| [kind, "alice", "", "operator", "olga"].map(str::to_owned));
    assert_eq!(changes(&broker).await, expected);
    broker.done().await;
}

#[tokio::test]
async fn a_block_outlives_revocations_and_does_not_expire() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let clock = Clock::manual(Clock::system().now());
    let broker = Broker::in_front_of(&upstream).with_clock(clock.clone()).start().await;
    assert!(!broker.block_alice().await.was_known(), "she was not seen yet");
    broker.revoke(RevocationTarget::Everything).await;
    // Longer than revocations are kept.
    clock.advance(Duration::from_secs(30 * 24 * 3600));
    broker.revoke(RevocationTarget::Everything).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(call_as(&broker, "bob").await.status, 200, "issued after the revoke");
    assert_eq!(call_as(&broker, "alice").await.status, 401);
    assert_eq!(last_result(&broker, 2).await["reason"], "authn.blocked");
    broker.done().await;
}

#[tokio::test]
async fn n258_unblocking_keeps_revoked_tokens_revoked() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let call = post(&broker, CALL);
    assert_eq!(broker.send(&call).await.status, 200);
    assert!(broker.block_alice().await.was_known());
    assert_eq!(broker.send(&call).await.status, 401);
    broker.handle().unblock(&alice(), &olga()).await.unwrap();
    assert_eq!(broker.send(&call).await.status, 200, "only the block refused it");
    assert!(broker.block_alice().await.was_known());
    assert!(broker.revoke(RevocationTarget::User(alice())).await.was_known());
    broker.handle().unblock(&alice(), &olga()).await.unwrap();
    assert_eq!(broker.send(&call).await.status, 401, "revoked tokens stay revoked");
    let reasons: Vec<_> =
        results(&broker, 4).await.iter().map(|result| result["reason"].clone()).collect();
    assert_eq!(reasons, [Value::Null, "authn.blocked".into(), Value::Null, "authn.revoked".into()]);
    broker.done().await;
}

#[tokio::test]
async fn a_restored_grant_is_used_again() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let grant = || GrantId::new(GRANT);
    let revoke = async || broker.revoke(RevocationTarget::Grant(grant())).await;
    assert!(!revoke().await.was_known(), "no credential of it was provided yet");
    let refused = broker.call_with(&[], CALL).await;
    assert_eq!(refused.json()["error"]["code"], -32001, "{}", refused.text());
    let restored = broker.handle().restore_grant(&grant(), &olga()).await.unwrap();
    assert!(restored.was_known(), "it was revoked");
    assert_eq!(broker.call_with(&[], CALL).await.text(), RESULT);
    assert!(revoke().await.was_known());
    let refused = broker.call_with(&[], CALL).await;
    assert_eq!(refused.json()["error"]["code"], -32001, "{}", refused.text());
    let restored = broker.handle().restore_grant(&grant(), &olga()).await.unwrap();
    assert!(restored.was_known());
    let again = broker.handle().restore_grant(&grant(), &olga()).await.unwrap();
    assert!(!again.was_known(), "it is not revoked any more");
    assert_eq!(broker.call_with(&[], CALL).await.text(), RESULT);

    assert_eq!((upstream.received().len(), endpoint.posts()), (2, 0));
    let results = results(&broker, 4).await;
    let reasons: Vec<_> = results.iter().map(|result| result["reason"].as_str()).collect();
    let revoked = Some("exchange.grant_revoked");
    assert_eq!(reasons, [revoked, None, revoked, None]);
    let changes = changes(&broker).await;
    let found = changes.iter().map(|[kind, subject, grant, _, name]| {
        assert_eq!((subject.as_str(), grant.as_str()), ("", GRANT));
        (kind.as_str(), name.as_str())
    });
    let found: Vec<_> = found.collect();
    let (revoked, restored) = (("revoked", "test"), ("grant_restored", "olga"));
    assert_eq!(found, [revoked, restored, revoked, restored, restored]);
    broker.ledger().secret("access token 0", &TokenEndpoint::access_token(0));
    broker.done().await;
}

/// Calls until the response has the expected status; earlier responses must have one of the given
/// statuses.
async fn until_status(broker: &Broker, user: &str, status: u16, before: &[u16]) -> u64 {
    let mut calls = 0;
    let calling = async {
        loop {
            let response = call_as(broker, user).await;
            calls += 1;
            if response.status == status {
                return;
            }
            assert!(before.contains(&response.status), "{}: {}", response.status, response.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, calling).await.expect("it travels through the store");
    calls
}

#[tokio::test]
async fn a_revoke_is_effective_at_another_replica() {
    let store = MemoryRevocations::new();
    let mut streams = Streams::start().await;
    let other_upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let one = Broker::in_front_of(&other_upstream).revocation_store(store.clone()).start().await;
    let other =
        Broker::in_front_of(&streams.scripted).revocation_store(store.clone()).start().await;
    // Requests are refused until the store has been read.
    let mut at_one = until_status(&one, "alice", 200, &[503]).await;
    let mut at_other = until_status(&other, "alice", 200, &[503]).await;
    let mut stream = other.open(&get_stream(&other)).await;
    at_other += 1;
    let feed = streams.opened().await;
    feed.send(&progress(1)).await;
    stream.until(&progress(1)).await;

    // A user revoked at one replica loses streams and tokens at the other.
    let issued_before = post(&other, CALL);
    let revoked = one.revoke(RevocationTarget::User(alice())).await;
    assert!(revoked.was_known());
    let cut = timeout(LONG, stream.rest()).await.expect("it travels through the store");
    assert_eq!((cut.status, cut.text()), (200, progress(1).as_str()));
    feed.closed().await;
    let refused = other.send(&issued_before).await;
    at_other += 1;
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert_eq!(last_result(&other, at_other).await["reason"], "authn.revoked");

    // Blocks and unblocks reach the other replica.
    let bob = User::new(ISSUER, "bob");
    assert!(!one.handle().block(&bob, &olga()).await.unwrap().was_known(), "not seen there");
    at_other += until_status(&other, "bob", 401, &[200]).await;
    assert_eq!(last_result(&other, at_other).await["reason"], "authn.blocked");
    let unblocked = other.handle().unblock(&bob, &olga()).await.unwrap();
    assert!(unblocked.was_known(), "blocked by the other replica");
    assert_eq!(call_as(&other, "bob").await.status, 200, "at once where it was ended");
    at_other += 1;
    at_one += until_status(&one, "bob", 200, &[401]).await;

    // Only the replica that made a change records it.
    let at = async |broker: &Broker| -> Vec<String> {
        changes(broker).await.into_iter().map(|[kind, ..]| kind).collect()
    };
    assert_eq!(
        (at(&one).await, at(&other).await),
        (vec!["revoked".to_owned(), "blocked".to_owned()], vec!["unblocked".to_owned()],)
    );
    one.expect_records(at_one).await;
    other.expect_records(at_other).await;

    // A replica that starts later reads all changes before it accepts requests.
    assert!(one.block_alice().await.was_known());
    let late_upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let late = Broker::in_front_of(&late_upstream).revocation_store(store).start().await;
    until_status(&late, "alice", 401, &[503]).await;
    until_status(&late, "bob", 200, &[]).await;
    assert_eq!(late_upstream.received().len(), 1);

    // All revocations take effect while the store is being followed.
    for broker in [&one, &other, &late] {
        assert_eq!(broker.shutdown(Duration::ZERO).await, Ok(()));
        broker.done().await;
    }
}

/// Returns a call, or a request for a stream, by which `agent` acts for alice.
fn by_agent(broker: &Broker, message: &str) -> Vec<u8> {
    let first = Actor::new(User::new("https://agents.example", "first"), None);
    let agent = Actor::new(User::new(ISSUER, "agent"), Some(first.with_client("first-app")));
    let mint = Mint::for_user("alice").client("test-client").resource(broker.resource());
    let token = broker.issuer().mint(mint.actor(agent)).unwrap().into_text();
    broker.ledger().token(&token);
    let bearer = format!("Bearer {token}");
    let path = broker.resource().path();
    wire::post(path, broker.host(), &[("authorization", &bearer)], message)
}

#[tokio::test]
async fn n402_a_revoked_agent_loses_streams_at_another_replica() {
    let client = RevocationTarget::Client {
        issuer: "https://agents.example".into(),
        id: "first-app".into(),
    };
    for target in [
        RevocationTarget::User(User::new(ISSUER, "agent")),
        RevocationTarget::User(User::new("https://agents.example", "first")),
        client,
    ] {
        let store = MemoryRevocations::new();
        let mut streams = Streams::start().await;
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let one = Broker::in_front_of(&upstream).revocation_store(store.clone()).start().await;
        let other = Broker::in_front_of(&streams.scripted).revocation_store(store).start().await;
        until_status(&one, "bob", 200, &[503]).await;
        until_status(&other, "bob", 200, &[503]).await;
        let call = by_agent(&other, CALL);
        assert_eq!(other.send(&call).await.status, 200);
        let mut stream = other.open(&by_agent(&other, STREAMED_CALL)).await;
        let feed = streams.opened().await;
        feed.send(&progress(1)).await;
        stream.until(&progress(1)).await;

        one.revoke(target.clone()).await;
        let cut = timeout(LONG, stream.rest()).await.expect("it travels through the store");
        assert_eq!((cut.status, cut.text()), (200, progress(1).as_str()), "N402 {target:?}");
        feed.closed().await;
        let refused = other.send(&call).await;
        assert_eq!(refused.status, 401, "N402 {target:?}: {}", refused.text());
        assert_eq!(call_as(&other, "alice").await.status, 200, "without the agent");
        for broker in [&one, &other] {
            assert_eq!(broker.shutdown(Duration::ZERO).await, Ok(()));
            broker.done().await;
        }
    }
}

#[tokio::test]
async fn n402_a_blocked_agent_is_refused_until_unblocked() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let (call, agent) = (by_agent(&broker, CALL), User::new(ISSUER, "agent"));
    assert_eq!(broker.send(&call).await.status, 200);
    let blocked = broker.handle().block(&agent, &olga()).await.unwrap();
    assert!(blocked.was_known(), "N402: it has acted");
    assert_eq!(broker.send(&call).await.status, 401, "N402");
    assert_eq!(last_result(&broker, 2).await["reason"], "authn.blocked", "N402");
    // Also with a token that was issued after the block.
    assert_eq!(broker.send(&by_agent(&broker, CALL)).await.status, 401, "N402");
    broker.handle().unblock(&agent, &olga()).await.unwrap();
    assert_eq!(broker.send(&call).await.status, 200, "N402");
    broker.done().await;
}

#[tokio::test]
async fn the_last_change_of_two_replicas_holds() {
    // Restored at one replica and revoked again at the other: the store's order decides.
    let store = MemoryRevocations::new();
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let endpoint = TokenEndpoint::start().await;
    let grants = |handle: &_| endpoint.grants_with_access_token(handle, &upstream);
    let one =
        Broker::in_front_of(&upstream).revocation_store(store.clone()).start_with(grants).await;
    let other =
        Broker::in_front_of(&upstream).revocation_store(store.clone()).start_with(grants).await;
    let code = |response: &RawResponse| response.json()["error"]["code"].as_i64();
    let until = async |broker: &Broker, expected: Option<i64>| {
        let calling = async {
            loop {
                let response = call_as(broker, "alice").await;
                if response.status == 200 && code(&response) == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, calling).await.expect("it travels through the store");
    };
    let grant = GrantId::new(GRANT);
    until(&one, None).await;
    until(&other, None).await;
    assert!(one.revoke(RevocationTarget::Grant(grant.clone())).await.was_known());
    until(&other, Some(-32001)).await;
    let restored = other.handle().restore_grant(&grant, &olga()).await.unwrap();
    assert!(restored.was_known(), "revoked by the other replica");
    until(&one, None).await;
    assert!(other.revoke(RevocationTarget::Grant(grant)).await.was_known());
    until(&one, Some(-32001)).await;
    until(&other, Some(-32001)).await;
    for broker in [&one, &other] {
        broker.ledger().secret("access token 0", &TokenEndpoint::access_token(0));
        let refused = last_result(broker, broker.ledger().requests()).await;
        assert_eq!(summary(&refused), ("refused", Some("exchange.grant_revoked"), 1, 0));
        broker.done().await;
    }
}
