//! Tests of the proxy inside a stack: it applies the caller's credential once, or sends nothing.

use std::{convert::Infallible, future, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tower::{ServiceExt, service_fn};
use tower_service::Service;
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    authenticate::TestTokens,
    body::RequestBody,
    exchange::{
        Credential, CredentialError, CredentialRequest, OutgoingCredential, ProvideCredential,
        Upstream, UpstreamRefusal,
    },
    principal::{GrantId, Initiator, Resource, User},
    refusal::{Reason, Refused},
    revocation::RevocationTarget,
    scope_filter::{Rules, tools},
    test_util::TestCall,
};

use super::*;
use crate::{Guard, test_servers::Wire};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n\
                  {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
const RESOURCE: &str = "https://broker.example.com/crm/mcp";

/// One grant for all callers.
struct OneGrant(Upstream);

impl ProvideCredential for OneGrant {
    fn upstream(&self) -> &Upstream {
        &self.0
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let secret = Secret::from_text("upstream-token".into());
        let credential = Credential::vouch(secret, self.0.origin().clone());
        Ok(credential.from_grant(GrantId::new("g1"), 1))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}
}

type Inward = Request<RequestBody<Full<Bytes>>>;

/// Stack with an upstream on loopback.
struct Stack {
    upstream: Wire,
    broker: Broker,
    records: InMemory,
    proxy: Proxy,
    /// Reasons of the proxy's refusals, in their order.
    refused: Arc<Mutex<Vec<Reason>>>,
}

impl Stack {
    async fn start() -> Self {
        let records = InMemory::new();
        Self {
            upstream: Wire::answering(OK).await,
            broker: Broker::builder().audit(records.clone()).build().unwrap(),
            records,
            proxy: Proxy::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap(),
            refused: Arc::default(),
        }
    }

    /// Sends one tool call of alice through the stack. `inside` is the service between stack and
    /// proxy.
    async fn call<F>(
        &self,
        inside: impl Fn(Proxies, Inward) -> F + Clone + Send + 'static,
    ) -> Response<Bytes>
    where
        F: Future<Output = Response<ProxyBody>> + Send + 'static,
    {
        let upstream = Upstream::parse("crm", &self.upstream.url("/mcp")).unwrap();
        let tokens = TestTokens::new().user("t1", "alice", &Resource::parse(RESOURCE).unwrap());
        let layer = self
            .broker
            .protect(RESOURCE)
            .authenticate(tokens)
            .scope_filter(Rules::new().allow(tools(["get_*"])))
            .exchange(OneGrant(upstream))
            .build()
            .unwrap();
        let proxies = Proxies { proxy: self.proxy.clone(), refused: Arc::clone(&self.refused) };
        let service = service_fn(move |request: Inward| {
            let response = inside(proxies.clone(), request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let request = TestCall::tool("get_item", "{}").requests(RESOURCE, "t1").next().unwrap();
        let response = layer.layer(service).oneshot(request.map(Full::new)).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// Returns the values of `Authorization` that the upstream received.
    fn authorizations(&self) -> Vec<String> {
        let requests = self.upstream.seen.requests();
        let lines = requests.iter().flat_map(|request| request.lines());
        lines.filter_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned).collect()
    }

    /// Waits for the recorded result of the request.
    async fn result(&self) -> serde_json::Value {
        loop {
            let lines = self.records.lines();
            if let Some(line) = lines.iter().find(|line| line.contains(r#""kind":"result""#)) {
                return line.parse().unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Proxy that notes the reasons of its refusals.
#[derive(Clone)]
struct Proxies {
    proxy: Proxy,
    refused: Arc<Mutex<Vec<Reason>>>,
}

impl Proxies {
    async fn send(&self, request: Request<Full<Bytes>>) -> Response<ProxyBody> {
        let response = self.proxy.clone().call(request).await.unwrap();
        self.refused.lock().extend(Refused::of(&response).map(Refused::reason));
        response
    }
}

/// Reads the body, so that the request can be cloned.
async fn collected(request: Inward) -> Request<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    Request::from_parts(parts, Full::new(body.collect().await.unwrap().to_bytes()))
}

fn not_sent() -> Response<ProxyBody> {
    Response::new(ProxyBody::default())
}

#[tokio::test]
async fn the_proxy_applies_the_credential() {
    let stack = Stack::start().await;
    let response = stack
        .call(|proxy, request| async move {
            assert!(request.extensions().get::<OutgoingCredential>().is_some());
            assert!(!request.headers().contains_key(header::AUTHORIZATION));
            let mut request = collected(request).await;
            // H167, H170: a field from a service inside neither removes nor doubles the credential.
            request.headers_mut().insert("connection", "authorization".parse().unwrap());
            request.headers_mut().insert("authorization", "Bearer forged".parse().unwrap());
            proxy.send(request).await
        })
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(stack.authorizations(), ["Bearer upstream-token"], "H167 H170");
    assert_eq!(stack.result().await["uses"], 1);
}

#[tokio::test]
async fn a_proxy_that_also_serves_others_applies_it() {
    let mut stack = Stack::start().await;
    stack.proxy = stack.proxy.dangerous_without_exchange();
    let response = stack
        .call(|proxy, request| async move {
            let request = collected(request).await;
            let first = proxy.send(request.clone()).await;
            proxy.send(request).await;
            first
        })
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*stack.refused.lock(), [Reason::CredentialTaken]);
    assert_eq!(stack.authorizations(), ["Bearer upstream-token"]);
}

#[tokio::test]
async fn of_two_clones_only_the_first_is_sent() {
    let stack = Stack::start().await;
    let response = stack
        .call(|proxy, request| async move {
            let request = collected(request).await;
            let first = proxy.send(request.clone()).await;
            assert_eq!(first.status(), StatusCode::OK);
            proxy.send(request).await
        })
        .await;
    assert_eq!(*stack.refused.lock(), [Reason::CredentialTaken]);
    assert_eq!(Reason::CredentialTaken.code(), "exchange.credential_taken");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(stack.authorizations(), ["Bearer upstream-token"], "sent once");
    assert_eq!(stack.upstream.seen.requests().len(), 1, "sent once");
    let result = stack.result().await;
    assert_eq!(
        (&result["uses"], &result["reason"]),
        (&1.into(), &Reason::CredentialTaken.code().into())
    );
}

#[tokio::test]
async fn clones_sent_at_once_are_one_request() {
    let stack = Stack::start().await;
    let response = stack
        .call(|proxy, request| async move {
            let request = collected(request).await;
            let send = || proxy.send(request.clone());
            let responses: [_; 3] = tokio::join!(send(), send(), send()).into();
            let sent = responses.into_iter().find(|response| Refused::of(response).is_none());
            sent.expect("one of them")
        })
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*stack.refused.lock(), [Reason::CredentialTaken; 2]);
    assert_eq!(stack.upstream.seen.requests().len(), 1);
}

#[tokio::test]
async fn a_request_without_a_credential_is_not_sent() {
    let stack = Stack::start().await;
    let response = stack
        .call(|proxy, request| async move {
            let mut request = collected(request).await;
            request.extensions_mut().remove::<OutgoingCredential>();
            proxy.send(request).await
        })
        .await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(*stack.refused.lock(), [Reason::MissingLayer]);
    assert_eq!(Reason::MissingLayer.code(), "stack.missing_layer");
    assert_eq!(stack.upstream.seen.connections(), 0);
    let result = stack.result().await;
    assert_eq!(
        (&result["uses"], &result["reason"]),
        (&0.into(), &Reason::MissingLayer.code().into())
    );
}

/// Returns the user of the broker token.
fn alice() -> User {
    User::new(TestTokens::ISSUER, "alice")
}

/// Polls once. A revoke then has effect in this process, and no other task has run.
async fn poll_once(work: impl Future) {
    let mut work = pin!(work);
    let was_ready = future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
    assert!(!was_ready, "a revoke waits for its record");
}

#[tokio::test]
async fn a_revoke_before_the_proxy_stops_the_request() {
    for (target, reason, status) in [
        (RevocationTarget::User(alice()), Reason::Revoked, StatusCode::UNAUTHORIZED),
        (RevocationTarget::Everything, Reason::Revoked, StatusCode::UNAUTHORIZED),
        // The user must connect again: JSON-RPC reports it with status 200.
        (RevocationTarget::Grant(GrantId::new("g1")), Reason::GrantRevoked, StatusCode::OK),
    ] {
        let stack = Stack::start().await;
        let (broker, revoked) = (stack.broker.clone(), target.clone());
        let response = stack
            .call(move |proxy, request| {
                let (broker, target) = (broker.clone(), revoked.clone());
                async move {
                    let request = collected(request).await;
                    poll_once(broker.revoke(target, &Initiator::operator("olga"))).await;
                    proxy.send(request).await
                }
            })
            .await;
        assert_eq!(*stack.refused.lock(), [reason], "{target:?}");
        assert_eq!(response.status(), status, "{target:?}");
        if status == StatusCode::UNAUTHORIZED {
            let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.contains("resource_metadata="), "{challenge}");
        }
        assert_eq!(stack.upstream.seen.connections(), 0, "{target:?}");
        let result = stack.result().await;
        assert_eq!((&result["uses"], &result["reason"]), (&0.into(), &reason.code().into()));
    }
}

#[tokio::test]
async fn a_block_before_the_proxy_stops_the_request() {
    let stack = Stack::start().await;
    let broker = stack.broker.clone();
    let response = stack
        .call(move |proxy, request| {
            let broker = broker.clone();
            async move {
                let request = collected(request).await;
                poll_once(broker.block(&alice(), &Initiator::operator("olga"))).await;
                proxy.send(request).await
            }
        })
        .await;
    assert_eq!(*stack.refused.lock(), [Reason::Blocked]);
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stack.upstream.seen.connections(), 0);
}

#[tokio::test]
async fn a_revoke_cuts_a_request_before_the_proxy() {
    let stack = Stack::start().await;
    let broker = stack.broker.clone();
    let response = stack
        .call(move |proxy, request| {
            let broker = broker.clone();
            async move {
                let target = RevocationTarget::User(alice());
                poll_once(broker.revoke(target, &Initiator::operator("olga"))).await;
                future::pending::<()>().await;
                proxy.send(collected(request).await).await
            }
        })
        .await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stack.upstream.seen.connections(), 0);
    assert_eq!(stack.result().await["reason"], Reason::Revoked.code());
}

#[tokio::test]
async fn a_request_for_another_origin_is_not_sent() {
    let (stack, other) = (Stack::start().await, Wire::answering(OK).await);
    let url = other.url("/mcp");
    let response = stack
        .call(move |proxy, request| {
            let url = url.clone();
            async move {
                let mut request = collected(request).await;
                *request.uri_mut() = url.parse().unwrap();
                proxy.send(request).await
            }
        })
        .await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(*stack.refused.lock(), [Reason::WrongOrigin]);
    assert_eq!((stack.upstream.seen.connections(), other.seen.connections()), (0, 0));
}

#[tokio::test]
async fn a_clone_kept_past_the_response_is_not_sent() {
    let (stack, kept) = (Stack::start().await, Arc::new(Mutex::new(None::<Parts>)));
    let keeps = Arc::clone(&kept);
    let response = stack
        .call(move |_, request| {
            *keeps.lock() = Some(request.into_parts().0);
            future::ready(not_sent())
        })
        .await;
    assert_eq!(response.status(), StatusCode::OK, "a service may respond itself");
    let request = Request::from_parts(kept.lock().take().unwrap(), Full::new(Bytes::new()));
    let late = stack.proxy.clone().call(request).await.unwrap();
    assert_eq!(Refused::of(&late).map(Refused::reason), Some(Reason::CredentialTaken));
    assert_eq!(stack.upstream.seen.connections(), 0);
}
