//! The credential is placed once, by the sender of the request, and nothing before it can see it.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request as AxumRequest,
    middleware::{Next, from_fn},
    response::IntoResponse as _,
    routing::{any, get},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, SECRET, proxy, serve},
    polls,
    token_endpoint::{GRANT, TokenEndpoint},
    upstream::{Received, ScriptedBody, ScriptedServer, full, json},
    wire,
};
use tokio::sync::{Notify, Semaphore, mpsc};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::trace::{DefaultMakeSpan, TraceLayer};
use tower_token_broker::{
    body::RequestBody,
    clock::Clock,
    exchange::{ApplyCredentialLayer, OutgoingCredential},
    principal::{GrantId, Initiator, Principal, User},
    refusal::{Reason, Refused},
    revocation::RevocationTarget,
    scope_filter::Judged,
};

use crate::records::{count, last_result, results, summary};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Returns everything that a service inside the exchange layer can print of a request.
fn printed<B>(request: &Request<B>) -> String {
    let extensions = request.extensions();
    format!(
        "{:#?} {:#?} {:?} {:#?} {:#?} {:#?}",
        request.uri(),
        request.headers(),
        extensions,
        extensions.get::<OutgoingCredential>(),
        extensions.get::<Principal>(),
        extensions.get::<Judged>(),
    )
}

fn shows_no_credential(text: &str) {
    assert!(text.contains("OutgoingCredential"), "{text}");
    assert!(!text.contains(SECRET) && !text.contains("authorization"), "{text}");
    assert!(!text.contains("Bearer"), "neither that of the client: {text}");
}

#[tokio::test]
async fn a_logging_middleware_sees_no_credential() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (notes, sender) = (Arc::clone(&seen), proxy());
    let logging = service_fn(move |request: Request<RequestBody<Body>>| {
        notes.lock().push(printed(&request));
        let (notes, sender) = (Arc::clone(&notes), sender.clone());
        async move {
            // Kept after the send, as logging middleware keeps extensions.
            let kept = request.extensions().get::<OutgoingCredential>().unwrap().clone();
            let response = sender.oneshot(request).await?;
            notes.lock().push(format!("{kept:?}"));
            Ok::<_, Infallible>(response)
        }
    });
    // With all header fields, as an operator might misconfigure it.
    let spans = DefaultMakeSpan::new().include_headers(true).level(tracing::Level::TRACE);
    let traced = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http().make_span_with(spans))
        .service(logging);
    serve(listener, Router::new().route_service("/mcp", stack.layer(traced)));

    let passed = broker.call_with(&[], CALL).await;
    assert_eq!((passed.status, passed.text()), (200, RESULT));
    let seen = seen.lock().clone();
    shows_no_credential(&seen[0]);
    assert_eq!(seen[1], "OutgoingCredential { was_applied: true, .. }");
    assert_eq!(upstream.received()[0].values("authorization"), [format!("Bearer {SECRET}")]);
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    let spans =
        logs.lines().filter(|line| line.contains("tower_http") && line.contains("headers="));
    assert!(spans.count() > 0, "the header fields were logged");
    assert_eq!(summary(&last_result(&broker, 1).await), ("completed", None, 1, 1));
    broker.done().await;
}

/// An axum application in place of a proxy: middleware, a handler, and a fallback.
fn application(seen: &Arc<Mutex<Vec<String>>>) -> Router {
    let notes = Arc::clone(seen);
    let logging = move |request: AxumRequest, next: Next| {
        notes.lock().push(printed(&request));
        next.run(request)
    };
    Router::new()
        .route(
            "/api/whoami",
            get(async |principal: Principal, request: AxumRequest| {
                // The response contains everything that the handler knows.
                format!("{} {}", principal.subject(), printed(&request))
            }),
        )
        .route(
            "/api/login",
            any(async || {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
                (StatusCode::UNAUTHORIZED, challenge, "sign in at the application").into_response()
            }),
        )
        .fallback(async |request: AxumRequest| (StatusCode::NOT_FOUND, printed(&request)))
        .layer(from_fn(logging))
}

