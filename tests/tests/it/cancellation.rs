//! Clients that disconnect at every await: no record or refresh is lost.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use token_broker_tests::{
    harness::{Broker, CALL, proxy},
    polls,
    token_endpoint::TokenEndpoint,
    upstream::{ScriptedServer, events, json},
};
use tower::ServiceExt as _;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn request(broker: &Broker) -> Request<Full<Bytes>> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    broker.ledger().sent(0, bearer.as_bytes());
    Request::post(broker.resource().path())
        .header(header::HOST, broker.host())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, bearer)
        .body(Full::from(CALL))
        .unwrap()
}

#[tokio::test]
async fn x25_each_dropped_request_has_one_terminal_record() {
    for streamed in [false, true] {
        let upstream =
            ScriptedServer::start(
                move |_| if streamed { events(&[RESULT, RESULT]) } else { json(RESULT) },
            )
            .await;
        let (_listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
        let service = stack.layer(proxy());
        for polls in 0.. {
            // A future that was never polled has not called the service, so there was no request.
            broker.ledger().sent(u64::from(polls > 0), b"");
            let whole = async {
                broker.read(service.clone().oneshot(request(&broker)).await.unwrap()).await.status
            };
            let done = polls::at_most(polls, whole).await;
            broker.records().await;
            // The next call succeeds, so nothing is still held.
            broker.ledger().sent(1, b"");
            let next = service.clone().oneshot(request(&broker)).await.unwrap();
            assert_eq!(broker.read(next).await.status, 200, "after {polls} polls");
            broker.records().await;
            if done.is_some() {
                assert!(polls > 1, "a request waits for the upstream at least: {done:?}");
                break;
            }
        }
        // No use without an intent: the upstream received at most as many requests as there are
        // intents.
        let intents =
            broker.records().await.iter().filter(|record| record["kind"] == "intent").count();
        assert!(upstream.received().len() <= intents);
        broker.done().await;
    }
}

/// A grant without access token: the call must first request one from a real token endpoint.
#[tokio::test]
async fn x25_a_cancelled_refresh_is_still_one_post() {
    let mut hung_up = 0;
    for polls in 1.. {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let endpoint = TokenEndpoint::start().await;
        let (_listener, stack, broker) = Broker::in_front_of(&upstream)
            .prepare_with(|handle| endpoint.grants(handle, &upstream))
            .await;
        let service = stack.layer(proxy());
        let call = async || {
            broker.ledger().sent(1, b"");
            broker.read(service.clone().oneshot(request(&broker)).await.unwrap()).await
        };
        let done = polls::at_most(polls, call()).await;
        // The refresh continues without its caller and completes.
        let refreshes = broker.handle().tasks();
        assert!(refreshes.shutdown(Duration::from_secs(10)).await, "after {polls} polls");
        let response = call().await;
        assert_eq!((response.status, response.text()), (200, RESULT), "after {polls} polls");
        assert_eq!(endpoint.posts(), 1, "one POST, after {polls} polls");
        endpoint.report_to(broker.ledger(), &[1], &[0, 1]);
        broker.done().await;
        if done.is_some() {
            break;
        }
        hung_up += 1;
    }
    assert!(hung_up > 2, "{hung_up}");
}
