//! A handler inside the stack calls a gRPC upstream for its caller, with a generated client.

use std::{convert::Infallible, future, io, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use parking_lot::Mutex;
use token_broker_grpc::{
    handler::{GrpcAdapter, refusal_of},
    mcp::v1::{
        Empty, Frame,
        mcp_client::McpClient,
        mcp_server::{Mcp, McpServer},
    },
};
use token_broker_outbound::{Guard, Proxy};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, body::Body, transport::Server};
use tower::{ServiceExt, service_fn};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    authenticate::TestTokens,
    body::RequestBody,
    exchange::{
        ApplyCredentialLayer, CallerHandle, Credential, CredentialError, CredentialRequest,
        Exchange, ExchangeLayer, ProvideCredential, Upstream, UpstreamRefusal,
    },
    principal::{Initiator, Principal, Resource, User},
    refusal::{Reason, Refused},
    revocation::RevocationTarget,
    scope_filter::{Rules, tools},
    tasks::Tasks,
    test_util::TestCall,
};

const RESOURCE: &str = "https://broker.example.com/crm/mcp";
const CONNECT: &str = "https://broker.example.com/connect/items";

/// Which user has an account at the upstream: alice. Counts what the upstream refuses.
#[derive(Clone)]
struct Grants {
    upstream: Upstream,
    refused: Arc<Mutex<Vec<u16>>>,
}

impl Grants {
    fn new(uri: &Uri) -> Self {
        let upstream = Upstream::parse("items", &uri.to_string()).unwrap();
        Self { upstream, refused: Arc::default() }
    }
}

impl ProvideCredential for Grants {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        if request.caller.subject() != "alice" {
            return Err(CredentialError::ConnectRequired);
        }
        let secret = Secret::from_text("upstream-token".into());
        Ok(Credential::vouch(secret, self.upstream.origin().clone()))
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        self.refused.lock().push(refusal.status.as_u16());
    }

    fn connect_url(&self, _: &Principal) -> Option<Box<str>> {
        Some(CONNECT.into())
    }
}

/// The upstream: notes the `authorization` of each call, and echoes.
#[derive(Clone, Default)]
struct Items {
    received: Arc<Mutex<Vec<String>>>,
}

impl Items {
    fn receive(&self, request: &Request<Frame>) -> Result<Frame, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map_or("", |value| value.to_str().unwrap());
        self.received.lock().push(authorization.to_owned());
        match &*request.get_ref().json {
            b"refuse" => Err(Status::unauthenticated("of the upstream's inside")),
            b"missing" => Err(Status::not_found("no such item")),
            _ => Ok(request.get_ref().clone()),
        }
    }
}

#[tonic::async_trait]
impl Mcp for Items {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        self.receive(&request).map(Response::new)
    }

    async fn stream(
        &self,
        request: Request<Frame>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let frame = self.receive(&request)?;
        let frames = [Ok(frame.clone()), Ok(frame), Err(Status::aborted("that is all"))];
        Ok(Response::new(Box::pin(tokio_stream::iter(frames))))
    }

    async fn notify(&self, request: Request<Frame>) -> Result<Response<Empty>, Status> {
        self.receive(&request).map(|_| Response::new(Empty {}))
    }
}

fn frame(json: &'static str) -> Frame {
    Frame { json: json.into() }
}

/// A request of the handler, for this caller.
fn stamped(caller: &CallerHandle, json: &'static str) -> Request<Frame> {
    let mut request = Request::new(frame(json));
    caller.stamp_extensions(request.extensions_mut());
    request
}

