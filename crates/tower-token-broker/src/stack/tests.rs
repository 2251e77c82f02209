//! The broker and its stacks as a whole: their settings reach the layers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::{
    Secret,
    audit::InMemory,
    authenticate::{
        HostAndOrigin, HostAndOriginError, TestTokens, VerifyError, VerifyRequest, VerifyToken,
    },
    bad_value::BadValue,
    exchange::{
        ApplyCredentialLayer, Credential, CredentialError, CredentialRequest, ExchangeLayer,
        ProvideCredential, Upstream, UpstreamRefusal,
    },
    limits::{Limits, Protocol},
    principal::{GrantId, Initiator, Resource, Scopes, User, Verified},
    refusal::{Reason, Refused},
    resource_metadata::{MetadataError, ResourceMetadata},
    revocation::{
        RevocationEntry, RevocationStore, RevocationStoreError, RevocationTarget, Sequence,
    },
    scope_filter::{Call, Decision, Policy, Rules, policy_fn, tools},
    sealing::SealingKeys,
};

pub(crate) const CRM: &str = "https://broker.example.com/crm";
const ISSUER: &str = "https://broker.example.com";

/// A source with one secret for all callers, which counts refusals.
#[derive(Debug)]
pub(crate) struct Items(Upstream, pub(crate) parking_lot::Mutex<u32>);

impl Items {
    pub(crate) fn at(url: &str) -> Arc<Self> {
        Arc::new(Self(Upstream::parse("items", url).unwrap(), parking_lot::Mutex::default()))
    }
}

impl ProvideCredential for Items {
    fn upstream(&self) -> &Upstream {
        &self.0
    }

