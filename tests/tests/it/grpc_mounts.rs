//! Every way to mount the stack on tonic serves a pass, a refusal and a streamed response to
//! tonic's own client.

use std::pin::Pin;

use http::header;
use token_broker_grpc::{
    Revision, call,
    mcp::v1::{
        Empty, Frame,
        mcp_client::McpClient,
        mcp_server::{Mcp, McpServer},
    },
};
use token_broker_tests::{
    grpc::{call as call_of, framed, json_of, response},
    harness::{Broker, SECRET, grpc_proxy},
    upstream::ScriptedServer,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, metadata::MetadataValue, service::LayerExt as _,
    transport::Server,
};
use tonic_types::StatusExt as _;
use tower_token_broker::{
    exchange::{ApplyCredentialLayer, OutgoingCredential},
    scope_filter::{Rules, tools},
};

use crate::records::{last_result, summary};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
const LIST: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_item"},{"name":"delete_item"}]}}"#;
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;

/// An MCP server that accepts only the upstream credential.
#[derive(Clone, Copy)]
struct Items;

impl Items {
    fn check_token(request: &Request<Frame>) -> Result<(), Status> {
        let expected = format!("Bearer {SECRET}");
        match request.metadata().get("authorization") {
            Some(value) if value.as_bytes() == expected.as_bytes() => Ok(()),
            _ => Err(Status::unauthenticated("not the upstream's token")),
        }
    }
}

#[tonic::async_trait]
impl Mcp for Items {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        Self::check_token(&request)?;
        let is_list =
            request.metadata().get("mcp-method").is_some_and(|method| method == "tools/list");
        Ok(Response::new(Frame { json: if is_list { LIST } else { RESULT }.into() }))
    }

    async fn stream(
        &self,
        request: Request<Frame>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Self::check_token(&request)?;
        let frames = [PROGRESS, RESULT].map(|json| Ok(Frame { json: json.into() }));
        Ok(Response::new(Box::pin(tokio_stream::iter(frames))))
    }

    async fn notify(&self, request: Request<Frame>) -> Result<Response<Empty>, Status> {
        Self::check_token(&request)?;
        Ok(Response::new(Empty {}))
    }
}

fn with_token(mut request: Request<Frame>, token: &str) -> Request<Frame> {
    let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert(header::AUTHORIZATION.as_str(), value);
    request
}

fn get_item() -> Request<Frame> {
    call(Revision::V2025_11_25, "tools/call", Some("get_item"), call_of("get_item"))
}

async fn serves_a_pass_a_refusal_and_a_stream(broker: &Broker) {
    let endpoint = tonic::transport::Endpoint::new(format!("http://{}", broker.address())).unwrap();
    let mut client = McpClient::new(broker.reporting_client(endpoint.connect().await.unwrap()));
    let token = broker.token("items:read");
    let passed = client.call(with_token(get_item(), &token)).await.unwrap();
    assert_eq!(passed.into_inner().json, RESULT);

    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let listed = client
        .call(with_token(call(Revision::V2025_11_25, "tools/list", None, list), &token))
        .await
        .unwrap();
    assert_eq!(listed.into_inner().json, LIST.replace(r#",{"name":"delete_item"}"#, ""));

    let refused = client.call(get_item()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.get_details_error_info().unwrap().reason.as_str()),
        (Code::Unauthenticated, "UNAUTHORIZED")
    );
    let denied =
        call(Revision::V2025_11_25, "tools/call", Some("delete_item"), call_of("delete_item"));
    let denied = client.call(with_token(denied, &token)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(denied.metadata().get("mcp-error-code").unwrap(), "-32602");

    let streamed = client.stream(with_token(get_item(), &token)).await.unwrap().into_inner();
    let frames: Vec<_> = streamed.map(|frame| frame.unwrap().json).collect().await;
    assert_eq!(frames, [PROGRESS, RESULT]);

    let notice = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let notice = call(Revision::V2025_11_25, "notifications/initialized", None, notice);
    client.notify(with_token(notice, &token)).await.unwrap();

    // What the server inside the stack has received.
    broker.ledger().in_use(SECRET.as_bytes());
    let records = broker.expect_records(6).await;
    let statuses: Vec<_> = records
        .iter()
        .filter(|record| record["count"].is_u64())
        .map(|record| record["grpc_status"].clone())
        .collect();
    assert_eq!(statuses, [0, 0, 16, 7, 0, 0]);
    let streamed = records.iter().filter(|record| record["messages_out"] == 2).count();
    assert_eq!(streamed, 1, "{records:#?}");
    broker.done().await;
}

fn rules() -> Rules {
    Rules::new().allow(tools(["get_*"]))
}

/// A placeholder upstream: the credential is for the server in the same process.
async fn nowhere() -> ScriptedServer {
    ScriptedServer::start(|_| response([framed(RESULT)], &[("grpc-status", "0")])).await
}

#[tokio::test]
async fn a_server_builder_layer_serves() {
    let (listener, stack, broker) =
        Broker::in_front_of(&nowhere().await).grpc().policy(rules()).prepare().await;
    let items = ApplyCredentialLayer::new().named_layer(McpServer::new(Items));
    let server = Server::builder().layer(stack).add_service(items);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    serves_a_pass_a_refusal_and_a_stream(&broker).await;
}

#[tokio::test]
async fn one_service_of_several_keeps_its_name() {
    let (listener, stack, broker) =
        Broker::in_front_of(&nowhere().await).grpc().policy(rules()).prepare().await;
    let named = stack.named_layer(ApplyCredentialLayer::new().named_layer(McpServer::new(Items)));
    fn name_of<S: tonic::server::NamedService>(_: &S) -> &'static str {
        S::NAME
    }
    assert_eq!(name_of(&named), "token_broker.mcp.v1.Mcp");
    let server = Server::builder().add_service(named);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    serves_a_pass_a_refusal_and_a_stream(&broker).await;
}

#[tokio::test]
async fn a_proxy_to_a_local_server_serves() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = ScriptedServer::elsewhere(listener.local_addr().unwrap());
    tokio::spawn(
        Server::builder()
            .add_service(McpServer::new(Items))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let broker = Broker::in_front_of(&upstream).grpc().policy(rules()).start().await;
    serves_a_pass_a_refusal_and_a_stream(&broker).await;
}

#[tokio::test]
async fn a_proxy_inside_tonics_router_serves() {
    let upstream = nowhere().await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).grpc().prepare().await;
    let router = axum::Router::new().fallback_service(tower::Layer::layer(&stack, grpc_proxy()));
    let server = Server::builder().add_routes(tonic::service::Routes::from(router));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let reply = broker.call_in_frame(&[], "get_item").await;
    assert_eq!((reply.status(), reply.json().as_str()), (Some(0), RESULT));
    assert_eq!(json_of(&reply.messages()[0]), RESULT);
    assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {SECRET}")]);
    broker.done().await;
}

