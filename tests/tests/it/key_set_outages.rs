//! A key set that is flooded with unknown `kid`s, or cannot be fetched, with the whole stack.

use std::time::Duration;

use serde_json::{Value, json};
use token_broker_tests::wire::RawResponse;

use crate::{hostile_case::Case, hostile_tokens::Fetching};

const ALARM: &str = r#"alarm="jwks.fetch_failed""#;

impl Fetching {
    /// Calls with a token that was issued now.
    async fn good_call(&self) -> RawResponse {
        self.broker.send(&self.call(&self.broker.token("items:read"))).await
    }

    /// Returns a call with a valid token whose key is not in the set.
    fn unknown(&self, kid: &str) -> Vec<u8> {
        let mut parts = self.good();
        parts.header["kid"] = kid.into();
        self.call(&self.signed(&parts))
    }

    fn alarms(&self) -> usize {
        let logs = String::from_utf8(self.broker.ledger().logs()).unwrap();
        logs.lines().filter(|line| line.contains(ALARM)).count()
    }
}

#[tokio::test]
async fn x29_a_flood_of_unknown_kids_is_one_fetch_and_harms_no_one() {
    const FLOOD: usize = 400;
    let fetching = Fetching::start().await;
    assert_eq!(fetching.good_call().await.status, 200);
    assert_eq!(fetching.key_set.received().len(), 1);
    let mut requests = 1;
    for window in 1..=3 {
        fetching.clock.advance(Duration::from_secs(30));
        for number in 0..FLOOD {
            let response = fetching.broker.send(&fetching.unknown(&format!("n{number}"))).await;
            assert_eq!(response.status, 401, "X29 {}", response.text());
            if number % 40 == 0 {
                assert_eq!(fetching.good_call().await.status, 200, "X29");
                requests += 1;
            }
        }
        requests += FLOOD as u64;
        assert_eq!(fetching.key_set.received().len(), 1 + window, "X29");
    }
    let records = fetching.broker.expect_records(requests).await;
    let of_kids = records.iter().filter(|record| record["reason"] == "jwt.kid");
    let counted: u64 = of_kids.map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 3 * FLOOD as u64, "X29: each is counted");
    assert_eq!(fetching.alarms(), 0, "X29: no fetch failed");
    fetching.broker.done().await;
}

#[tokio::test]
async fn x30_an_empty_set_is_an_alarm_and_replaces_nothing() {
    let fetching = Fetching::start().await;
    let good = fetching.keys.lock().clone();
    for (case, bad) in [
        ("an empty set", json!({"keys": []}).to_string()),
        ("no usable key", json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string()),
        ("no set", "{}".to_owned()),
        ("nothing", String::new()),
        ("half a set", good.chars().take(good.len() / 2).collect()),
    ] {
        good.clone_into(&mut fetching.keys.lock());
        fetching.clock.advance(Duration::from_secs(31 * 60));
        assert_eq!(fetching.good_call().await.status, 200, "X30 {case}");
        let (fetches, alarms) = (fetching.key_set.received().len(), fetching.alarms());
        // The good set was fetched a moment ago, and is used for a day.
        *fetching.keys.lock() = bad;
        for hour in 1..24 {
            fetching.clock.advance(Duration::from_secs(3600));
            let response = fetching.good_call().await;
            assert_eq!(response.status, 200, "X30 {case}, hour {hour}: {}", response.text());
        }
        // Each was waited for, because the set was older than twice its refresh.
        let failed = fetching.key_set.received().len() - fetches;
        assert_eq!((failed, fetching.alarms() - alarms), (23, 23), "X30 {case}");
        fetching.clock.advance(Duration::from_secs(3600));
        let call = fetching.call(&fetching.broker.token("items:read"));
        let refused = Case::refused("X30", call, 503, "authn.keys_unavailable");
        let [response] = fetching.run([refused]).await.try_into().unwrap();
        assert!(response.header("retry-after").is_some(), "X30 {case}: {:?}", response.headers);
    }
    let alarm = String::from_utf8(fetching.broker.ledger().logs()).unwrap();
    let alarm = alarm.lines().find(|line| line.contains(ALARM)).unwrap().to_owned();
    assert!(alarm.contains("ERROR") && alarm.contains(&fetching.key_set.url("/jwks")), "{alarm}");
    fetching.broker.done().await;
}

/// A set that names another key is a rotation: it replaces the last one.
#[tokio::test]
async fn x30_a_good_set_replaces_the_last_one() {
    let fetching = Fetching::start().await;
    assert_eq!(fetching.good_call().await.status, 200);
    let mut other: Value = fetching.keys.lock().parse().unwrap();
    other["keys"][0]["kid"] = "other".into();
    *fetching.keys.lock() = other.to_string();
    fetching.clock.advance(Duration::from_secs(31 * 60));
    let call = fetching.call(&fetching.broker.token("items:read"));
    fetching.run([Case::refused("X30", call, 401, "jwt.key_retired")]).await;
    assert_eq!(fetching.alarms(), 0, "X30");
    fetching.broker.done().await;
}
