//! Upstreams that stop sending: they delay a request only up to a limit, and the request has its
//! record.

use std::{convert::Infallible, time::Duration};

use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use token_broker_outbound::{Guard, Proxy};
use token_broker_tests::{
    harness::{Broker, CALL, serve},
    upstream::{ScriptedBody, ScriptedServer, json, live_events},
    wire,
};
use tokio::{net::TcpListener, sync::mpsc};

const SHORT: Duration = Duration::from_millis(300);

fn impatient_proxy() -> Proxy {
    let guard = Guard::new().allow_loopback("127.0.0.1");
    Proxy::new(&guard).unwrap().header_timeout(SHORT).idle_timeout(SHORT)
}

async fn behind_impatient_proxy(upstream: &ScriptedServer) -> Broker {
    let (listener, stack, broker) = Broker::in_front_of(upstream).prepare().await;
    serve(listener, Router::new().fallback_service(stack.layer(impatient_proxy())));
    broker
}

fn call(broker: &Broker) -> Vec<u8> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)
}

#[tokio::test]
async fn x37_a_silent_response_is_cut_when_idle() {
    let (chunks, stream) = mpsc::channel(8);
    let stream = parking_lot::Mutex::new(Some(stream));
    let upstream = ScriptedServer::start(move |_| live_events(stream.lock().take().unwrap())).await;
    let broker = behind_impatient_proxy(&upstream).await;
    let mut open = broker.open(&call(&broker)).await;
    // A slow response is not a silent one, however long it takes.
    for part in ["data: {}", "\n", "\n", "data: {}", "\n\n"] {
        tokio::time::sleep(SHORT / 2).await;
        chunks.send(Bytes::from_static(part.as_bytes())).await.unwrap();
    }
    open.until("data: {}\n\n\r\nA\r\ndata: {}\n\n").await;
    // Nothing is sent from here on; the client's side still ends, without the final chunk that
    // would make it complete.
    let response = open.rest().await;
    assert!(!response.body.ends_with(b"0\r\n\r\n"), "{:?}", response.text());
    let records = broker.expect_records(1).await;
    let end = records.iter().find(|record| record["count"] == 1).unwrap();
    assert_eq!((&end["outcome"], &end["uses"]), (&"failed".into(), &1.into()), "{end}");
    broker.done().await;
}

#[tokio::test]
async fn x37_a_response_without_headers_times_out() {
    // It accepts the request and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "the server stops with the test")]
    drop(tokio::spawn(async move {
        let (socket, _) = silent.accept().await.unwrap();
        let never = service_fn(|_: Request<Incoming>| {
            std::future::pending::<Result<Response<ScriptedBody>, Infallible>>()
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), never)
            .await
    }));
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, stack, broker) =
        Broker::in_front_of(&upstream).upstream_at(&url).prepare().await;
    serve(listener, Router::new().fallback_service(stack.layer(impatient_proxy())));
    let response = broker.send(&call(&broker)).await;
    assert_eq!(response.status, 502);
    let records = broker.expect_records(1).await;
    let end = records.iter().find(|record| record["count"] == 1).unwrap();
    assert_eq!(
        (&end["reason"], &end["uses"]),
        (&"exchange.upstream_timeout".into(), &1.into()),
        "{end}"
    );
    broker.done_unsent().await;
}
