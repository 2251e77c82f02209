//! The mark of a refusal, for middleware outside the stack and for handlers whose own request was
//! refused.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::{Router, body::Body, middleware::map_response, response::Response as AxumResponse};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use parking_lot::Mutex;
use serde_json::{Value, json};
use token_broker_outbound::Proxy;
use token_broker_tests::{
    grpc::{TYPED, typed_call},
    harness::{Broker, CALL, SECRET, grpc_proxy, proxy, serve},
    upstream::{ScriptedServer, full, json as json_response},
    wire,
};
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    body::RequestBody,
    exchange::{
        CallerHandle, Credential, CredentialError, CredentialRequest, Exchange, ExchangeLayer,
        ProvideCredential, Upstream, UpstreamRefusal,
    },
    principal::Principal,
    refusal::{Fault, Refused},
    scope_filter::{Rules, tools},
};

use crate::records::{results, summary};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const PAGE: &str = "https://broker.example.com/connect/alice";

/// A credential source with a fixed outcome and a connect page.
struct Outcome {
    upstream: Upstream,
    gives: Result<&'static str, CredentialError>,
}

impl Outcome {
    fn at(url: &str, gives: Result<&'static str, CredentialError>) -> Self {
        Self { upstream: Upstream::parse("items", url).unwrap(), gives }
    }
}

impl ProvideCredential for Outcome {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let secret = Secret::from_text(self.gives.clone()?.to_owned());
        Ok(Credential::vouch(secret, self.upstream.origin().clone()))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}

    fn connect_url(&self, _: &Principal) -> Option<Box<str>> {
        Some(PAGE.into())
    }
}

/// The refusals that middleware outside the stack has seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Value>>>);

impl Seen {
    fn around(&self, router: Router) -> Router {
        let seen = self.clone();
        router.layer(map_response(move |response: AxumResponse| {
            let mark = Refused::of(&response).map(|refused| {
                json!({
                    "reason": refused.reason().code(),
                    "fault": fault(refused.reason().fault()),
                    "connect_url": refused.connect_url(),
                    "scopes": refused.scopes().map(ToString::to_string),
                    "retry_after": refused.retry_after().map(|wait| wait.as_secs()),
                })
            });
            seen.0.lock().push(mark.unwrap_or_default());
            ready(response)
        }))
    }

    fn take(&self) -> Value {
        let mut seen = self.0.lock();
        assert_eq!(seen.len(), 1, "one response");
        seen.remove(0)
    }
}

const fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Operator => "operator",
        Fault::Upstream => "upstream",
        Fault::Ours => "ours",
    }
}

fn rules() -> Rules {
    Rules::new()
        .allow(tools(["get_*"]))
        .allow(tools(["create_*"]).with_scope("items:read items:write"))
}

fn call(tool: &str) -> String {
    CALL.replace("get_item", tool)
}

