//! Helpers for the records of an audit log.

use serde_json::Value;
use token_broker_tests::harness::Broker;

/// Returns the terminal records in their order, one per request.
pub(crate) async fn results(broker: &Broker, requests: u64) -> Vec<Value> {
    let records = broker.expect_records(requests).await;
    records.into_iter().filter(|record| record["count"].is_u64()).collect()
}

/// Returns the terminal record of the last request.
pub(crate) async fn last_result(broker: &Broker, requests: u64) -> Value {
    results(broker, requests).await.pop().expect("a terminal record")
}

/// Returns outcome, reason, intents and uses of a terminal record.
pub(crate) fn summary(result: &Value) -> (&str, Option<&str>, u64, u64) {
    let number = |name: &str| result[name].as_u64().expect("a number");
    let outcome = result["outcome"].as_str().expect("an outcome");
    (outcome, result["reason"].as_str(), number("intents"), number("uses"))
}

/// Counts the records of a kind.
pub(crate) fn count(records: &[Value], kind: &str) -> usize {
    records.iter().filter(|record| record["kind"] == kind).count()
}
