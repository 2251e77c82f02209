//! The layer as a whole, in a stack over services that apply the credential and services that do
//! not.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::ready,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tower::{Service, ServiceExt as _, service_fn};

use super::*;
use crate::{
    Secret,
    authenticate::TestTokens,
    body::RequestBody,
    limits::{GrpcOptions, Protocol},
    principal::{GrantId, User},
    refusal::{Reason, Refused},
    revocation::RevocationTarget,
    stack::tests::{
        CRM, Items, broker, echo, everything, get, http_stack, list_request, metadata, olga, text,
        tokens,
    },
};

fn alice() -> User {
    User::new(TestTokens::ISSUER, "alice")
}

/// A body whose frames the test sends one by one.
struct Frames(mpsc::Receiver<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// A response of the upstream, with a few header fields that must not reach a client.
fn response(status: StatusCode) -> (mpsc::Sender<Bytes>, Response<Frames>) {
    let (sender, frames) = mpsc::channel(4);
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain")
        .header(header::SET_COOKIE, "session=upstream")
        .header(header::WWW_AUTHENTICATE, "Bearer realm=\"upstream\"")
        .body(Frames(frames))
        .unwrap();
    (sender, response)
}

/// A client whose upstream sends planned responses, and an empty 200 after these. It panics when it
/// is called before it is ready.
#[derive(Default)]
struct Client {
    planned: Arc<Mutex<VecDeque<Response<Frames>>>>,
    credentials: Arc<Mutex<Vec<String>>>,
    is_ready: bool,
}

impl Client {
    fn planning(planned: impl IntoIterator<Item = Response<Frames>>) -> Self {
        let planned = Arc::new(Mutex::new(planned.into_iter().collect()));
        Self { planned, ..Self::default() }
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        let (planned, credentials) = (Arc::clone(&self.planned), Arc::clone(&self.credentials));
        Self { planned, credentials, is_ready: false }
    }
}

impl<B> Service<Request<B>> for Client {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(mem::take(&mut self.is_ready), "called before it was ready");
        let credential = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
        self.credentials.lock().push(credential);
        let planned = self.planned.lock().pop_front();
        Box::pin(async move {
            // A wait in which the request may be dropped.
            tokio::task::yield_now().await;
            Ok(planned.unwrap_or_else(|| response(StatusCode::OK).1))
        })
    }
}

/// A provider whose every credential is a new one.
struct Fresh {
    upstream: Upstream,
    provided: AtomicUsize,
    refused: AtomicUsize,
}

impl Fresh {
    fn new() -> Arc<Self> {
        let upstream = Upstream::parse("items", "https://items.example.com").unwrap();
        let (provided, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { upstream, provided, refused })
    }

    fn secret(number: usize) -> String {
        format!("tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM{number}")
    }
}

