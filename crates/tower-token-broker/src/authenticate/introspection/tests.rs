//! Introspection, by itself and with the cache of the layer.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, header};
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    authenticate::{
        PresentedToken,
        jwt::{
            test_issuer::{Site, with, without},
            tests::{NOW, RESOURCE, unreadable_claims},
        },
        verdict_cache::{VerdictCache, VerdictKey},
    },
    clock::Timestamp,
    principal::{Principal, Resource, User},
    revocation::{RevocationTarget, Revocations},
    secret::Secret,
};

const ISSUER: &str = "https://login.example.com";
const ENDPOINT: &str = "https://login.example.com/introspect";
const TOKEN: &str = "opaque/token+1=";

fn active() -> Json {
    json!({
        "active": true, "sub": "alice", "client_id": "inspector", "scope": "crm:read",
        "iss": ISSUER, "aud": RESOURCE, "iat": NOW, "exp": NOW + 600,
        "token_type": "Bearer", "username": "Alice",
    })
}

struct World {
    site: Site,
    clock: Clock,
    tasks: Tasks,
    verifier: Introspection<Site>,
}

impl World {
    fn new() -> Self {
        Self::with_client(IntrospectionClient::basic("our id", Secret::from_text("s:c%t".into())))
    }

    fn with_client(us: IntrospectionClient) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        let (site, tasks) = (Site::default(), Tasks::new());
        let verifier =
            Introspection::build(site.clone(), ISSUER, ENDPOINT, us, &clock, &tasks).unwrap();
        site.serve(ENDPOINT, 200, &active());
        Self { site, clock, tasks, verifier }
    }

    async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        let token = PresentedToken::new(Secret::from_text(token.into()));
        let resource = Resource::parse(RESOURCE).unwrap();
        self.verifier.verify(&VerifyRequest::new(&token, &resource, &self.clock)).await
    }

    async fn refused(&self, response: &Json) -> Option<Reason> {
        self.site.serve(ENDPOINT, 200, response);
        self.verify(TOKEN).await.err().map(|rejected| rejected.reason())
    }
}

#[tokio::test]
async fn an_active_token_proves_what_the_issuer_says() {
    let mut world = World::new();
    world.verifier = world.verifier.keep_claims(["username"]);
    world.site.serve(ENDPOINT, 200, &with(active(), "groups", json!(["staff"])));
    let found = Principal::of(&world.verify(TOKEN).await.unwrap());
    assert_eq!(found.user(), &User::new(ISSUER, "alice"));
    assert_eq!((found.client(), found.scopes().to_string().as_str()), ("inspector", "crm:read"));
    assert_eq!(found.groups(), [Box::from("staff")]);
    assert_eq!(found.claim("username").unwrap().as_str().as_deref(), Some("Alice"));
    assert!(found.token_id().starts_with("sha256:") && !found.token_id().contains("opaque"));
    // What was sent: RFC 7662 §2.1, and each part encoded (RFC 6749 §2.3.1).
    let [request] = world.site.received().try_into().unwrap();
    assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, ENDPOINT));
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    let body = "token=opaque%2Ftoken%2B1%3D&token_type_hint=access_token";
    assert_eq!(request.body(), body);
    let authorization = &request.headers()[header::AUTHORIZATION];
    assert_eq!(authorization, &format!("Basic {}", STANDARD.encode("our+id:s%3Ac%25t")));
    assert!(authorization.is_sensitive());
    assert!(!format!("{:?}", world.verifier).contains("opaque"));
}

#[tokio::test]
async fn the_broker_authenticates_in_three_ways() {
    let secret = || Secret::from_text("s&t".into());
    let world = World::with_client(IntrospectionClient::post("us", secret()));
    assert!(world.verify("a").await.is_ok());
    let [request] = world.site.received().try_into().unwrap();
    let body = "token=a&token_type_hint=access_token&client_id=us&client_secret=s%26t";
    assert_eq!(request.body(), body);
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    let world = World::with_client(IntrospectionClient::bearer(secret()));
    assert!(world.verify("a").await.is_ok());
    let [request] = world.site.received().try_into().unwrap();
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer s&t");
    assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
    // A secret that no header can carry.
    let broken = IntrospectionClient::bearer(Secret::from_text("a\r\nb".into()));
    let world = World::with_client(broken);
    let found = world.verify("a").await.unwrap_err();
    assert_eq!(found, VerifyError::for_now(Reason::IntrospectionUnavailable));
    assert!(world.site.received().is_empty());
}

