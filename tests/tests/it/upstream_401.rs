//! An upstream's 401 for a stored grant: it causes one refresh and one replay of the judged
//! request, and is never forwarded.

use std::sync::Arc;

use http::Response;
use parking_lot::Mutex;
use serde_json::Value;
use token_broker_tests::{
    harness::{Broker, CALL},
    token_endpoint::TokenEndpoint,
    upstream::{Received, ScriptedBody, ScriptedServer, full, json},
    wire,
};
use tokio::task::JoinSet;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Refuses the first `n` access tokens.
fn refuses(tokens: usize) -> impl Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static {
    move |request| {
        let sent = request.values("authorization").concat();
        let is_refused = (0..tokens)
            .any(|number| sent == format!("Bearer {}", TokenEndpoint::access_token(number)));
        if is_refused {
            let challenge = "Bearer error=\"invalid_token\"";
            Response::builder()
                .status(401)
                .header("www-authenticate", challenge)
                .body(full(""))
                .unwrap()
        } else {
            json(RESULT)
        }
    }
}

fn of_kind(records: &[Value], kind: &str) -> usize {
    records.iter().filter(|record| record["kind"] == kind).count()
}

fn tokens(upstream: &ScriptedServer) -> Vec<String> {
    upstream.received().iter().flat_map(|received| received.values("authorization")).collect()
}

fn bearer(number: usize) -> String {
    format!("Bearer {}", TokenEndpoint::access_token(number))
}

#[tokio::test]
async fn i183_one_401_is_refreshed_and_replayed_once() {
    let upstream = ScriptedServer::start(refuses(1)).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let response = broker.call_with(&[], CALL).await;
    assert_eq!((response.status, response.text()), (200, RESULT));
    assert_eq!(tokens(&upstream), [bearer(0), bearer(1)]);
    assert!(
        upstream.received().iter().all(|received| received.body == CALL),
        "the very bytes that were judged"
    );
    assert_eq!(endpoint.posts(), 1);

    let records = broker.records().await;
    assert_eq!(
        (of_kind(&records, "intent"), of_kind(&records, "token_request")),
        (2, 1),
        "{records:#?}"
    );
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!((&result["outcome"], &result["uses"]), (&"completed".into(), &2.into()), "{result}");

    // The next call uses the new token at once.
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    assert_eq!((tokens(&upstream).len(), endpoint.posts()), (3, 1));
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}

#[tokio::test]
async fn i183_repeated_401s_end_after_one_replay() {
    let upstream = ScriptedServer::start(refuses(9)).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let response = broker.call_with(&[], CALL).await;
    assert_eq!(response.status, 502);
    assert_eq!(response.json()["error"]["code"], -32000, "{}", response.text());
    assert_eq!(response.header("retry-after"), Some("30"), "I483");
    assert!(response.text().contains("connecting an account does not help"), "I483");
    assert_eq!(response.header("www-authenticate"), None);
    assert_eq!(tokens(&upstream), [bearer(0), bearer(1)]);
    assert_eq!(endpoint.posts(), 1);

    let records = broker.records().await;
    assert_eq!(
        (of_kind(&records, "intent"), of_kind(&records, "token_request")),
        (2, 1),
        "{records:#?}"
    );
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!(
        (&result["outcome"], &result["reason"], &result["uses"]),
        (&"refused".into(), &"exchange.credential_refused".into(), &2.into()),
        "{result}"
    );

    // An upstream that refuses every token must not make the broker request one token after
    // another.
    assert_eq!(broker.call_with(&[], CALL).await.json()["error"]["code"], -32000);
    assert_eq!(tokens(&upstream), [bearer(0), bearer(1), bearer(1)]);
    assert_eq!(endpoint.posts(), 1);
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}

#[tokio::test]
async fn i183_only_safe_plain_http_requests_are_replayed() {
    let (passes, refused) = ((200, None), (502, Some("exchange.credential_refused")));
    for (method, body, sent, (status, reason)) in [
        ("GET", "", vec![bearer(0), bearer(1)], passes),
        // A body is consumed and cannot be replayed; without one, the request may still have
        // changed something.
        ("POST", "name=value", vec![bearer(0)], refused),
        ("POST", "", vec![bearer(0)], refused),
        ("DELETE", "", vec![bearer(0)], refused),
    ] {
        let upstream = ScriptedServer::start(refuses(1)).await;
        let endpoint = TokenEndpoint::start().await;
        let broker = Broker::in_front_of(&upstream)
            .plain_http()
            .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
            .await;
        let token = format!("Bearer {}", broker.token("items:read"));
        let request = wire::post("/v1/items", broker.host(), &[("authorization", &token)], body);
        let request = [method.as_bytes(), request.strip_prefix(b"POST").unwrap()].concat();
        let response = broker.send(&request).await;
        assert_eq!(response.status, status, "{method}: {}", response.text());
        assert_eq!(tokens(&upstream), sent, "{method}");
        let records = broker.records().await;
        let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
        assert_eq!(result["reason"].as_str(), reason, "{method}: {result}");
        assert_eq!(of_kind(&records, "intent"), sent.len(), "{method}");
        // The next request has the new token, whichever request fetched it.
        assert_eq!(broker.send(&request).await.status, 200, "{method}");
        assert_eq!(tokens(&upstream).last(), Some(&bearer(1)), "{method}");
        assert_eq!(endpoint.posts(), 1, "{method}");
        endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
        broker.done().await;
    }
}

