//! Hostile key sets, fetched from loopback, with the whole stack.
//!
//! Unusable keys are ignored and verify nothing; the other keys work.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use token_broker_authority::issue::{Algorithm, SigningKey, SigningKeys};
use token_broker_tests::harness::base64url;
use tower_token_broker::clock::Clock;

use crate::{hostile_case::Case, hostile_tokens::Fetching};

/// The public key of RFC 8037, appendix A.2.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Returns the public half of a new key.
fn another_key() -> Value {
    let key = SigningKeys::new(SigningKey::generate(Algorithm::Es256).unwrap()).unwrap();
    key.jwks(Clock::system().read()).parse::<Value>().unwrap()["keys"][0].clone()
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

impl Fetching {
    /// Returns a broker whose issuer publishes the given keys.
    async fn with_keys(keys: impl FnOnce(&Value) -> Vec<Value>) -> Self {
        let fetching = Self::start().await;
        let own = fetching.own_key();
        *fetching.keys.lock() = json!({"keys": keys(&own)}).to_string();
        fetching
    }

    /// Returns the issuer's own key.
    fn own_key(&self) -> Value {
        self.broker.issuer().jwks().parse::<Value>().unwrap()["keys"][0].clone()
    }

    /// Returns the log since the broker was started.
    fn logs(&self) -> String {
        String::from_utf8(self.broker.ledger().logs()).unwrap()
    }

    fn naming(&self, key_id: Option<&str>) -> String {
        let mut parts = self.good();
        parts.header = match key_id {
            Some(key_id) => with(parts.header, "kid", key_id),
            None => without(parts.header, "kid"),
        };
        self.signed(&parts)
    }
}

#[tokio::test]
async fn b030_a_missing_key_id_must_be_unambiguous() {
    let edwards = || json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519});
    let two_fit = Fetching::with_keys(|own| vec![own.clone(), another_key(), edwards()]).await;
    two_fit.run([two_fit.refused("B030", &two_fit.naming(None), "jwt.kid")]).await;
    two_fit.broker.done_unsent().await;
    let other = json!({"kty": "OKP", "crv": "Ed25519", "kid": "other", "x": ED25519});
    let one_fits = Fetching::with_keys(|own| vec![own.clone(), edwards(), other]).await;
    one_fits.run([Case::passes("B030", one_fits.call(&one_fits.naming(None)))]).await;
    one_fits.broker.done().await;
}

#[tokio::test]
async fn b052_a_weak_key_is_ignored() {
    let modulus = |bits: usize, last: u8| {
        let mut bytes = vec![0xc5; bits / 8];
        *bytes.last_mut().unwrap() = last;
        base64url(&bytes)
    };
    let rsa = |modulus: String, exponent: &str| {
        let (kid, alg) = ("weak", "RS256");
        json!({"kty": "RSA", "kid": kid, "alg": alg, "n": modulus, "e": exponent})
    };
    let zeros = base64url(&[0; 32]);
    for (case, weak) in [
        ("B052 RSA of 1024 bits", rsa(modulus(1024, 1), "AQAB")),
        ("B052 e = 1", rsa(modulus(2048, 1), "AQ")),
        ("B052 e = 3", rsa(modulus(2048, 1), "Aw")),
        ("B052 an even modulus", rsa(modulus(2048, 2), "AQAB")),
        (
            "B052 no point of the curve",
            with(with(another_key(), "y", base64url(&[7; 32])), "kid", "weak"),
        ),
        (
            "B052 the point at infinity",
            json!({"kty": "EC", "crv": "P-256", "kid": "weak", "x": zeros, "y": zeros}),
        ),
    ] {
        let fetching = Fetching::with_keys(|own| vec![weak, own.clone()]).await;
        let by_rsa = {
            let mut parts = fetching.good();
            parts.header = with(with(parts.header, "kid", "weak"), "alg", "RS256");
            fetching.signed(&parts)
        };
        fetching
            .run([
                fetching.refused(case, &fetching.naming(Some("weak")), "jwt.kid"),
                fetching.refused(case, &by_rsa, "jwt.alg"),
                Case::passes(case, fetching.call(&fetching.broker.token("items:read"))),
            ])
            .await;
        assert_eq!(fetching.key_set.received().len(), 1, "{case}");
        assert!(fetching.logs().contains("keys of the set are skipped"), "{case}");
        fetching.broker.done().await;
    }
}

