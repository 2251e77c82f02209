//! Several gateways on one store, and gateways that are killed.
//!
//! `TOKEN_BROKER_FIRST_USES` and `TOKEN_BROKER_GATEWAY_KILLS` set how often; the defaults are a
//! small part of what `.ci/long` runs.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::Ordering,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use token_broker_tests::upstream::{ScriptedServer, json};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    postgres::{empty_schema, within},
    setup::{CALL, RESULT, Serving, Setup, TokenEndpoint},
};

#[expect(clippy::disallowed_methods, reason = "no secret")]
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A gateway's folder with a grant of alice at this token endpoint.
async fn with_grant(at: &TokenEndpoint, store: &str) -> Setup {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let setup = Setup::on(store, upstream).await;
    setup.configure("get_*", &setup.mail(&at.server.url("/token")));
    setup.add_grant("alice");
    setup
}

/// Starts a gateway on an address of its own, on the store of this folder.
fn another(setup: &Setup, number: usize) -> (Serving, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = setup.command(&["serve"]);
    command
        .env("TOKEN_BROKER__LISTEN", address.to_string())
        .env("TOKEN_BROKER__AUDIT__WRITER", format!("gateway-{number}"));
    (Serving::start(&mut command), address)
}

/// Makes calls at the same time over a few connections, and returns their statuses.
async fn calls(setup: &Setup, to: SocketAddr, token: &str, count: usize) -> Vec<u16> {
    const PER_CONNECTION: usize = 100;
    let (mut tasks, mut connections) = (JoinSet::new(), JoinSet::new());
    for first in (0..count).step_by(PER_CONNECTION) {
        let stream = TcpStream::connect(to).await.unwrap();
        let io = TokioIo::new(stream);
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        connections.spawn(connection);
        for _ in first..count.min(first + PER_CONNECTION) {
            let mut client = client.clone();
            let request = Request::post(format!("http://{}/mail/mcp", setup.address))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("mcp-protocol-version", "2025-11-25")
                .body(Full::new(Bytes::from_static(CALL.as_bytes())))
                .unwrap();
            tasks.spawn(async move {
                let response = client.send_request(request).await.unwrap();
                let (parts, body) = response.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let is_result = *body == *RESULT.as_bytes();
                if parts.status == 200 && !is_result { 0 } else { parts.status.as_u16() }
            });
        }
    }
    tasks.join_all().await
}

const SQLITE: &str = "sqlite://token-broker.db";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x02_first_uses_at_four_gateways_are_one_request_to_the_token_endpoint() {
    first_uses_at_four_gateways(SQLITE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x02_first_uses_at_four_gateways_on_postgresql_are_one_request() {
    let Some((url, schema)) = empty_schema() else { return };
    first_uses_at_four_gateways(&within(&url, &schema)).await;
}

#[expect(clippy::print_stdout, reason = "the figures")]
async fn first_uses_at_four_gateways(store: &str) {
    let uses = number("TOKEN_BROKER_FIRST_USES", 800);
    let endpoint = TokenEndpoint::start(3600).await;
    let setup = with_grant(&endpoint, store).await;
    let token = setup.done(&["tokens", "issue", "--user", "alice", "--server", "mail"]);
    let gateways: Vec<_> = (0..4).map(|number| another(&setup, number)).collect();
    let all = gateways.iter().map(|(_, address)| calls(&setup, *address, &token, uses / 4));
    let mut statuses = Vec::new();
    for of_one in futures_join(all).await {
        statuses.extend(of_one);
    }
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let busy = statuses.iter().filter(|status| **status == 503).count();
    println!("{uses} first uses: {passed} passed, {busy} were refused as busy");
    // A machine that is too slow for so many at once may refuse some (503), and nothing else.
    assert_eq!(passed + busy, statuses.len(), "X02");
    assert!(busy == 0 || uses > 1000, "X02: {busy} of {uses}");
    assert_eq!(endpoint.state.posts.load(Ordering::SeqCst), 1, "X02");
    for (serving, _) in gateways {
        serving.stop();
    }
    setup.done(&["audit", "verify", "audit"]);
}

/// Waits for all of these at the same time.
async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        for (future, slot) in all.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

/// X34: a process that is out of memory gets the same signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_x34_a_killed_gateway_loses_no_grant() {
    let kills = number("TOKEN_BROKER_GATEWAY_KILLS", 8);
    // Each call is due for a refresh.
    let endpoint = TokenEndpoint::start(1).await;
    let setup = with_grant(&endpoint, SQLITE).await;
    let token = setup.done(&[
        "tokens",
        "issue",
        "--user",
        "alice",
        "--server",
        "mail",
        "--minutes",
        "1440",
    ]);
    let mut passed = 0;
    for kill in 0..kills {
        let mut serving = setup.serve();
        let load = async {
            loop {
                let statuses = calls(&setup, setup.address, &token, 4).await;
                passed += statuses.iter().filter(|status| **status == 200).count();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // At another moment each time.
        let moment = Duration::from_millis(1000 + u64::try_from(kill * 37 % 500).unwrap());
        drop(tokio::time::timeout(moment, load).await);
        serving.child.kill().unwrap();
        serving.child.wait().unwrap();
    }
    assert!(passed > 0);
    let serving = setup.serve();
    // A refresh whose outcome is unknown is tried again after 30 s.
    let mut statuses = Vec::new();
    for _ in 0..80 {
        statuses = calls(&setup, setup.address, &token, 1).await;
        if statuses == [200] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(statuses, [200], "X04: the grant was lost");
    assert_eq!(endpoint.state.refused.load(Ordering::SeqCst), 0, "X04");
    serving.stop();
    let verified = setup.run(&["audit", "verify", "audit"]);
    assert!(verified.status.success(), "X04 {}", crate::setup::text(&verified.stdout));
}
