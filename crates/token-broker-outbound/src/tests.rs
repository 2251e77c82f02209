//! Tests of the client over real connections.

use std::{io::ErrorKind, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    BlockedAddress, CertificateProblem, FetchError, FetchLimits, Guard, GuardedClient,
    OutboundError, Resolve, Sent,
    resolve::Fixed,
    test_servers::{self, Authority, Wire},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn loopback() -> Guard {
    Guard::new().allow_loopback("127.0.0.1")
}

fn post(url: &str) -> Request<Bytes> {
    Request::post(url)
        .header("authorization", "Basic marker")
        .body(Bytes::from_static(b"refresh_token=marker"))
        .unwrap()
}

#[tokio::test]
async fn a_document_is_fetched_as_it_was_asked_for() {
    let server = Wire::answering(OK).await;
    let response = GuardedClient::new(&loopback())
        .unwrap()
        .fetch(post(&server.url("/token?a=b")))
        .await
        .unwrap();
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, b"{}".as_slice()));
    let requests = server.seen.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("POST /token?a=b HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with("\r\n\r\nrefresh_token=marker"), "{}", requests[0]);
    for absent in ["accept-encoding", "cookie", "referer"] {
        assert!(!requests[0].to_ascii_lowercase().contains(absent), "{absent}");
    }
}

#[tokio::test]
async fn h484_each_fetch_names_the_broker_as_user_agent() {
    let server = Wire::answering(OK).await;
    let client = GuardedClient::new(&loopback()).unwrap();
    let url = server.url("/jwks");
    let sent = [
        Request::get(&url).body(Bytes::new()).unwrap(),
        Request::get(&url).header("user-agent", "").body(Bytes::new()).unwrap(),
        post(&url),
        Request::get(&url).header("user-agent", "mine/1").body(Bytes::new()).unwrap(),
    ];
    for request in sent {
        client.fetch(request).await.unwrap();
    }
    let ours = concat!("user-agent: token-broker/", env!("CARGO_PKG_VERSION"), "\r\n");
    for (request, field) in
        server.seen.requests().iter().zip([ours, ours, ours, "user-agent: mine/1\r\n"])
    {
        assert_eq!(request.matches("user-agent:").count(), 1, "H484 {request}");
        assert!(request.contains(field), "H484 {request}");
    }
    assert_eq!(server.seen.requests().len(), 4, "H484");
}

