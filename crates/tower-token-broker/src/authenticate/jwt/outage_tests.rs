//! Remote keys while clients invent `kid`s, and while the key set cannot be fetched.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    test_issuer::{Ec, Site},
    tests::{ISSUER, NOW, RESOURCE},
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

const URL: &str = "https://keys.example/jwks";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A verifier whose keys are fetched from a site, and the issuer's key.
struct Fetched {
    site: Site,
    clock: Clock,
    tasks: Tasks,
    verifier: JwtVerifier,
    issuer: Ec,
}

impl Fetched {
    fn new() -> Self {
        let (site, tasks, issuer) = (Site::default(), Tasks::new(), Ec::new());
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        site.serve(URL, 200, &json!({"keys": [issuer.jwk("own")]}));
        let keys = RemoteKeys::build(site.clone(), URL.parse().unwrap(), &clock, &tasks);
        let verifier = JwtVerifier::new(ISSUER, keys);
        Self { site, clock, tasks, verifier, issuer }
    }

    /// Signs a token that was issued now.
    fn token(&self, kid: &str) -> String {
        self.issued(kid, self.clock.now().unix_seconds())
    }

    fn issued(&self, kid: &str, at: u64) -> String {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid});
        let claims = json!({
            "iss": ISSUER, "aud": RESOURCE, "sub": "alice", "client_id": "inspector", "jti": "t",
            "iat": at, "exp": at + 3600,
        });
        self.issuer.sign(&header, &claims)
    }

    async fn outcome(&self, token: &str) -> Option<Reason> {
        let token = PresentedToken::new(Secret::from_text(token.into()));
        let resource = Resource::parse(RESOURCE).unwrap();
        let request = VerifyRequest::new(&token, &resource, &self.clock);
        self.verifier.verify(&request).await.err().map(|refused| refused.reason())
    }

    fn fetches(&self) -> usize {
        self.site.requests_to(URL)
    }

    /// Waits for fetches that no request waits for.
    async fn settled(&self) {
        while self.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn x29_unknown_kids_cause_one_fetch_per_window() {
    const TOKENS: usize = 20_000;
    const WINDOWS: usize = 4;
    let fetched = Fetched::new();
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
    assert_eq!(fetched.fetches(), 1);
    for window in 1..=WINDOWS {
        fetched.clock.advance(Duration::from_secs(30));
        // Issued before the window's fetch, so that each gets a verdict.
        let issued = fetched.clock.now().unix_seconds() - 1;
        for number in 0..TOKENS / WINDOWS {
            let kid = match number % 4 {
                0 => format!("kid-{window}-{number}"),
                1 => format!("own{number}"),
                2 => number.to_string(),
                _ => "k".repeat(1 + number % 256),
            };
            let unknown = fetched.issued(&kid, issued);
            assert_eq!(fetched.outcome(&unknown).await, Some(Reason::JwtKeyId), "X29 {kid}");
            if number % 100 == 0 {
                assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X29");
            }
        }
        assert_eq!(fetched.fetches(), 1 + window, "X29");
    }
}

#[tokio::test]
async fn x29_unknown_kids_at_once_share_one_fetch() {
    let fetched = Fetched::new();
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
    fetched.clock.advance(Duration::from_secs(30));
    // The key server is silent for as long as this is held.
    let silent = fetched.site.gate.clone().lock_owned().await;
    let issued = fetched.clock.now().unix_seconds() - 1;
    let tokens: Vec<_> = (0..1_000).map(|at| fetched.issued(&format!("n{at}"), issued)).collect();
    let mut waiting: Vec<_> = tokens.iter().map(|token| Box::pin(fetched.outcome(token))).collect();
    for wait in &mut waiting {
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(wait.as_mut().poll(cx)));
        assert!(poll.await.is_pending(), "X29: it waits for the fetch");
    }
    // Meanwhile, a token of a known key waits for nothing.
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X29");
    drop(silent);
    for wait in waiting {
        assert_eq!(wait.await, Some(Reason::JwtKeyId), "X29");
    }
    assert_eq!(fetched.fetches(), 2, "X29");
}