    async fn credential(&self, _: &CredentialRequest<'_>) -> Result<Credential, CredentialError> {
        let secret = Secret::from_text("tbm-Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3".into());
        Ok(Credential::vouch(secret, self.0.origin().clone()))
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {
        *self.1.lock() += 1;
    }
}

pub(crate) fn broker() -> (Broker, InMemory) {
    let records = InMemory::new();
    (Broker::builder().audit(records.clone()).build().unwrap(), records)
}

pub(crate) fn everything() -> impl Policy {
    policy_fn(|_, _: &Call<'_>| Decision::allow())
}

pub(crate) fn metadata() -> ResourceMetadata {
    ResourceMetadata::new().authorization_server(ISSUER)
}

pub(crate) fn tokens(resource: &str) -> TestTokens {
    TestTokens::new().user("tok", "alice", &Resource::parse(resource).unwrap())
}

pub(crate) fn olga() -> Initiator {
    Initiator::operator("olga")
}

pub(crate) fn get(path: &str, token: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header(header::HOST, "broker.example.com")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::new())
        .unwrap()
}

pub(crate) fn list_request() -> Request<Full<Bytes>> {
    Request::post("/crm")
        .header(header::HOST, "broker.example.com")
        .header(header::AUTHORIZATION, "Bearer tok")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .body(Full::from(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#))
        .unwrap()
}

pub(crate) async fn text<B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>>(
    response: Response<B>,
) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Takes the place of an upstream: returns the URI of the request and whether it had a credential.
pub(crate) async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorized = request.headers().contains_key(header::AUTHORIZATION);
    let region = request.headers().get("x-region").map(|value| value.to_str().unwrap());
    let seen = format!("{} {authorized} {region:?}", request.uri());
    Ok(Response::new(Full::from(seen)))
}

#[test]
fn the_layers_have_the_limits_of_the_stack() {
    let broker =
        Broker::builder().audit(InMemory::new()).verdict_cache_capacity(15).build().unwrap();
    let limits = Limits::default()
        .max_body(11)
        .body_timeout(Duration::from_secs(12))
        .max_response(13)
        .credential_timeout(Duration::from_secs(14));
    let stack = broker
        .protect(CRM)
        .authenticate(TestTokens::new())
        .scope_filter(Rules::new())
        .exchange(Items::at("https://items.example.com/api"))
        .metadata(metadata())
        .limits(limits)
        .build()
        .unwrap();
    let told = format!("{stack:?}");
    for limit in [
        "max_body: 11,",
        "body_timeout: 12s",
        "max_response: 13,",
        "credential_timeout: 14s",
        "verdict_cache_capacity: Some(15)",
    ] {
        assert!(told.contains(limit), "{limit} in {told}");
    }
}

#[tokio::test]
async fn settings_of_a_stack_reach_its_layers() {
    let stack = || {
        let broker =
            Broker::builder().audit(InMemory::new()).sealing_keys(SealingKeys::new(&[7; 32]));
        broker
            .build()
            .unwrap()
            .protect(CRM)
            .authenticate(tokens(CRM))
            .scope_filter(everything())
            .exchange(Items::at("https://items.example.com/api"))
            .metadata(metadata())
            .protocol(Protocol::Http)
    };
    let from = HostAndOrigin::new()
        .allow_host("crm.internal.example")
        .allow_origin("https://inspector.example.com");
    let layer = stack()
        .mounted_at("/v1")
        .host_and_origin(from)
        .forward_header(HeaderName::from_static("x-region"))
        .challenge_scopes(Scopes::parse("crm:read").unwrap())
        .build()
        .unwrap();
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let get = |host: &str, origin: &str, token: &str| {
        let request = Request::get("/v1/items").header(header::HOST, host);
        let request = request.header(header::ORIGIN, origin).header(header::AUTHORIZATION, token);
        request.header("x-region", "eu").body(Full::<Bytes>::default()).unwrap()
    };
    let (host, origin) = ("crm.internal.example", "https://inspector.example.com");
    let passed = service.clone().oneshot(get(host, origin, "Bearer tok")).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert_eq!(text(passed).await, "https://items.example.com/api/items true Some(\"eu\")");
    let refused = service.clone().oneshot(get(host, origin, "Bearer other")).await.unwrap();
    let challenge = refused.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("scope=\"crm:read\""), "{challenge}");
    for (host, origin, status) in
        [("other.example", origin, 421), (host, "https://evil.example", 403)]
    {
        let refused = service.clone().oneshot(get(host, origin, "Bearer tok")).await.unwrap();
        assert_eq!(refused.status(), status);
    }

    let wrong = |settings| stack().host_and_origin(settings).build().err();
    let value = |text| BadValue::new(text);
    assert_eq!(
        wrong(HostAndOrigin::new().allow_host("a/b")),
        Some(BuildError::HostAndOrigin(HostAndOriginError::Host { value: value("a/b") }))
    );
    assert_eq!(
        wrong(HostAndOrigin::new().allow_origin("null")),
        Some(BuildError::HostAndOrigin(HostAndOriginError::Origin { value: value("null") }))
    );
    let forwarded = stack().forward_header(header::AUTHORIZATION).build();
    assert!(matches!(forwarded, Err(BuildError::ForwardHeader(_))));
}

/// A verifier that names no authorization server.
struct Nameless;

impl VerifyToken for Nameless {
    async fn verify(&self, _: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        Err(VerifyError::because(Reason::UnknownToken))
    }
}

#[test]
fn a_stack_needs_a_resource_and_an_authorization_server() {
    let (broker, _) = broker();
    let build = |resource: &str, metadata: ResourceMetadata| {
        let stack = broker.protect(resource).authenticate(Nameless);
        stack.scope_filter(Rules::new()).credential_for_handler().metadata(metadata).build().err()
    };
    assert!(matches!(build("nowhere", metadata()), Some(BuildError::Resource(_))));
    let none = build(CRM, ResourceMetadata::new());
    assert_eq!(none, Some(BuildError::Metadata(MetadataError::NoAuthorizationServer)));
    assert_eq!(build(CRM, metadata()), None);
    assert_eq!(build(CRM, metadata()), None, "twice with equal metadata");
    let other = build(CRM, metadata().name("CRM"));
    let resource = Resource::parse(CRM).unwrap();
    assert_eq!(other, Some(BuildError::OtherMetadata { resource }));
}

#[tokio::test]
async fn metadata_is_served_for_every_resource_that_was_built() {
    let (broker, _) = broker();
    let metadata_of_broker = broker.metadata();
    let build = |resource: &str, name: &str| {
        let stack = broker.protect(resource).authenticate(TestTokens::new());
        let stack = stack.scope_filter(Rules::new()).credential_for_handler();
        drop(stack.metadata(metadata().name(name)).build().unwrap());
    };
    build("https://broker.example.com/crm/mcp", "crm");
    build("https://broker.example.com", "root");
    build("https://eu.example.com/hr/mcp", "hr in the EU");
    build("https://us.example.com/hr/mcp", "hr in the US");
    let ask = async |path: &str, host: &str| {
        let request = Request::get(path).header(header::HOST, host);
        let request = request.header("x-forwarded-host", "us.example.com").body(()).unwrap();
        let response = metadata_of_broker.clone().oneshot(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    };
    let well_known = "/.well-known/oauth-protected-resource";
    let (status, document) = ask(&format!("{well_known}/crm/mcp"), "any.example").await;
    assert!(status == 200 && document.contains(r#""resource_name":"crm""#), "{document}");
    let (status, document) = ask(well_known, "any.example").await;
    assert!(status == 200 && document.contains(r#""resource_name":"root""#), "{document}");
    for (host, name) in [("eu.example.com", "hr in the EU"), ("us.example.com", "hr in the US")] {
        let (status, document) = ask(&format!("{well_known}/hr/mcp"), host).await;
        assert!(status == 200 && document.contains(name), "{document}");
    }
    for (path, host) in [
        (format!("{well_known}/hr/mcp"), "any.example"),
        (format!("{well_known}/crm"), "broker.example.com"),
        ("/crm/mcp".into(), "broker.example.com"),
    ] {
        assert_eq!(ask(&path, host).await, (404, String::new()), "{path} {host}");
    }
}

#[tokio::test]
async fn another_path_is_refused_before_the_token_is_read() {
    let (broker, records) = broker();
    let layer = broker
        .protect("https://broker.example.com/crm/mcp")
        .authenticate(tokens("https://broker.example.com/crm/mcp"))
        .scope_filter(everything())
        .exchange(Items::at("https://items.example.com/mcp"))
        .metadata(metadata())
        .build()
        .unwrap();
    let service = layer.layer(service_fn(echo));
    for token in ["tok", "rubbish"] {
        let refused = service.clone().oneshot(get("/hr/mcp", token)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert!(!refused.headers().contains_key(header::WWW_AUTHENTICATE));
        assert!(refused.headers().contains_key("x-request-id"));
        assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::PathNotServed));
        drop(text(refused).await);
    }
    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let results: Vec<_> = records.iter().filter(|record| record.kind() == "result").collect();
    assert_eq!(results.len(), 2);
    for result in results {
        assert_eq!(result.reason().as_deref(), Some("req.path_not_served"));
        assert_eq!((result.number("intents"), result.subject()), (Some(0), None));
    }
}

pub(crate) fn http_stack<C: ProvideCredential>(
    broker: &Broker,
    provider: C,
) -> BrokerLayer<TestTokens, impl Policy + use<C>, ExchangeLayer<C>> {
    broker
        .protect(CRM)
        .authenticate(tokens(CRM))
        .scope_filter(everything())
        .exchange(provider)
        .metadata(metadata())
        .protocol(Protocol::Http)
        .build()
        .unwrap()
}

#[tokio::test]
async fn revoke_and_block_are_recorded() {
    let (broker, records) = broker();
    let layer = http_stack(&broker, Items::at("https://items.example.com"));
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let send = async || {
        let response = service.clone().oneshot(get("/crm/items", "tok")).await.unwrap();
        let reason = Refused::of(&response).map(Refused::reason);
        drop(text(response).await);
        reason
    };
    let alice = User::new(TestTokens::ISSUER, "alice");
    assert!(!broker.block(&alice, &olga()).await.unwrap().was_known(), "not seen yet");
    assert_eq!(send().await, Some(Reason::Blocked));
    assert!(broker.unblock(&alice, &olga()).await.unwrap().was_known());
    assert!(!broker.unblock(&alice, &olga()).await.unwrap().was_known(), "was not blocked");
    assert_eq!(send().await, None);
    assert!(broker.block(&alice, &olga()).await.unwrap().was_known());
    assert_eq!(send().await, Some(Reason::Blocked));

    let known = async |target| broker.revoke(target, &olga()).await.unwrap().was_known();
    assert!(known(RevocationTarget::Server(Resource::parse(CRM).unwrap())).await);
    let other = Resource::parse("https://broker.example.com/other").unwrap();
    assert!(!known(RevocationTarget::Server(other)).await);
    assert!(known(RevocationTarget::Everything).await);
    let grant = GrantId::new("g");
    assert!(!known(RevocationTarget::Grant(grant.clone())).await);
    assert!(broker.restore_grant(&grant, &olga()).await.unwrap().was_known());
    assert!(!broker.restore_grant(&grant, &olga()).await.unwrap().was_known());

    broker.audit_log().flush().await.unwrap();
    let records = records.records();
    let changes: Vec<_> = records
        .iter()
        .filter(|record| record.text("initiator").is_some())
        .map(|record| {
            assert_eq!(record.text("initiator").as_deref(), Some("operator"));
            assert_eq!(record.text("initiator_name").as_deref(), Some("olga"));
            (record.kind().as_str(), record.text("what").unwrap_or_default())
        })
        .collect();
    let expected = [
        ("blocked", ""),
        ("unblocked", ""),
        ("unblocked", ""),
        ("blocked", ""),
        ("revoked", "server"),
        ("revoked", "server"),
        ("revoked", "everything"),
        ("revoked", "grant"),
        ("grant_restored", ""),
        ("grant_restored", ""),
    ];
    assert_eq!(changes, expected.map(|(kind, what)| (kind, what.to_owned())));
}

/// A store that fails.
struct Broken;

impl RevocationStore for Broken {
    async fn append(&self, _: &RevocationEntry) -> Result<Sequence, RevocationStoreError> {
        Err(RevocationStoreError::Unreachable)
    }

    async fn read_after(
        &self,
        _: Sequence,
        _: usize,
    ) -> Result<Vec<(Sequence, RevocationEntry)>, RevocationStoreError> {
        Err(RevocationStoreError::Unreachable)
    }
}

#[tokio::test]
async fn a_revocation_reports_the_part_that_failed() {
    let records = InMemory::new();
    let builder = Broker::builder().audit(records.clone()).revocation_store(Broken);
    let broker = builder.build().unwrap();
    let everything = || RevocationTarget::Everything;
    let failed = broker.revoke(everything(), &olga()).await.unwrap_err();
    assert!(matches!(failed, RevokeError::NotStored { .. }), "{failed:?}");
    assert_eq!(failed.applied().epoch(), broker.revocations().epoch());
    records.fail();
    let failed = broker.revoke(everything(), &olga()).await.unwrap_err();
    assert!(matches!(failed, RevokeError::NotStoredAndNotRecorded { .. }), "{failed:?}");
    records.work();
}

#[test]
fn a_store_is_read_in_a_runtime() {
    let broker = Broker::builder().audit(InMemory::new()).revocation_store(Broken).build();
    assert_eq!(broker.err(), Some(BrokerError::NoRuntime));
}

#[tokio::test]
async fn after_shutdown_requests_are_refused() {
    let (broker, records) = broker();
    let layer = http_stack(&broker, Items::at("https://items.example.com"));
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    // A response that is not read to its end is cut after the grace period.
    let open = service.clone().oneshot(get("/crm/items", "tok")).await.unwrap();
    let ending = crate::tasks::Tasks::new().spawn("shutdown", {
        let broker = broker.clone();
        async move { broker.shutdown(Duration::from_millis(50)).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let late = service.clone().oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(Refused::of(&late).map(Refused::reason), Some(Reason::ShuttingDown));
    drop(late);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = open.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("cut") || !error.to_string().is_empty());
    assert_eq!(ending.await.unwrap(), Ok(()));
    let after = service.oneshot(get("/crm/items", "tok")).await.unwrap();
    assert_eq!(Refused::of(&after).map(Refused::reason), Some(Reason::ShuttingDown));
    let records = records.records();
    let last = records.iter().last().unwrap();
    assert_eq!(last.kind(), "close");
    let cut = records.iter().find(|record| record.text("outcome").as_deref() == Some("cut"));
    assert_eq!(cut.unwrap().reason().as_deref(), Some("stack.shutting_down"));
}

#[test]
fn rules_without_effect_are_reported() {
    let about = |rules: Rules, protocol| rules.summary(protocol);
    let rules = || Rules::new().allow(tools(["get_*"]).with_id("read"));
    assert_eq!(about(rules(), Protocol::Mcp).without_effect, Vec::<String>::new());
    assert_eq!(about(rules(), Protocol::Mcp).rules, Some(1));
    let without = |rules, protocol| about(rules, protocol).without_effect.join("; ");
    assert!(without(Rules::new(), Protocol::Mcp).contains("every call is denied"));
    assert!(without(rules(), Protocol::Http).contains("the rule read applies to a protocol"));
    assert!(without(rules().allow(tools([])), Protocol::Mcp).contains("names nothing"));
    let denied = rules().deny(tools(["*"]));
    assert!(without(denied, Protocol::Mcp).contains("the rule read is denied by another"));
    let denied_for_some = rules().deny(tools(["*"]).for_group("guests"));
    assert_eq!(without(denied_for_some, Protocol::Mcp), "");
}

#[tokio::test]
async fn a_resource_without_a_path_is_at_the_root() {
    let (broker, _) = broker();
    let root = "https://broker.example.com";
    let layer = broker
        .protect(root)
        .authenticate(tokens("https://broker.example.com/"))
        .scope_filter(everything())
        .exchange(Items::at("https://items.example.com"))
        .metadata(metadata())
        .protocol(Protocol::Http)
        .build()
        .unwrap();
    let service = layer.layer(ApplyCredentialLayer::new().layer(service_fn(echo)));
    let mut request = get("/items", "tok");
    *request.method_mut() = Method::GET;
    let passed = service.oneshot(request).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK, "https://h and https://h/ are one resource");
    assert_eq!(text(passed).await, "https://items.example.com/items true None");
}
