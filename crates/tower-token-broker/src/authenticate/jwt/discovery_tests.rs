//! Keys that are found by the issuer's metadata: rotation, outages, and metadata of others.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    test_issuer::{Ec, OTHER_RSA, RSA, Site},
    tests::{NOW, RESOURCE},
    *,
};
use crate::{
    authenticate::{PresentedToken, VerifyRequest, VerifyToken},
    clock::{Clock, Timestamp},
    principal::Resource,
    refusal::Reason,
    secret::Secret,
    tasks::Tasks,
};

const ISSUER: &str = "https://login.example/tenant";
const OPENID: &str = "https://login.example/tenant/.well-known/openid-configuration";
const OAUTH: &str = "https://login.example/.well-known/oauth-authorization-server/tenant";
const KEYS: &str = "https://keys.example/tenant/jwks";

struct World {
    site: Site,
    clock: Clock,
    tasks: Tasks,
    verifier: JwtVerifier,
}

fn metadata(issuer: &str, keys: &str) -> Json {
    json!({"issuer": issuer, "jwks_uri": keys, "authorization_endpoint": "https://login.example/a"})
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        let (site, tasks) = (Site::default(), Tasks::new());
        let keys = RemoteKeys::build_for_issuer(site.clone(), ISSUER, &clock, &tasks).unwrap();
        let keys = keys.algorithms(Algorithm::Rs256);
        let verifier = JwtVerifier::new(ISSUER, keys);
        site.serve(OPENID, 200, &metadata(ISSUER, KEYS));
        site.serve(KEYS, 200, &json!({"keys": [RSA.jwk("one")]}));
        Self { site, clock, tasks, verifier }
    }

    fn token(&self, by: &test_issuer::Rsa, kid: &str) -> String {
        let now = self.clock.now().unix_seconds();
        let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": kid});
        by.sign(&header, &json!({
            "iss": ISSUER, "aud": RESOURCE, "sub": "alice", "client_id": "inspector", "jti": "1",
            "iat": now, "exp": now + 600,
        }))
    }

    async fn refused(&self, token: &str) -> Option<Reason> {
        let token = PresentedToken::new(Secret::from_text(token.into()));
        let resource = Resource::parse(RESOURCE).unwrap();
        let request = VerifyRequest::new(&token, &resource, &self.clock);
        self.verifier.verify(&request).await.err().map(|rejected| rejected.reason())
    }
}

#[tokio::test]
async fn keys_are_found_by_either_document() {
    let world = World::new();
    assert_eq!(world.refused(&world.token(&RSA, "one")).await, None);
    assert_eq!((world.site.requests_to(OPENID), world.site.requests_to(OAUTH)), (1, 0));
    for (status, body) in [(404, "not here"), (200, "<html>app shell</html>"), (500, "{}")] {
        let world = World::new();
        world.site.serve_text(OPENID, status, body);
        world.site.serve(OAUTH, 200, &metadata(ISSUER, KEYS));
        assert_eq!(world.refused(&world.token(&RSA, "one")).await, None, "{status} {body}");
    }
}

#[tokio::test]
async fn c072_no_key_of_another_issuer_is_used() {
    for document in [
        metadata("https://login.example", KEYS),
        metadata("https://login.example/tenant/", KEYS),
        metadata("https://login.example/Tenant", KEYS),
        metadata("https://evil.example/tenant", KEYS),
        metadata(ISSUER, "http://keys.example/tenant/jwks"),
        metadata(ISSUER, "https://a@keys.example/tenant/jwks"),
        json!({"issuer": ISSUER}),
        json!({"jwks_uri": KEYS}),
        json!([metadata(ISSUER, KEYS)]),
    ] {
        let world = World::new();
        world.site.serve(OPENID, 200, &document);
        let found = world.refused(&world.token(&RSA, "one")).await;
        assert_eq!(found, Some(Reason::KeysUnavailable), "C072 {document}");
        assert_eq!(world.site.requests_to(KEYS), 0, "C072 {document}");
        // It replaces no good set, and nothing is fetched from where it points.
        let world = World::new();
        assert_eq!(world.refused(&world.token(&RSA, "one")).await, None);
        let elsewhere = "https://evil.example/jwks";
        let mut document = document.clone();
        if document.get("issuer").is_none_or(|issuer| issuer != ISSUER) && document.is_object() {
            document["jwks_uri"] = elsewhere.into();
        }
        world.site.serve(OPENID, 200, &document);
        world.site.serve(elsewhere, 200, &json!({"keys": [OTHER_RSA.jwk("one")]}));
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(
            world.refused(&world.token(&OTHER_RSA, "one")).await,
            Some(Reason::JwtSignature)
        );
        assert_eq!(world.refused(&world.token(&RSA, "one")).await, None);
        assert_eq!(world.site.requests_to(elsewhere), 0, "C072");
    }
}

