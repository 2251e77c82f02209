//! Trouble of the broker costs no client its sign-in: 503, and the same request is good later.

use std::time::Duration;

use token_broker_store::authority::{
    AccountStore, AddSigningKey, AuthorityStore, CodeState, CodeStore, KeyTimes, NewAccount,
    SigningKey, SigningKeyStore, UserName,
};
use tower_token_broker::{Secret, refusal::Reason};

use crate::{
    faulty_store::{Fault, TestRevocations},
    support::*,
};

/// Whether a response states that the same request is good later.
#[track_caller]
fn is_our_trouble(reply: &Reply, case: &str) {
    assert_eq!(reply.status, 503, "{case}: {reply:?}");
    assert_eq!(reply.error(), "temporarily_unavailable", "{case}");
    assert!(reply.headers.contains_key("retry-after"), "{case}");
    assert!(!reply.body.contains("token\":"), "{case}");
}

/// Redeems a code and refreshes while something fails, and once it works again.
async fn costs_nothing(server: &Server, case: &str, begin: impl AsyncFn(), end: impl AsyncFn()) {
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let (other, token) = server.family().await;
    begin().await;
    for _ in 0..2 {
        is_our_trouble(&server.redeem(&client, &code).await, &format!("{case}, a code"));
        is_our_trouble(&server.refresh(&other, &token).await, &format!("{case}, a refresh"));
    }
    end().await;
    let redeemed = server.redeem(&client, &code).await;
    assert_eq!(redeemed.status, 200, "F507 {case}, a code: {}", redeemed.body);
    let refreshed = server.refresh(&other, &token).await;
    assert_eq!(refreshed.status, 200, "F507 {case}, a refresh: {}", refreshed.body);
    for (client, reply) in [(client, redeemed), (other, refreshed)] {
        let token = text(&reply.json()["refresh_token"]);
        assert_eq!(server.refresh(&client, &token).await.status, 200, "F507 {case}");
    }
    assert_eq!(server.recorded("family_ended").await.len(), 0, "F507 {case}");
}

#[tokio::test]
async fn f507_a_stale_feed_costs_no_sign_in() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    let begin = async || {
        revocations.silence(true);
        while server.permits() != Err(Reason::RevocationStale) {
            server.clock.advance(Duration::from_secs(6));
            tokio::task::yield_now().await;
        }
    };
    let end = async || {
        revocations.silence(false);
        server.until_current().await;
    };
    costs_nothing(&server, "stale feed", begin, end).await;
}

#[tokio::test]
async fn f507_shutting_down_costs_no_sign_in() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let (other, token) = server.family().await;
    let (broker, tasks) = (server.broker.clone(), server.broker.tasks().clone());
    let ending = tasks.spawn("shutdown of the test", async move {
        broker.shutdown(Duration::from_secs(2)).await
    });
    while server.permits() != Err(Reason::ShuttingDown) {
        tokio::task::yield_now().await;
    }
    is_our_trouble(&server.redeem(&client, &code).await, "shutdown, a code");
    is_our_trouble(&server.refresh(&other, &token).await, "shutdown, a refresh");
    let hash = server.store.lookup_key().await.unwrap().code(&Secret::from_text(code));
    let stored = server.store.code(&hash).await.unwrap().unwrap();
    assert_eq!(stored.state, CodeState::Unused, "F507: for the next process");
    drop(ending);
}

#[tokio::test]
async fn f507_a_store_that_fails_costs_no_sign_in() {
    for method in
        ["code", "redeem_code", "family", "advance_family", "account", "mark_client_used", "client"]
    {
        for fault in [Fault::Before, Fault::After] {
            let is_of_both = matches!(method, "account" | "mark_client_used" | "client");
            let server = Server::start().await;
            if is_of_both {
                let begin = async || server.store.fail(method, fault);
                let end = async || server.store.work();
                costs_nothing(&server, &format!("{method} {fault:?}"), begin, end).await;
                continue;
            }
            let case = format!("F507 {method} {fault:?}");
            let client = server.register(&[REDIRECT]).await;
            let code = server.code(&client).await;
            let (other, token) = server.family().await;
            server.store.fail(method, fault);
            let is_of_codes = method.ends_with("code");
            let attempt = async || match is_of_codes {
                true => server.redeem(&client, &code).await,
                false => server.refresh(&other, &token).await,
            };
            is_our_trouble(&attempt().await, &case);
            if fault == Fault::Before {
                is_our_trouble(&attempt().await, &case);
            }
            server.store.work();
            let reply = attempt().await;
            assert_eq!(reply.status, 200, "{case}: {}", reply.body);
            assert_eq!(server.recorded("family_ended").await.len(), 0, "{case}");
        }
    }
}