#[tokio::test]
async fn an_outer_middleware_sees_the_reason() {
    let upstream = ScriptedServer::start(|_| json_response(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).policy(rules()).prepare().await;
    let seen = Seen::default();
    serve(listener, seen.around(Router::new().fallback_service(stack.layer(proxy()))));
    let (host, bearer) = (broker.host(), format!("Bearer {}", broker.token("items:read")));
    let post = |path: &str, token: Option<&str>, message: &str| {
        let fields: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        wire::post(path, host, &fields, message)
    };
    let token = Some(bearer.as_str());
    let mark = |reason: &str, fault: &str| {
        json!({
            "reason": reason, "fault": fault,
            "connect_url": null, "scopes": null, "retry_after": null,
        })
    };
    let mut needs_scope = mark("filter.insufficient_scope", "caller");
    needs_scope["scopes"] = "items:read items:write".into();
    let cases = [
        (post("/mcp", token, CALL), 200, Value::Null),
        (post("/mcp", None, CALL), 401, mark("authn.missing", "caller")),
        (post("/other", token, CALL), 404, mark("req.path_not_served", "caller")),
        // An error in a 200 response is a refusal, too.
        (post("/mcp", token, &call("delete_item")), 200, mark("filter.tool_denied", "caller")),
        (post("/mcp", token, "{"), 400, mark("filter.not_json", "caller")),
        (post("/mcp", token, &call("create_item")), 403, needs_scope),
    ];
    let requests = cases.len();
    for (bytes, status, expected) in cases {
        let response = broker.send(&bytes).await;
        assert_eq!(response.status, status, "{expected}: {}", response.text());
        assert_eq!(seen.take(), expected);
        // The mark stays in the process; the client receives less.
        let reason = expected["reason"].as_str().unwrap_or("none");
        assert!(!String::from_utf8(response.raw).unwrap().contains(reason), "{reason}");
    }
    assert_eq!(results(&broker, requests as u64).await.len(), requests);
    broker.done().await;
}

#[tokio::test]
async fn a_mark_has_connect_page_and_retry_delay() {
    let wait = Some(Duration::from_secs(7));
    for (gives, status, reason, fault, connect_url, retry_after) in [
        (
            Err(CredentialError::ConnectRequired),
            200,
            "exchange.connect_required",
            "caller",
            Some(PAGE),
            None,
        ),
        (Err(CredentialError::Revoked), 200, "exchange.grant_revoked", "caller", Some(PAGE), None),
        (
            Err(CredentialError::Unavailable { retry_after: wait }),
            503,
            "exchange.unavailable",
            "upstream",
            None,
            Some(7),
        ),
        (
            Err(CredentialError::RefusedByPolicy),
            200,
            "exchange.authorization_server_policy",
            "upstream",
            None,
            None,
        ),
    ] {
        let upstream = ScriptedServer::start(|_| unreachable!("nothing is sent")).await;
        let provider = Outcome::at(&upstream.url("/mcp"), gives);
        let (listener, stack, broker) =
            Broker::in_front_of(&upstream).prepare_with(|_| provider).await;
        let seen = Seen::default();
        let app = Router::new().route_service("/mcp", stack.layer(proxy()));
        serve(listener, seen.around(app));
        let response = broker.call_with(&[], CALL).await;
        assert_eq!(response.status, status, "{reason}: {}", response.text());
        let expected = json!({
            "reason": reason, "fault": fault,
            "connect_url": connect_url, "scopes": null, "retry_after": retry_after,
        });
        assert_eq!(seen.take(), expected);
        assert_eq!(response.header("retry-after").is_some(), status == 503, "{reason}");
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn upstream_refusals_are_unmarked_and_failures_marked() {
    for (sent, status, reason) in [
        (404, 404, None),
        (400, 400, None),
        (500, 502, Some("exchange.upstream_failed")),
        (401, 502, Some("exchange.credential_refused")),
    ] {
        let upstream = ScriptedServer::start(move |_| {
            Response::builder()
                .status(sent)
                .header("content-type", "text/plain")
                .body(full("no"))
                .unwrap()
        })
        .await;
        let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
        let seen = Seen::default();
        let app = Router::new().route_service("/mcp", stack.layer(proxy()));
        serve(listener, seen.around(app));
        let response = broker.call_with(&[], CALL).await;
        assert_eq!(response.status, status, "{sent}: {}", response.text());
        let mark = seen.take();
        assert_eq!(mark["reason"].as_str(), reason, "{sent}: {mark}");
        broker.done().await;
    }
}

#[tokio::test]
async fn grpc_refusals_have_the_same_mark() {
    let upstream = ScriptedServer::start(|_| unreachable!("nothing is sent")).await;
    let (listener, stack, broker) =
        Broker::in_front_of(&upstream).grpc().policy(rules()).prepare().await;
    let seen = Seen::default();
    let app = Router::new().fallback_service(stack.layer(grpc_proxy()));
    serve(listener, seen.around(app));
    let path = format!("{TYPED}/CallTool");
    let refused = broker.rpc(&path, &[], typed_call("delete_item")).await;
    assert_eq!((refused.http, refused.status()), (200, Some(7)));
    assert_eq!(seen.take()["reason"], "filter.tool_denied");
    let refused = broker.rpc(&path, &[("authorization", "-")], typed_call("get_item")).await;
    assert_eq!(refused.status(), Some(16));
    assert_eq!(seen.take()["reason"], "authn.missing");
    broker.done_unsent().await;
}

/// The client of the handler.
type Api = Exchange<Proxy, Arc<Outcome>>;

/// An MCP server in the process that calls its API for the caller, and returns what `refused_call`
/// makes of a refusal.
async fn respond(api: Api, url: String, request: Request<RequestBody<Body>>) -> Response<Body> {
    let caller = request.extensions().get::<CallerHandle>().unwrap().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = std::str::from_utf8(&body).unwrap().parse().unwrap();
    let reply = if message["method"] == "initialize" {
        json!({"jsonrpc": "2.0", "id": message["id"], "result": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "serverInfo": {"name": "items", "version": "1"},
        }})
    } else {
        let mut own = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
        caller.stamp(&mut own);
        let response = api.oneshot(own).await.unwrap();
        match caller.refused_call(&response) {
            Some(refused) => {
                let data = refused.data.map(|data| data.parse::<Value>().unwrap());
                json!({"jsonrpc": "2.0", "id": message["id"], "error": {
                    "code": refused.code, "message": refused.message, "data": data,
                }})
            }
            None => json!({"jsonrpc": "2.0", "id": message["id"], "result": {
                "status": response.status().as_u16(),
            }}),
        }
    };
    let mut response = Response::new(Body::from(reply.to_string()));
    let media = "application/json".parse().unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    if message["method"] == "initialize" {
        response.headers_mut().insert("mcp-session-id", "of-the-handler".parse().unwrap());
    }
    response
}

/// Starts a broker around that handler, whose client uses the given credentials.
async fn handler(
    upstream: &ScriptedServer,
    gives: Result<&'static str, CredentialError>,
) -> Broker {
    let (listener, stack, _, broker) = Broker::in_front_of(upstream).prepare_for_handler().await;
    let url = upstream.url("/v1/items/7");
    let provider = Outcome::at(&url, gives);
    let api = ExchangeLayer::for_handler(broker.handle(), Arc::new(provider)).layer(proxy());
    let service = service_fn(move |request: Request<RequestBody<Body>>| {
        let (api, url) = (api.clone(), url.clone());
        async move { Ok::<_, Infallible>(respond(api, url, request).await) }
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(service)));
    broker
}

fn initialize(capabilities: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": capabilities,
        "clientInfo": {"name": "test", "version": "1"},
    }})
    .to_string()
}

