//! The layer as a whole, in a stack over services that apply the credential and services that do
//! not.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use parking_lot::Mutex;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::{
    Secret,
    authenticate::TestTokens,
    body::RequestBody,
    limits::Protocol,
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

#[tokio::test]
async fn a_service_that_applies_nothing_sees_nothing_and_its_response_passes() {
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
async fn what_is_revoked_between_exchange_and_sender_is_not_sent() {
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
async fn what_was_kept_of_a_cancelled_request_places_no_credential() {
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
    // The client goes away.
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
async fn a_handler_that_copies_extensions_sends_its_own_request_or_none() {
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
            // Forgot to stamp, but passes on what it got, as many clients do.
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
async fn a_grant_that_is_recalled_is_known() {
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
