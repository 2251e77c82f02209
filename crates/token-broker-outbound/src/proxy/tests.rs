//! Tests of the proxy over real connections.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, channel::Channel};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tower_token_broker::{
    refusal::{Reason, Refused},
    tasks::Tasks,
};

use super::*;
use crate::{
    Guard,
    resolve::Fixed,
    test_servers::{self, Authority, Wire},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn proxy() -> Proxy {
    Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap().dangerous_without_exchange()
}

fn get(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).header("authorization", "Bearer marker").body(Empty::new()).unwrap()
}

fn reason(response: &Response<ProxyBody>) -> Option<Reason> {
    Refused::of(response).map(Refused::reason)
}

#[tokio::test]
async fn a_request_passes_without_what_belongs_to_its_connection() {
    let server = Wire::answering(
        "HTTP/1.1 200 Secret-Reason\r\ncontent-length: 2\r\nconnection: close, x-hop\r\n\
         x-hop: 1\r\nkeep-alive: 5\r\nx-end: 2\r\n\r\n{}",
    )
    .await;
    let request = Request::post(server.url("/mcp?q=1"))
        .header("host", "evil.example")
        .header("connection", "x-user, authorization")
        .header("x-user", "root")
        .header("authorization", "Bearer marker")
        .header("upgrade", "websocket")
        .header("te", "gzip")
        .header("content-length", "99")
        .body(Full::from("hello"))
        .unwrap();
    let response = proxy().call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["content-length", "x-end"]
    );
    assert_eq!(response.collect().await.unwrap().to_bytes(), "{}");
    let sent = server.seen.requests().concat().to_ascii_lowercase();
    assert!(sent.starts_with("post /mcp?q=1 http/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("host: {}\r\n", server.address)), "{sent}");
    assert!(sent.contains("authorization: bearer marker\r\n"), "H167 {sent}");
    assert!(sent.contains("content-length: 5\r\n") && sent.ends_with("\r\n\r\nhello"), "{sent}");
    for gone in ["x-user", "upgrade", "te: ", "evil", "connection"] {
        assert!(!sent.contains(gone), "H167 {gone} in {sent}");
    }
}

#[tokio::test]
async fn a_blocked_address_is_a_502_without_detail() {
    let server = Wire::answering(OK).await;
    let port = server.address.port();
    let inside = Guard::new().with_resolver(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    for (case, guard, url) in [
        ("C062", Guard::new(), format!("https://127.0.0.1:{port}/")),
        ("C062", Guard::new(), format!("http://127.0.0.1:{port}/")),
        ("C062", Guard::new(), format!("https://[::ffff:127.0.0.1]:{port}/")),
        ("C063", Guard::new().allow_loopback("127.0.0.1"), format!("http://2130706433:{port}/")),
        ("C063", Guard::new().allow_loopback("127.0.0.1"), format!("http://127.1:{port}/")),
        ("H178", inside, format!("https://public.example:{port}/")),
        ("H178", Guard::new(), format!("https://localhost:{port}/")),
        ("C069", Guard::new(), format!("http://public.example:{port}/")),
    ] {
        let response =
            Proxy::new(&guard).unwrap().dangerous_without_exchange().call(get(&url)).await.unwrap();
        assert_eq!(
            (response.status(), reason(&response)),
            (StatusCode::BAD_GATEWAY, Some(Reason::UpstreamFailed))
        );
        let text = response.collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(
            !text.contains("127") && !text.contains("fetch") && !text.contains(&port.to_string()),
            "{case} {text}"
        );
    }
    assert_eq!(server.seen.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let target = Wire::answering(OK).await;
    let reply =
        format!("HTTP/1.1 307 x\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url("/"));
    let server = Wire::answering(&reply).await;
    let response = proxy().call(get(&server.url("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT, "H172");
    assert_eq!(target.seen.connections(), 0, "H172");
}

#[tokio::test]
async fn connect_is_refused_and_an_upgrade_is_not_made() {
    let server = Wire::answering(
        "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    )
    .await;
    let mut connect = get(&server.url("/"));
    *connect.method_mut() = Method::CONNECT;
    let response = proxy().call(connect).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::HttpMethod));
    assert_eq!(server.seen.connections(), 0);
    let response = proxy().call(get(&server.url("/"))).await.unwrap();
    assert_eq!(
        (response.status(), reason(&response)),
        (StatusCode::BAD_GATEWAY, Some(Reason::UpstreamFailed))
    );
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_a_timeout() {
    let server = Wire::falling_silent_after("").await;
    let response = proxy()
        .header_timeout(Duration::from_millis(20))
        .call(get(&server.url("/")))
        .await
        .unwrap();
    assert_eq!(
        (response.status(), reason(&response)),
        (StatusCode::BAD_GATEWAY, Some(Reason::UpstreamTimeout))
    );
    assert_eq!(server.seen.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_falls_silent_ends_in_an_error() {
    let server =
        Wire::falling_silent_after("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let response =
        proxy().idle_timeout(Duration::from_millis(20)).call(get(&server.url("/"))).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(body.frame().await.unwrap().unwrap_err().is_silence());
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_in_an_error() {
    let server = Wire::answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let response = proxy().call(get(&server.url("/"))).await.unwrap();
    assert!(!response.into_body().collect().await.unwrap_err().is_silence());
}

#[tokio::test]
async fn a_closed_port_is_a_502() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let response = proxy().call(get(&url)).await.unwrap();
    assert_eq!(
        (response.status(), reason(&response)),
        (StatusCode::BAD_GATEWAY, Some(Reason::UpstreamFailed))
    );
}

/// Starts an upstream that echoes each frame as it arrives, then sends trailers. It uses HTTP/1.1
/// and, over TLS, HTTP/2.
async fn echo(tls: Option<rustls::ServerConfig>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls.map(|mut config| {
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let tasks = Tasks::new();
    drop(tasks.clone().spawn("accept", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            drop(tasks.spawn("connection", async move {
                let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                    let version = format!("{:?}", request.version());
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-trailer", "last".parse().unwrap());
                    let body = request.into_body().with_trailers(async move { Some(Ok(trailers)) });
                    Ok::<_, Infallible>(
                        Response::builder().header("x-version", version).body(body).unwrap(),
                    )
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let served = match tls {
                    None => server.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        server.serve_connection(TokioIo::new(stream), service).await
                    }
                };
                served.unwrap_or_default();
            }));
        }
    }));
    address
}

#[tokio::test]
async fn both_ways_are_streamed_in_http_1_and_2() {
    let authority = Authority::new();
    let guard = Guard::new()
        .allow_loopback("127.0.0.1")
        .allow_loopback("good.example")
        .trust_root(authority.root.clone())
        .with_resolver(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    let plain = format!("http://{}/", echo(None).await);
    let over_tls = echo(Some(authority.server("good.example", 2999))).await;
    let over_tls = format!("https://good.example:{}/", over_tls.port());
    let (any, grpc) = (
        Proxy::new(&guard).unwrap().dangerous_without_exchange(),
        Proxy::grpc(&guard).unwrap().dangerous_without_exchange(),
    );
    for (mut proxy, url, version) in [
        (any.clone(), &plain, "HTTP/1.1"),
        (any, &over_tls, "HTTP/2.0"),
        (grpc.clone(), &plain, "HTTP/2.0"),
        (grpc, &over_tls, "HTTP/2.0"),
    ] {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        let response = proxy.call(Request::post(url).body(body).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-version"], version);
        let mut response = response.into_body();
        // Each frame is sent only after the one before has returned: nothing is collected.
        for frame in ["one", "two", "three"] {
            sender.send_data(Bytes::from(frame)).await.unwrap();
            let mut received = Vec::new();
            while received.len() < frame.len() {
                let data = response.frame().await.unwrap().unwrap().into_data().unwrap();
                received.extend_from_slice(&data);
            }
            assert_eq!(received, frame.as_bytes(), "{version}");
        }
        drop(sender);
        if version == "HTTP/2.0" {
            let trailers = response.frame().await.unwrap().unwrap().into_trailers().unwrap();
            assert_eq!(trailers["x-trailer"], "last");
        }
        assert!(response.frame().await.is_none(), "{version}");
    }
}

#[tokio::test]
async fn an_untrusted_server_receives_no_byte() {
    let server = Wire::over_tls(OK, test_servers::self_signed("good.example")).await;
    let guard = Guard::new()
        .allow_loopback("good.example")
        .with_resolver(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    let url = format!("https://good.example:{}/", server.address.port());
    let response =
        Proxy::new(&guard).unwrap().dangerous_without_exchange().call(get(&url)).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::UpstreamFailed), "C083");
    assert_eq!((server.seen.connections(), server.seen.requests().len()), (1, 0), "C083");
}

#[tokio::test]
async fn a_request_body_that_fails_is_no_complete_request() {
    let address = echo(None).await;
    let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err("broken")];
    let body = StreamBody::new(Frames(frames.into_iter()));
    let response = proxy()
        .call(Request::post(format!("http://{address}/")).body(body).unwrap())
        .await
        .unwrap();
    let ended = response.into_body().collect().await;
    assert!(
        ended.is_err() || ended.unwrap().to_bytes() != "half",
        "the upstream must not take half for the whole"
    );
}

struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