#[tokio::test]
async fn handler_and_fallback_see_no_credential() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let endpoint = TokenEndpoint::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream)
        .plain_http()
        .at("/api")
        .prepare_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    // The upstream's path is `/mcp`; the application has its own paths.
    let inside = ServiceBuilder::new()
        .map_request(|mut request: Request<RequestBody<Body>>| {
            let path = request.uri().path().replacen("/mcp", "/api", 1);
            *request.uri_mut() = path.parse().unwrap();
            request
        })
        .service(application(&seen));
    serve(listener, Router::new().fallback_service(stack.layer(inside)));

    let secret = TokenEndpoint::access_token(0);
    for (path, status, starts) in [
        ("/api/whoami", 200, "alice "),
        ("/api/nothing", 404, "/api/nothing"),
        // A 401 of the application is not about a credential, which it never had.
        ("/api/login", 401, "sign in at the application"),
        ("/api/login", 401, "sign in at the application"),
    ] {
        let response = broker.get(path).await;
        assert_eq!(response.status, status, "{path}: {}", response.text());
        assert!(response.text().starts_with(starts), "{path}: {}", response.text());
        assert!(!response.text().contains("****"), "{path}: nothing had to be masked");
        if status != 401 {
            shows_no_credential(response.text());
        }
    }
    for text in seen.lock().iter() {
        shows_no_credential(text);
        assert!(!text.contains(&secret), "{text}");
    }
    assert_eq!(seen.lock().len(), 4);
    assert_eq!((upstream.received().len(), endpoint.posts()), (0, 0), "and no refresh");
    for result in results(&broker, 4).await {
        assert_eq!(summary(&result), ("completed", None, 1, 0), "{result}");
        assert_eq!(result["echo_masked"], 0, "{result}");
    }
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert!(logs.contains(r#"alarm="exchange.credential_unused""#), "an alarm is logged");
    broker.ledger().secret("access token 0", &secret);
    broker.done_unsent().await;
}

/// An upstream that refuses the first token of a grant and echoes it.
fn refuses_the_first_token(request: &Received) -> Response<ScriptedBody> {
    let sent = request.values("authorization").concat();
    if sent.ends_with(&TokenEndpoint::access_token(0)) {
        return Response::builder().status(401).body(full(sent)).unwrap();
    }
    json(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"echo":"{sent}"}}}}"#))
}

#[tokio::test]
async fn a_hyper_client_sends_with_the_credential() {
    let upstream = ScriptedServer::start(refuses_the_first_token).await;
    let endpoint = TokenEndpoint::start().await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream)
        .prepare_with(|handle| endpoint.grants_with_access_token(handle, &upstream))
        .await;
    let client: Client<_, RequestBody<Incoming>> =
        Client::builder(TokioExecutor::new()).build_http();
    let service = TowerToHyperService::new(stack.layer(ApplyCredentialLayer::new().layer(client)));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(socket), service.clone()));
        }
    });

    let passed = broker.call_with(&[("cookie", "a=b")], CALL).await;
    assert_eq!(passed.status, 200, "{}", passed.text());
    assert!(passed.text().contains("****"), "the echo is masked: {}", passed.text());
    let received = upstream.received();
    let tokens = received.iter().map(|one| one.values("authorization").concat());
    let bearer = |number| format!("Bearer {}", TokenEndpoint::access_token(number));
    assert_eq!(tokens.collect::<Vec<_>>(), [bearer(0), bearer(1)], "one refresh, one replay");
    assert!(received.iter().all(|one| one.body == CALL && one.values("cookie").is_empty()));
    assert_eq!(endpoint.posts(), 1);
    assert_eq!(summary(&last_result(&broker, 1).await), ("completed", None, 2, 2));
    endpoint.report_to(broker.ledger(), &[0, 1], &[0, 1]);
    broker.done().await;
}

