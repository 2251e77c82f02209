//! Every way to mount the stack over HTTP serves a pass, a refusal and a streamed response.

use std::{convert::Infallible, io::Read as _, sync::Arc, time::Duration};

use axum::{Router, routing::any_service};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL, proxy, serve},
    upstream::{ScriptedServer, json, live_events},
    wire::{self, RawResponse},
};
use tokio::sync::mpsc;
use tower::{ServiceBuilder, util::BoxCloneSyncService};
use tower_http::{
    compression::CompressionLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    trace::TraceLayer,
};
use tower_token_broker::body::RequestBody;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const STREAMED: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"stream_items"}}"#;

const FIRST: &str =
    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n";

/// An upstream that responds to calls at once, except for one: its response starts with an event
/// and continues when the test allows it.
pub(super) struct Items {
    pub(super) scripted: ScriptedServer,
    streams: Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>,
}

impl Items {
    pub(super) async fn start() -> Self {
        let streams = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&streams);
        let scripted = ScriptedServer::start(move |request| {
            if request.body != STREAMED {
                return json(RESULT);
            }
            let (sender, chunks) = mpsc::channel(2);
            sender.try_send(Bytes::from(FIRST)).unwrap();
            opened.lock().push(sender);
            live_events(chunks)
        })
        .await;
        Self { scripted, streams }
    }

    /// Returns the rest of the open stream.
    async fn go_on(&self) {
        let stream = self.streams.lock().pop().expect("an open stream");
        stream.send(Bytes::from(format!("data: {RESULT}\n\n"))).await.unwrap();
    }
}

pub(super) async fn serves_a_pass_a_refusal_and_a_stream(broker: &Broker, items: &Items) {
    let passed = broker.call_with(&[], CALL).await;
    assert_eq!((passed.status, passed.text()), (200, RESULT));
    let refused =
        broker.send(&wire::post(broker.resource().path(), broker.host(), &[], CALL)).await;
    is_a_challenge(&refused, broker);

    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call = wire::post(
        broker.resource().path(),
        broker.host(),
        &[("authorization", &bearer)],
        STREAMED,
    );
    let mut streamed = broker.open(&call).await;
    // The upstream sends the second event once the client has received the first: with buffering it
    // would wait forever.
    streamed.until(FIRST).await;
    items.go_on().await;
    is_the_stream(&streamed.rest().await);
    two_passes_and_a_refusal_are_recorded(broker, &items.scripted).await;
}

fn is_a_challenge(response: &RawResponse, broker: &Broker) {
    assert_eq!(response.status, 401);
    let challenge = format!("Bearer resource_metadata=\"{}\"", broker.resource().metadata_url());
    assert_eq!(response.header("www-authenticate"), Some(challenge.as_str()));
}

fn is_the_stream(response: &RawResponse) {
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some("text/event-stream"))
    );
    assert_eq!(response.text(), format!("{FIRST}data: {RESULT}\n\n"));
}

async fn two_passes_and_a_refusal_are_recorded(broker: &Broker, upstream: &ScriptedServer) {
    assert_eq!(upstream.received().len(), 2);
    let records = broker.expect_records(3).await;
    let outcomes: Vec<_> = records
        .iter()
        .filter(|record| record["count"].is_u64())
        .map(|record| record["outcome"].clone())
        .collect();
    assert_eq!(
        outcomes.iter().filter(|outcome| *outcome == "completed").count(),
        2,
        "{records:#?}"
    );
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "refused").count(), 1, "{records:#?}");
    broker.done().await;
}

#[tokio::test]
async fn a_router_layer_serves() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    serve(listener, Router::new().route("/mcp", any_service(proxy())).layer(stack));
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn a_route_layer_serves() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    serve(listener, Router::new().route("/mcp", any_service(proxy())).route_layer(stack));
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn nested_routers_serve() {
    let items = Items::start().await;
    let (listener, stack, broker) =
        Broker::in_front_of(&items.scripted).at("/teams/crm/mcp").prepare().await;
    let inner = Router::new().route("/mcp", any_service(proxy())).layer(stack);
    serve(listener, Router::new().nest("/teams", Router::new().nest("/crm", inner)));
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn a_service_builder_serves() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    serve(
        listener,
        Router::new().route_service("/mcp", ServiceBuilder::new().layer(stack).service(proxy())),
    );
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn a_boxed_service_serves() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    let boxed = BoxCloneSyncService::new(stack.layer(proxy()));
    serve(listener, Router::new().route_service("/mcp", boxed));
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn tower_http_layers_outside_the_stack_work() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    let router = Router::new().route("/mcp", any_service(proxy())).layer(
        // Top to bottom: compression is outside the stack.
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(CompressionLayer::new())
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                Duration::from_secs(30),
            ))
            .layer(RequestBodyLimitLayer::new(1024 * 1024))
            .layer(stack),
    );
    serve(listener, router);
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn outer_compression_runs_after_the_leak_guard() {
    // Echoes are masked before compression; the ledger also searches inside gzip.
    let upstream = ScriptedServer::start(|request| {
        json(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"echo\":\"{}\"}}}}",
            request.values("authorization").concat()
        ))
    })
    .await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let layers = ServiceBuilder::new().layer(CompressionLayer::new()).layer(stack);
    serve(listener, Router::new().route("/mcp", any_service(proxy())).layer(layers));
    let response = broker.call_with(&[("accept-encoding", "gzip")], CALL).await;
    assert_eq!((response.status, response.header("content-encoding")), (200, Some("gzip")));
    let mut text = String::new();
    GzDecoder::new(response.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.starts_with(r#"{"jsonrpc":"2.0","id":1,"result":{"echo":"Bearer ****"#), "{text}");
    assert_eq!(upstream.received()[0].values("accept-encoding"), ["identity"]);
    broker.done().await;
}

#[tokio::test]
async fn an_outer_timeout_leaves_a_record() {
    let upstream = Items::start().await.scripted;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let never = tower::service_fn(|_: Request<RequestBody<axum::body::Body>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_millis(50),
        ))
        .layer(stack);
    serve(listener, Router::new().route_service("/mcp", layers.service(never)));
    assert_eq!(broker.call_with(&[], CALL).await.status, 408);
    let records = broker.records().await;
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!(result["outcome"], "dropped", "{result}");
    broker.done_unsent().await;
}