/// Starts a session of a client with the given capabilities and calls the tool.
async fn call_in_session(broker: &Broker, capabilities: Value) -> Value {
    let began = broker.call_with(&[], &initialize(&capabilities)).await;
    let session = began.header("mcp-session-id").expect("a session").to_owned();
    let fields = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let response = broker.call_with(&fields, CALL).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["id"], 1);
    response.json()
}

#[tokio::test]
async fn a_handler_tells_its_client_where_to_connect() {
    let upstream = ScriptedServer::start(|_| unreachable!("nothing is sent")).await;
    let broker = handler(&upstream, Err(CredentialError::ConnectRequired)).await;
    // A client that can open URLs for its user receives an elicitation.
    let reply = call_in_session(&broker, json!({"elicitation": {"url": {}}})).await;
    assert_eq!(reply["error"]["code"], -32042, "{reply}");
    let elicitation = &reply["error"]["data"]["elicitations"][0];
    assert_eq!((&elicitation["mode"], &elicitation["url"]), (&"url".into(), &PAGE.into()));
    // Any other client receives the page in text and data.
    let reply = call_in_session(&broker, json!({"elicitation": {}})).await;
    assert_eq!(reply["error"]["code"], -32001, "{reply}");
    assert_eq!(reply["error"]["data"]["connectUrl"], PAGE);
    assert!(reply["error"]["message"].as_str().unwrap().contains(PAGE), "{reply}");
    // The handler responded, so the client's requests completed; no credential was used.
    for result in results(&broker, 4).await {
        assert_eq!(summary(&result), ("completed", None, 0, 0), "{result}");
    }
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_handler_reports_other_refusals() {
    let policy = CredentialError::RefusedByPolicy;
    let wait = CredentialError::Unavailable { retry_after: Some(Duration::from_secs(7)) };
    for (gives, sent, expected) in [
        (Err(policy), 0, json!({"code": -32000, "data": null})),
        (Err(wait), 0, json!({"code": -32000, "data": null})),
        // A failure of the API is a refusal of the exchange layer; its 404 is its own response.
        (Ok(SECRET), 500, json!({"code": -32000, "data": null})),
        (Ok(SECRET), 404, json!({"status": 404})),
        (Ok(SECRET), 200, json!({"status": 200})),
    ] {
        let upstream = ScriptedServer::start(move |_| {
            Response::builder().status(sent).body(full("{}")).unwrap()
        })
        .await;
        let is_sent = gives.is_ok();
        let broker = handler(&upstream, gives).await;
        let response = broker.call_with(&[], CALL).await.json();
        let found = match response.get("error") {
            Some(error) => {
                assert!(!error["message"].as_str().unwrap().is_empty(), "{response}");
                json!({"code": error["code"], "data": error["data"]})
            }
            None => response["result"].clone(),
        };
        assert_eq!(found, expected, "{response}");
        let uses = u64::from(is_sent);
        let results = results(&broker, 1).await;
        assert_eq!(summary(&results[0]), ("completed", None, uses, uses));
        if is_sent {
            broker.done().await;
        } else {
            broker.done_unsent().await;
        }
    }
}
