//! Mount paths of stacks, and requests for other paths.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    routing::{any_service, get},
};
use http::{Method, Request, StatusCode, Uri};
use token_broker_authority::issue::Mint;
use token_broker_outbound::{Guard, Proxy};
use token_broker_tests::{
    grpc::frame,
    harness::{Broker, CALL, ISSUER, SECRET, proxy, serve},
    upstream::{ScriptedServer, json},
    wire::{self, RawResponse},
};
use token_broker_upstream::StaticSecret;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    authenticate::{HostAndOrigin, JwtVerifier},
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, Upstream,
        UpstreamRefusal,
    },
    limits::Protocol,
    principal::Resource,
    scope_filter::{Call, Decision, Rules, http as http_rule, policy_fn},
};

use crate::records::{results, summary};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// A credential source with one secret that counts its calls.
struct Counting {
    secret: StaticSecret,
    calls: Arc<AtomicUsize>,
}

impl ProvideCredential for Counting {
    fn upstream(&self) -> &Upstream {
        self.secret.upstream()
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.secret.recall(request)
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.secret.credential(request).await
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        self.secret.refused(refusal).await;
    }
}

fn secret_for(url: &str) -> StaticSecret {
    let upstream = Upstream::parse("items", url).unwrap();
    StaticSecret::new(Secret::from_text(SECRET.to_owned()), upstream).unwrap()
}

/// Mints a token of alice for another resource of the same broker.
fn token_for(broker: &Broker, resource: &str) -> String {
    let resource = Resource::parse(resource).unwrap();
    let mint = Mint::for_user("alice").client("test-client").resource(&resource);
    let token = broker.issuer().mint(mint).unwrap().into_text();
    broker.ledger().token(&token);
    token
}

/// Posts a message to a path with a token.
fn post(path: &str, host: &str, token: &str, message: &str) -> Vec<u8> {
    wire::post(path, host, &[("authorization", &format!("Bearer {token}"))], message)
}