#[tokio::test]
async fn rotation_refuses_no_valid_token() {
    let world = World::new();
    let (mut refused, mut accepted) = (0, 0);
    let mut check = async |by: &test_issuer::Rsa, kid: &str, valid: bool| {
        let found = world.refused(&world.token(by, kid)).await;
        match valid {
            true => refused += usize::from(found.is_some()),
            false => accepted += usize::from(found.is_none()),
        }
    };
    // Published, then used, then the old one is removed; the set moves, too.
    for minute in 0..180 {
        world.clock.advance(Duration::from_secs(60));
        match minute {
            30 => world.site.serve(
                KEYS,
                200,
                &json!({"keys": [RSA.jwk("one"), OTHER_RSA.jwk("two")]}),
            ),
            90 => {
                let moved = "https://keys.example/moved";
                world.site.serve(moved, 200, &json!({"keys": [OTHER_RSA.jwk("two")]}));
                world.site.serve(OPENID, 200, &metadata(ISSUER, moved));
                world.site.down(KEYS);
            }
            _ => {}
        }
        // A removed key is used until the next fetch, at most 15 minutes later.
        if !(90..=105).contains(&minute) {
            check(&RSA, "one", minute < 90).await;
        }
        if minute >= 30 {
            check(&OTHER_RSA, "two", true).await;
        }
        // Forged: the other key under this name, and a name that no key has.
        check(&OTHER_RSA, "one", false).await;
        check(&RSA, "two", false).await;
        check(&RSA, "three", false).await;
        // The tasks that fetch in the background.
        while world.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((refused, accepted), (0, 0));
}

#[tokio::test]
async fn an_outage_of_an_hour_refuses_no_valid_token() {
    for (case, down) in [
        ("all", &[OPENID, OAUTH, KEYS][..]),
        ("the metadata", &[OPENID, OAUTH]),
        ("the keys", &[KEYS]),
    ] {
        for status in [0, 500, 503, 404, 200] {
            let world = World::new();
            assert_eq!(world.refused(&world.token(&RSA, "one")).await, None);
            for url in down {
                world.site.serve_text(url, status, "<html>out of order</html>");
            }
            let (mut refused, mut accepted) = (0, 0);
            for _ in 0..60 {
                world.clock.advance(Duration::from_secs(60));
                refused += usize::from(world.refused(&world.token(&RSA, "one")).await.is_some());
                for (by, kid) in [(&*OTHER_RSA, "one"), (&*OTHER_RSA, "two"), (&*RSA, "two")] {
                    accepted += usize::from(world.refused(&world.token(by, kid)).await.is_none());
                }
                while world.tasks.running() > 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!((refused, accepted), (0, 0), "{case} {status}");
            // A key that was published meanwhile: not known, so not refused as wrong.
            let newer = world.refused(&world.token(&OTHER_RSA, "two")).await;
            let expected = match (case, status) {
                // The metadata named the set before; it is fetched from there.
                ("the metadata", 0 | 500 | 503 | 404) => Reason::JwtKeyId,
                _ => Reason::KeysUnavailable,
            };
            assert_eq!(newer, Some(expected), "{case} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_silent_holds_up_no_known_key() {
    let world = World::new();
    assert_eq!(world.refused(&world.token(&RSA, "one")).await, None);
    let _silent = world.site.gate.lock().await;
    let mut refused = 0;
    for _ in 0..60 {
        world.clock.advance(Duration::from_secs(60));
        let token = world.token(&RSA, "one");
        // Within the time that a stack waits for a verifier.
        let waited = tokio::time::timeout(Duration::from_secs(3), world.refused(&token)).await;
        refused += usize::from(waited != Ok(None));
    }
    assert_eq!(refused, 0);
}

#[tokio::test]
async fn default_algorithms_do_not_include_rsa() {
    let world = World::new();
    let keys = RemoteKeys::build_for_issuer(world.site.clone(), ISSUER, &world.clock, &world.tasks);
    let verifier = JwtVerifier::new(ISSUER, keys.unwrap());
    let world = World { verifier, ..world };
    assert_eq!(world.refused(&world.token(&RSA, "one")).await, Some(Reason::JwtAlgorithm));
    assert_eq!(world.site.requests_to(OPENID), 0, "no key lookup");
    let ec = Ec::new();
    world.site.serve(KEYS, 200, &json!({"keys": [RSA.jwk("one"), ec.jwk("one")]}));
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"});
    let token = ec.sign(
        &header,
        &json!({
            "iss": ISSUER, "aud": RESOURCE, "sub": "alice", "client_id": "inspector", "jti": "1",
            "iat": NOW, "exp": NOW + 600,
        }),
    );
    assert_eq!(world.refused(&token).await, None);
}
