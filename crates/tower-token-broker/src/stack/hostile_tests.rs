//! Attackers, broken peers and careless handlers against a stack and its broker.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tower::{ServiceExt as _, service_fn};

use super::{
    tests::{CRM, Items, broker, everything, get, list_request, metadata, olga, tokens},
    *,
};
use crate::{
    audit::InMemory,
    authenticate::{TestTokens, VerifyError, VerifyRequest, VerifyToken},
    body::RequestBody,
    clock::Clock,
    exchange::{ApplyCredentialLayer, ExchangeLayer},
    inbound::PeerCertificate,
    limits::Protocol,
    principal::{TokenTimes, User, Verified},
    refusal::{Reason, Refused},
    revocation::{
        RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget, Sequence,
    },
    scope_filter::{Arguments, Call, Policy, PolicyExt, PolicyHandle, Rules, tools},
    tasks::Tasks,
};

fn alice() -> User {
    User::new(TestTokens::ISSUER, "alice")
}

async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorized = request.headers().contains_key(header::AUTHORIZATION);
    Ok(Response::new(Full::from(format!("{} {authorized}", request.uri()))))
}

fn reason<B>(response: &Response<B>) -> Option<Reason> {
    Refused::of(response).map(Refused::reason)
}

fn http_stack<V: VerifyToken>(
    broker: &Broker,
    verifier: V,
) -> BrokerLayer<V, impl Policy + use<V>, ExchangeLayer<Arc<Items>>> {
    broker
        .protect(CRM)
        .authenticate(verifier)
        .scope_filter(everything())
        .exchange(Items::at("https://items.example.com"))
        .metadata(metadata())
        .protocol(Protocol::Http)
        .build()
        .unwrap()
}

/// A verifier of tokens that are bound to a client certificate (RFC 8705), as `VerifyRequest`
/// offers it.
struct Bound;

impl VerifyToken for Bound {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        if request.peer_certificate.is_none_or(|certificate| certificate.as_der() != b"alice's") {
            return Err(VerifyError::because(Reason::UnknownToken));
        }
        let now = Clock::system().now();
        let times =
            TokenTimes { id: "1", issued_at: now, expires_at: now.plus(Duration::from_secs(600)) };
        Ok(Verified::vouch(alice(), "client", request.resource.clone(), times))
    }
}

#[tokio::test]
async fn a_bound_token_needs_its_certificate() {
    let (broker, _) = broker();
    let service =
        http_stack(&broker, Bound).layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let mut rightful = get("/crm/a", "tok");
    rightful.extensions_mut().insert(PeerCertificate::from_der(Bytes::from_static(b"alice's")));
    assert_eq!(service.clone().oneshot(rightful).await.unwrap().status(), StatusCode::OK);
    let stolen = service.clone().oneshot(get("/crm/a", "tok")).await.unwrap();
    assert_eq!(
        stolen.status(),
        StatusCode::UNAUTHORIZED,
        "the verdict of the rightful client's request was used"
    );
}

#[tokio::test]
async fn a_thief_does_not_lock_the_client_out() {
    let (broker, _) = broker();
    let service =
        http_stack(&broker, Bound).layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    drop(service.clone().oneshot(get("/crm/a", "tok")).await.unwrap());
    let mut rightful = get("/crm/a", "tok");
    rightful.extensions_mut().insert(PeerCertificate::from_der(Bytes::from_static(b"alice's")));
    assert_eq!(service.clone().oneshot(rightful).await.unwrap().status(), StatusCode::OK);
}

/// A verifier that waits for a signal.
#[derive(Clone)]
struct Slow(Arc<Notify>, Arc<Notify>, TestTokens);

impl VerifyToken for Slow {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        self.1.notify_one();
        self.0.notified().await;
        self.2.verify(request).await
    }
}