#[tokio::test]
async fn b053_a_key_for_another_use_is_ignored() {
    // Each time the issuer's own key, which would verify, with another name.
    for (case, spoil) in [
        ("B053 for encryption", [("use", json!("enc"))]),
        ("B053 to encrypt", [("key_ops", json!(["encrypt"]))]),
        ("B053 symmetric", [("k", json!("AQAB"))]),
    ] {
        let fetching = Fetching::with_keys(|own| {
            let spoilt =
                spoil.into_iter().fold(with(own.clone(), "kid", "spoilt"), |key, (name, value)| {
                    with(key, name, value)
                });
            vec![spoilt, own.clone()]
        })
        .await;
        fetching
            .run([
                fetching.refused(case, &fetching.naming(Some("spoilt")), "jwt.kid"),
                Case::passes(case, fetching.call(&fetching.broker.token("items:read"))),
            ])
            .await;
        // Every reader of the set can sign with it, so this is an alarm and not an ordinary log
        // line.
        let alarm = fetching.logs().contains("jwks.private_key");
        assert_eq!(alarm, case == "B053 symmetric", "{case}");
        fetching.broker.done().await;
    }
    let twice = Fetching::with_keys(|own| {
        let third = with(own.clone(), "kid", "third");
        vec![own.clone(), with(another_key(), "kid", own["kid"].clone()), third]
    })
    .await;
    let valid = twice.broker.token("items:read");
    twice
        .run([
            twice.refused("B053 one id, two keys", &valid, "jwt.kid"),
            Case::passes("B053 the third", twice.call(&twice.naming(Some("third")))),
        ])
        .await;
    twice.broker.done().await;
}

#[tokio::test]
async fn b055_small_order_points_are_refused() {
    let pair = Ed25519KeyPair::from_pkcs8(
        Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap().as_ref(),
    )
    .unwrap();
    let public_key = base64url(pair.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "sound", "x": public_key});
    // The neutral point, which makes one signature valid for every message, and a second encoding
    // of it.
    let neutral = [&[1][..], &[0; 31]].concat();
    let non_canonical = [&[0xee][..], &[0xff; 30], &[0x7f]].concat();
    let weak = |kid: &str, point: &[u8]| {
        let x = base64url(point);
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
    };
    let fetching = Fetching::with_keys(|_| {
        vec![jwk, weak("neutral", &neutral), weak("second", &non_canonical)]
    })
    .await;
    let by = |kid: &str, signature: &dyn Fn(&[u8]) -> Vec<u8>| {
        let parts = fetching.good();
        let header = with(with(parts.header, "kid", kid), "alg", "EdDSA").to_string();
        let message = format!(
            "{}.{}",
            base64url(header.as_bytes()),
            base64url(parts.claims.to_string().as_bytes())
        );
        format!("{message}.{}", base64url(&signature(message.as_bytes())))
    };
    let sound = |message: &[u8]| pair.sign(message).as_ref().to_vec();
    // Valid for the neutral point without the check: S = 0, R = neutral.
    let of_all = |_: &[u8]| [&neutral[..], &[0; 32]].concat();
    let first = |message: &[u8]| [&neutral[..], &sound(message)[32..]].concat();
    let second = |message: &[u8]| [&non_canonical[..], &sound(message)[32..]].concat();
    fetching
        .run([
            fetching.refused("B055", &by("neutral", &of_all), "jwt.kid"),
            fetching.refused("B055", &by("second", &of_all), "jwt.kid"),
            fetching.refused("B055", &by("sound", &of_all), "jwt.signature"),
            fetching.refused("B055", &by("sound", &first), "jwt.signature"),
            fetching.refused("B055", &by("sound", &second), "jwt.signature"),
            Case::passes("B055", fetching.call(&by("sound", &sound))),
        ])
        .await;
    fetching.broker.done().await;
}

