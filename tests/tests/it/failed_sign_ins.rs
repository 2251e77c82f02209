//! Floods of wrong passwords and wrong tokens: bounded work, bounded records, no one kept out.

use std::{net::SocketAddr, time::Duration};

use axum::{extract::Request, middleware};
use serde_json::Value;
use token_broker_tests::{
    harness::{Broker as Harness, CALL, serve},
    upstream::{ScriptedServer, json},
    wire::{self, RawResponse},
};
use tokio::net::TcpListener;
use tower_token_broker::{
    Broker,
    audit::InMemory,
    clock::{Clock, Timestamp},
};

use crate::browser_pages::{OWN, PASSWORD, form, pages, post};

/// The pages, as a proxy sends requests to them: with the address of the browser.
struct Pages {
    broker: Broker,
    records: InMemory,
    clock: Clock,
    address: SocketAddr,
    visit: String,
    csrf: String,
}

impl Pages {
    async fn start() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
        let records = InMemory::new();
        let broker = Broker::builder().audit(records.clone()).clock(clock.clone()).build().unwrap();
        let app = pages(&broker).await.layer(middleware::from_fn(
            async |mut request: Request, next: middleware::Next| {
                if let Some(peer) = request.headers_mut().remove("x-peer") {
                    let peer: SocketAddr = peer.to_str().unwrap().parse().unwrap();
                    request.extensions_mut().insert(peer);
                }
                next.run(request).await
            },
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, app);
        let (visit, filled) = form(address).await;
        let csrf = filled.split_once("csrf=").unwrap().1.to_owned();
        Self { broker, records, clock, address, visit, csrf }
    }

    /// Attempts to sign in from this address.
    async fn attempt(&self, peer: &str, user: &str, password: &str) -> RawResponse {
        let peer = format!("{peer}:40000");
        let fields = [OWN, ("cookie", &*self.visit), ("x-peer", &*peer)];
        let password = password.replace(' ', "+");
        let body = format!("user={user}&password={password}&csrf={}", self.csrf);
        post(self.address, &fields, &body).await
    }

    /// Returns the reasons of the failed attempts that were recorded.
    async fn failures(&self) -> Vec<String> {
        self.broker.audit_log().flush().await.unwrap();
        let records: Vec<Value> =
            self.records.lines().iter().map(|line| line.parse().unwrap()).collect();
        let failed = records.iter().filter(|record| record["kind"] == "sign_in");
        failed.filter_map(|record| record["reason"].as_str().map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn m251_a_flood_at_one_account_is_slowed_down_and_locks_no_one_out() {
    let pages = Pages::start().await;
    let mut checked = 0;
    for number in 0..600 {
        let response = pages.attempt("203.0.113.9", "alice", "wrong").await;
        checked += usize::from(response.status == 401);
        let is_expected = [401, 429].contains(&response.status);
        assert!(is_expected, "M251 attempt {number}: {}", response.status);
        // Ten per second, for a minute.
        pages.clock.advance(Duration::from_millis(100));
    }
    // Five, and one after each pause: 30 seconds.
    assert!((5..=7).contains(&checked), "M251 {checked} passwords were checked");
    let failures = pages.failures().await;
    let wrong = failures.iter().filter(|reason| *reason == "sign_in.wrong_password").count();
    assert_eq!(wrong, checked, "M251: each password that was checked is on record");
    assert!(failures.len() <= 2 * checked, "M251: refusals do not fill the log: {failures:?}");
    // The attacker is refused now, also with the right password; alice is not.
    let refused = pages.attempt("203.0.113.9", "alice", PASSWORD).await;
    assert_eq!(refused.status, 429, "M251");
    assert!(refused.header("retry-after").is_some(), "M251");
    assert_eq!(pages.attempt("198.51.100.7", "alice", PASSWORD).await.status, 303, "M251");
}

#[tokio::test]
async fn m251_a_flood_from_one_address_at_all_accounts_locks_no_one_out() {
    let pages = Pages::start().await;
    let mut checked = 0;
    for number in 0..600 {
        let user = format!("user{number}");
        let response = pages.attempt("203.0.113.9", &user, "wrong").await;
        checked += usize::from(response.status == 401);
        pages.clock.advance(Duration::from_millis(100));
    }
    assert!((1..=200).contains(&checked), "M251 {checked} passwords were checked");
    assert!(pages.failures().await.len() <= checked + 1, "M251");
    assert_eq!(pages.attempt("198.51.100.7", "alice", PASSWORD).await.status, 303, "M251");
}

#[tokio::test]
async fn m251_a_flood_of_one_bad_token_is_counted_and_locks_no_one_out() {
    const FLOOD: u64 = 1_000;
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let broker = Harness::in_front_of(&upstream).start().await;
    let bad = format!("{}x", broker.token("items:read"));
    let bearer = format!("Bearer {bad}");
    let flood = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    for number in 0..FLOOD {
        assert_eq!(broker.send(&flood).await.status, 401, "M251");
        if number % 100 == 0 {
            // The same user, from the same address.
            assert_eq!(broker.call_with(&[], CALL).await.status, 200, "M251");
        }
    }
    let records = broker.expect_records(FLOOD + FLOOD / 100).await;
    let is_of_token = |reason: &str| reason.starts_with("jwt.");
    let refused =
        records.iter().filter(|record| record["reason"].as_str().is_some_and(is_of_token));
    let counted: u64 = refused.map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, FLOOD, "M251: the count is exact");
    assert_eq!(upstream.received().len() as u64, FLOOD / 100, "M251");
    broker.done().await;
}