fn get_path(path: &str, host: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// Sends a request that reaches no stack and therefore has no record.
async fn send_outside(broker: &Broker, bytes: &[u8]) -> RawResponse {
    broker.ledger().sent(0, bytes);
    let response = wire::send(broker.address(), bytes).await;
    broker.ledger().received(&response);
    response
}

/// Checks for the broker's own 404, which names no resource and requests no token.
fn is_not_served(response: &RawResponse, path: &str) {
    assert_eq!(response.status, 404, "{path}: {}", response.text());
    assert_eq!(response.header("www-authenticate"), None, "{path}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
    assert!(response.header("x-request-id").is_some(), "{path}");
}

#[tokio::test]
async fn nested_and_merged_stacks_serve_their_own_resource() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, crm, broker) =
        Broker::in_front_of(&upstream).at("/teams/sales/crm/mcp").prepare().await;
    let host = broker.host().to_owned();
    let resource = format!("http://{host}/hr/mcp");
    let hr = broker
        .handle()
        .protect(&resource)
        .authenticate(JwtVerifier::new(ISSUER, broker.issuer().keys()))
        .scope_filter(policy_fn(|_, _: &Call<'_>| Decision::allow()))
        .exchange(secret_for(&upstream.url("/mcp")))
        .build()
        .unwrap();
    let sales = Router::new().route_service("/crm/mcp", crm.layer(proxy()));
    let app = Router::new()
        .nest("/teams", Router::new().nest("/sales", sales))
        .merge(Router::new().route_service("/hr/mcp", hr.layer(proxy())))
        .merge(broker.handle().metadata_router())
        .fallback(async || (StatusCode::NOT_FOUND, "no such page"));
    serve(listener, app);

    let (of_crm, of_hr) = (broker.token("items:read"), token_for(&broker, &resource));
    let crm_path = "/teams/sales/crm/mcp";
    for (path, token) in [(crm_path, &of_crm), ("/hr/mcp", &of_hr)] {
        let passed = broker.send(&post(path, &host, token, CALL)).await;
        assert_eq!((passed.status, passed.text()), (200, RESULT), "{path}");
    }
    for (path, token) in [(crm_path, &of_hr), ("/hr/mcp", &of_crm)] {
        let refused = broker.send(&post(path, &host, token, CALL)).await;
        assert_eq!(refused.status, 401, "{path}: a token of the other resource");
    }
    assert_eq!(upstream.received().len(), 2);

    // The application handles all other paths, and the metadata needs no token.
    for path in ["/", "/crm/mcp", "/teams/sales/crm/mcp/", "/hr/mcp/x", "/sales/crm/mcp"] {
        let response = send_outside(&broker, &post(path, &host, &of_crm, CALL)).await;
        assert_eq!((response.status, response.text()), (404, "no such page"), "{path}");
        assert_eq!(response.header("x-request-id"), None, "{path}: no stack has seen it");
    }
    for (path, resource) in [(crm_path, broker.resource().as_str()), ("/hr/mcp", &resource)] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let document = send_outside(&broker, request.as_bytes()).await;
        assert_eq!((document.status, &document.json()["resource"]), (200, &resource.into()));
    }
    let reasons: Vec<_> =
        results(&broker, 4).await.iter().map(|result| result["reason"].clone()).collect();
    assert_eq!(reasons[2..], ["authn.resource", "authn.resource"]);
    broker.done().await;
}

#[tokio::test]
async fn router_layer_refuses_unknown_paths() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let provider = Counting { secret: secret_for(&upstream.url("/mcp")), calls: calls.clone() };
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare_with(|_| provider).await;
    broker.ledger().secret("the upstream's token", SECRET);
    // With `merge`, the layered fallback becomes the fallback of the whole application.
    let layered = Router::new().route("/mcp", any_service(proxy())).layer(stack);
    serve(listener, Router::new().route("/health", get(async || "well")).merge(layered));
    let (host, token) = (broker.host().to_owned(), broker.token("items:read"));

    let paths = [
        "/",
        "/nope",
        "/mcp/",
        "/mcp2",
        "/mcp/x",
        "/MCP",
        "//mcp",
        "/mcp%2f",
        "/%6dcp",
        "/mcp;a=b",
        "/mcp/../mcp",
        "/x/mcp",
        "/.well-known/oauth-protected-resource/mcp",
        "/nope?access_token=abc",
    ];
    for path in paths {
        for token in [token.as_str(), "no.such.token"] {
            let refused = broker.send(&post(path, &host, token, CALL)).await;
            is_not_served(&refused, path);
        }
        is_not_served(&broker.send(&wire::post(path, &host, &[], CALL)).await, path);
        is_not_served(&broker.send(&wire::post(path, "evil.example", &[], CALL)).await, path);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0, "no credential was fetched");
    assert_eq!(upstream.received().len(), 0);
    let refused = 4 * paths.len() as u64;
    let records = broker.expect_records(refused).await;
    assert!(records.iter().all(|record| record["kind"] != "intent"));
    for result in results(&broker, refused).await {
        let expected = ("refused", Some("req.path_not_served"), 0, 0);
        assert_eq!(summary(&result), expected, "{result}");
        assert_eq!(result["status"], 404, "{result}");
        // No request was authenticated or read.
        assert!(result["subject"].is_null() && result["method"].is_null(), "{result}");
    }
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    let hint = logs.lines().filter(|line| line.contains("served_at=\"/mcp\""));
    assert_eq!(hint.count(), 1, "the log explains once how to mount it");

    // Its own path and routes without the layer work as before.
    let passed = broker.send(&post("/mcp", &host, &token, CALL)).await;
    assert_eq!((passed.status, passed.text()), (200, RESULT));
    let health = send_outside(&broker, &get_path("/health", &host, "none")).await;
    assert_eq!((health.status, health.text()), (200, "well"));
    assert_eq!(upstream.received().len(), 1);
    broker.expect_records(refused + 1).await;
    broker.done().await;
}

