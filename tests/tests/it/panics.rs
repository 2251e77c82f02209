//! Panics of user code at each place in a request: only that request is lost.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use token_broker_tests::{
    harness::{Broker, CALL, SECRET},
    polls,
    upstream::ScriptedServer,
};
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    Secret,
    body::RequestBody,
    exchange::{
        ApplyCredentialLayer, Credential, CredentialError, CredentialRequest, ProvideCredential,
        Upstream, UpstreamRefusal,
    },
    principal::Principal,
    scope_filter::{Call, Decision},
};

/// The place of the panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Policy,
    Recall,
    Credential,
    Call,
    Response,
    Body,
    BodyBehindData,
}

const PLACES: [Place; 7] = [
    Place::Policy,
    Place::Recall,
    Place::Credential,
    Place::Call,
    Place::Response,
    Place::Body,
    Place::BodyBehindData,
];

/// Panics once at its place, with its arguments in scope.
#[derive(Clone)]
struct Fuse {
    place: Place,
    blown: Arc<AtomicUsize>,
}

impl Fuse {
    fn pass(&self, place: Place) {
        assert!(
            place != self.place || self.blown.fetch_add(1, Ordering::SeqCst) > 0,
            "the fuse at {place:?}"
        );
    }
}

struct Provider {
    upstream: Upstream,
    fuse: Fuse,
}

impl ProvideCredential for Provider {
    fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    fn recall(&self, _: &CredentialRequest<'_>) -> Option<Credential> {
        self.fuse.pass(Place::Recall);
        None
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let credential =
            Credential::vouch(Secret::from_text(SECRET.into()), self.upstream.origin().clone());
        tokio::task::yield_now().await;
        self.fuse.pass(Place::Credential);
        Ok(credential)
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}
}

/// A response body of two chunks.
struct Pieces {
    fuse: Fuse,
    left: usize,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.fuse.pass(if self.left == 2 { Place::Body } else { Place::BodyBehindData });
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: {}\n\n")))))
    }
}

#[tokio::test]
async fn x26_r312_a_panic_loses_only_its_request() {
    for place in PLACES {
        let fuse = Fuse { place, blown: Arc::default() };
        let upstream =
            ScriptedServer::start(|_| unreachable!("the inner service responds itself")).await;
        let at = Upstream::parse("items", &upstream.url("/mcp")).unwrap();
        let in_policy = fuse.clone();
        let policy = move |_: &Principal, _: &Call<'_>| {
            in_policy.pass(Place::Policy);
            Decision::allow()
        };
        let provider = Provider { upstream: at, fuse: fuse.clone() };
        let (_listener, stack, broker) =
            Broker::in_front_of(&upstream).policy(policy).prepare_with(|_| provider).await;
        let inside = fuse.clone();
        let inner = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
            assert!(
                request.headers()[header::AUTHORIZATION].as_bytes().ends_with(SECRET.as_bytes())
            );
            inside.pass(Place::Call);
            let fuse = inside.clone();
            async move {
                tokio::task::yield_now().await;
                fuse.pass(Place::Response);
                drop(request);
                let response =
                    Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
                Ok::<_, Infallible>(response.body(Pieces { fuse, left: 2 }).unwrap())
            }
        });
        let service = stack.layer(ApplyCredentialLayer::new().layer(inner));
        let bearer = format!("Bearer {}", broker.token("items:read"));
        let request = || {
            broker.ledger().sent(1, bearer.as_bytes());
            Request::post(broker.resource().path())
                .header(header::HOST, broker.host())
                .header(header::AUTHORIZATION, &bearer)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json, text/event-stream")
                .body(Full::from(CALL))
                .unwrap()
        };
        let whole = async |request| {
            service.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap()
        };
        let lost = polls::caught(whole(request())).await.unwrap_err();
        let text = lost.downcast_ref::<String>().unwrap();
        assert_eq!(
            *text,
            format!("the fuse at {place:?}"),
            "it is the user's own panic, untouched"
        );
        // One terminal record for it, and the next request succeeds.
        broker.expect_records(1).await;
        assert_eq!(whole(request()).await.to_bytes(), "data: {}\n\ndata: {}\n\n", "{place:?}");
        let records = broker.expect_records(2).await;
        let ended = |record: &&serde_json::Value| record["count"].is_u64();
        let outcomes: Vec<_> = records
            .iter()
            .filter(ended)
            .map(|record| record["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, ["dropped", "completed"], "{place:?}");
        assert!(records.iter().all(|record| !record.to_string().contains(SECRET)));
        broker.ledger().secret("the upstream's token", SECRET);
        broker.ledger().in_use(format!("Bearer {SECRET}").as_bytes());
        broker.done().await;
    }
}