/// A service in place of a proxy; it applies no credential.
#[derive(Clone, Copy)]
struct Blind;

#[tonic::async_trait]
impl Mcp for Blind {
    type StreamStream = tokio_stream::Empty<Result<Frame, Status>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let outgoing =
            request.extensions().get::<OutgoingCredential>().expect("the credential's cell");
        let seen = format!("{:?} {outgoing:?} {:?}", request.metadata(), request.extensions());
        assert!(!seen.contains(SECRET) && !seen.contains("authorization"), "{seen}");
        // As an application with its own sessions would name it.
        Err(Status::unauthenticated("not signed in here"))
    }

    async fn stream(&self, _: Request<Frame>) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn notify(&self, _: Request<Frame>) -> Result<Response<Empty>, Status> {
        Err(Status::internal("not requested"))
    }
}

#[tokio::test]
async fn a_service_inside_sees_no_credential() {
    let upstream = nowhere().await;
    let (listener, stack, broker) =
        Broker::in_front_of(&upstream).grpc().policy(rules()).prepare().await;
    let server = Server::builder().layer(stack).add_service(McpServer::new(Blind));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let reply = broker.call_in_frame(&[], "get_item").await;
    assert_eq!(reply.status(), Some(16), "its own status passes: {reply:?}");
    assert_eq!(reply.field("grpc-message"), Some("not%20signed%20in%20here"));
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("completed", None, 1, 0), "{result}");
    assert_eq!(result["grpc_status"], 16);
    broker.done_unsent().await;
}

/// A service that finds its caller but no credential.
#[derive(Clone, Copy)]
struct Handler;

#[tonic::async_trait]
impl Mcp for Handler {
    type StreamStream = tokio_stream::Empty<Result<Frame, Status>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let caller = request.extensions().get::<tower_token_broker::exchange::CallerHandle>();
        assert_eq!(caller.unwrap().principal().subject(), "alice");
        assert!(request.metadata().get("authorization").is_none());
        Ok(Response::new(Frame { json: RESULT.into() }))
    }

    async fn stream(&self, _: Request<Frame>) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn notify(&self, _: Request<Frame>) -> Result<Response<Empty>, Status> {
        Err(Status::internal("not requested"))
    }
}

#[tokio::test]
async fn a_service_with_own_requests_finds_its_caller() {
    let builder = Broker::in_front_of(&nowhere().await).grpc().policy(rules());
    let (listener, stack, _credentials, broker) = builder.prepare_for_handler().await;
    // The client accepts compression, but the filter requests an encoding that it can read.
    let service = McpServer::new(Handler).send_compressed(tonic::codec::CompressionEncoding::Gzip);
    tokio::spawn(
        Server::builder()
            .layer(stack)
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let reply = broker.call_in_frame(&[("grpc-accept-encoding", "gzip")], "get_item").await;
    assert_eq!((reply.status(), reply.json().as_str()), (Some(0), RESULT), "{reply:?}");
    assert_eq!(broker.call_in_frame(&[], "delete_item").await.status(), Some(7));
    broker.expect_records(2).await;
    broker.done_unsent().await;
}