#[tokio::test]
async fn an_outer_body_limit_refuses_large_requests() {
    let upstream = Items::start().await.scripted;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let layers = ServiceBuilder::new().layer(RequestBodyLimitLayer::new(1024)).layer(stack);
    serve(listener, Router::new().route("/mcp", any_service(proxy())).layer(layers));
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let large = CALL.replace("7", &"7".repeat(2000));

    // Refused by its length: it does not reach the stack, so it has no record.
    let by_length = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], &large);
    broker.ledger().sent(0, &by_length);
    let response = wire::send(broker.address(), &by_length).await;
    broker.ledger().received(&response);
    assert_eq!(response.status, 413);
    broker.records().await;

    // Refused while the layer was reading it, which the record states.
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let fields = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked")];
    let response = broker.send(&wire::post("/mcp", broker.host(), &fields, &chunked)).await;
    assert_eq!(response.status, 400, "{}", response.text());
    let records = broker.records().await;
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!(result["reason"], "filter.body_incomplete", "{result}");
    broker.done_unsent().await;
}

#[tokio::test]
async fn hyper_serves_http_1() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    let service = TowerToHyperService::new(stack.layer(proxy()));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

#[tokio::test]
async fn hyper_serves_http_2() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    let service = TowerToHyperService::new(stack.layer(proxy()));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    let passed = broker.call_http_2(CALL).await;
    assert_eq!((passed.status, passed.text()), (200, RESULT));
    let refused = broker.send_http_2(None, CALL).await;
    is_a_challenge(&refused, &broker);

    let bearer = format!("Bearer {}", broker.token("items:read"));
    let streamed = broker.open_http_2(Some(&bearer), STREAMED).await;
    let (parts, mut body) = streamed.into_parts();
    let mut seen = Vec::new();
    while seen.len() < FIRST.len() {
        seen.extend_from_slice(
            &body.frame().await.expect("an event").unwrap().into_data().unwrap(),
        );
    }
    assert_eq!(seen, FIRST.as_bytes());
    items.go_on().await;
    let rest = broker.read(Response::from_parts(parts, body)).await;
    broker.ledger().received_bytes("the first event", &seen);
    assert_eq!((rest.status, rest.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(rest.text(), format!("data: {RESULT}\n\n"));
    two_passes_and_a_refusal_are_recorded(&broker, &items.scripted).await;
}

#[tokio::test]
async fn a_plain_http_api_is_protected() {
    let upstream =
        ScriptedServer::start(|request| json(&format!("{{\"target\":\"{}\"}}", request.target)))
            .await;
    let broker = Broker::in_front_of(&upstream).plain_http().start().await;
    let response = broker.get("/v1/items/7?fields=name").await;
    assert_eq!(
        (response.status, response.text()),
        (200, r#"{"target":"/mcp/v1/items/7?fields=name"}"#)
    );
    let refused =
        broker.send(b"GET /v1/items/7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(refused.status, 421);
    broker.done().await;
}

// Errors of the inner service are passed on unchanged: this compiles only while the stack adds none
// of its own.
const _: fn() = || {
    fn error_of<S: tower::Service<Request<Full<Bytes>>, Error = Infallible>>(_: &S) {}
    fn check(
        stack: &token_broker_tests::harness::Stack<
            fn(
                &tower_token_broker::principal::Principal,
                &tower_token_broker::scope_filter::Call<'_>,
            ) -> tower_token_broker::scope_filter::Decision,
        >,
    ) {
        error_of(&stack.layer(proxy()));
    }
    let _ = check;
};

#[tokio::test]
async fn a_proxy_outside_the_stack_sends_nothing() {
    let items = Items::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&items.scripted).prepare().await;
    // The mistake: in axum, a layer covers only routes that were added before it.
    serve(listener, Router::new().layer(stack).route("/mcp", any_service(proxy())));
    let to_upstream = wire::post(&items.scripted.url("/mcp"), broker.host(), &[], CALL);
    for request in [to_upstream, wire::post("/mcp", broker.host(), &[], CALL)] {
        let response = wire::send(broker.address(), &request).await;
        assert_eq!(response.status, 500, "{response:?}");
    }
    assert_eq!(items.scripted.received().len(), 0);
    assert!(
        String::from_utf8(broker.ledger().logs()).unwrap().contains("bypassed the exchange layer")
    );
    broker.done_unsent().await;
}