#[tokio::test]
async fn x29_unknown_kids_while_the_server_is_down_cause_no_storm() {
    let fetched = Fetched::new();
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
    fetched.site.down(URL);
    for window in 1..=10 {
        fetched.clock.advance(Duration::from_secs(30));
        let issued = NOW - 1;
        for number in 0..200 {
            let unknown = fetched.issued(&format!("n{number}"), issued);
            assert_eq!(fetched.outcome(&unknown).await, Some(Reason::JwtKeyId), "X29");
        }
        assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X29");
        assert_eq!(fetched.fetches(), 1 + window, "X29: a failure opens no window");
    }
}

/// Responses of a key server that replace no set.
fn bad_responses() -> Vec<(&'static str, u16, String)> {
    let keys = |keys: Json| json!({ "keys": keys }).to_string();
    let encrypts = json!({"kty": "EC", "crv": "P-256", "kid": "own", "use": "enc"});
    vec![
        ("an empty set", 200, keys(json!([]))),
        ("an empty object", 200, "{}".to_owned()),
        ("no usable key", 200, keys(json!([encrypts]))),
        ("only a symmetric key", 200, keys(json!([{"kty": "oct", "kid": "own", "k": "AAAA"}]))),
        ("an empty body", 200, String::new()),
        ("an error with a set", 503, keys(json!([Ec::new().jwk("own")]))),
        ("a redirect", 302, String::new()),
        ("refused connections", 0, String::new()),
        ("a page", 200, "<html>maintenance</html>".to_owned()),
    ]
}

#[tokio::test]
async fn x30_the_last_good_set_is_used_for_a_day() {
    for (case, status, body) in bad_responses() {
        let fetched = Fetched::new();
        assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
        fetched.site.serve_text(URL, status, &body);
        // Requests every five minutes, until just before the set is a day old.
        let steps = DAY.as_secs() / 300;
        for step in 1..steps {
            fetched.clock.advance(Duration::from_secs(300));
            assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30 {case} {step}");
            fetched.settled().await;
        }
        let before = fetched.fetches();
        assert!(before > 200, "X30 {case}: it is tried again, {before}");
        fetched.clock.advance(Duration::from_secs(299));
        assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30 {case}");
        // The hard limit: there is no verdict, which is 503.
        fetched.clock.advance(Duration::from_secs(1));
        let refused = fetched.outcome(&fetched.token("own")).await;
        assert_eq!(refused, Some(Reason::KeysUnavailable), "X30 {case}");
        // An unknown `kid` is not refused for good, either.
        let refused = fetched.outcome(&fetched.token("other")).await;
        assert_eq!(refused, Some(Reason::KeysUnavailable), "X30 {case}");
        // It recovers by itself with the next good set.
        fetched.site.serve(URL, 200, &json!({"keys": [fetched.issuer.jwk("own")]}));
        fetched.clock.advance(Duration::from_secs(1));
        assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30 {case}");
    }
}

#[tokio::test]
async fn x30_an_idle_verifier_uses_no_set_of_yesterday() {
    let fetched = Fetched::new();
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
    fetched.site.down(URL);
    fetched.clock.advance(DAY);
    let refused = fetched.outcome(&fetched.token("own")).await;
    assert_eq!(refused, Some(Reason::KeysUnavailable), "X30");
    assert_eq!(fetched.fetches(), 2, "X30: it was tried first");
}

#[tokio::test]
async fn x30_a_set_is_not_younger_by_a_failed_fetch() {
    let fetched = Fetched::new();
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None);
    // A failure, a good set at noon, and failures again: the day begins at noon.
    fetched.site.down(URL);
    fetched.clock.advance(DAY / 2);
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30");
    fetched.site.serve(URL, 200, &json!({"keys": [fetched.issuer.jwk("own")]}));
    fetched.clock.advance(Duration::from_secs(30));
    assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30");
    assert_eq!(fetched.fetches(), 3);
    fetched.site.serve(URL, 200, &json!({"keys": []}));
    for _ in 0..23 {
        fetched.clock.advance(DAY / 24);
        assert_eq!(fetched.outcome(&fetched.token("own")).await, None, "X30");
        fetched.settled().await;
    }
    fetched.clock.advance(DAY / 24);
    let refused = fetched.outcome(&fetched.token("own")).await;
    assert_eq!(refused, Some(Reason::KeysUnavailable), "X30");
}