#[tokio::test]
async fn a_loopback_address_is_blocked_by_default() {
    let server = Wire::answering(OK).await;
    let port = server.address.port();
    let client = GuardedClient::new(&Guard::new()).unwrap();
    for (case, host, address) in [
        ("C062", "127.0.0.1", BlockedAddress::Loopback),
        ("C062", "0.0.0.0", BlockedAddress::Never),
        ("C062", "[::1]", BlockedAddress::Loopback),
        ("C062", "[::ffff:127.0.0.1]", BlockedAddress::Loopback),
        // Resolved by the system, checked before the connection.
        ("C062", "localhost", BlockedAddress::Loopback),
        ("C063", "2130706433", BlockedAddress::Loopback),
        ("C063", "0x7f.1", BlockedAddress::Loopback),
        ("C063", "0177.0.0.1", BlockedAddress::Loopback),
        ("C063", "127.1", BlockedAddress::Loopback),
        ("C063", "127.0.0.1.", BlockedAddress::Loopback),
    ] {
        let outcome = client.fetch(post(&format!("https://{host}:{port}/"))).await;
        let error = FetchError::BlockedAddress(address);
        assert_eq!(outcome.unwrap_err(), error, "{case} {host}");
    }
    assert_eq!(server.seen.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_never_connected_to() {
    let server = Wire::answering(OK).await;
    for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let guard = Guard::new().with_resolver(Fixed(vec![address.parse().unwrap()]));
        let url = format!("https://public.example:{}/", server.address.port());
        let outcome = GuardedClient::new(&guard).unwrap().fetch(post(&url)).await;
        assert_eq!(
            outcome.unwrap_err(),
            FetchError::BlockedAddress(BlockedAddress::Loopback),
            "H178 {address}"
        );
    }
    assert_eq!(server.seen.connections(), 0);
}

/// Resolver that returns another address each time.
struct Rebinding(parking_lot::Mutex<Vec<IpAddr>>);

impl Resolve for Arc<Rebinding> {
    fn resolve(
        &self,
        _: &str,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> {
        let address = self.0.lock().pop().unwrap();
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn a_name_that_is_rebound_is_checked_each_time() {
    let server = Wire::answering(OK).await;
    // Returned from last to first. The first address is allowed for this name, the second is not.
    let addresses = vec!["169.254.169.254".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let resolver = Arc::new(Rebinding(parking_lot::Mutex::new(addresses)));
    let guard = Guard::new().allow_loopback("rebound.example").with_resolver(Arc::clone(&resolver));
    let client = GuardedClient::new(&guard).unwrap();
    let url = format!("http://rebound.example:{}/", server.address.port());
    assert_eq!(client.fetch(post(&url)).await.unwrap().status(), StatusCode::OK);
    let blocked = FetchError::BlockedAddress(BlockedAddress::Never);
    assert_eq!(client.fetch(post(&url)).await.unwrap_err(), blocked, "C065");
    assert_eq!(server.seen.connections(), 1);
    assert!(
        resolver.0.lock().is_empty(),
        "each connection resolves once, and goes to the checked address"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Wire::answering(OK).await;
    for status in ["301 x", "302 x", "303 x", "307 x", "308 x", "300 x"] {
        for location in
            ["http://169.254.169.254/", &target.url("/"), "/elsewhere", "http://other.example/"]
        {
            let reply =
                format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let server = Wire::answering(&reply).await;
            let outcome =
                GuardedClient::new(&loopback()).unwrap().fetch(post(&server.url("/"))).await;
            assert_eq!(outcome.unwrap_err(), FetchError::Redirect, "C067 {status} {location}");
            assert_eq!(server.seen.requests().len(), 1, "C067 {status} {location}");
        }
    }
    assert_eq!(target.seen.connections(), 0, "C067");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let limits = FetchLimits::default().body(10);
    for (reply, passes) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n0123456789a", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n0123456789a", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n", false),
    ] {
        let server = Wire::answering(reply).await;
        let outcome = GuardedClient::with_limits(&loopback(), limits)
            .unwrap()
            .fetch(post(&server.url("/")))
            .await;
        assert_eq!(outcome.is_ok(), passes, "{reply}");
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_half_a_response_fails() {
    let silent = Wire::falling_silent_after("").await;
    let limits = FetchLimits::default().total(Duration::from_millis(50));
    let outcome = GuardedClient::with_limits(&loopback(), limits)
        .unwrap()
        .fetch(post(&silent.url("/")))
        .await;
    assert_eq!(outcome.unwrap_err(), FetchError::Timeout(Sent::Maybe));
    let half = Wire::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234").await;
    let client = GuardedClient::new(&loopback()).unwrap();
    assert_eq!(client.fetch(post(&half.url("/"))).await.unwrap_err(), FetchError::BrokenOff);
    assert_eq!(half.seen.requests().len(), 1, "there is no second try");
}

#[tokio::test]
async fn x511_a_failure_status_counts_whatever_its_body_is() {
    let client = GuardedClient::new(&loopback()).unwrap();
    let long = " ".repeat((1 << 20) + 1);
    let chunked = format!("100001\r\n{long}\r\n0\r\n\r\n");
    for (fields, body) in [
        ("content-encoding: br\r\ncontent-length: 4\r\n", "\u{b}\u{2}{}"),
        ("content-encoding: gzip, zstd\r\ncontent-length: 2\r\n", "{}"),
        ("content-encoding: deflate\r\ncontent-length: 2\r\n", "{}"),
        ("content-encoding: gzip, gzip, gzip, gzip\r\ncontent-length: 2\r\n", "{}"),
        ("content-encoding: \u{e9}\r\ncontent-length: 2\r\n", "{}"),
        ("content-length: 10\r\n", "01234"),
        ("transfer-encoding: chunked\r\n", "5\r\n01234\r\n"),
        ("transfer-encoding: chunked\r\n", "no length\r\n"),
        // X10: more than is read.
        ("content-length: 9223372036854775807\r\n", "{}"),
        ("content-length: 1048577\r\n", &long),
        ("", &long),
        ("transfer-encoding: chunked\r\n", &chunked),
    ] {
        for status in [400, 404, 429, 500, 503, 599] {
            let reply = format!("HTTP/1.1 {status} x\r\n{fields}retry-after: 7\r\n\r\n{body}");
            let server = Wire::answering(&reply).await;
            let response = client.fetch(post(&server.url("/"))).await;
            let response = response.unwrap_or_else(|error| panic!("X511 {reply}: {error}"));
            assert_eq!(response.status(), status, "X511 {reply}");
            assert_eq!(response.headers()["retry-after"], "7", "X511 {reply}");
            assert!(response.body().is_empty(), "X511 {reply}");
            assert!(!response.headers().contains_key("content-encoding"), "X511 {reply}");
        }
        for status in [200, 201, 299] {
            let server =
                Wire::answering(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n{body}")).await;
            let error = client.fetch(post(&server.url("/"))).await.unwrap_err();
            assert_eq!(error.sent(), Sent::Maybe, "X511 {status} {fields}");
        }
    }
}

#[tokio::test]
async fn x511_a_failure_status_counts_if_its_body_stalls() {
    let client = GuardedClient::new(&loopback()).unwrap();
    let fetched = |status: u16, fields: &'static str, body: &'static str| {
        let client = client.clone();
        async move {
            let reply = format!("HTTP/1.1 {status} x\r\n{fields}retry-after: 7\r\n\r\n{body}");
            let server = Wire::falling_silent_after(&reply).await;
            let fetched = client.fetch_within(post(&server.url("/")), Duration::from_secs(2)).await;
            assert_eq!(server.seen.requests().len(), 1, "X511 {reply}");
            fetched
        }
    };
    let tasks = tower_token_broker::tasks::Tasks::new();
    let mut waiting = Vec::new();
    for (fields, body) in [
        ("content-length: 10\r\n", ""),
        ("content-length: 10\r\n", "0123"),
        ("transfer-encoding: chunked\r\n", "5\r\n01"),
        ("", "0123"),
        ("content-encoding: gzip\r\ncontent-length: 10\r\n", "0123"),
    ] {
        for status in [400, 408, 429, 500, 503, 599, 200, 201, 299] {
            let fetched = tasks.spawn("fetch", fetched(status, fields, body));
            waiting.push((status, fields, body, fetched));
        }
    }
    for (status, fields, body, fetched) in waiting {
        let case = format!("X511 {status} {fields}{body}");
        let fetched = fetched.await.unwrap().unwrap_or_else(|error| panic!("{case}: {error}"));
        let response = fetched.response;
        assert_eq!(fetched.incomplete, Some(FetchError::Timeout(Sent::Maybe)), "{case}");
        assert_eq!(response.status(), status, "{case}");
        assert_eq!(response.headers()["retry-after"], "7", "{case}");
        // What arrived of it.
        assert_eq!(*response.body(), body.trim_start_matches("5\r\n"), "{case}");
    }
}

#[tokio::test]
async fn a_document_that_is_not_complete_is_an_error() {
    for fields in ["content-length: 10\r\n", "transfer-encoding: chunked\r\n"] {
        let reply = format!("HTTP/1.1 200 x\r\n{fields}\r\n4\r\n01");
        let client = GuardedClient::new(&loopback()).unwrap();
        let server = Wire::answering(&reply).await;
        let error = client.fetch(post(&server.url("/"))).await.unwrap_err();
        assert_eq!(error, FetchError::BrokenOff, "{fields}");
        let limits = FetchLimits::default().total(Duration::from_millis(500));
        let client = GuardedClient::with_limits(&loopback(), limits).unwrap();
        let server = Wire::falling_silent_after(&reply).await;
        let error = client.fetch(post(&server.url("/"))).await.unwrap_err();
        assert_eq!(error, FetchError::Timeout(Sent::Maybe), "{fields}");
    }
}

#[tokio::test]
async fn x511_the_shorter_of_two_timeouts_counts() {
    let silent = Wire::falling_silent_after("").await;
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(3600));
    for (total, bound) in [(short, long), (long, short), (short, Duration::MAX)] {
        let limits = FetchLimits::default().total(total);
        let client = GuardedClient::with_limits(&loopback(), limits).unwrap();
        let outcome = client.fetch_within(post(&silent.url("/")), bound).await;
        assert_eq!(outcome.unwrap_err(), FetchError::Timeout(Sent::Maybe), "X511");
    }
}

#[tokio::test]
async fn a_closed_port_means_that_nothing_was_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let outcome = GuardedClient::new(&loopback()).unwrap().fetch(post(&url)).await;
    assert_eq!(outcome.unwrap_err(), FetchError::NotReached(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn an_untrusted_server_receives_no_byte() {
    let authority = Authority::new();
    let guard = Guard::new()
        .allow_loopback("127.0.0.1")
        .allow_loopback("good.example")
        .trust_root(authority.root.clone())
        .with_resolver(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    let client = GuardedClient::new(&guard).unwrap();
    for (case, tls, problem) in [
        ("a good one", authority.server("good.example", 2999), None),
        (
            "C083 self-signed",
            test_servers::self_signed("good.example"),
            Some(CertificateProblem::UnknownIssuer),
        ),
        ("C083 expired", authority.server("good.example", 2020), Some(CertificateProblem::Expired)),
        (
            "C083 for another name",
            authority.server("evil.example", 2999),
            Some(CertificateProblem::OtherName),
        ),
        (
            "C083 of another authority",
            Authority::new().server("good.example", 2999),
            Some(CertificateProblem::UnknownIssuer),
        ),
    ] {
        let passes = problem.is_none();
        let server = Wire::over_tls(OK, tls).await;
        let outcome =
            client.fetch(post(&format!("https://good.example:{}/", server.address.port()))).await;
        let expected = problem.map_or(Ok(StatusCode::OK), |why| Err(FetchError::NotTrusted(why)));
        assert_eq!(outcome.map(|response| response.status()), expected, "{case}");
        assert_eq!(server.seen.connections(), 1, "{case}: it was the certificate that was refused");
        assert_eq!(server.seen.requests().len(), usize::from(passes), "{case}");
    }
}

#[test]
fn an_invalid_root_certificate_is_an_error() {
    let guard = Guard::new().trust_root(b"-----BEGIN CERTIFICATE-----".to_vec());
    assert_eq!(GuardedClient::new(&guard).unwrap_err(), OutboundError::RootCertificate);
}

/// The part of `no_proxy_of_the_environment_is_asked` that runs with a proxy in its environment.
#[tokio::test]
#[ignore = "run as a child by no_proxy_of_the_environment_is_asked"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own environment, and a client that reads it"
)]
async fn child_with_a_proxy_in_its_environment() {
    let url = std::env::var("TOKEN_BROKER_TEST_URL").unwrap();
    // A usual client uses the proxy, so the environment does name one.
    let config = crate::tls::client_config(&loopback()).unwrap();
    let other = reqwest::Client::builder().tls_backend_preconfigured(config).build().unwrap();
    let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
    assert_eq!(other.execute(request).await.unwrap().status(), StatusCode::IM_A_TEAPOT);

    let response = GuardedClient::new(&loopback()).unwrap().fetch(post(&url)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut proxy = crate::Proxy::new(&loopback()).unwrap().dangerous_without_exchange();
    let request = Request::get(&url).body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = tower_service::Service::call(&mut proxy, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let server = Wire::answering(OK).await;
    let proxy = Wire::answering(
        "HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tests::child_with_a_proxy_in_its_environment", "--ignored"]);
    child.env("TOKEN_BROKER_TEST_URL", server.url("/"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, proxy.url("")).env(name.to_ascii_lowercase(), proxy.url(""));
    }
    for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
        child.env_remove(name);
    }
    let ran = child.output().await.unwrap();
    assert!(ran.status.success(), "{}", std::str::from_utf8(&ran.stdout).unwrap());
    // One connection of the client that reads its environment, none of ours.
    assert_eq!((proxy.seen.connections(), server.seen.requests().len()), (1, 2));
}

#[tokio::test]
async fn h498_each_failure_has_its_cause() {
    let plain = Wire::answering(OK).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let not_http = Wire::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let nothing = Wire::answering("").await;
    let to_loopback = || Fixed(vec!["127.0.0.1".parse().unwrap()]);
    let guard = || loopback().allow_loopback("named.example");
    let unresolved = guard().with_resolver(Fixed(Vec::new()));
    for (guard, url, error) in [
        (
            guard(),
            format!("http://{closed}/"),
            FetchError::NotReached(ErrorKind::ConnectionRefused),
        ),
        (guard(), not_http.url("/"), FetchError::BrokenOff),
        (guard(), nothing.url("/"), FetchError::BrokenOff),
        (unresolved, "https://named.example/".to_owned(), FetchError::Unresolved),
        (
            Guard::new().with_resolver(to_loopback()),
            format!("https://named.example:{}/", plain.address.port()),
            FetchError::BlockedAddress(BlockedAddress::Loopback),
        ),
        (
            Guard::new().dangerous_allow_http("named.example", 80).with_resolver(to_loopback()),
            "http://named.example/".to_owned(),
            FetchError::BlockedAddress(BlockedAddress::Loopback),
        ),
    ] {
        let outcome = GuardedClient::new(&guard).unwrap().fetch(post(&url)).await;
        assert_eq!(outcome.unwrap_err(), error, "H498 {url}");
        assert!(
            !error.to_string().contains("127.0.0.1") && !error.to_string().contains("named"),
            "H498 {error}"
        );
    }
}

#[tokio::test]
async fn h498_a_peer_without_tls_is_not_an_untrusted_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let client = GuardedClient::new(&loopback()).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Read to the end, so that the client reads the response before a reset.
        stream.read_to_end(&mut Vec::new()).await.unwrap_or_default();
    };
    let (outcome, ()) = tokio::join!(client.fetch(post(&url)), server);
    assert_eq!(outcome.unwrap_err(), FetchError::Tls, "H498");
}

#[test]
fn c497_a_blocked_url_has_the_call_that_allows_it() {
    let loopback = FetchError::BlockedAddress(BlockedAddress::Loopback);
    let private = FetchError::BlockedAddress(BlockedAddress::Private);
    for (url, error, call) in [
        ("http://127.0.0.1:3000/mcp", loopback, r#"Guard::allow_loopback("127.0.0.1:3000")"#),
        ("https://[::1]/mcp", loopback, r#"Guard::allow_loopback("[::1]:443")"#),
        ("http://crm:8080/mcp", private, r#"Guard::dangerous_allow_http("crm", 8080)"#),
        ("http://10.1.2.3/mcp", private, r#"Guard::dangerous_allow_http("10.1.2.3", 80)"#),
        ("https://mcp.corp/mcp?key=1", private, r#"Guard::allow_private_host("mcp.corp:443")"#),
    ] {
        assert_eq!(error.remedy(&url.parse().unwrap()).as_deref(), Some(call), "C497 {url}");
    }
    let crm = "http://crm:8080/mcp?key=1".parse().unwrap();
    let both = FetchError::Scheme.remedy(&crm).unwrap();
    for call in ["dangerous_allow_http(\"crm\", 8080)", "allow_loopback(\"crm:8080\")"] {
        assert!(both.contains(call), "C497 {both}");
    }
    for error in [
        FetchError::BlockedAddress(BlockedAddress::Never),
        FetchError::BlockedAddress(BlockedAddress::Public),
        FetchError::Unresolved,
        FetchError::Url,
        FetchError::Timeout(Sent::No),
    ] {
        assert_eq!(error.remedy(&crm), None, "C497 {error}");
    }
}

#[test]
fn c497_the_named_call_allows_the_url() {
    for url in ["http://127.0.0.1:3000/", "https://[::1]/", "https://10.1.2.3:8443/"] {
        let uri = url.parse().unwrap();
        let error = Guard::new().check(url).unwrap_err();
        let call = error.remedy(&uri).unwrap();
        let host = call.split('"').nth(1).unwrap();
        let guard = match call.starts_with("Guard::allow_loopback") {
            true => Guard::new().allow_loopback(host),
            false => Guard::new().allow_private_host(host),
        };
        assert!(guard.check(url).is_ok(), "C497 {url} {call}");
    }
    let (url, uri) = ("http://10.1.2.3/", "http://10.1.2.3/".parse().unwrap());
    let call = Guard::new().check(url).unwrap_err().remedy(&uri).unwrap();
    assert_eq!(call, r#"Guard::dangerous_allow_http("10.1.2.3", 80)"#, "C497");
    assert!(Guard::new().dangerous_allow_http("10.1.2.3", 80).check(url).is_ok(), "C497");
}
