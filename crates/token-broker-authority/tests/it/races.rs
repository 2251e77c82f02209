//! Several processes of the broker on one store, and several of a client on one refresh token.

use std::collections::HashSet;

use crate::support::*;

#[tokio::test]
async fn f501_two_processes_that_refresh_at_once_obtain_the_same_successor() {
    let one = Server::start().await;
    let other = one.replica().await;
    let (client, mut token) = one.family().await;
    for _ in 0..25 {
        let (first, second) =
            tokio::join!(one.refresh(&client, &token), other.refresh(&client, &token));
        assert_eq!((first.status, second.status), (200, 200));
        let successors = [first, second].map(|reply| text(&reply.json()["refresh_token"]));
        assert_eq!(successors[0], successors[1]);
        assert_ne!(successors[0], token);
        token = successors[0].clone();
    }
    for server in [&one, &other] {
        assert_eq!(server.recorded("family_ended").await.len(), 0);
    }
}

#[tokio::test]
async fn f501_ten_processes_of_a_client_that_hold_old_tokens_are_never_signed_out() {
    let one = Server::start().await;
    let other = one.replica().await;
    let (client, token) = one.family().await;
    let mut held = vec![token; 10];
    for round in 0..30_usize {
        // All at once.
        let mut tasks = tokio::task::JoinSet::new();
        for (number, token) in held.iter().cloned().enumerate() {
            let address = if (round + number) % 2 == 0 { one.address } else { other.address };
            let client = client.clone();
            tasks.spawn(async move { (number, refresh_at(address, &client, &token).await) });
        }
        while let Some(ended) = tasks.join_next().await {
            let (number, reply) = ended.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
            // Every third process does not hear of the others for a while.
            if number % 3 != round % 3 {
                held[number] = text(&reply.json()["refresh_token"]);
            }
        }
        one.clock.advance(std::time::Duration::from_secs(5));
    }
    assert_eq!(one.recorded("family_ended").await.len(), 0);
    assert!(one.recorded("token_issued").await.iter().any(|record| record["stale"] == true));
}

#[tokio::test]
async fn f502_of_two_processes_that_redeem_one_code_one_obtains_tokens() {
    let one = Server::start().await;
    let other = one.replica().await;
    let client = one.register(&[REDIRECT]).await;
    for _ in 0..20 {
        let code = one.code(&client).await;
        let (first, second) =
            tokio::join!(one.redeem(&client, &code), other.redeem(&client, &code));
        let statuses = HashSet::from([first.status, second.status]);
        assert_eq!(statuses, HashSet::from([200, 400]));
        let tokens = [&first, &second].into_iter().find(|reply| reply.status == 200).unwrap();
        // A client that sent its request twice keeps its tokens.
        let refresh = text(&tokens.json()["refresh_token"]);
        assert_eq!(one.refresh(&client, &refresh).await.status, 200);
    }
}

#[tokio::test]
async fn two_processes_that_start_at_once_have_the_same_keys() {
    use token_broker_store::authority::SigningKeyStore;
    use tower_token_broker::clock::{Clock, Timestamp};
    for _ in 0..5 {
        let store = crate::faulty_store::TestStore::new();
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let start =
            || Server::start_on(store.clone(), clock.clone(), |_, builder| builder.server(crm()));
        let (one, other) = tokio::join!(start(), start());
        assert_eq!(store.signing_keys().await.unwrap().keys.len(), 1);
        assert_eq!(one.get("/oauth/jwks").await.body, other.get("/oauth/jwks").await.body);
    }
}