#[tokio::test]
async fn b495_responses_about_other_tokens_are_refused() {
    let world = World::new();
    for (case, response, reason) in [
        ("inactive", json!({"active": false}), Some(Reason::UnknownToken)),
        (
            "inactive, with members",
            with(active(), "active", json!(false)),
            Some(Reason::UnknownToken),
        ),
        (
            "another issuer",
            with(active(), "iss", json!("https://login.example.com/")),
            Some(Reason::JwtIssuer),
        ),
        (
            "another audience",
            with(active(), "aud", json!("https://other.example")),
            Some(Reason::WrongResource),
        ),
        (
            "several audiences",
            with(active(), "aud", json!([RESOURCE, "b"])),
            Some(Reason::JwtAudience),
        ),
        (
            "no audience",
            with(without(active(), "aud"), "jti", json!("AT.x")),
            Some(Reason::JwtMissingClaim),
        ),
        ("no audience and no ID", without(active(), "aud"), Some(Reason::JwtType)),
        ("empty audience", with(active(), "aud", json!([])), Some(Reason::JwtAudience)),
        ("no kind", without(active(), "token_type"), Some(Reason::JwtType)),
        ("DPoP", with(active(), "token_type", json!("DPoP")), Some(Reason::JwtType)),
        ("N_A", with(active(), "token_type", json!("N_A")), Some(Reason::JwtType)),
        (
            "refresh token",
            with(active(), "token_type", json!("refresh_token")),
            Some(Reason::JwtType),
        ),
        ("refresh token, Keycloak", with(active(), "typ", json!("Refresh")), Some(Reason::JwtType)),
        ("ID token, Keycloak", with(active(), "typ", json!("ID")), Some(Reason::JwtType)),
        (
            "refresh token, Hydra",
            with(active(), "token_use", json!("refresh_token")),
            Some(Reason::JwtType),
        ),
        (
            "a kind that is no text",
            with(active(), "token_use", json!(1)),
            Some(Reason::JwtClaimType),
        ),
        (
            "expired",
            with(with(active(), "iat", json!(NOW - 60)), "exp", json!(NOW - 30)),
            Some(Reason::JwtExpired),
        ),
        ("not yet", with(active(), "nbf", json!(NOW + 31)), Some(Reason::JwtNotYetValid)),
        ("no exp", without(active(), "exp"), Some(Reason::JwtMissingClaim)),
        ("exp as text", with(active(), "exp", json!("1900000000")), Some(Reason::JwtClaimType)),
        ("no iat", without(active(), "iat"), Some(Reason::JwtMissingClaim)),
        ("no sub", without(active(), "sub"), Some(Reason::JwtMissingClaim)),
        ("no client", without(active(), "client_id"), Some(Reason::JwtMissingClaim)),
        ("too long", with(active(), "exp", json!(NOW + 86_401)), Some(Reason::JwtLifetime)),
        (
            "scope of another form",
            with(active(), "scope", json!(["a"])),
            Some(Reason::JwtClaimType),
        ),
        ("ID token", with(active(), "nonce", json!("n-0S6")), Some(Reason::JwtType)),
        ("ID token", with(active(), "at_hash", json!("AAAA")), Some(Reason::JwtType)),
        ("ID token, Okta", with(active(), "jti", json!("ID.x")), Some(Reason::JwtType)),
        (
            "an access token of Keycloak 23",
            with(with(active(), "nonce", json!("n-0S6")), "typ", json!("Bearer")),
            None,
        ),
        ("no issuer", without(active(), "iss"), None),
        ("Hydra", with(without(active(), "token_type"), "token_use", json!("access_token")), None),
        ("Keycloak", with(without(active(), "token_type"), "typ", json!("Bearer")), None),
        ("bearer", with(active(), "token_type", json!("bearer")), None),
        ("no scope", without(active(), "scope"), None),
    ] {
        assert_eq!(world.refused(&response).await, reason, "B495 {case}");
    }
    // Limited by clients instead of an audience.
    let of_clients = |clients: [&str; 1]| {
        let verifier = world.verifier.clone().only_clients(clients);
        World { verifier, site: world.site.clone(), ..World::new() }
    };
    let no_audience = without(active(), "aud");
    let access_token = with(no_audience.clone(), "jti", json!("AT.x"));
    let (ours, other) = (of_clients(["inspector"]), of_clients(["other"]));
    assert_eq!(ours.refused(&access_token).await, None);
    assert_eq!(ours.refused(&with(no_audience.clone(), "uid", json!("00u1"))).await, None);
    let refresh_token = ours.refused(&no_audience).await;
    assert_eq!(refresh_token, Some(Reason::JwtType), "B495 a refresh token of Okta");
    assert_eq!(other.refused(&access_token).await, Some(Reason::WrongResource));
    assert_eq!(other.refused(&active()).await, Some(Reason::WrongResource));
}

