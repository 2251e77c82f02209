//! A handler instead of a proxy: rmcp's service inside the stack, with a tool that calls an
//! upstream API for its caller.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, response::IntoResponse as _};
use bytes::Bytes;
use http::{Request, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::Value;
use token_broker_outbound::Proxy;
use token_broker_tests::{
    harness::{Broker, CALL, SECRET, proxy, serve},
    upstream::{ScriptedServer, json},
    wire::{self, RawResponse},
};
use token_broker_upstream::StaticSecret;
use tokio::sync::Semaphore;
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Broker as Handle,
    body::RequestBody,
    exchange::{CallerHandle, Exchange, ExchangeLayer},
    scope_filter::{Rules, tools},
};

const FIRST_WORD: &str = "halfway there";
const SLOW_CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","#,
    r#""params":{"name":"get_item","_meta":{"progressToken":"p1"}}}"#
);
const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","#,
    r#""params":{"protocolVersion":"2025-11-25","capabilities":{},"#,
    r#""clientInfo":{"name":"test","version":"1"}}}"#
);

#[derive(Clone)]
struct Items {
    /// The handler's client; it uses the credential of the caller that a request is stamped for.
    api: Exchange<Proxy, StaticSecret>,
    url: String,
    /// Whether the tool may continue after its first notification.
    go_on: Arc<Semaphore>,
}

impl Items {
    fn new(handle: &Handle, secret: StaticSecret, url: String) -> Self {
        let api = ExchangeLayer::for_handler(handle, secret).layer(proxy());
        Self { api, url, go_on: Arc::new(Semaphore::new(0)) }
    }

    fn service(&self, in_sessions: bool) -> StreamableHttpService<Self, LocalSessionManager> {
        let items = self.clone();
        StreamableHttpService::new(
            move || Ok(items.clone()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default().with_legacy_session_mode(in_sessions),
        )
    }
}

impl ServerHandler for Items {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools =
            ["get_item", "delete_item"].map(|name| Tool::new(name, name, JsonObject::new()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = context
            .extensions
            .get::<Parts>()
            .and_then(|parts| parts.extensions.get::<CallerHandle>())
            .cloned();
        let mut request = Request::get(&self.url).body(Empty::<Bytes>::new()).unwrap();
        assert!(request.headers().is_empty(), "the handler sees no credential");
        caller.expect("a caller").stamp(&mut request);
        let response = self.api.clone().oneshot(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, 1.0).with_message(FIRST_WORD);
            context.peer.notify_progress(progress).await.unwrap();
            self.go_on.acquire().await.unwrap().forget();
        }
        Ok(CallToolResult::success(vec![ContentBlock::text(
            String::from_utf8(text.to_vec()).unwrap(),
        )])
        .into())
    }
}

#[tokio::test]
async fn an_rmcp_service_calls_upstream_for_its_caller() {
    // The upstream echoes the secret; neither the handler nor the client may see it.
    let upstream = ScriptedServer::start(|request| {
        json(&format!("{{\"you_sent\":\"{}\"}}", request.values("authorization")[0]))
    })
    .await;
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).prepare_for_handler().await;
    let items = Items::new(broker.handle(), secret, upstream.url("/v1/items/7"));
    serve(listener, Router::new().route_service("/mcp", stack.layer(items.service(false))));

    let called = broker
        .call_with(
            &[],
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#,
        )
        .await;
    assert_eq!(called.status, 200, "{}", called.text());
    assert!(
        called.text().contains("you_sent") && called.text().contains("****"),
        "{}",
        called.text()
    );
    let received = upstream.received();
    assert_eq!(received[0].target, "/v1/items/7");
    assert_eq!(received[0].values("authorization"), [format!("Bearer {SECRET}")]);

    let refused = broker.send(&wire::post("/mcp", broker.host(), &[], "{}")).await;
    assert_eq!(refused.status, 401);

    let records = broker.expect_records(2).await;
    let result = records.iter().find(|record| record["uses"] == 1).expect("a use");
    assert_eq!((&result["name"], &result["intents"]), (&"get_item".into(), &1.into()));
    assert!(result["echo_masked"].as_u64() > Some(0));
    broker.done().await;
}

#[tokio::test]
async fn i181_a_handlers_echo_in_a_header_is_masked() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).prepare_for_handler().await;
    let api = ExchangeLayer::for_handler(broker.handle(), secret).layer(proxy());
    let url = upstream.url("/v1/items/7");
    let handler = service_fn(move |request: Request<RequestBody<axum::body::Body>>| {
        let (api, caller) =
            (api.clone(), request.extensions().get::<CallerHandle>().expect("a caller").clone());
        let mut request = Request::get(&url).body(Empty::<Bytes>::new()).unwrap();
        async move {
            caller.stamp(&mut request);
            assert_eq!(api.oneshot(request).await.unwrap().status(), 200);
            let mut response = axum::Json(Value::Null).into_response();
            response.headers_mut().insert("x-echo", format!("Bearer {SECRET}").parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(handler)));
    let response = broker.call_with(&[], CALL).await;
    let masked = format!("Bearer {}", "*".repeat(SECRET.len()));
    assert_eq!((response.status, response.header("x-echo")), (200, Some(masked.as_str())));
    assert_eq!(broker.expect_records(1).await.last().unwrap()["echo_masked"], 1);
    broker.done().await;
}

/// Returns the events of a stream that have data.
fn messages(response: &RawResponse) -> Vec<Value> {
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some("text/event-stream")),
        "{}",
        response.text()
    );
    let data = response.text().lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| data.parse().unwrap()).collect()
}