#[tokio::test]
async fn an_unserved_path_is_refused_for_every_method() {
    // Refused before the protocol matters: GET, stream and message alike.
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    serve(listener, Router::new().fallback_service(stack.layer(proxy())));
    let (host, token) = (broker.host().to_owned(), broker.token("items:read"));
    for method in ["GET", "DELETE", "PUT", "OPTIONS", "HEAD", "POST"] {
        let request = format!(
            "{method} /other HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             accept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        is_not_served(&broker.send(request.as_bytes()).await, method);
    }
    let absolute = post(&format!("http://{host}/other"), &host, &token, CALL);
    is_not_served(&broker.send(&absolute).await, "the absolute form");
    for result in results(&broker, 7).await {
        assert_eq!(result["reason"], "req.path_not_served", "{result}");
    }
    let absolute = post(&format!("http://{host}/mcp"), &host, &token, CALL);
    assert_eq!(broker.send(&absolute).await.status, 200);
    broker.done().await;
}

/// Path, status, and path of the upstream call.
const PLAIN_PATHS: [(&str, u16, Option<&str>); 14] = [
    ("/api/contacts", 200, Some("/v2/contacts")),
    ("/api/contacts?page=2&sort=a%2Fb", 200, Some("/v2/contacts?page=2&sort=a%2Fb")),
    ("/api/contacts/a%20b", 200, Some("/v2/contacts/a%20b")),
    ("/api", 200, Some("/v2")),
    ("/api/", 200, Some("/v2/")),
    // Rules contain the full path.
    ("/api/salaries", 403, None),
    ("/api/contacts/../salaries", 403, None),
    ("/api/%2e%2e/contacts", 403, None),
    // Segments match as a whole: these are not below `/api`.
    ("/apis/contacts", 404, None),
    ("/api2", 404, None),
    ("/API/contacts", 404, None),
    ("/api%2fcontacts", 404, None),
    ("/contacts", 404, None),
    ("/", 404, None),
];

fn plain_rules() -> Rules {
    let get = |template| http_rule(Method::GET, template);
    Rules::new()
        .allow(get("/api"))
        .allow(get("/api/"))
        .allow(get("/api/contacts"))
        .allow(get("/api/contacts/{id}"))
}

async fn serves_plain_paths(mount: impl FnOnce(Layered) -> Router) {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream)
        .plain_http()
        .at("/api")
        .upstream_at(&upstream.url("/v2"))
        .policy(plain_rules())
        .prepare()
        .await;
    let boxed = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .service(stack.layer(proxy()));
    serve(listener, mount(Layered::new(boxed)));
    let (host, token) = (broker.host().to_owned(), broker.token("items:read"));
    let mut sent = Vec::new();
    for (path, status, target) in PLAIN_PATHS {
        let response = broker.send(&get_path(path, &host, &token)).await;
        assert_eq!(response.status, status, "{path}: {}", response.text());
        sent.extend(target);
        let received = upstream.received();
        let targets: Vec<_> = received.iter().map(|one| one.target.as_str()).collect();
        assert_eq!(targets, sent, "{path}");
    }
    for (result, (path, status, _)) in results(&broker, 14).await.iter().zip(PLAIN_PATHS) {
        let reason = match status {
            200 => None,
            403 => Some("filter.request_denied"),
            _ => Some("req.path_not_served"),
        };
        assert_eq!(result["reason"].as_str(), reason, "{path}: {result}");
    }
    broker.done().await;
}

/// Returns a stack around a proxy.
type Layered =
    tower::util::BoxCloneSyncService<Request<Body>, http::Response<Body>, std::convert::Infallible>;

#[tokio::test]
async fn plain_http_is_served_below_whole_segments() {
    serves_plain_paths(|layered| Router::new().fallback_service(layered)).await;
}

#[tokio::test]
async fn plain_http_forwards_the_same_path_nested() {
    // axum removes the prefix; the original path counts.
    serves_plain_paths(|layered| {
        let outside = layered.clone();
        Router::new().nest_service("/api", layered).fallback_service(outside)
    })
    .await;
}

#[tokio::test]
async fn grpc_is_served_at_the_paths_of_its_services() {
    let ok = || token_broker_tests::grpc::response([frame(b"hi")], &[("grpc-status", "0")]);
    let upstream = ScriptedServer::start(move |_| ok()).await;
    let broker = Broker::in_front_of(&upstream).grpc().at("/shop").start().await;
    for path in ["/shop.v1.Orders/Get", "/token_broker.v1.Other/Get"] {
        let reply = broker.rpc(path, &[], frame(b"")).await;
        assert_eq!(reply.status(), Some(0), "{path}: {reply:?}");
        assert_eq!(upstream.received().last().unwrap().target, path);
    }
    broker.done().await;
}