#[tokio::test]
async fn the_user_can_be_another_member_than_sub() {
    let world = World::new();
    let verifier = world.verifier.clone().subject_from("uid");
    let by_uid = World { verifier, site: world.site.clone(), ..World::new() };
    assert_eq!(by_uid.refused(&active()).await, Some(Reason::JwtMissingClaim));
    by_uid.site.serve(ENDPOINT, 200, &with(active(), "uid", json!("00u1")));
    let found = Principal::of(&by_uid.verify("another").await.unwrap());
    assert_eq!(found.user(), &User::new(ISSUER, "00u1"));
}

#[tokio::test]
async fn b497_b498_unreadable_groups_and_keys_are_refused() {
    let world = World::new();
    for (name, value) in unreadable_claims() {
        let response = with(active(), name, value.clone());
        let found = world.refused(&response).await;
        assert_eq!(found, Some(Reason::JwtClaimType), "B497 B498 {name} {value}");
    }
}

#[tokio::test]
async fn b496_without_a_usable_response_it_is_503() {
    let world = World::new();
    let unavailable = VerifyError::for_now(Reason::IntrospectionUnavailable);
    let doubled = active().to_string().replacen('{', r#"{"active":true,"#, 1);
    for (status, body) in [
        (0, String::new()),
        (500, active().to_string()),
        (503, String::new()),
        (401, active().to_string()),
        (403, String::new()),
        (404, String::new()),
        (201, active().to_string()),
        (204, String::new()),
        (302, String::new()),
        (200, String::new()),
        (200, "<html>".into()),
        (200, "[]".into()),
        (200, "true".into()),
        (200, "{}".into()),
        (200, r#"{"active":"true"}"#.into()),
        (200, r#"{"active":1}"#.into()),
        (200, r#"{"active":null}"#.into()),
        (200, doubled),
        (200, format!("{}{}", active(), " ".repeat(64 * 1024))),
        (200, active().to_string().trim_end_matches('}').into()),
    ] {
        world.site.serve_text(ENDPOINT, status, &body);
        assert_eq!(world.verify(TOKEN).await.unwrap_err(), unavailable, "B496 {status} {body}");
    }
    // Nothing of it is remembered.
    world.site.serve(ENDPOINT, 200, &active());
    assert!(world.verify(TOKEN).await.is_ok());
}

#[tokio::test]
async fn one_request_serves_all_that_wait_for_a_token() {
    let world = World::new();
    let held = world.site.gate.lock().await;
    let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(world.verify(TOKEN))).collect();
    waiting.push(Box::pin(world.verify("another")));
    for wait in &mut waiting {
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(wait.as_mut().poll(cx)));
        assert!(poll.await.is_pending());
    }
    // The one that began it is dropped.
    drop(waiting.remove(0));
    drop(held);
    for wait in waiting {
        assert!(wait.await.is_ok());
    }
    assert_eq!(world.site.requests_to(ENDPOINT), 2);
    assert!(world.tasks.shutdown(Duration::from_secs(5)).await);
    assert!(world.verify(TOKEN).await.is_ok());
    assert_eq!(world.site.requests_to(ENDPOINT), 3, "nothing is kept here");
}

/// Polls once.
async fn polled<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx)))
        .await
}