impl ProvideCredential for Fresh {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        tokio::task::yield_now().await;
        let secret = Self::secret(self.provided.fetch_add(1, Ordering::SeqCst));
        Ok(Credential::vouch(Secret::from_text(secret), self.upstream.origin().clone()))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {
        tokio::task::yield_now().await;
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

fn reason<B>(response: &Response<B>) -> Option<Reason> {
    Refused::of(response).map(Refused::reason)
}

#[tokio::test]
async fn a_request_passes_with_the_credential() {
    let (broker, records) = broker();
    let (body, planned) = response(StatusCode::OK);
    let client = Client::planning([planned]);
    let service =
        http_stack(&broker, Fresh::new()).layer(ApplyCredentialLayer::new().layer(client.clone()));
    body.try_send("three items".into()).unwrap();
    drop(body);
    let response = service.oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "private, no-store");
    for name in [header::SET_COOKIE, header::WWW_AUTHENTICATE] {
        assert!(!response.headers().contains_key(&name), "{name} of the upstream was passed");
    }
    assert_eq!(text(response).await, "three items");
    assert_eq!(*client.credentials.lock(), [format!("Bearer {}", Fresh::secret(0))]);
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let result = records.iter().last().unwrap();
    assert_eq!((result.number("intents"), result.uses()), (Some(1), Some(1)));
}

#[tokio::test]
async fn without_a_credential_nothing_is_sent() {
    struct NoGrant(Upstream);
    impl ProvideCredential for NoGrant {
        fn upstream(&self) -> &Upstream {
            &self.0
        }
        fn credential(
            &self,
            _: &CredentialRequest<'_>,
        ) -> impl Future<Output = Result<Credential, CredentialError>> + Send {
            ready(Err(CredentialError::ConnectRequired))
        }
        fn refused(&self, _: &UpstreamRefusal<'_>) -> impl Future<Output = ()> + Send {
            ready(())
        }
        fn connect_url(&self, _: &crate::principal::Principal) -> Option<Box<str>> {
            Some("https://broker.example.com/connect".into())
        }
    }
    let (broker, records) = broker();
    let upstream = Upstream::parse("items", "https://items.example.com").unwrap();
    let client = Client::default();
    let service = http_stack(&broker, NoGrant(upstream))
        .layer(ApplyCredentialLayer::new().layer(client.clone()));
    let response = service.oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(reason(&response), Some(Reason::ConnectRequired));
    assert!(text(response).await.contains("https://broker.example.com/connect"));
    assert!(client.credentials.lock().is_empty());
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let result = records.iter().last().unwrap();
    assert_eq!(result.reason().as_deref(), Some(Reason::ConnectRequired.code()));
    assert_eq!((result.number("intents"), result.uses()), (Some(0), Some(0)));
}

#[tokio::test]
async fn i181_a_streamed_response_passes_as_it_arrives() {
    let (broker, _) = broker();
    let (body, planned) = response(StatusCode::OK);
    let service = http_stack(&broker, Fresh::new())
        .layer(ApplyCredentialLayer::new().layer(Client::planning([planned])));
    let mut passed = service.oneshot(get("/crm/items", "tok")).await.unwrap().into_body();
    let mut next = async |sent: &str| {
        body.send(sent.to_owned().into()).await.unwrap();
        let frame = passed.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    // Nothing of it is held back for the next frame.
    assert_eq!(next("one ").await, "one ");
    let secret = Fresh::secret(0);
    let (begin, end) = secret.split_at(20);
    assert_eq!(next(&format!("two {begin}")).await, "two ");
    let masked = "*".repeat(secret.len());
    assert_eq!(next(&format!("{end} three ")).await, format!("{masked} three "), "I181");
    drop(body);
    assert!(passed.frame().await.is_none());
}

#[tokio::test]
async fn i183_a_refused_credential_is_replaced_once() {
    let (broker, _) = broker();
    let provider = Fresh::new();
    let refusals = [(); 2].map(|()| response(StatusCode::UNAUTHORIZED).1);
    let client = Client::planning(refusals);
    let service = http_stack(&broker, Arc::clone(&provider))
        .layer(ApplyCredentialLayer::new().layer(client.clone()));
    let refused = service.clone().oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(reason(&refused), Some(Reason::CredentialRefused), "I183");
    let secrets = [0, 1].map(|number| format!("Bearer {}", Fresh::secret(number)));
    assert_eq!(*client.credentials.lock(), secrets);
    assert_eq!(provider.refused.load(Ordering::SeqCst), 2);
    client.planned.lock().push_back(response(StatusCode::UNAUTHORIZED).1);
    let passed = service.oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
}

/// Polls a future at most `polls` times; returns whether it was ready by then.
async fn is_ready_after(polls: usize, mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    let mut left = polls;
    std::future::poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn x25_dropped_at_any_await_each_use_is_recorded() {
    for polls in 1.. {
        let (broker, records) = broker();
        // Two attempts: the upstream refuses the first credential.
        let client = Client::planning([response(StatusCode::UNAUTHORIZED).1]);
        let service = http_stack(&broker, Fresh::new())
            .layer(ApplyCredentialLayer::new().layer(client.clone()));
        let work = async {
            let response = service.oneshot(get("/crm/items", "tok")).await.unwrap();
            tokio::task::yield_now().await;
            drop(text(response).await);
        };
        let is_done = is_ready_after(polls, std::pin::pin!(work)).await;
        broker.audit_log().flush().await.unwrap();
        let records = records.records();
        let results: Vec<_> = records.iter().filter(|record| record.kind() == "result").collect();
        let [result] = results[..] else { panic!("X25: {} results after {polls}", results.len()) };
        let sent = client.credentials.lock().len() as u64;
        assert_eq!(result.uses(), Some(sent), "X25 after {polls} polls");
        let intents = result.number("intents").unwrap();
        assert!((sent..=sent + 1).contains(&intents), "X25 {intents} intents after {polls} polls");
        let outcome = result.text("outcome");
        let expected = if is_done { "completed" } else { "dropped" };
        assert_eq!(outcome.as_deref(), Some(expected), "X25 after {polls} polls");
        if is_done {
            assert_eq!((sent, intents), (2, 2));
            assert!(polls > 4, "X25: it was dropped before, between and after the attempts");
            return;
        }
    }
}

#[tokio::test]
async fn h169_without_its_outer_layers_nothing_is_sent() {
    let (broker, _) = broker();
    let config = crate::stack::StackConfig::new(CRM).unwrap();
    let layer = ExchangeLayer::new(&broker, &config, Fresh::new()).unwrap();
    let client = Client::default();
    let service = layer.layer(ApplyCredentialLayer::new().layer(client.clone()));
    let refused = service.oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(reason(&refused), Some(Reason::MissingLayer), "H169");
    assert!(client.credentials.lock().is_empty(), "H169");
}

#[tokio::test]
async fn a_service_that_applies_nothing_sees_no_secret() {
    let (broker, records) = broker();
    let provider = Items::at("https://items.example.com");
    let layer = http_stack(&broker, Arc::clone(&provider));
    let handler = service_fn(async |request: Request<RequestBody<Empty<Bytes>>>| {
        let extensions = format!("{:?} {:?}", request.headers(), request.extensions());
        assert!(!extensions.contains("tbm-"), "{extensions}");
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        let response = Response::builder().status(401).body(Full::<Bytes>::from("mine")).unwrap();
        Ok::<_, Infallible>(response)
    });
    let response = layer.layer(handler).oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "not about the credential");
    assert_eq!(text(response).await, "mine");
    assert_eq!(*provider.1.lock(), 0, "nothing was refused by the upstream");
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let result = records.iter().last().unwrap();
    assert_eq!((result.number("intents"), result.uses()), (Some(1), Some(0)));
}

#[tokio::test]
async fn a_credential_is_applied_once_and_only_to_its_origin() {
    let (broker, records) = broker();
    let layer = http_stack(&broker, Items::at("https://items.example.com"));
    let inner = service_fn(async |request: Request<RequestBody<Empty<Bytes>>>| {
        let outgoing = request.extensions().get::<OutgoingCredential>().unwrap().clone();
        let mut first = Request::get("https://items.example.com/").body(()).unwrap();
        outgoing.apply(&mut first).unwrap();
        assert!(first.headers()[header::AUTHORIZATION].is_sensitive());
        let mut second = Request::get("https://items.example.com/").body(()).unwrap();
        let taken = outgoing.apply(&mut second).unwrap_err();
        assert_eq!(taken.reason(), Reason::CredentialTaken);
        assert!(second.headers().is_empty());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    drop(text(layer.layer(inner).oneshot(get("/crm/a", "tok")).await.unwrap()).await);
    let elsewhere = service_fn(async |request: Request<RequestBody<Empty<Bytes>>>| {
        let outgoing = request.extensions().get::<OutgoingCredential>().unwrap().clone();
        let mut other = Request::get("https://evil.example/").body(()).unwrap();
        assert_eq!(outgoing.apply(&mut other).unwrap_err().reason(), Reason::WrongOrigin);
        assert!(other.headers().is_empty());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    drop(text(layer.layer(elsewhere).oneshot(get("/crm/a", "tok")).await.unwrap()).await);
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let results = records.iter().filter(|record| record.kind() == "result");
    assert_eq!(results.map(|result| result.uses().unwrap()).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn a_revocation_before_the_send_stops_the_request() {
    let (broker, _) = broker();
    let layer = http_stack(&broker, Items::at("https://items.example.com"));
    let sent = Arc::new(parking_lot::Mutex::new(false));
    let client = {
        let sent = Arc::clone(&sent);
        ApplyCredentialLayer::new().layer(service_fn(
            move |_: Request<RequestBody<Empty<Bytes>>>| {
                *sent.lock() = true;
                async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
            },
        ))
    };
    let waiting = {
        let broker = broker.clone();
        service_fn(move |request| {
            let (broker, client) = (broker.clone(), client.clone());
            async move {
                let alice = RevocationTarget::User(User::new(TestTokens::ISSUER, "alice"));
                let revoked = broker.revoke(alice, &olga()).await.unwrap();
                assert!(revoked.was_known());
                client.oneshot(request).await
            }
        })
    };
    let response = layer.layer(waiting).oneshot(get("/crm/a", "tok")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(!*sent.lock());
}

#[tokio::test]
async fn queries_are_never_merged() {
    let (broker, _) = broker();
    let layer = http_stack(&broker, Items::at("https://items.example.com/api?key=%7E1"));
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let passed = service.clone().oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(text(passed).await, "https://items.example.com/api/items?key=%7E1 true None");
    let refused = service.oneshot(get("/crm/items?key=2", "tok")).await.unwrap();
    assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::RequestDenied));
}

#[tokio::test]
async fn a_cancelled_request_places_no_credential() {
    let (broker, records) = broker();
    let kept: Arc<Mutex<Option<OutgoingCredential>>> = Arc::default();
    let keeps = {
        let kept = Arc::clone(&kept);
        service_fn(move |request: Request<RequestBody<Empty<Bytes>>>| {
            *kept.lock() = request.extensions().get::<OutgoingCredential>().cloned();
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        })
    };
    let call = http_stack(&broker, Items::at("https://items.example.com"))
        .layer(keeps)
        .oneshot(get("/crm/a", "tok"));
    // The client disconnects.
    assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
    broker.audit_log().flush().await.unwrap();
    let outgoing = kept.lock().take().expect("the inner service was called");
    let mut request = Request::get("https://items.example.com/").body(()).unwrap();
    let applied = outgoing.apply(&mut request);
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let result = records.iter().find(|record| record.kind() == "result").unwrap();
    let uses = u64::from(applied.is_ok());
    assert_eq!(
        result.uses(),
        Some(uses),
        "placed {uses} times, the result says otherwise: {:?}",
        request.headers()
    );
}

#[tokio::test]
async fn copied_extensions_never_send_the_clients_request() {
    let (broker, _) = broker();
    let layer = broker
        .protect(CRM)
        .authenticate(tokens(CRM))
        .scope_filter(everything())
        .credential_for_handler()
        .metadata(metadata())
        .build()
        .unwrap();
    let seen: Arc<Mutex<Option<String>>> = Arc::default();
    let upstream = {
        let seen = Arc::clone(&seen);
        service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let seen = Arc::clone(&seen);
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                *seen.lock() = Some(format!("{line} {}", body.escape_ascii()));
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        })
    };
    let client = ExchangeLayer::for_handler(&broker, Items::at("https://items.example.com/"));
    let client = client.layer(ApplyCredentialLayer::new().layer(upstream));
    let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let client = client.clone();
        async move {
            assert!(request.extensions().get::<CallerHandle>().is_some());
            let mut own = Request::get("https://items.example.com/contacts")
                .body(Full::<Bytes>::default())
                .unwrap();
            // Not stamped, but with the extensions of the client's request, as many clients do.
            *own.extensions_mut() = request.extensions().clone();
            drop(client.oneshot(own).await.unwrap());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    drop(layer.layer(handler).oneshot(list_request()).await.unwrap());
    let seen = seen.lock().clone();
    assert!(
        seen.as_ref().is_none_or(|seen| seen == "GET https://items.example.com/contacts "),
        "something else was sent, with the credential: {seen:?}"
    );
}

#[tokio::test]
async fn a_401_between_exchange_and_sender_names_the_metadata() {
    let (broker, _) = broker();
    let client = ApplyCredentialLayer::new().layer(service_fn(echo));
    let waiting = {
        let broker = broker.clone();
        service_fn(move |request: Request<RequestBody<Empty<Bytes>>>| {
            let (broker, client) = (broker.clone(), client.clone());
            async move {
                broker.revoke(RevocationTarget::User(alice()), &olga()).await.unwrap();
                client.oneshot(request).await
            }
        })
    };
    let response = http_stack(&broker, Items::at("https://items.example.com"))
        .layer(waiting)
        .oneshot(get("/crm/a", "tok"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("resource_metadata="), "{challenge}");
}

#[tokio::test]
async fn a_recalled_grant_is_known() {
    struct Recalls(Upstream);
    impl ProvideCredential for Recalls {
        fn upstream(&self) -> &Upstream {
            &self.0
        }
        fn recall(&self, _: &CredentialRequest<'_>) -> Option<Credential> {
            let secret = Secret::from_text("tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3".into());
            let grant = GrantId::new("g");
            Some(Credential::vouch(secret, self.0.origin().clone()).from_grant(grant, 1))
        }
        async fn credential(
            &self,
            _: &CredentialRequest<'_>,
        ) -> Result<Credential, CredentialError> {
            Err(CredentialError::ConnectRequired)
        }
        async fn refused(&self, _: &UpstreamRefusal<'_>) {}
    }
    let (broker, _) = broker();
    let layer = broker
        .protect(CRM)
        .authenticate(tokens(CRM))
        .scope_filter(everything())
        .exchange(Recalls(Upstream::parse("items", "https://items.example.com").unwrap()))
        .metadata(metadata())
        .protocol(Protocol::Http)
        .build()
        .unwrap();
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let response = service.oneshot(get("/crm/a", "tok")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let revoked = broker.revoke(RevocationTarget::Grant(GrantId::new("g")), &olga()).await.unwrap();
    assert!(revoked.was_known(), "its credential was used a moment ago");
}

/// A handler that sends its own request in a task, as rmcp and tonic do, while its client
/// disconnects and the disk is slow.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "tasks of a handler and of its server")]
async fn a_credential_is_never_sent_after_the_result() {
    let (broker, records) = broker();
    let sent = Arc::new(AtomicUsize::new(0));
    let of_upstream = Arc::clone(&sent);
    let upstream = service_fn(move |_: Request<RequestBody<Empty<Bytes>>>| {
        of_upstream.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok"))) }
    });
    let layer = ExchangeLayer::for_handler(&broker, Items::at("https://items.example.com/"));
    let client = layer.layer(ApplyCredentialLayer::new().layer(upstream));
    let (done, wait) = tokio::sync::oneshot::channel();
    let done = Arc::new(Mutex::new(Some(done)));
    let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let (client, done) = (client.clone(), Arc::clone(&done));
        async move {
            let caller = request.extensions().get::<CallerHandle>().unwrap().clone();
            let work = tokio::spawn(async move {
                let own = Request::get("https://items.example.com/items");
                let mut own = own.body(Empty::<Bytes>::new()).unwrap();
                caller.stamp(&mut own);
                let response = client.oneshot(own).await.unwrap();
                done.lock().take().unwrap().send(reason(&response)).unwrap();
            });
            work.await.unwrap();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let stack = broker.protect(CRM).authenticate(tokens(CRM)).scope_filter(everything());
    let stack = stack.credential_for_handler().metadata(metadata()).build().unwrap();
    broker.audit_log().flush().await.unwrap();
    let calls = records.calls();
    records.hang();
    let request = tokio::spawn(stack.layer(handler).oneshot(list_request()));
    // The intent is being written when the client disconnects.
    records.called(calls + 1).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    records.work();
    assert_eq!(wait.await.unwrap(), Some(Reason::AuditUnavailable));
    assert_eq!(sent.load(Ordering::SeqCst), 0);
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let uses: u64 = records.iter().filter_map(|record| record.uses()).sum();
    assert_eq!(uses, 0);
}

#[tokio::test]
async fn a_handlers_own_request_has_its_own_dialect() {
    for is_stamped_last in [true, false] {
        let (broker, _records) = broker();
        let upstream = service_fn(|_: Request<RequestBody<Empty<Bytes>>>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        // The credential is for another origin, so it is refused.
        let layer = ExchangeLayer::for_handler(&broker, Items::at("https://items.example.com/"));
        let client = layer.layer(ApplyCredentialLayer::new().layer(upstream));
        let checked = Arc::new(AtomicUsize::new(0));
        let of_handler = Arc::clone(&checked);
        let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            let (client, checked) = (client.clone(), Arc::clone(&of_handler));
            async move {
                let caller = request.extensions().get::<CallerHandle>().unwrap().clone();
                let own = Request::get("https://other.example.com/items");
                let mut own = own.body(Empty::<Bytes>::new()).unwrap();
                if is_stamped_last {
                    *own.extensions_mut() = request.extensions().clone();
                    caller.stamp(&mut own);
                } else {
                    caller.stamp(&mut own);
                    own.extensions_mut().extend(request.extensions().clone());
                }
                let refused = client.oneshot(own).await.unwrap();
                assert!(refused.status().is_client_error() || refused.status().is_server_error());
                assert!(!refused.headers().contains_key("grpc-status"), "{is_stamped_last}");
                checked.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        let stack = broker.protect(CRM).authenticate(tokens(CRM)).scope_filter(everything());
        let stack = stack.credential_for_handler().metadata(metadata());
        let stack = stack.protocol(Protocol::Grpc(GrpcOptions::default())).build().unwrap();
        let request = Request::post("/shop.v1.Orders/Get")
            .header(header::HOST, "broker.example.com")
            .header(header::AUTHORIZATION, "Bearer tok")
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(Full::from(vec![0; 5]))
            .unwrap();
        drop(stack.layer(handler).oneshot(request).await.unwrap());
        assert_eq!(checked.load(Ordering::SeqCst), 1);
    }
}
