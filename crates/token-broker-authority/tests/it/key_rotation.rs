//! Signing keys: published before they sign, and as long as their tokens live.

use std::time::Duration;

use serde_json::Value;
use tower_token_broker::{
    Secret,
    authenticate::{JwtVerifier, PresentedToken, VerifyRequest, VerifyToken, jwt::Keys},
    principal::{Initiator, Resource},
};

use crate::support::*;

async fn key_ids(server: &Server) -> Vec<String> {
    let keys = server.get("/oauth/jwks").await.json()["keys"].as_array().unwrap().clone();
    keys.iter().map(|key| text(&key["kid"])).collect()
}

async fn is_verified(server: &Server, keys: &Keys, token: &str) -> bool {
    let token = PresentedToken::new(Secret::from_text(token.to_owned()));
    let resource = Resource::parse(CRM).unwrap();
    let request = VerifyRequest::new(&token, &resource, &server.clock);
    JwtVerifier::new(ISSUER, keys).verify(&request).await.is_ok()
}

fn key_id(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    text(&str::from_utf8(&header).unwrap().parse::<Value>().unwrap()["kid"])
}

async fn access_token(server: &Server) -> String {
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    text(&server.redeem(&client, &code).await.json()["access_token"])
}

#[tokio::test]
async fn x21_a_key_is_published_before_it_signs_and_while_its_tokens_live() {
    let one = Server::start().await;
    let other = one.replica().await;
    let fetched = Keys::parse(one.get("/oauth/jwks").await.body.as_bytes()).unwrap();
    let first = key_ids(&one).await;
    assert_eq!((first.len(), key_ids(&other).await), (1, first.clone()));
    let old = access_token(&one).await;
    one.authority.rotate_keys(&Initiator::operator("olga")).await.unwrap();
    // The other process reads the keys within a minute.
    other.authority.refresh_keys().await.unwrap();
    let both = key_ids(&one).await;
    assert_eq!((both.len(), key_ids(&other).await), (2, both.clone()));
    // A verifier elsewhere that fetched the keys now knows the key before it signs.
    fetched.replace(
        &Keys::parse(other.get("/oauth/jwks").await.body.as_bytes()).unwrap(),
        one.clock.read(),
    );
    for server in [&one, &other] {
        assert_eq!(key_id(&access_token(server).await), first[0], "not yet");
    }
    one.clock.advance(Duration::from_secs(3599));
    let still_old = access_token(&one).await;
    assert_eq!(key_id(&still_old), first[0]);
    one.clock.advance(Duration::from_secs(1));
    for server in [&one, &other] {
        let token = access_token(server).await;
        assert_ne!(key_id(&token), first[0], "the new one signs, in each process at once");
        for keys in [one.authority.keys(), other.authority.keys(), &fetched] {
            assert!(is_verified(&one, keys, &token).await);
            assert!(is_verified(&one, keys, &still_old).await, "X21: tokens of the old key");
        }
    }
    assert!(!is_verified(&one, one.authority.keys(), &old).await, "it has expired");
    // The longest lifetime of a token later, the old key is over.
    one.clock.advance(Duration::from_secs(24 * 3600 + 30));
    one.authority.refresh_keys().await.unwrap();
    let last = key_ids(&one).await;
    assert_eq!((last.len(), last.contains(&first[0])), (1, false));
    let published = one.recorded("key_published").await;
    assert_eq!(published.len(), 2);
    assert_eq!(
        (&published[1]["initiator"], &published[1]["initiator_name"]),
        (&"operator".into(), &"olga".into())
    );
}

#[tokio::test]
async fn keys_rotate_by_themselves_once_for_all_processes() {
    let one = Server::start().await;
    let other = one.replica().await;
    let first = key_ids(&one).await;
    let day = minutes(24 * 60);
    one.clock.advance(day * 90 - minutes(61));
    one.authority.refresh_keys().await.unwrap();
    assert_eq!(key_ids(&one).await, first);
    one.clock.advance(minutes(1));
    let (first_step, second_step) =
        tokio::join!(one.authority.refresh_keys(), other.authority.refresh_keys());
    first_step.and(second_step).unwrap();
    one.authority.refresh_keys().await.unwrap();
    assert_eq!(key_ids(&one).await.len(), 2, "one new key");
    assert_eq!(key_ids(&one).await, key_ids(&other).await);
    assert_eq!(key_id(&access_token(&one).await), first[0]);
    one.clock.advance(minutes(60));
    assert_ne!(key_id(&access_token(&other).await), first[0]);
}

#[tokio::test]
async fn a_task_reads_the_keys_each_minute() {
    let one = Server::start().await;
    let other = one.replica().await;
    one.authority.rotate_keys(&Initiator::operator("olga")).await.unwrap();
    let until_both = async {
        while key_ids(&other).await.len() < 2 {
            // A step may come before the task waits for it.
            one.clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), until_both).await.expect("it reads them");
}

#[tokio::test]
async fn the_tasks_end_with_the_broker() {
    use token_broker_authority::{Authority, IssuerUrl};
    use token_broker_store::authority::MemoryAuthority;
    use tower_token_broker::{Broker, audit::InMemory};
    let broker = Broker::builder().audit(InMemory::new()).build().unwrap();
    let issuer = IssuerUrl::parse(ISSUER).unwrap();
    let started = Authority::builder(&broker, issuer, MemoryAuthority::new()).start().await;
    let authority = started.unwrap();
    assert_eq!(broker.tasks().running(), 2);
    broker.shutdown(Duration::from_secs(20)).await.unwrap();
    assert_eq!(broker.tasks().running(), 0);
    drop(authority);
}

#[tokio::test]
async fn a_restart_keeps_the_keys() {
    let one = Server::start().await;
    let token = access_token(&one).await;
    let again = one.replica().await;
    assert_eq!(key_ids(&again).await, key_ids(&one).await);
    assert!(is_verified(&again, again.authority.keys(), &token).await);
    assert_eq!(again.recorded("key_published").await.len(), 0);
}

#[tokio::test]
async fn x21_a_key_of_a_replica_whose_clock_is_ahead_is_verified() {
    use crate::faulty_store::TestStore;
    use tower_token_broker::clock::Clock;
    let store = TestStore::new();
    let now = Server::start().await.clock.now();
    let start = async |clock: Clock| {
        Server::start_on(store.clone(), clock, |_, builder| builder.server(crm())).await
    };
    let ahead = start(Clock::manual(now.plus(Duration::from_secs(20)))).await;
    let behind = start(Clock::manual(now)).await;
    let tokens = [access_token(&ahead).await, access_token(&behind).await];
    for token in &tokens {
        for keys in [ahead.authority.keys(), behind.authority.keys()] {
            // After both have read the keys of the other.
            ahead.authority.refresh_keys().await.unwrap();
            behind.authority.refresh_keys().await.unwrap();
            assert!(is_verified(&ahead, keys, token).await, "X21 {}", key_id(token));
        }
    }
    assert_eq!(key_ids(&ahead).await, key_ids(&behind).await);
    // From then on, one key signs in both.
    for server in [&ahead, &behind] {
        server.clock.advance(Duration::from_secs(60));
        server.authority.refresh_keys().await.unwrap();
    }
    let ids = [access_token(&ahead).await, access_token(&behind).await].map(|token| key_id(&token));
    assert_eq!(ids[0], ids[1], "X21");
}