/// A broker, and an upstream on loopback.
struct World {
    broker: Broker,
    records: InMemory,
    items: Items,
    grants: Grants,
    uri: Uri,
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (items, records) = (Items::default(), InMemory::new());
        let server = Server::builder().add_service(McpServer::new(items.clone()));
        let served = server.serve_with_incoming(TcpListenerStream::new(listener));
        drop(Tasks::new().spawn("upstream", async move { served.await.unwrap_or_default() }));
        let broker = Broker::builder().audit(records.clone()).build().unwrap();
        Self { broker, records, items, grants: Grants::new(&uri), uri }
    }

    /// The channel of a handler: the exchange layer around the real proxy.
    fn channel(&self) -> Exchange<Proxy, Grants> {
        let proxy = Proxy::grpc(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
        ExchangeLayer::for_handler(&self.broker, self.grants.clone()).layer(proxy)
    }

    fn client(&self) -> McpClient<GrpcAdapter<Exchange<Proxy, Grants>>> {
        McpClient::with_origin(GrpcAdapter::new(self.channel()), self.uri.clone())
    }

    /// How one call of a handler ends that works for this user.
    async fn call(&self, user: &str, json: &'static str) -> Result<Frame, Status> {
        let mut client = self.client();
        let call =
            move |caller: CallerHandle| async move { client.call(stamped(&caller, json)).await };
        self.handle(user, call).await.map(Response::into_inner)
    }

    fn received(&self) -> Vec<String> {
        self.items.received.lock().clone()
    }

    /// Sends one tool call of this user through the stack to a handler that does this.
    async fn handle<F, T>(
        &self,
        user: &str,
        work: impl FnOnce(CallerHandle) -> F + Clone + Send + 'static,
    ) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let tokens = TestTokens::new().user("t1", user, &Resource::parse(RESOURCE).unwrap());
        let layer = self
            .broker
            .protect(RESOURCE)
            .authenticate(tokens)
            .scope_filter(Rules::new().allow(tools(["get_*"])))
            .credential_for_handler()
            .build()
            .unwrap();
        let outcome = Arc::new(Mutex::new(None));
        let keeps = Arc::clone(&outcome);
        let handler = service_fn(move |request: http::Request<RequestBody<Full<Bytes>>>| {
            let caller = request.extensions().get::<CallerHandle>().unwrap().clone();
            let (work, keeps) = (work.clone(), Arc::clone(&keeps));
            async move {
                let outcome = work(caller).await;
                *keeps.lock() = Some(outcome);
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"{}"))))
            }
        });
        let request = TestCall::tool("get_item", "{}").requests(RESOURCE, "t1").next().unwrap();
        drop(layer.layer(handler).oneshot(request.map(Full::new)).await.unwrap());
        let outcome = outcome.lock().take();
        outcome.expect("the handler was called and has finished")
    }
}

/// The reason of the broker's refusal that ended a call.
fn reason(status: &Status) -> Option<Reason> {
    refusal_of(status).and_then(Refused::of).map(Refused::reason)
}

