//! A handler instead of a proxy: rmcp's own service inside the stack, whose tool calls an upstream API for its caller.

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::{Request, request::Parts};
use http_body_util::{BodyExt as _, Empty};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use token_broker_outbound::Proxy;
use token_broker_tests::{
    harness::{Broker, SECRET, proxy, serve},
    upstream::{Scripted, json},
    wire,
};
use token_broker_upstream::StaticSecret;
use tower::{Layer as _, ServiceExt as _};
use tower_token_broker::exchange::{Caller, Exchange, ExchangeLayer};

#[derive(Clone)]
struct Items {
    /// The handler's client: credentialed for whoever the request is stamped for.
    api: Exchange<Proxy, StaticSecret>,
    url: String,
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
        let tools = ["get_item", "delete_item"].map(|name| Tool::new(name, name, JsonObject::new()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Caller>()).cloned();
        let mut request = Request::get(&self.url).body(Empty::<Bytes>::new()).unwrap();
        assert!(request.headers().is_empty(), "the handler sees no credential");
        caller.expect("a caller").stamp(&mut request);
        let answer = self.api.clone().oneshot(request).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        Ok(CallToolResult::success(vec![ContentBlock::text(String::from_utf8(text.to_vec()).unwrap())]).into())
    }
}

#[tokio::test]
async fn rmcps_service_inside_the_stack_calls_its_upstream_for_its_caller() {
    // The upstream echoes the secret: neither the handler nor the client may see it.
    let upstream =
        Scripted::start(|request| json(&format!("{{\"you_sent\":\"{}\"}}", request.values("authorization")[0]))).await;
    let (listener, stack, secret, broker) = Broker::before(&upstream).prepare_for_handler().await;
    let items = Items { api: ExchangeLayer::new(secret).layer(proxy()), url: upstream.url("/v1/items/7") };
    let service = StreamableHttpService::new(
        move || Ok(items.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default().with_legacy_session_mode(false),
    );
    serve(listener, Router::new().route_service("/mcp", stack.layer(service)));

    let called =
        broker.call_with(&[], r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#).await;
    assert_eq!(called.status, 200, "{}", called.text());
    assert!(called.text().contains("you_sent") && called.text().contains("****"), "{}", called.text());
    assert!(!called.raw.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    let received = upstream.received();
    assert_eq!(received[0].target, "/v1/items/7");
    assert_eq!(received[0].values("authorization"), [format!("Bearer {SECRET}")]);

    let refused = broker.send(&wire::post("/mcp", broker.host(), &[], "{}")).await;
    assert_eq!(refused.status, 401);

    let records = broker.expect_records(2).await;
    let result = records.iter().find(|record| record["uses"] == 1).expect("a use");
    assert_eq!((&result["name"], &result["intents"]), (&"get_item".into(), &1.into()));
    assert!(result["echo_masked"].as_u64() > Some(0));
}

#[tokio::test]
async fn a_request_that_nobody_stamped_is_refused_and_never_sent() {
    let upstream = Scripted::start(|_| json("{}")).await;
    let (_listener, _stack, secret, _broker) = Broker::before(&upstream).prepare_for_handler().await;
    let client = ExchangeLayer::new(secret).layer(proxy());
    let request = Request::get(upstream.url("/v1/items/7")).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 500);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_credential_is_put_on_no_request_to_another_origin() {
    let elsewhere = Scripted::start(|_| json("{}")).await;
    let upstream = Scripted::start(|_| json("{}")).await;
    let (listener, stack, secret, broker) = Broker::before(&upstream).prepare_for_handler().await;
    let items = Items { api: ExchangeLayer::new(secret).layer(proxy()), url: elsewhere.url("/v1/items/7") };
    let service = StreamableHttpService::new(
        move || Ok(items.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default().with_legacy_session_mode(false),
    );
    serve(listener, Router::new().route_service("/mcp", stack.layer(service)));
    broker.call_with(&[], r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#).await;
    assert!(elsewhere.received().is_empty() && upstream.received().is_empty());
    let records = broker.expect_records(1).await;
    // The handler answered, so the client was not refused; nothing was used.
    let result = records.iter().find(|record| record["kind"] == "result").expect("a result");
    assert_eq!((&result["outcome"], &result["status"], &result["uses"]), (&"completed".into(), &200.into(), &0.into()));
}
