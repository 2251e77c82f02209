//! X25: the client hangs up at every await, and nothing is lost.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use token_broker_tests::{
    harness::{Broker, CALL, proxy},
    polls,
    upstream::{Scripted, events, json},
};
use tower::{Layer as _, ServiceExt as _};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

fn request(broker: &Broker) -> Request<Full<Bytes>> {
    Request::post(broker.resource().path())
        .header(header::HOST, broker.host())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", broker.token("items:read")))
        .body(Full::from(CALL))
        .unwrap()
}

#[tokio::test]
async fn x25_each_request_has_one_terminal_record_wherever_it_is_dropped() {
    for streamed in [false, true] {
        let upstream = Scripted::start(move |_| if streamed { events(&[RESULT, RESULT]) } else { json(RESULT) }).await;
        let (_listener, stack, broker) = Broker::before(&upstream).prepare().await;
        let service = stack.layer(proxy());
        let mut requests = 0;
        for polls in 0.. {
            let whole = async {
                let answer = service.clone().oneshot(request(&broker)).await.unwrap();
                (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
            };
            let done = polls::at_most(polls, whole).await;
            // A future that was never polled has not called the service, so there was no request.
            requests += u64::from(polls > 0);
            broker.expect_records(requests).await;
            // The next call succeeds: nothing is held.
            let next = service.clone().oneshot(request(&broker)).await.unwrap();
            assert_eq!(next.status(), 200, "after {polls} polls");
            next.into_body().collect().await.unwrap();
            requests += 1;
            broker.expect_records(requests).await;
            if done.is_some() {
                assert!(polls > 1, "a request waits for the upstream at least: {done:?}");
                break;
            }
        }
        // No use without a record: the upstream saw at most as many requests as intents were written.
        let intents = broker.expect_records(requests).await.iter().filter(|record| record["kind"] == "intent").count();
        assert!(upstream.received().len() <= intents);
    }
}
