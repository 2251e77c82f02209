//! The parts of a client's request that reach the upstream, and those that never do.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use token_broker_outbound::{Guard, Proxy};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, SECRET, proxy, serve},
    upstream::{Received, ScriptedServer, full, json},
    wire,
};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_token_broker::{
    audit::AuditLayer,
    authenticate::{AuthenticateLayer, jwt::JwtVerifier},
    exchange::{
        Credential, CredentialError, CredentialRequest, ExchangeLayer, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    principal::Principal,
    scope_filter::{Call, Decision, ScopeFilterLayer},
    stack::StackConfig,
};

use crate::{
    hostile_case::{Case, run},
    resolvers::Always,
};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Returns a call with a valid token and additional fields.
fn with(broker: &Broker, fields: &[(&str, &str)]) -> Vec<u8> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let all = [&[("authorization", bearer.as_str())], fields].concat();
    wire::post("/mcp", broker.host(), &all, CALL)
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// The fields of each case, and those that the upstream must receive.
async fn passes_on(
    broker: &Broker,
    upstream: &ScriptedServer,
    rows: Vec<(&'static str, Fields<'_>, Fields<'_>)>,
) {
    for (case, fields, expected) in rows {
        run(broker, upstream, [Case::passes(case, with(broker, &fields))]).await;
        let received = upstream.received().pop().unwrap();
        for (name, _) in &fields {
            // The fields that every request has are the broker's own.
            if !["authorization", "connection", "accept"]
                .contains(&name.to_ascii_lowercase().as_str())
            {
                let values = received.values(name);
                let wanted: Vec<_> = expected
                    .iter()
                    .filter(|(other, _)| other == name)
                    .map(|(_, value)| *value)
                    .collect();
                assert_eq!(values, wanted, "{case}: {name}");
            }
        }
        is_sent_by_us(case, &received);
    }
}

/// The credential, once; and no field of the client's connection.
fn is_sent_by_us(case: &str, received: &Received) {
    let credential: Vec<_> =
        ["authorization", "x-api-key"].into_iter().flat_map(|name| received.values(name)).collect();
    assert_eq!(credential.len(), 1, "{case}: {credential:?}");
    assert!(credential[0].ends_with(SECRET), "{case}: {credential:?}");
    for gone in [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-connection",
        "transfer-encoding",
    ] {
        assert!(received.headers.get(gone).is_none(), "{case}: {gone}");
    }
}

#[tokio::test]
async fn h484_the_clients_user_agent_is_kept_or_ours_sent() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let ours = concat!("token-broker/", env!("CARGO_PKG_VERSION"));
    for (sent, expected) in
        [(None, ours), (Some(""), ours), (Some("  "), ours), (Some("curl/8 (x)"), "curl/8 (x)")]
    {
        let fields: Vec<_> = sent.iter().map(|value| ("user-agent", *value)).collect();
        let before = upstream.received().len();
        assert_eq!(broker.call_with(&fields, CALL).await.status, 200, "H484 {sent:?}");
        let received = upstream.received().remove(before);
        assert_eq!(received.values("user-agent"), [expected], "H484 {sent:?}");
    }
    broker.done().await;
}

#[tokio::test]
async fn only_allowed_headers_are_forwarded() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let long = "a=".repeat(4096);
    let said = [
        "x-forwarded-user",
        "x-user-id",
        "x-tenant",
        "x-mcp-subject",
        "x_forwarded_user",
        "cookie",
        "forwarded",
    ];
    let rows = vec![
        ("H167", vec![("connection", "close, authorization"), ("keep-alive", "timeout=5")], vec![]),
        ("H167", vec![("connection", "close, x-user"), ("x-user", "root")], vec![]),
        ("H167", vec![("connection", "accept-language"), ("accept-language", "de")], vec![]),
        (
            "H167",
            vec![
                ("te", "trailers"),
                ("trailer", "x-after"),
                ("upgrade", "h2c"),
                ("proxy-connection", "close"),
            ],
            vec![],
        ),
        (
            "H167 the same, not named",
            vec![("accept-language", "de")],
            vec![("accept-language", "de")],
        ),
        ("A018", said.iter().map(|name| (*name, "root")).collect(), vec![]),
        (
            "H177",
            vec![("traceparent", parent), ("tracestate", "a=1")],
            vec![("traceparent", parent), ("tracestate", "a=1")],
        ),
        ("H177", vec![("traceparent", long.as_str()), ("tracestate", long.as_str())], vec![]),
        (
            "H177",
            vec![("traceparent", parent), ("baggage", "user=alice")],
            vec![("traceparent", parent)],
        ),
        ("H177", vec![("baggage", long.as_str())], vec![]),
    ];
    passes_on(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn clients_cannot_set_the_credential_header() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).credential_in("x-api-key").start().await;
    for (case, fields) in [
        ("H168", vec![]),
        ("H170", vec![("x-api-key", "attacker")]),
        (
            "H170",
            vec![("x-api-key", "attacker"), ("X-Api-Key", "attacker"), ("x_api_key", "attacker")],
        ),
    ] {
        run(&broker, &upstream, [Case::passes(case, with(&broker, &fields))]).await;
        let received = upstream.received().pop().unwrap();
        assert!(received.headers.get("authorization").is_none(), "{case}");
        assert_eq!(received.values("x-api-key"), [SECRET], "{case}");
        assert!(received.headers.get("x_api_key").is_none(), "{case}");
    }
    broker.done().await;
}

