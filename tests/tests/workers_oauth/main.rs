//! Interoperability with `@cloudflare/workers-oauth-provider` in workerd, as the authorization
//! server of stored grants, and as the upstream: many remote MCP servers are built with it.
//!
//! `tests/interop/workers-oauth/run` installs it and runs these tests. Without
//! `TOKEN_BROKER_WORKERS_OAUTH` they are skipped with a message.

#![cfg(test)]

mod server;

use std::time::Duration;

use token_broker_outbound::GuardedClient;
use token_broker_store::{Account, Grant, GrantKey, GrantState, MemoryGrants};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    token_endpoint::guarded,
    upstream::{ScriptedServer, json},
};
use token_broker_upstream::{AuthorizationServer, ClientAuthentication, StoredGrants};
use tower_token_broker::{
    Secret,
    clock::Clock,
    exchange::Upstream,
    principal::{GrantId, Scopes, User},
};

use server::WorkersOauth;

const REFRESHES: usize = 20;
const PAGE: &str = "https://broker.example.com/connect";

fn key() -> GrantKey {
    GrantKey::new(User::new(ISSUER, "alice"), "items", Account::default_account())
}

/// A broker in front of the worker, with the grant that its authorization server issued.
async fn in_front_of(worker: &WorkersOauth) -> (Broker, MemoryGrants, Clock) {
    let (grants, clock) = (MemoryGrants::new(), Clock::manual(Clock::system().now()));
    let scopes = Scopes::parse("crm:read").unwrap();
    let grant = Grant::new(GrantId::new("alices"), key(), &worker.base)
        .granted(scopes.clone())
        .refresh_token(Secret::from_text(worker.refresh_token.clone()));
    grants.insert(grant).unwrap();
    let secret = Secret::from_text(worker.client_secret.clone());
    let server = AuthorizationServer::new(
        &worker.base,
        format!("{}/token", worker.base).parse().unwrap(),
        ClientAuthentication::basic(&worker.client_id, secret),
    )
    .scopes(scopes)
    .resource(&format!("{}/mcp", worker.base));
    let upstream = Upstream::parse("items", &format!("{}/mcp", worker.base)).unwrap();
    let client: GuardedClient = guarded();
    let unused = ScriptedServer::start(|_| json("{}")).await;
    let store = grants.clone();
    let broker = Broker::in_front_of(&unused)
        .with_clock(clock.clone())
        .start_with(move |handle| {
            StoredGrants::new(handle, store, upstream, server, client).connect_url(|_| PAGE.into())
        })
        .await;
    (broker, grants, clock)
}

#[tokio::test]
async fn twenty_refreshes_each_send_the_newest_token() {
    let Some(worker) = WorkersOauth::start() else { return };
    let (broker, grants, clock) = in_front_of(&worker).await;
    for round in 1..=REFRESHES {
        let response = broker.call_with(&[], CALL).await;
        assert_eq!(response.status, 200, "{round}: {}", response.text());
        assert!(response.json()["result"].is_object(), "{round}: {}", response.text());
        // The worker's own clock is the real one: only the broker considers the token expired.
        clock.advance(Duration::from_secs(2 * 3600));
    }
    let refreshes = worker.refreshes();
    assert_eq!(refreshes.len(), REFRESHES);
    let mut newest = worker.refresh_token.clone();
    for (round, refresh) in refreshes.iter().enumerate() {
        assert_eq!(refresh.status, 200, "{round}");
        assert_eq!(refresh.presented, newest, "{round}");
        let agent = concat!("token-broker/", env!("CARGO_PKG_VERSION"));
        assert_eq!(refresh.agent, agent, "{round}");
        newest.clone_from(refresh.rotated.as_ref().expect("it rotates"));
    }
    let kept = grants.get(&key()).unwrap();
    assert_eq!((kept.state, kept.open_attempts), (GrantState::Active, 0));
    assert!(kept.refresh_token.unwrap().matches(&Secret::from_text(newest)));
    worker.report_to(broker.ledger());
    broker.done().await;
}

#[tokio::test]
async fn a_dead_grant_sends_the_user_to_connect() {
    let Some(worker) = WorkersOauth::start() else { return };
    let (broker, grants, _clock) = in_front_of(&worker).await;
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    worker.revoke_grants().await;
    // The access token ends, too: the upstream's 401 leads to a refresh, which is refused.
    let response = broker.call_with(&[], CALL).await;
    assert_eq!(response.json()["error"]["code"], -32001, "{}", response.text());
    assert!(response.text().contains(PAGE), "{}", response.text());
    assert_eq!(grants.get(&key()).unwrap().state, GrantState::EndedByServer);
    let refreshes = worker.refreshes();
    assert_eq!(refreshes.iter().map(|refresh| refresh.status).collect::<Vec<_>>(), [200, 400]);
    for _ in 0..3 {
        let response = broker.call_with(&[], CALL).await;
        assert_eq!(response.json()["error"]["code"], -32001, "{}", response.text());
    }
    assert_eq!(worker.refreshes().len(), 2, "a dead grant is not tried again");
    worker.report_to(broker.ledger());
    broker.done().await;
}