#[tokio::test]
async fn f507_a_lost_redemption_is_completed_once() {
    let server = Server::start().await;
    let (client, stranger) =
        (server.register(&[REDIRECT]).await, server.register(&[REDIRECT]).await);
    let lost = async || {
        let code = server.code(&client).await;
        server.store.fail("redeem_code", Fault::After);
        is_our_trouble(&server.redeem(&client, &code).await, "the response of the store is lost");
        server.store.work();
        code
    };
    // Completed later than a replay is tolerated, and then it is a replay as any other.
    let code = lost().await;
    server.clock.advance(Duration::from_secs(30));
    let reply = server.redeem(&client, &code).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    server.clock.advance(Duration::from_secs(30));
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "F124");
    let token = text(&reply.json()["refresh_token"]);
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "F124");
    // Another client, or without the verifier: a replay.
    for form in ["client", "verifier"] {
        let code = lost().await;
        let form = match form {
            "client" => redemption(&stranger, &code),
            _ => with(&redemption(&client, &code), "code_verifier", WRONG),
        };
        assert_eq!(server.post("/oauth/token", &form).await.error(), "invalid_grant");
        assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "F124");
    }
    // Long after the code: too late.
    let code = lost().await;
    server.clock.advance(minutes(2));
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant");
}

const WRONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn f507_a_log_that_fails_costs_no_sign_in() {
    let server = Server::start().await;
    let begin = async || server.records.fail();
    let end = async || {
        server.records.work();
        while !server.broker.audit_log().is_open() {
            tokio::task::yield_now().await;
        }
    };
    costs_nothing(&server, "audit log", begin, end).await;
}

#[tokio::test]
async fn f507_a_missing_signing_key_costs_no_sign_in() {
    let server = Server::start().await;
    // The successor of the key cannot be read here, so that no key signs from then on.
    let set = server.store.signing_keys().await.unwrap();
    let (now, first) = (server.clock.now(), &set.keys[0]);
    let until = now.plus(minutes(60));
    let key = SigningKey::new("unreadable", "ES256", Secret::new(vec![1; 64]), {
        KeyTimes::new(now, until)
    });
    let times = first.times.until(until, until.plus(minutes(60 * 24)));
    let add = AddSigningKey::new(set.generation, key).times(&first.id, times);
    assert!(server.store.add_signing_key(&add).await.unwrap());
    server.authority.refresh_keys().await.unwrap();
    server.store.fail("add_signing_key", Fault::Before);
    server.store.fail("signing_keys", Fault::Before);
    server.clock.advance(minutes(60));
    let (client, other) = (server.register(&[REDIRECT]).await, server.register(&[REDIRECT]).await);
    let codes = [server.code(&client).await, server.code(&other).await];
    is_our_trouble(&server.redeem(&client, &codes[0]).await, "no key signs");
    server.store.work();
    server.authority.refresh_keys().await.unwrap();
    for (client, code) in [client, other].iter().zip(&codes) {
        let reply = server.redeem(client, code).await;
        assert_eq!(reply.status, 200, "F507: {}", reply.body);
    }
}

#[tokio::test]
async fn f505_a_disabled_account_redeems_no_code() {
    let server = Server::start().await;
    let hash = Secret::from_text("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into());
    let name = UserName::parse("alice").unwrap();
    let account = NewAccount::new("alice", name, hash, server.clock.now());
    drop(server.store.create_account(&account).await.unwrap());
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    server.store.disable_account("alice").await.unwrap();
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "F505");
    assert_eq!(server.recorded("token_issued").await.len(), 0, "F505");
}