fn is_progress_and_result(response: &RawResponse) {
    let messages = messages(response);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert_eq!(messages[0]["params"]["message"], FIRST_WORD, "{messages:#?}");
    assert_eq!(messages[1]["result"]["content"][0]["text"], "{}", "{messages:#?}");
}

#[tokio::test]
async fn an_rmcp_response_streams_through_the_stack() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).prepare_for_handler().await;
    let items = Items::new(broker.handle(), secret, upstream.url("/v1/items/7"));
    serve(listener, Router::new().route_service("/mcp", stack.layer(items.service(false))));
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let mut response = broker
        .open(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], SLOW_CALL))
        .await;
    // The tool continues once the client has received the first notification: with buffering it
    // would wait forever.
    response.until(FIRST_WORD).await;
    items.go_on.add_permits(1);
    is_progress_and_result(&response.rest().await);
    let records = broker.records().await;
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!((&result["outcome"], &result["uses"]), (&"completed".into(), &1.into()), "{result}");
    broker.done().await;
}

#[tokio::test]
async fn rmcp_sessions_work_through_the_stack() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let rules = Rules::new().allow(tools(["get_*"]));
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).policy(rules).prepare_for_handler().await;
    let items = Items::new(broker.handle(), secret, upstream.url("/v1/items/7"));
    serve(listener, Router::new().route_service("/mcp", stack.layer(items.service(true))));

    let began = broker.call_with(&[], INITIALIZE).await;
    assert_eq!(messages(&began)[0]["result"]["protocolVersion"], "2025-11-25");
    let session = began.header("mcp-session-id").expect("a session").to_owned();
    let in_session = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(broker.call_with(&in_session, initialized).await.status, 202);

    let list =
        broker.call_with(&in_session, r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#).await;
    let listed = &messages(&list)[0]["result"]["tools"];
    assert_eq!(
        listed.as_array().unwrap().len(),
        1,
        "what may not be called is not listed: {listed}"
    );
    let denied =
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"delete_item"}}"#;
    assert_eq!(broker.call_with(&in_session, denied).await.json()["error"]["code"], -32602);

    let bearer = format!("Bearer {}", broker.token("items:read"));
    let fields = [&[("authorization", bearer.as_str())], &in_session[..]].concat();
    let mut response = broker.open(&wire::post("/mcp", broker.host(), &fields, SLOW_CALL)).await;
    response.until(FIRST_WORD).await;
    items.go_on.add_permits(1);
    is_progress_and_result(&response.rest().await);

    let request = |method: &str| {
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = broker.host();
        let accept = "accept: application/json, text/event-stream";
        format!(
            "{method} /mcp HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             {accept}\r\n{fields}\r\n"
        )
        .into_bytes()
    };
    let mut stream = broker.open(&request("GET")).await;
    stream.until("\r\n\r\n").await;
    let ended = broker.send(&request("DELETE")).await;
    assert_eq!(ended.status, 202);
    let stream = stream.rest().await;
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(broker.call_with(&in_session, SLOW_CALL).await.status, 404, "the session is over");

    assert_eq!(upstream.received().len(), 1);
    let records = broker.expect_records(8).await;
    let methods: Vec<_> = records.iter().filter_map(|record| record["method"].as_str()).collect();
    for method in
        ["initialize", "notifications/initialized", "tools/list", "tools/call", "GET", "DELETE"]
    {
        assert!(methods.contains(&method), "{method}: {records:#?}");
    }
    broker.done().await;
}

#[tokio::test]
async fn an_unstamped_request_is_refused_and_not_sent() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (_listener, _stack, secret, broker) =
        Broker::in_front_of(&upstream).prepare_for_handler().await;
    let client = ExchangeLayer::for_handler(broker.handle(), secret).layer(proxy());
    let request = Request::get(upstream.url("/v1/items/7")).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 500);
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_credential_is_not_sent_to_another_origin() {
    let elsewhere = ScriptedServer::start(|_| json("{}")).await;
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, stack, secret, broker) =
        Broker::in_front_of(&upstream).prepare_for_handler().await;
    let items = Items::new(broker.handle(), secret, elsewhere.url("/v1/items/7"));
    serve(listener, Router::new().route_service("/mcp", stack.layer(items.service(false))));
    broker
        .call_with(
            &[],
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#,
        )
        .await;
    assert!(elsewhere.received().is_empty());
    let records = broker.expect_records(1).await;
    // The handler responded, so the client's request was not refused; no credential was used.
    let result = records.iter().find(|record| record["kind"] == "result").expect("a result");
    assert_eq!(
        (&result["outcome"], &result["status"], &result["uses"]),
        (&"completed".into(), &200.into(), &0.into())
    );
    broker.done_unsent().await;
}