#[tokio::test]
async fn requests_are_refused_once_the_shutdown_began() {
    let (broker, _) = broker();
    let (go, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Slow(Arc::clone(&go), Arc::clone(&asked), tokens(CRM));
    let service =
        http_stack(&broker, slow).layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let tasks = Tasks::new();
    let call = tasks.spawn("call", service.oneshot(get("/crm/a", "tok")));
    asked.notified().await;
    let ending = tasks.spawn("shutdown", {
        let broker = broker.clone();
        async move { broker.shutdown(Duration::ZERO).await }
    });
    // The grace period is over, and everything that is open is cut.
    tokio::time::sleep(Duration::from_millis(200)).await;
    go.notify_one();
    let response = call.await.unwrap().unwrap();
    assert_eq!(reason(&response), Some(Reason::ShuttingDown), "{} was let in", response.status());
    drop(response);
    ending.await.unwrap().unwrap();
}

#[tokio::test]
async fn late_requests_are_cut_at_the_end() {
    let (broker, _) = broker();
    let (go, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Slow(Arc::clone(&go), Arc::clone(&asked), tokens(CRM));
    let hangs = service_fn(|_: Request<RequestBody<Empty<Bytes>>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let service = http_stack(&broker, slow).layer(hangs);
    let tasks = Tasks::new();
    let call = tasks.spawn("call", service.oneshot(get("/crm/a", "tok")));
    asked.notified().await;
    let ending = tasks.spawn("shutdown", {
        let broker = broker.clone();
        async move { broker.shutdown(Duration::ZERO).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    go.notify_one();
    let cut = tokio::time::timeout(Duration::from_secs(3), call).await;
    assert!(cut.is_ok(), "a call that began after the end is never cut");
    assert_eq!(ending.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_second_shutdown_waits_for_the_same_end() {
    let (broker, _) = broker();
    assert_eq!(broker.shutdown(Duration::ZERO).await, Ok(()));
    assert_eq!(broker.shutdown(Duration::ZERO).await, Ok(()), "the log was closed, and well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_refused_requests() {
    let (broker, _) = broker();
    let service =
        http_stack(&broker, tokens(CRM)).layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks = Tasks::new();
    for _ in 0..16 {
        let (stop, service) = (Arc::clone(&stop), service.clone());
        // 16 clients without a token, about 3000 requests a second, all refused.
        drop(tasks.spawn("knocking", async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut request = get("/crm/a", "tok");
                request.headers_mut().remove(header::AUTHORIZATION);
                drop(service.clone().oneshot(request).await.unwrap().into_body().collect().await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = tokio::time::Instant::now();
    let ended = broker.shutdown(Duration::from_secs(4)).await;
    let took = began.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(tasks.shutdown(Duration::from_secs(5)).await);
    assert!(took < Duration::from_secs(1), "nothing was open, and it took {took:?} ({ended:?})");
}

/// A refused response marks the stream; a revocation must end it all the same.
#[tokio::test]
async fn a_handler_stream_with_refused_headers_is_cut() {
    let (broker, _) = broker();
    let layer = broker
        .protect(CRM)
        .authenticate(tokens(CRM))
        .scope_filter(everything())
        .credential_for_handler()
        .metadata(metadata())
        .protocol(Protocol::Http)
        .build()
        .unwrap();
    let client = ExchangeLayer::for_handler(&broker, Items::at("https://items.example.com"));
    let client = client.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let handler = service_fn(move |_: Request<RequestBody<Empty<Bytes>>>| {
        let client = client.clone();
        async move {
            let refused = client.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
            let (mut parts, _) = refused.into_parts();
            parts.status = StatusCode::OK;
            Ok::<_, Infallible>(Response::from_parts(parts, Full::<Bytes>::from("secret")))
        }
    });
    let response = layer.layer(handler).oneshot(get("/crm/a", "tok")).await.unwrap();
    broker.revoke(RevocationTarget::User(alice()), &olga()).await.unwrap();
    assert!(response.into_body().collect().await.is_err(), "the body passed after the revoke");
}

#[tokio::test]
async fn a_stalled_reader_leaves_a_closed_chain() {
    let (broker, records) = broker();
    let service =
        http_stack(&broker, tokens(CRM)).layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    // As hyper holds it while its socket is full: neither polled nor dropped.
    let stalled = service.oneshot(get("/crm/a", "tok")).await.unwrap();
    let ended = broker.shutdown(Duration::ZERO).await;
    let records = records.records();
    assert_eq!((ended, records.iter().last().unwrap().kind().as_str()), (Ok(()), "close"));
    drop(stalled);
}

#[test]
fn the_change_count_rises_with_each_replacement() {
    let inner = PolicyHandle::new(Rules::new().allow(tools(["*"])));
    let outer = PolicyHandle::new(inner.clone());
    inner.replace(Rules::new().allow(tools(["get_*"])));
    let before = outer.change_count();
    outer.replace(Rules::new());
    assert_ne!(outer.change_count(), before, "an open stream would not be looked at");
}

#[tokio::test]
async fn a_resource_path_may_end_with_a_slash() {
    let (broker, _) = broker();
    let uri = "https://broker.example.com/crm/mcp/";
    let layer = broker
        .protect(uri)
        .authenticate(tokens(uri))
        .scope_filter(everything())
        .exchange(Items::at("https://items.example.com/mcp"))
        .metadata(metadata())
        .build()
        .unwrap();
    let response = layer.layer(service_fn(echo)).oneshot(get("/crm/mcp/", "tok")).await.unwrap();
    assert_ne!(reason(&response), Some(Reason::PathNotServed));
}

#[test]
fn an_impossible_mount_path_is_an_error() {
    let (broker, _) = broker();
    for path in ["crm/mcp", "/crm mcp", "/crm?x", "https://broker.example.com/crm"] {
        let stack = broker.protect(CRM).authenticate(tokens(CRM)).scope_filter(everything());
        let stack = stack.exchange(Items::at("https://items.example.com/mcp")).metadata(metadata());
        assert!(stack.mounted_at(path).build().is_err(), "{path}: every request would be a 404");
    }
}

/// A store whose `append` hangs or panics.
#[derive(Clone, Copy)]
enum Append {
    Hangs,
    Panics,
}

impl RevocationStore for Append {
    async fn append(&self, _: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        match self {
            Self::Hangs => std::future::pending().await,
            Self::Panics => panic!("planted"),
        }
    }
    async fn read_after(
        &self,
        _: Sequence,
        _: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        Ok(Vec::new())
    }
}

async fn is_recorded_with(store: Append) {
    let records = InMemory::new();
    let broker = Broker::builder().audit(records.clone()).revocation_store(store).build().unwrap();
    let (alice, olga) = (alice(), olga());
    let said = tokio::time::timeout(Duration::from_secs(8), broker.block(&alice, &olga)).await;
    broker.audit_log().flush().await.unwrap();
    let is_recorded = records.records().iter().any(|record| record.kind() == "blocked");
    assert!(is_recorded, "it holds, and there is no record: {said:?}");
    assert!(said.is_ok(), "it never returns");
}

#[tokio::test]
async fn a_block_is_recorded_though_the_store_hangs() {
    is_recorded_with(Append::Hangs).await;
}

#[tokio::test]
async fn a_block_is_recorded_though_the_store_panics() {
    is_recorded_with(Append::Panics).await;
}

/// A store with slow reads, whose results were true when they began.
#[derive(Clone, Default)]
struct Distant(Arc<Mutex<Vec<RevocationEntry>>>, Arc<Notify>, Arc<Notify>);

impl RevocationStore for Distant {
    async fn append(&self, entry: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        let mut entries = self.0.lock();
        entries.push(entry.clone());
        Ok(Sequence::new(entries.len() as u64))
    }
    async fn read_after(
        &self,
        after: Sequence,
        _: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        let read: Vec<_> = {
            let entries = self.0.lock();
            let places = entries
                .iter()
                .cloned()
                .zip(1_u64..)
                .map(|(entry, place)| (Sequence::new(place), entry));
            places.filter(|(place, _)| *place > after).collect()
        };
        if !read.is_empty() {
            self.1.notify_one();
            self.2.notified().await;
        }
        Ok(read)
    }
}

#[tokio::test]
async fn an_older_unblock_does_not_undo_a_block() {
    let store = Distant::default();
    let (reading, arrive) = (Arc::clone(&store.1), Arc::clone(&store.2));
    let broker =
        Broker::builder().audit(InMemory::new()).revocation_store(store.clone()).build().unwrap();
    broker.unblock(&alice(), &olga()).await.unwrap();
    // The feed has read the unblock, but not returned it yet.
    reading.notified().await;
    broker.block(&alice(), &olga()).await.unwrap();
    assert!(broker.revocations().is_blocked(&alice()));
    arrive.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(broker.revocations().is_blocked(&alice()), "the block returned, and alice is let in");
}

#[test]
fn a_joined_decision_names_the_deciding_rule() {
    let rule =
        |id: &str, scope: &str| Rules::new().allow(tools(["x"]).with_id(id).with_scope(scope));
    let call = Call::Tool { name: "x", arguments: Arguments::unknown() };
    let caller = crate::test_util::caller("alice").scopes("a");
    let decision = rule("has-it", "a").and(rule("lacks-it", "b")).decide(&caller, &call);
    assert!(decision.needed_scopes().is_some());
    assert_eq!(decision.rule(), Some("lacks-it"));
    let denied =
        Rules::new().allow(tools(["*"])).unless(Rules::new().allow(tools(["x"]).with_id("not-x")));
    assert_eq!(denied.decide(&caller, &call).rule(), Some("not-x"));
}

#[test]
fn denial_by_claim_ignores_the_claim_type() {
    let rules = Rules::new().allow(tools(["*"])).deny(tools(["pay"]).for_claim("tier", "0"));
    let call = Call::Tool { name: "pay", arguments: Arguments::unknown() };
    for claim in [r#""0""#, "0", r#"["0"]"#] {
        let caller = crate::test_util::caller("alice").claim("tier", claim);
        assert!(rules.decide(&caller, &call).is_denied(), "{claim}");
    }
}

#[tokio::test]
async fn a_handler_list_with_refused_headers_is_filtered() {
    let (broker, _) = broker();
    let layer = broker
        .protect(CRM)
        .authenticate(tokens(CRM))
        .scope_filter(Rules::new().allow(tools(["get_*"])))
        .credential_for_handler()
        .metadata(metadata())
        .build()
        .unwrap();
    // The handler's own request is refused (it is not stamped), and the handler reuses its headers.
    let client = ExchangeLayer::for_handler(&broker, Items::at("https://items.example.com"));
    let client = client.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let handler = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let client = client.clone();
        async move {
            let refused = client.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
            let (mut parts, _) = refused.into_parts();
            parts.status = StatusCode::OK;
            let list = concat!(
                r#"{"jsonrpc":"2.0","id":1,"result":{"tools":["#,
                r#"{"name":"get_a","inputSchema":{}},{"name":"secret_b","inputSchema":{}}]}}"#,
            );
            parts.headers.clear();
            parts.headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            Ok::<_, Infallible>(Response::from_parts(parts, Full::<Bytes>::from(list)))
        }
    });
    let response = layer.layer(handler).oneshot(list_request()).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(!text.contains("secret_b"), "{text}");
}

#[tokio::test]
async fn an_unblock_without_a_record_has_no_effect() {
    let (broker, records) = broker();
    broker.block(&alice(), &olga()).await.unwrap();
    records.fail();
    assert_eq!(broker.unblock(&alice(), &olga()).await, Err(RestoreError::NotRecorded));
    records.work();
    assert!(broker.revocations().is_blocked(&alice()), "let in, and no record says by whom");
}

#[tokio::test]
async fn an_earlier_unblock_does_not_undo_a_block() {
    let (broker, records) = broker();
    broker.block(&alice(), &olga()).await.unwrap();
    records.hang();
    let tasks = Tasks::new();
    let unblocking = tasks.spawn("unblock", {
        let broker = broker.clone();
        async move { broker.unblock(&alice(), &olga()).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let blocking = tasks.spawn("block", {
        let broker = broker.clone();
        async move { broker.block(&alice(), &olga()).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    records.work();
    unblocking.await.unwrap().unwrap();
    blocking.await.unwrap().unwrap();
    assert!(broker.revocations().is_blocked(&alice()));
}