#[tokio::test]
async fn i183_concurrent_401s_cause_one_refresh() {
    let upstream = ScriptedServer::start(refuses(1)).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call: Arc<[u8]> =
        wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL).into();
    let broker = Arc::new(broker);
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (broker, call) = (Arc::clone(&broker), Arc::clone(&call));
        calls.spawn(async move { broker.send(&call).await });
    }
    for response in calls.join_all().await {
        assert_eq!((response.status, response.text()), (200, RESULT));
    }
    assert_eq!(endpoint.posts(), 1);
    let records = broker.records().await;
    assert_eq!(of_kind(&records, "token_request"), 1, "{records:#?}");
    assert_eq!(of_kind(&records, "intent"), upstream.received().len());
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}

/// Responds to each access token with its statuses in turn, and with the last one from then on.
fn responds(
    plan: [&'static [u16]; 3],
) -> impl Fn(&Received) -> Response<ScriptedBody> + Send + Sync + 'static {
    let used = Mutex::new(vec![0; plan.len()]);
    move |request| {
        let sent = request.values("authorization").concat();
        let number = (0..plan.len()).find(|number| sent == bearer(*number)).unwrap();
        let mut used = used.lock();
        let statuses = plan[number];
        let status = statuses[used[number].min(statuses.len() - 1)];
        used[number] += 1;
        let mut response = json(RESULT);
        *response.status_mut() = status.try_into().unwrap();
        response
    }
}

#[tokio::test]
async fn i483_a_token_that_was_accepted_is_replaced_when_refused() {
    for (accepted, plan) in
        [(200, &[200, 401][..]), (404, &[404, 401]), (403, &[403, 401]), (200, &[200, 200, 401])]
    {
        let upstream = ScriptedServer::start(responds([&[401], plan, &[200]])).await;
        let endpoint = TokenEndpoint::start().await;
        let broker = Broker::in_front_of(&upstream)
            .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
            .await;
        for _ in 1..plan.len() {
            assert_eq!(broker.call_with(&[], CALL).await.status, accepted, "I483");
        }
        assert_eq!(broker.call_with(&[], CALL).await.status, 200, "I483 {accepted}");
        let used: Vec<_> =
            [0].into_iter().chain(plan.iter().map(|_| 1)).chain([2]).map(bearer).collect();
        assert_eq!(tokens(&upstream), used, "I483 {accepted}");
        assert_eq!(endpoint.posts(), 2, "I483 {accepted}");
        endpoint.report_to(broker.ledger(), &[0, 1, 2], &[0, 1, 2]);
        broker.done().await;
    }
}

#[tokio::test]
async fn i515_alternating_200_and_401_cause_two_refreshes() {
    let responses = Mutex::new(0_usize);
    let upstream = ScriptedServer::start(move |_: &Received| {
        let mut responses = responses.lock();
        *responses += 1;
        let mut response = json(RESULT);
        if responses.is_multiple_of(2) {
            *response.status_mut() = 401.try_into().unwrap();
        }
        response
    })
    .await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(broker.call_with(&[], CALL).await.status);
    }
    assert_eq!(endpoint.posts(), 2, "I515 {statuses:?}");
    // What the upstream accepts still passes.
    assert!(statuses.iter().filter(|status| **status == 200).count() > 6, "I515 {statuses:?}");
    endpoint.report_to(broker.ledger(), &[0, 1, 2], &[0, 1, 2]);
    broker.done().await;
}

#[tokio::test]
async fn i483_a_failing_upstream_accepts_no_token() {
    let upstream = ScriptedServer::start(responds([&[401], &[503, 401], &[200]])).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .start_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    assert_eq!(broker.call_with(&[], CALL).await.status, 502);
    for _ in 0..3 {
        let response = broker.call_with(&[], CALL).await;
        assert_eq!((response.status, response.header("retry-after")), (502, Some("30")), "I483");
        assert_eq!(response.json()["error"]["code"], -32000, "I483");
    }
    assert_eq!(endpoint.posts(), 1, "I483: no storm");
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}

#[tokio::test]
async fn i483_a_second_401_sends_no_one_to_connect() {
    let upstream = ScriptedServer::start(refuses(9)).await;
    let endpoint = TokenEndpoint::start().await;
    let broker = Broker::in_front_of(&upstream)
        .plain_http()
        .start_with(|handle| {
            let grants = endpoint.grants_with_access_token(handle, &upstream);
            grants.connect_url(|_| "https://broker.example.com/connect".into())
        })
        .await;
    let token = format!("Bearer {}", broker.token("items:read"));
    let request = wire::post("/v1/items", broker.host(), &[("authorization", &token)], "");
    let request = [b"GET", request.strip_prefix(b"POST").unwrap()].concat();
    let response = broker.send(&request).await;
    assert_eq!((response.status, response.header("retry-after")), (502, Some("30")), "I483");
    let body = response.json();
    assert_eq!(body["error"], "credential_refused", "I483");
    assert!(body.get("connect_url").is_none(), "I483: {body}");
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}