#[tokio::test]
async fn a_client_outside_the_stack_sends_nothing() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let url = upstream.url("/mcp");
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let client = ApplyCredentialLayer::new().layer(client);
    let direct = service_fn(move |mut request: Request<Body>| {
        *request.uri_mut() = url.parse().unwrap();
        let client = client.clone();
        async move { Ok::<_, Infallible>(client.oneshot(request).await.unwrap()) }
    });
    // The mistake: the client has its own route.
    let app =
        Router::new().route_service("/mcp", stack.layer(proxy())).route_service("/direct", direct);
    serve(listener, app);
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let bytes = wire::post("/direct", broker.host(), &[("authorization", &bearer)], CALL);
    broker.ledger().sent(0, &bytes);
    let response = wire::send(broker.address(), &bytes).await;
    broker.ledger().received(&response);
    assert_eq!(response.status, 500, "{}", response.text());
    assert!(
        String::from_utf8(broker.ledger().logs()).unwrap().contains("bypassed the exchange layer")
    );
    broker.done_unsent().await;
}

/// Returns two requests with the extensions of one.
fn twice(request: Request<RequestBody<Body>>) -> [Request<Body>; 2] {
    let (parts, _) = request.into_parts();
    [(); 2].map(|()| {
        let mut copy = Request::new(Body::from(CALL));
        *copy.method_mut() = parts.method.clone();
        *copy.uri_mut() = parts.uri.clone();
        *copy.headers_mut() = parts.headers.clone();
        *copy.extensions_mut() = parts.extensions.clone();
        copy
    })
}

#[tokio::test]
async fn a_cloned_request_is_sent_once() {
    // A mirror that returns the response to its first or to its second copy.
    for returned in [0, 1] {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
        let sender = proxy();
        let mirror = service_fn(move |request: Request<RequestBody<Body>>| {
            let sender = sender.clone();
            async move {
                let mut responses = Vec::new();
                for copy in twice(request) {
                    responses.push(sender.clone().oneshot(copy).await?);
                }
                let reasons: Vec<_> =
                    responses.iter().map(|one| Refused::of(one).map(Refused::reason)).collect();
                assert_eq!(reasons, [None, Some(Reason::CredentialTaken)]);
                Ok::<_, Infallible>(responses.swap_remove(returned))
            }
        });
        serve(listener, Router::new().route_service("/mcp", stack.layer(mirror)));
        let response = broker.call_with(&[], CALL).await;
        let expected = [200, 500][returned];
        assert_eq!(response.status, expected, "{}", response.text());
        let received = upstream.received();
        assert_eq!(received.len(), 1, "the second copy was not sent");
        assert_eq!(received[0].values("authorization"), [format!("Bearer {SECRET}")]);
        let result = last_result(&broker, 1).await;
        let found =
            [("completed", None, 1, 1), ("refused", Some("exchange.credential_taken"), 1, 1)];
        assert_eq!(summary(&result), found[returned], "{result}");
        broker.done().await;
    }
}

#[tokio::test]
async fn racing_clones_of_a_request_are_sent_once() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let sender = proxy();
    let hedge = service_fn(move |request: Request<RequestBody<Body>>| {
        let [one, other] = twice(request).map(|copy| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.oneshot(copy).await.unwrap() })
        });
        async move {
            let (one, other) = (one.await.unwrap(), other.await.unwrap());
            let is_refused = Refused::of(&one).is_some();
            assert_ne!(is_refused, Refused::of(&other).is_some());
            Ok::<_, Infallible>(if is_refused { other } else { one })
        }
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(hedge)));
    for calls in 1..=20 {
        assert_eq!(broker.call_with(&[], CALL).await.status, 200);
        assert_eq!(upstream.received().len(), calls);
    }
    for result in results(&broker, 20).await {
        assert_eq!(summary(&result), ("completed", None, 1, 1), "{result}");
    }
    broker.done().await;
}

#[tokio::test]
async fn a_clone_cannot_be_sent_after_the_response() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&kept);
    // It responds itself and keeps the request.
    let hoarder = service_fn(move |request: Request<RequestBody<Body>>| {
        keeps.lock().extend(twice(request));
        std::future::ready(Ok::<_, Infallible>(json(RESULT)))
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(hoarder)));
    assert_eq!(broker.call_with(&[], CALL).await.status, 200);
    assert_eq!(summary(&last_result(&broker, 1).await), ("completed", None, 1, 0));
    let kept = std::mem::take(&mut *kept.lock());
    for copy in kept {
        let response = proxy().oneshot(copy).await.unwrap();
        let reason = Refused::of(&response).map(Refused::reason);
        assert_eq!(reason, Some(Reason::CredentialTaken));
    }
    broker.done_unsent().await;
}