#[tokio::test]
async fn h169_an_exchange_layer_too_far_outside_fails() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, _, secret, broker) = Broker::in_front_of(&upstream).prepare_for_handler().await;
    let (handle, config) = (broker.handle(), StackConfig::new(broker.resource().as_str()).unwrap());
    let verifier = JwtVerifier::new(ISSUER, broker.issuer().keys());
    let policy = |_: &Principal, _: &Call<'_>| Decision::allow();
    let misordered = ServiceBuilder::new()
        .layer(AuditLayer::new(handle, &config))
        .layer(ExchangeLayer::new(handle, &config, secret).unwrap())
        .layer(AuthenticateLayer::new(handle, &config, verifier).unwrap())
        .layer(ScopeFilterLayer::new(handle, &config, policy))
        .service(proxy());
    serve(listener, Router::new().route_service("/mcp", misordered));
    let response = broker.send(&with(&broker, &[])).await;
    assert_eq!(response.status, 500, "H169");
    assert!(upstream.received().is_empty(), "H169");
    let records = broker.expect_records(1).await;
    let results: Vec<_> = records.iter().filter(|record| record["count"] == 1).collect();
    assert_eq!(results.len(), 1, "H169: {records:?}");
    assert_eq!(results[0]["reason"], "stack.missing_layer", "H169: {records:?}");
    assert!(!records.iter().any(|record| record["kind"] == "intent"), "H169: {records:?}");
    broker.done_unsent().await;
}

/// A credential source that fails for a given reason.
#[derive(Debug)]
struct Failing {
    upstream: Upstream,
    why: CredentialError,
}

impl ProvideCredential for Failing {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        Err(self.why.clone())
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}
}