#[tokio::test]
async fn calls_and_streams_carry_the_callers_credential() {
    let world = World::start().await;
    let mut client = world.client();
    let (called, streamed, end) = world
        .handle("alice", |caller| async move {
            let called = client.call(stamped(&caller, "one")).await.unwrap().into_inner();
            let mut stream = client.stream(stamped(&caller, "two")).await.unwrap().into_inner();
            let mut streamed = Vec::new();
            let end = loop {
                match stream.next().await {
                    Some(Ok(frame)) => streamed.push(frame.json),
                    Some(Err(status)) => break status,
                    None => panic!("the status is in the trailers"),
                }
            };
            (called, streamed, end)
        })
        .await;
    assert_eq!(called, frame("one"));
    assert_eq!(streamed, ["two", "two"]);
    assert_eq!((end.code(), end.message()), (Code::Aborted, "that is all"));
    assert_eq!(world.received(), ["Bearer upstream-token"; 2]);
    let uses = loop {
        if let Some(uses) = world.records.records().iter().find_map(|record| record.uses()) {
            break uses;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(uses, 2, "one record for the tool call, with both uses");
}

#[tokio::test]
async fn the_exchange_layer_is_a_channel_without_an_adapter() {
    let world = World::start().await;
    let mut client = McpClient::with_origin(world.channel(), world.uri.clone());
    let (called, refused) = world
        .handle("alice", |caller| async move {
            let called = client.call(stamped(&caller, "one")).await.unwrap().into_inner();
            (called, client.call(frame("two")).await.unwrap_err())
        })
        .await;
    assert_eq!(called, frame("one"));
    // The status arrives; only the marker of the refusal is lost.
    assert_eq!((refused.code(), reason(&refused)), (Code::Internal, None));
    assert_eq!(world.received(), ["Bearer upstream-token"]);
}

#[tokio::test]
async fn a_status_of_the_upstream_is_the_handlers() {
    let world = World::start().await;
    let status = world.call("alice", "missing").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such item"));
    assert!(refusal_of(&status).is_none(), "the broker refused nothing");
}

#[tokio::test]
async fn a_handler_learns_where_its_user_connects() {
    let world = World::start().await;
    let mut client = world.client();
    let (status, error) = world
        .handle("bob", |caller| async move {
            let status = client.call(stamped(&caller, "one")).await.unwrap_err();
            let error = refusal_of(&status).and_then(|refusal| caller.refused_call(refusal));
            (status, error.unwrap())
        })
        .await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    let refused = Refused::of(refusal_of(&status).unwrap()).unwrap();
    assert_eq!(refused.reason(), Reason::ConnectRequired);
    assert_eq!(refused.connect_url(), Some(CONNECT));
    let details = status.details().windows(CONNECT.len());
    assert!(details.into_iter().any(|text| text == CONNECT.as_bytes()), "google.rpc.Help names it");
    assert_eq!(error.code, -32001);
    assert!(error.data.is_some_and(|data| data.contains(CONNECT)));
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn a_refused_credential_is_reported_to_the_provider() {
    let world = World::start().await;
    let status = world.call("alice", "refuse").await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::CredentialRefused));
    // It is no 16: that would concern the broker token.
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(!status.message().contains("inside"), "{status:?}");
    assert_eq!(*world.grants.refused.lock(), [200], "gRPC reports it with HTTP's status 200");
    assert_eq!(world.received().len(), 1, "a handler's call is not replayed");
}

#[tokio::test]
async fn a_call_that_is_not_stamped_is_not_sent() {
    let world = World::start().await;
    let mut client = world.client();
    let call = |_| async move { client.call(frame("one")).await.unwrap_err() };
    let status = world.handle("alice", call).await;
    assert_eq!((status.code(), reason(&status)), (Code::Internal, Some(Reason::MissingLayer)));
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn a_revoke_stops_the_calls_of_a_handler() {
    let world = World::start().await;
    let mut client = world.client();
    // A handler that keeps the caller in a task of its own, past the request.
    let caller = world.handle("alice", future::ready).await;
    let alice = RevocationTarget::User(User::new(TestTokens::ISSUER, "alice"));
    world.broker.revoke(alice, &Initiator::operator("olga")).await.unwrap();
    let status = client.call(stamped(&caller, "one")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, Some(Reason::Revoked)));
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn a_server_in_the_same_process_is_called_too() {
    let world = World::start().await;
    let server = ApplyCredentialLayer::new().layer(McpServer::new(world.items.clone()));
    let channel = ExchangeLayer::for_handler(&world.broker, world.grants.clone()).layer(server);
    let mut client = McpClient::with_origin(GrpcAdapter::new(channel), world.uri.clone());
    let called = world
        .handle("alice", |caller| async move { client.call(stamped(&caller, "one")).await })
        .await;
    assert_eq!(called.unwrap().into_inner(), frame("one"));
    assert_eq!(world.received(), ["Bearer upstream-token"]);
}

#[tokio::test]
async fn an_error_of_the_channel_is_the_status() {
    let broken = service_fn(|_: http::Request<Body>| {
        future::ready(Err::<http::Response<Body>, _>(io::Error::other("no route")))
    });
    let status = McpClient::new(GrpcAdapter::new(broken)).call(frame("one")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "no route"));
    assert!(refusal_of(&status).is_none());
}
