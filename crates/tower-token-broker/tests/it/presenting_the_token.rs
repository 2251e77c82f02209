//! Group A as bytes on a connection: hyper's HTTP/1.1 and HTTP/2 in front of audit and
//! authenticate.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{ServiceBuilder, service_fn};
use tower_token_broker::{
    Broker,
    audit::{AuditLayer, AuditLog, InMemory},
    authenticate::{AuthenticateLayer, TestTokens},
    principal::Resource,
    stack::StackConfig,
    tasks::Tasks,
};

struct Server {
    authority: String,
    calls: Arc<AtomicUsize>,
    log: AuditLog,
    records: InMemory,
}

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let resource = Resource::parse(&format!("http://{authority}/mcp")).unwrap();
    let records = InMemory::new();
    let broker = Broker::builder().audit(records.clone()).build().unwrap();
    let config = StackConfig::new(resource.as_str()).unwrap();
    let log = broker.audit_log().clone();
    let verifier = TestTokens::new().user("tok", "alice", &resource);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = ServiceBuilder::new()
        .layer(AuditLayer::new(&broker, &config))
        .layer(AuthenticateLayer::new(&broker, &config, verifier).unwrap())
        .service(service_fn(move |request: Request<hyper::body::Incoming>| {
            counted.fetch_add(1, Ordering::SeqCst);
            assert!(!request.headers().contains_key("authorization"));
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("passed"))) }
        }));
    let tasks = Tasks::new();
    drop(tasks.clone().spawn("server", async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            drop(tasks.spawn("connection", async move {
                // A client that disconnects is no failure here.
                drop(
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(connection), service)
                        .await,
                );
            }));
        }
    }));
    Server { authority, calls, log, records }
}

impl Server {
    async fn raw(&self, target: &str, head: &str) -> String {
        let mut connection = TcpStream::connect(&self.authority).await.unwrap();
        let request = format!(
            "POST {target} HTTP/1.1\r\n{head}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn last_reason(&self) -> String {
        self.log.flush().await.unwrap();
        let last: serde_json::Value = self.records.lines().last().unwrap().parse().unwrap();
        last["reason"].as_str().unwrap_or("-").into()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn hostile_headers_over_http_1_are_refused() {
    let server = server().await;
    let host = format!("host: {}\r\n", server.authority);
    let large = format!("authorization: Bearer {}\r\n", "a".repeat(16 * 1024 + 1));
    for (case, target, head, status, reason) in [
        ("A001", "/mcp", host.clone(), 401, "authn.missing"),
        ("A002", "/mcp", format!("{host}authorization: Bearer\r\n"), 401, "authn.empty"),
        ("A002", "/mcp", format!("{host}authorization: Bearer   \r\n"), 401, "authn.empty"),
        (
            "A003",
            "/mcp",
            format!("{host}authorization: Bearer tok\r\nauthorization: x\r\n"),
            400,
            "authn.duplicate_header",
        ),
        (
            "A003",
            "/mcp",
            format!("{host}authorization: x\r\nAuthorization: Bearer tok\r\n"),
            400,
            "authn.duplicate_header",
        ),
        ("A009", "/mcp", format!("{host}authorization: Bearer  tok\r\n"), 400, "authn.malformed"),
        ("A009", "/mcp", format!("{host}authorization: Bearer\ttok\r\n"), 400, "authn.malformed"),
        (
            "A010",
            "/mcp",
            format!("{host}authorization: Basic dG9r\r\n"),
            401,
            "authn.unsupported_scheme",
        ),
        ("A011", "/mcp?access_token=tok", host.clone(), 401, "authn.query_token"),
        ("A014", "/mcp", format!("{host}cookie: access_token=tok\r\n"), 401, "authn.missing"),
        (
            "A014",
            "/mcp",
            format!("{host}proxy-authorization: Bearer tok\r\n"),
            401,
            "authn.missing",
        ),
        ("A015", "/mcp", format!("{host}{large}"), 400, "authn.too_large"),
        (
            "A021",
            "/mcp",
            "host: evil.example\r\nauthorization: Bearer tok\r\n".into(),
            421,
            "req.host_not_allowed",
        ),
        ("A021", "/mcp", "authorization: Bearer tok\r\n".into(), 421, "req.host_not_allowed"),
        (
            "A021",
            "http://evil.example/mcp",
            format!("{host}authorization: Bearer tok\r\n"),
            421,
            "req.host_not_allowed",
        ),
        (
            "A022",
            "/mcp",
            format!("{host}origin: https://evil.example\r\nauthorization: Bearer tok\r\n"),
            403,
            "req.origin_not_allowed",
        ),
        (
            "A023",
            "/mcp",
            format!("{host}authorization: Bearer upstream-token\r\n"),
            401,
            "authn.unknown",
        ),
    ] {
        let answer = server.raw(target, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
        assert_eq!(server.last_reason().await, reason, "{case}");
        assert!(!answer.contains("tok\r\n"), "{case}: nothing of the credential comes back");
    }
    assert_eq!(server.calls(), 0);
    for (case, value) in
        [("A008", "bearer tok"), ("A008", "BEARER tok"), ("A009", "Bearer tok  \t")]
    {
        let answer = server.raw("/mcp", &format!("{host}authorization: {value}\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("passed"),
            "{case}: {answer}"
        );
    }
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn a006_a_folded_line_is_never_a_token() {
    let server = server().await;
    let answer = server
        .raw("/mcp", &format!("host: {}\r\nauthorization: Bearer\r\n  tok\r\n", server.authority))
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "A006: {answer}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn http_2_is_judged_alike() {
    let server = server().await;
    #[expect(clippy::disallowed_methods, reason = "a client of a test")]
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let url = format!("http://{}/mcp", server.authority);
    let send = |values: &'static [&'static str], host: Option<&'static str>| {
        let request = values
            .iter()
            .fold(Request::post(&url), |request, value| request.header("authorization", *value));
        let request = host.into_iter().fold(request, |request, host| request.header("host", host));
        let sent = client.request(request.body(Full::default()).unwrap());
        async {
            let answer = sent.await.unwrap();
            let (status, version) = (answer.status(), answer.version());
            answer.into_body().collect().await.unwrap();
            assert_eq!(version, Version::HTTP_2);
            status
        }
    };
    assert_eq!(send(&["Bearer tok"], None).await, StatusCode::OK);
    assert_eq!(send(&["Bearer tok", "garbage"], None).await, StatusCode::BAD_REQUEST, "A003");
    assert_eq!(server.last_reason().await, "authn.duplicate_header");
    assert_eq!(
        send(&["Bearer tok"], Some("evil.example")).await,
        StatusCode::MISDIRECTED_REQUEST,
        "A021"
    );
    assert_eq!(server.last_reason().await, "req.host_not_allowed");
    assert_eq!(server.calls(), 1);
}