#[tokio::test]
async fn h169_a_failed_exchange_sends_nothing() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    for (why, status, reason) in [
        (CredentialError::Revoked, 200, "exchange.grant_revoked"),
        (CredentialError::ConnectRequired, 200, "exchange.connect_required"),
        (CredentialError::Unavailable { retry_after: None }, 503, "exchange.unavailable"),
        (CredentialError::RefusedByPolicy, 200, "exchange.authorization_server_policy"),
    ] {
        let failing =
            Failing { upstream: Upstream::parse("items", &upstream.url("/mcp")).unwrap(), why };
        let broker = Broker::in_front_of(&upstream).start_with(|_| failing).await;
        run(&broker, &upstream, [Case::refused("H169", with(&broker, &[]), status, reason)]).await;
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn without_an_account_only_what_needs_one_is_refused() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let why = CredentialError::ConnectRequired;
    let failing =
        Failing { upstream: Upstream::parse("items", &upstream.url("/mcp")).unwrap(), why };
    let broker = Broker::in_front_of(&upstream).start_with(|_| failing).await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let send = |message: &str| {
        let fields = [
            ("authorization", bearer.as_str()),
            ("mcp-protocol-version", "2025-06-18"),
            ("accept", "application/json, text/event-stream"),
        ];
        wire::post("/mcp", broker.host(), &fields, message)
    };
    let reason = "exchange.connect_required";
    let refused =
        |message: &str, status| Case::refused("no account", send(message), status, reason);
    let of = |body: &str| format!(r#"{{"jsonrpc":"2.0",{body}}}"#);
    let rows = [
        refused(&of(r#""id":"a\u0062","method":"ping""#), 200)
            .body(of(r#""id":"a\u0062","result":{}"#)),
        refused(&of(r#""method":"notifications/initialized""#), 202).body(""),
        refused(&of(r#""method":"notifications/cancelled","params":{"requestId":1}"#), 202)
            .body(""),
        refused(&of(r#""id":1,"method":"tools/list""#), 200),
        refused(&of(r#""id":1,"method":"tools/call","params":{"name":"get"}"#), 200),
        refused(
            &of(r#""id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}"#),
            200,
        ),
    ];
    let responses = run(&broker, &upstream, rows).await;
    for response in &responses[3..] {
        assert!(response.text().contains("connect an account"), "{}", response.text());
    }
    broker.done_unsent().await;
}

#[tokio::test]
async fn h172_redirects_are_neither_followed_nor_forwarded() {
    let elsewhere = ScriptedServer::start(|_| json(RESULT)).await;
    let port = elsewhere.address().port();
    for (status, target) in [
        (307, elsewhere.url("/stolen")),
        (308, elsewhere.url("/stolen")),
        (302, elsewhere.url("/stolen")),
        (303, format!("http://localhost:{port}/stolen")),
        (307, format!("//127.0.0.1:{port}/stolen")),
        (307, "/another/path".to_owned()),
    ] {
        let upstream = ScriptedServer::start(move |_| {
            http::Response::builder()
                .status(status)
                .header("location", &target)
                .body(full(""))
                .unwrap()
        })
        .await;
        let broker = Broker::in_front_of(&upstream).start().await;
        let row = Case::fails("H172", with(&broker, &[]), 502, "exchange.upstream_failed");
        let responses = run(&broker, &upstream, [row]).await;
        assert_eq!(responses[0].header("location"), None, "H172");
        assert!(elsewhere.received().is_empty(), "H172");
        broker.done().await;
    }
}

#[tokio::test]
async fn h178_private_addresses_are_not_connected() {
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        "::ffff:127.0.0.1".parse().unwrap(),
        "fd00::7".parse().unwrap(),
    ] {
        // The address that it would connect to.
        let listening = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url =
            format!("https://items.corp.example:{}/mcp", listening.local_addr().unwrap().port());
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let (listener, stack, broker) =
            Broker::in_front_of(&upstream).upstream_at(&url).prepare().await;
        let proxy = Proxy::new(&Guard::new().with_resolver(Always(address))).unwrap();
        serve(listener, Router::new().route_service("/mcp", stack.layer(proxy)));
        let row = Case::fails("H178", with(&broker, &[]), 502, "exchange.upstream_failed").unsent();
        run(&broker, &upstream, [row]).await;
        let logs = String::from_utf8(broker.ledger().logs()).unwrap();
        assert!(logs.contains("fetch.blocked_address"), "H178 {address}");
        // No connection was made: it would be waiting in the backlog.
        let knocked = tokio::select! {
            biased;
            knocked = listening.accept() => Some(knocked),
            () = std::future::ready(()) => None,
        };
        assert!(knocked.is_none(), "H178 {address}");
        broker.done_unsent().await;
    }
}