/// An event between the exchange layer and the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    RevokeUser,
    RevokeGrant,
    RevokeServer,
    Block,
    TokenEnds,
}

impl Between {
    const ALL: [Self; 5] =
        [Self::RevokeUser, Self::RevokeGrant, Self::RevokeServer, Self::Block, Self::TokenEnds];

    async fn happens(self, broker: &Broker, clock: &Clock) {
        let alice = || User::new(ISSUER, "alice");
        let target = match self {
            Self::RevokeUser => RevocationTarget::User(alice()),
            Self::RevokeGrant => RevocationTarget::Grant(GrantId::new(GRANT)),
            Self::RevokeServer => RevocationTarget::Server(broker.resource().clone()),
            Self::Block => {
                let olga = Initiator::operator("olga");
                assert!(broker.handle().block(&alice(), &olga).await.unwrap().was_known());
                return;
            }
            Self::TokenEnds => return clock.advance(Duration::from_secs(24 * 3600)),
        };
        assert!(broker.revoke(target).await.was_known(), "{self:?}");
    }

    const fn reason(self) -> Reason {
        match self {
            Self::RevokeUser | Self::RevokeServer => Reason::Revoked,
            Self::RevokeGrant => Reason::GrantRevoked,
            Self::Block => Reason::Blocked,
            Self::TokenEnds => Reason::JwtExpired,
        }
    }
}

#[tokio::test]
async fn n258_a_revoke_during_middleware_sends_nothing() {
    for (between, in_a_task) in Between::ALL.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let upstream = ScriptedServer::start(|_| json(RESULT)).await;
        let endpoint = TokenEndpoint::start().await;
        let clock = Clock::manual(Clock::system().now());
        let (listener, stack, broker) = Broker::in_front_of(&upstream)
            .with_clock(clock.clone())
            .prepare_with(|handle| endpoint.grants(handle, &upstream))
            .await;
        let (arrived, goes_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let (became, mut reasons) = mpsc::channel(1);
        let (sender, arrives, waits) = (proxy(), Arc::clone(&arrived), Arc::clone(&goes_on));
        let waiting = service_fn(move |request: Request<RequestBody<Body>>| {
            let (sender, became) = (sender.clone(), became.clone());
            let (arrives, waits) = (Arc::clone(&arrives), Arc::clone(&waits));
            let sending = async move {
                arrives.notify_one();
                waits.acquire().await.unwrap().forget();
                let response = sender.oneshot(request).await.unwrap();
                let reason = Refused::of(&response).map(Refused::reason);
                became.try_send(reason).unwrap();
                response
            };
            async move {
                // A separate task continues after the request is over, as a buffer does.
                let response = match in_a_task {
                    true => tokio::spawn(sending).await.unwrap(),
                    false => sending.await,
                };
                Ok::<_, Infallible>(response)
            }
        });
        serve(listener, Router::new().route_service("/mcp", stack.layer(waiting)));

        let mut call = pin!(broker.call_with(&[], CALL));
        assert!(polls::once(call.as_mut()).await.is_none());
        let between_the_two = async {
            arrived.notified().await;
            between.happens(&broker, &clock).await;
            goes_on.add_permits(1);
        };
        let (response, ()) = tokio::join!(call, between_the_two);
        if between == Between::RevokeGrant {
            assert_eq!(response.status, 403, "{}", response.text());
            assert_eq!(response.json()["error"]["code"], -32001, "{}", response.text());
        } else {
            assert_eq!(response.status, 401, "{between:?}: {}", response.text());
        }
        if in_a_task {
            // The request was over by then, and its credential had been withdrawn.
            let taken = Some(Some(Reason::CredentialTaken));
            assert_eq!(reasons.recv().await, taken, "{between:?}");
        }
        assert_eq!(upstream.received().len(), 0, "{between:?}, in a task: {in_a_task}");
        let result = last_result(&broker, 1).await;
        let expected = ("refused", Some(between.reason().code()), 1, 0);
        assert_eq!(summary(&result), expected, "{between:?} {result}");
        endpoint.report_to(broker.ledger(), &[1], &[0, 1]);
        broker.done_unsent().await;
    }
}