#[tokio::test]
async fn b061_a_key_that_left_the_set_is_retired() {
    let fetching = Fetching::start().await;
    let old = fetching.own_key();
    let edwards = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let next = SigningKeys::new(edwards)
        .unwrap()
        .jwks(Clock::system().read())
        .parse::<Value>()
        .unwrap()["keys"][0]
        .clone();
    let expires = fetching.now + 7200;
    let lasting = fetching.with_claims([("exp", expires.into())]);
    fetching.run([Case::passes("B061", fetching.call(&lasting))]).await;
    // The set contains only the next key. It is fetched when a token names that key, and the last
    // fetch's window is over.
    *fetching.keys.lock() = json!({"keys": [next]}).to_string();
    fetching.clock.advance(Duration::from_secs(61));
    fetching
        .run([
            fetching.refused(
                "B061 a kid that makes it look",
                &fetching.naming(Some("unknown")),
                "jwt.kid",
            ),
            fetching.refused("B061", &lasting, "jwt.key_retired"),
        ])
        .await;
    assert_eq!(fetching.key_set.received().len(), 2);
    // Once it is published again, it is used again.
    *fetching.keys.lock() = json!({"keys": [old, next]}).to_string();
    fetching.clock.advance(Duration::from_secs(61));
    fetching
        .run([
            fetching.refused(
                "B061 a kid that makes it look",
                &fetching.naming(Some("unknown")),
                "jwt.kid",
            ),
            Case::passes("B061", fetching.call(&lasting)),
        ])
        .await;
    fetching.broker.done().await;
}

#[tokio::test]
async fn b491_a_key_shown_private_is_not_used() {
    for kid in ["own", "spoilt"] {
        let shown = |own: &Value| {
            let kid = if kid == "own" { own["kid"].clone() } else { kid.into() };
            with(with(own.clone(), "kid", kid), "d", "AQAB")
        };
        let fetching =
            Fetching::with_keys(|own| vec![own.clone(), shown(own), another_key()]).await;
        let valid = fetching.broker.token("items:read");
        fetching.run([fetching.refused("B491", &valid, "jwt.kid")]).await;
        assert!(fetching.logs().contains("jwks.private_key"), "B491");
        fetching.broker.done_unsent().await;
    }
}

#[tokio::test]
async fn b490_keys_that_cannot_be_used_are_logged_once() {
    let rsa = |own: &Value| json!({"kty": "RSA", "kid": own["kid"], "n": "AQAB", "e": "AQAB"});
    let enc = |own: &Value| with(with(another_key(), "kid", own["kid"].clone()), "use", "enc");
    let fetching = Fetching::with_keys(|own| vec![rsa(own), own.clone(), enc(own)]).await;
    let own = fetching.own_key();
    let url = fetching.key_set.url("/jwks");
    let lines = || {
        let logs = fetching.logs();
        let of_set = |line: &&str| line.contains("keys of the set are skipped");
        logs.lines().filter(of_set).filter(|line| line.contains(&url)).count()
    };
    for round in 0..6 {
        let lasting = fetching.with_claims([("exp", (fetching.now + 7200).into())]);
        fetching
            .run([
                Case::passes("B490", fetching.call(&lasting)),
                fetching.refused("B490 it looks again", &fetching.naming(Some("other")), "jwt.kid"),
            ])
            .await;
        assert_eq!(lines(), 1, "B490 {round}");
        // The same keys, in another order, or fewer of them.
        let served = fetching.keys.lock().parse::<Value>().unwrap();
        let mut keys = served["keys"].as_array().unwrap().clone();
        keys.rotate_left(1);
        if round == 4 {
            keys.retain(|key| key["kty"] == "EC");
        }
        *fetching.keys.lock() = json!({"keys": keys}).to_string();
        fetching.clock.advance(Duration::from_secs(61));
    }
    *fetching.keys.lock() = json!({"keys": [own, enc(&own)]}).to_string();
    let unknown = fetching.naming(Some("other"));
    fetching.run([fetching.refused("B490 another key", &unknown, "jwt.kid")]).await;
    assert_eq!(lines(), 2, "B490");
    fetching.broker.done().await;
}

#[tokio::test]
async fn b492_a_kid_newer_than_the_set_is_503() {
    let fetching = Fetching::start().await;
    fetching.run([Case::passes("B492", fetching.call(&fetching.naming(None)))]).await;
    fetching.clock.advance(Duration::from_secs(5));
    let unknown = |issued: u64| {
        let mut parts = fetching.good();
        parts.header = with(parts.header, "kid", "next");
        parts.claims["iat"] = issued.into();
        fetching.call(&fetching.signed(&parts))
    };
    let now = fetching.now;
    fetching
        .run([
            Case::refused("B492", unknown(now + 5), 503, "authn.keys_unavailable"),
            Case::refused("B492", unknown(now), 401, "jwt.kid"),
            Case::refused("B492", unknown(now - 60), 401, "jwt.kid"),
        ])
        .await;
    assert_eq!(fetching.key_set.received().len(), 1);
    fetching.broker.done().await;
}