#[tokio::test]
async fn b496_invented_tokens_leave_places_for_known_ones() {
    let world = World::new();
    // Valid before.
    assert!(world.verify(TOKEN).await.is_ok());
    assert!(world.verify("revoked").await.is_ok());
    world.site.serve(ENDPOINT, 200, &json!({"active": false}));
    assert!(world.verify("revoked").await.is_err());
    let held = world.site.gate.lock().await;
    let tokens: Vec<_> = (0..2000).map(|number| format!("made up {number}")).collect();
    let all = tokens.iter().map(|token| world.verify(token));
    let all: Vec<_> = all.map(Box::pin).collect();
    let (mut refused, mut waiting) = (0, Vec::new());
    for mut wait in all {
        match polled(&mut wait).await {
            std::task::Poll::Ready(found) => {
                let expected = VerifyError::for_now(Reason::IntrospectionUnavailable);
                assert_eq!(found.unwrap_err(), expected);
                refused += 1;
            }
            std::task::Poll::Pending => waiting.push(wait),
        }
    }
    assert_eq!(refused, 2000 - 128 - 1024, "B496");
    // Not at once, and not for as long as the others are held.
    let mut known = Box::pin(world.verify(TOKEN));
    assert!(polled(&mut known).await.is_pending(), "B496");
    let mut revoked = Box::pin(world.verify("revoked"));
    assert!(polled(&mut revoked).await.is_ready(), "B496: no longer known");
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.site.requests_to(ENDPOINT), 3 + 128 + 1, "B496: the known one was sent");
    world.site.serve(ENDPOINT, 200, &active());
    drop(held);
    assert!(known.await.is_ok());
    for wait in waiting {
        assert!(wait.await.is_ok(), "B496: it waited for a place");
    }
}

#[tokio::test]
async fn verdicts_are_cached_as_configured_and_revoked_at_once() {
    for (configured, cached) in [(None, 60), (Some(7), 7), (Some(0), 0), (Some(3600), 60)] {
        let mut world = World::new();
        if let Some(seconds) = configured {
            world.verifier = world.verifier.cache_for(Duration::from_secs(seconds));
        }
        let revocations = Revocations::new(world.clock.clone());
        let verdicts = VerdictCache::new(100);
        let resource = Resource::parse(RESOURCE).unwrap();
        let token = PresentedToken::new(Secret::from_text(TOKEN.into()));
        let key = VerdictKey::new(&token, None);
        let found = world.verify(TOKEN).await;
        let judged = verdicts.judge(&key, found, &resource, &world.clock, &revocations);
        assert!(judged.is_ok());
        let recall = || {
            let recalled = verdicts.recall(&key, &world.clock, &revocations);
            recalled.map(|verdict| verdict.map(drop).map_err(|refused| refused.reason))
        };
        if cached > 0 {
            world.clock.advance(Duration::from_secs(cached) - Duration::from_millis(1));
            assert_eq!(recall(), Some(Ok(())), "{configured:?}");
            let alice = RevocationTarget::User(User::new(ISSUER, "alice"));
            revocations.revoke(alice);
            assert_eq!(recall(), Some(Err(Reason::Revoked)), "{configured:?}");
            world.clock.advance(Duration::from_millis(1));
        }
        assert_eq!(recall(), None, "{configured:?}");
    }
}

#[test]
fn endpoints_are_https() {
    let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
    for (issuer, endpoint) in [
        (ISSUER, "http://login.example.com/introspect"),
        (ISSUER, "login.example.com/introspect"),
        (ISSUER, "https://a@login.example.com/introspect"),
        (ISSUER, "https://login.example.com/introspect#a"),
        ("http://login.example.com", ENDPOINT),
        ("", ENDPOINT),
    ] {
        let us = IntrospectionClient::basic("us", Secret::from_text("s".into()));
        let built =
            Introspection::build(Site::default(), issuer, endpoint, us, &clock, &Tasks::new());
        assert!(built.is_err(), "{issuer} {endpoint}");
    }
}