#[tokio::test]
async fn x25_a_dropped_request_is_not_sent_later() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (_listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let goes_on = Arc::new(Semaphore::new(0));
    let (became, mut reasons) = mpsc::channel(1);
    let (sender, waits) = (proxy(), Arc::clone(&goes_on));
    let (arrives, mut arrived) = mpsc::channel(1);
    let buffer = service_fn(move |request: Request<RequestBody<Body>>| {
        let (sender, became) = (sender.clone(), became.clone());
        let (arrives, waits) = (arrives.clone(), Arc::clone(&waits));
        let sending = tokio::spawn(async move {
            arrives.try_send(()).unwrap();
            waits.acquire().await.unwrap().forget();
            let response = sender.oneshot(request).await.unwrap();
            became.try_send(Refused::of(&response).map(Refused::reason)).unwrap();
            response
        });
        async move { Ok::<_, Infallible>(sending.await.unwrap()) }
    });
    let bearer = format!("Bearer {}", broker.token("items:read"));
    broker.ledger().sent(1, bearer.as_bytes());
    let request = Request::post("/mcp")
        .header(header::HOST, broker.host())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, bearer)
        .body(Body::from(CALL))
        .unwrap();
    {
        let mut call = pin!(stack.layer(buffer).oneshot(request));
        tokio::select! {
            _ = call.as_mut() => unreachable!("the buffer waits"),
            _ = arrived.recv() => {}
        }
    }
    // The client has disconnected, and the record states that no credential was used.
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("dropped", None, 1, 0), "{result}");
    goes_on.add_permits(1);
    assert_eq!(reasons.recv().await, Some(Some(Reason::CredentialTaken)), "so it stays true");
    assert_eq!(upstream.received().len(), 0);
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_credential_for_another_origin_is_not_applied() {
    let elsewhere = ScriptedServer::start(|_| json(RESULT)).await;
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let other = elsewhere.url("/mcp");
    // Middleware that sends the request to another server.
    let rewriting = ServiceBuilder::new()
        .map_request(move |mut request: Request<RequestBody<Body>>| {
            *request.uri_mut() = other.parse().unwrap();
            request
        })
        .service(proxy());
    serve(listener, Router::new().route_service("/mcp", stack.layer(rewriting)));
    let response = broker.call_with(&[], CALL).await;
    assert_eq!(response.status, 500, "{}", response.text());
    assert!(elsewhere.received().is_empty());
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("refused", Some("exchange.origin"), 1, 0), "{result}");
    assert_eq!(count(&broker.records().await, "intent"), 1);
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_retry_inside_the_stack_sends_once() {
    // tower's retry clones requests before they are called; a credential is not cloned with them.
    let upstream = ScriptedServer::start(|_| {
        Response::builder().status(404).header("content-type", "text/plain").body(full("")).unwrap()
    })
    .await;
    let (listener, stack, broker) = Broker::in_front_of(&upstream).prepare().await;
    let sender = proxy();
    let retrying = service_fn(move |request: Request<RequestBody<Body>>| {
        let sender = sender.clone();
        async move {
            let [first, second] = twice(request);
            let failed = sender.clone().oneshot(first).await?;
            assert_eq!(failed.status(), 404);
            drop(failed.into_body().collect().await);
            sender.oneshot(second).await
        }
    });
    serve(listener, Router::new().route_service("/mcp", stack.layer(retrying)));
    assert_eq!(broker.call_with(&[], CALL).await.status, 500);
    assert_eq!(upstream.received().len(), 1);
    let result = last_result(&broker, 1).await;
    assert_eq!(summary(&result), ("refused", Some("exchange.credential_taken"), 1, 1));
    broker.done().await;
}