/// A reverse proxy that strips a prefix, as in many deployments.
async fn stripping_proxy(prefix: &'static str, to: std::net::SocketAddr) -> std::net::SocketAddr {
    let forward = Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
    let forward = forward.dangerous_without_exchange();
    let service = service_fn(move |mut request: Request<Body>| {
        let forward = forward.clone();
        async move {
            let target = request.uri().path_and_query().unwrap().as_str();
            let target = target.strip_prefix(prefix).unwrap_or(target);
            let uri: Uri = format!("http://{to}{target}").parse().unwrap();
            *request.uri_mut() = uri;
            forward.oneshot(request).await
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, Router::new().fallback_service(service));
    address
}

#[tokio::test]
async fn a_mount_path_is_configured_for_stripping_proxies() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, _, secret, broker) = Broker::in_front_of(&upstream).prepare_stack().await;
    let front = stripping_proxy("/crm", broker.address()).await;
    let resource = format!("http://{front}/crm/mcp");
    let stack = |mounted_at: Option<&str>| {
        // This proxy sets `Host` to the address that it calls.
        let hosts = HostAndOrigin::new().allow_host(broker.host()).without_own_host();
        let stack = broker.handle().protect(&resource).host_and_origin(hosts);
        let stack = match mounted_at {
            Some(path) => stack.mounted_at(path),
            None => stack,
        };
        stack
            .authenticate(JwtVerifier::new(ISSUER, broker.issuer().keys()))
            .scope_filter(policy_fn(|_, _: &Call<'_>| Decision::allow()))
            .exchange(secret_for(&upstream.url("/mcp")))
            .build()
            .unwrap()
    };
    let app = Router::new()
        .route_service("/mcp", stack(Some("/mcp")).layer(proxy()))
        .route_service("/crm/mcp", stack(Some("/mcp")).layer(proxy()))
        .route_service("/unstated/mcp", stack(None).layer(proxy()))
        .merge(broker.handle().metadata_router());
    serve(listener, app);
    drop(secret);
    let (host, token) = (front.to_string(), token_for(&broker, &resource));
    let send = async |path: &str, authorization: &[(&str, &str)]| {
        let bytes = wire::post(path, &host, authorization, CALL);
        broker.ledger().sent(1, &bytes);
        let response = wire::send(front, &bytes).await;
        broker.ledger().received(&response);
        response
    };
    let bearer = format!("Bearer {token}");
    let passed = send("/crm/mcp", &[("authorization", &bearer)]).await;
    assert_eq!((passed.status, passed.text()), (200, RESULT));
    // The challenge contains the public address.
    let refused = send("/crm/mcp", &[]).await;
    let metadata = format!("http://{front}/.well-known/oauth-protected-resource/crm/mcp");
    let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
    assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()));
    // The public path differs from the path in this process.
    let direct = broker.send(&post("/crm/mcp", &host, &token, CALL)).await;
    is_not_served(&direct, "/crm/mcp");
    // A stack without this setting refuses requests through the proxy.
    let unstated = send("/crm/unstated/mcp", &[("authorization", &bearer)]).await;
    is_not_served(&unstated, "/unstated/mcp");
    assert_eq!(upstream.received().len(), 1);
    let results = results(&broker, 4).await;
    let reasons: Vec<_> = results.iter().map(|result| result["reason"].as_str()).collect();
    let not_served = Some("req.path_not_served");
    assert_eq!(reasons, [None, Some("authn.missing"), not_served, not_served]);
    broker.done().await;
}

#[tokio::test]
async fn a_prefix_is_stripped_only_once() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let rules = Rules::new().allow(http_rule(Method::GET, "/contacts"));
    let (listener, stack, secret, broker) = Broker::in_front_of(&upstream)
        .plain_http()
        .at("/api")
        .upstream_at(&upstream.url("/v2"))
        .policy(rules)
        .prepare_stack()
        .await;
    let layer = stack.mounted_at("/").exchange(secret).build().unwrap();
    serve(listener, Router::new().fallback_service(layer.layer(proxy())));
    let response = broker.get("/contacts").await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(upstream.received()[0].target, "/v2/contacts");
    assert_eq!(broker.get("/api/contacts").await.status, 403, "the rules name what arrives");
    broker.done().await;
}

#[tokio::test]
async fn two_protocols_are_served_side_by_side() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, mcp, broker) = Broker::in_front_of(&upstream).prepare().await;
    let host = broker.host().to_owned();
    let rest = broker
        .handle()
        .protect(&format!("http://{host}/rest"))
        .protocol(Protocol::Http)
        .authenticate(JwtVerifier::new(ISSUER, broker.issuer().keys()))
        .scope_filter(Rules::new().allow(http_rule(Method::GET, "/rest/{*path}")))
        .exchange(secret_for(&upstream.url("/v1")))
        .build()
        .unwrap();
    let app = Router::new()
        .route_service("/mcp", mcp.layer(proxy()))
        .nest_service("/rest", rest.layer(proxy()));
    serve(listener, app);
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    let token = token_for(&broker, &format!("http://{host}/rest"));
    let response = broker.send(&get_path("/rest/items/7", &host, &token)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let targets: Vec<_> = upstream.received().into_iter().map(|one| one.target).collect();
    assert_eq!(targets, ["/mcp", "/v1/items/7"]);
    broker.done().await;
}
