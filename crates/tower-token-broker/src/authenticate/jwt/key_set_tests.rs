//! Key sets with keys that cannot be used, and keys that are newer than the set.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    test_issuer::{Ec, OTHER_RSA, RSA, Site, with, without},
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

fn set(keys: &[Json]) -> Result<Keys, KeysError> {
    Keys::parse(json!({"keys": keys}).to_string().as_bytes())
}

fn header(algorithm: &str, kid: &str) -> Json {
    json!({"alg": algorithm, "typ": "at+jwt", "kid": kid})
}

fn claims(issued: u64) -> Json {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "alice", "client_id": "inspector", "jti": "token-1",
        "iat": issued, "exp": issued + 7200,
    })
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_unix_seconds(NOW))
}

async fn outcome(verifier: &JwtVerifier, clock: &Clock, token: &str) -> Option<Reason> {
    let token = PresentedToken::new(Secret::from_text(token.into()));
    let resource = Resource::parse(RESOURCE).unwrap();
    let verified = verifier.verify(&VerifyRequest::new(&token, &resource, clock)).await;
    verified.err().map(|rejected| rejected.reason())
}

async fn refused(keys: Keys, token: &str) -> Option<Reason> {
    outcome(&JwtVerifier::new(ISSUER, keys), &clock(), token).await
}

#[tokio::test]
async fn b490_an_unusable_key_harms_no_other() {
    let (ec, other) = (Ec::new(), Ec::new());
    let token = ec.sign(&header("ES256", "one"), &claims(NOW));
    let own = ec.jwk("one");
    let encryption = json!({"kty": "EC", "crv": "X448", "kid": "one", "use": "enc", "x": "AA"});
    for (case, beside) in [
        ("RSA", RSA.jwk("one")),
        ("RSA for encryption", with(RSA.jwk("one"), "use", json!("enc"))),
        ("EC for encryption", with(other.jwk("one"), "use", json!("enc"))),
        ("EC to derive", with(other.jwk("one"), "key_ops", json!(["deriveKey"]))),
        ("another curve", with(other.jwk("one"), "crv", json!("P-521"))),
        ("unknown type", json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "one", "pub": "AA"})),
        ("no point", with(other.jwk("one"), "y", json!(test_issuer::b64(&[7; 32])))),
        ("no coordinate", without(other.jwk("one"), "y")),
        ("symmetric", json!({"kty": "oct", "kid": "one", "k": "AAAA"})),
        ("another private key", with(other.jwk("one"), "d", json!("AQAB"))),
        ("another algorithm", with(other.jwk("one"), "alg", json!("ES512"))),
        ("encryption curve", encryption),
        ("the same key twice", own.clone()),
        ("the same key, annotated", with(own.clone(), "use", json!("sig"))),
        ("no object", json!("one")),
    ] {
        for keys in [[own.clone(), beside.clone()], [beside.clone(), own.clone()]] {
            assert_eq!(refused(set(&keys).unwrap(), &token).await, None, "B490 {case}");
        }
    }
    // Usable, of another algorithm: each for its own.
    let keys = Keys::parse_for(
        json!({"keys": [own, RSA.jwk("one")]}).to_string().as_bytes(),
        [Algorithm::Es256, Algorithm::Rs256],
    )
    .unwrap();
    assert_eq!(refused(keys.clone(), &token).await, None);
    let by_rsa = RSA.sign(&header("RS256", "one"), &claims(NOW));
    assert_eq!(refused(keys.clone(), &by_rsa).await, None);
    // B028: neither verifies for the algorithm of the other.
    let forged = RSA.sign(&header("ES256", "one"), &claims(NOW));
    assert_eq!(refused(keys.clone(), &forged).await, Some(Reason::JwtSignature));
    let forged = ec.sign(&header("RS256", "one"), &claims(NOW));
    assert_eq!(refused(keys, &forged).await, Some(Reason::JwtSignature));
}

#[tokio::test]
async fn b490_two_usable_keys_of_one_name_stay_ambiguous() {
    let (ec, other, third) = (Ec::new(), Ec::new(), Ec::new());
    let token = ec.sign(&header("ES256", "one"), &claims(NOW));
    let last = third.sign(&header("ES256", "third"), &claims(NOW));
    for keys in [
        vec![ec.jwk("one"), other.jwk("one"), third.jwk("third")],
        vec![other.jwk("one"), ec.jwk("one"), third.jwk("third")],
        vec![ec.jwk("one"), other.jwk("one"), ec.jwk("one"), third.jwk("third")],
        vec![ec.jwk("one"), ec.jwk("one"), other.jwk("one"), third.jwk("third")],
    ] {
        let keys = set(&keys).unwrap();
        assert!(keys.problems().iter().any(|(_, problem)| *problem == KeyError::DuplicateKeyId));
        assert_eq!(refused(keys.clone(), &token).await, Some(Reason::JwtKeyId), "B490");
        assert_eq!(refused(keys, &last).await, None);
    }
    let both = [ec.jwk("one"), other.jwk("one")];
    assert_eq!(set(&both).err(), Some(KeysError::NoneUsable));
    // Without a name: one key under two names is one key, two keys are two.
    let nameless = ec.sign(&without(header("ES256", ""), "kid"), &claims(NOW));
    let twice = [ec.jwk("one"), ec.jwk("two"), without(ec.jwk(""), "kid")];
    assert_eq!(refused(set(&twice).unwrap(), &nameless).await, None);
    let two = [ec.jwk("one"), other.jwk("two")];
    assert_eq!(refused(set(&two).unwrap(), &nameless).await, Some(Reason::JwtKeyId));
}

#[tokio::test]
async fn b491_a_key_shown_private_is_used_under_no_name() {
    let ec = Ec::new();
    let token = ec.sign(&header("ES256", "one"), &claims(NOW));
    for kid in ["one", "two"] {
        let shown = with(ec.jwk(kid), "d", json!("AQAB"));
        for keys in [[ec.jwk("one"), shown.clone()], [shown.clone(), ec.jwk("one")]] {
            assert_eq!(set(&keys).err(), Some(KeysError::NoneUsable), "B491 {kid}");
            let more = [keys[0].clone(), keys[1].clone(), Ec::new().jwk("three")];
            let keys = set(&more).unwrap();
            let private = (0, KeyError::Private);
            assert_eq!(keys.problems(), [private, (1, KeyError::Private)], "B491 {kid}");
            assert_eq!(refused(keys, &token).await, Some(Reason::JwtKeyId), "B491 {kid}");
        }
    }
}

#[tokio::test]
async fn b491_a_private_key_is_recognized_in_any_form() {
    let of = |keys: &[Json]| {
        let all = Algorithms::of([Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256]);
        Keys::parse_for(json!({"keys": keys}).to_string().as_bytes(), all)
    };
    let (rsa, ec) = (RSA.jwk("one"), Ec::new().jwk("one"));
    let okp = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "one",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let padded = |key: &Json, name: &str| {
        let text = key[name].as_str().unwrap().replace('-', "+").replace('_', "/");
        with(key.clone(), name, json!(format!("{text}=")))
    };
    let zeros = test_issuer::b64(&[&[0, 0], &RSA.modulus()[..]].concat());
    for (case, key, shown) in [
        ("no alg", &rsa, rsa.clone()),
        ("RSA-OAEP", &rsa, with(rsa.clone(), "alg", json!("RSA-OAEP"))),
        ("RS512", &rsa, with(rsa.clone(), "alg", json!("RS512"))),
        ("PS256", &rsa, with(rsa.clone(), "alg", json!("PS256"))),
        ("unknown alg", &rsa, with(rsa.clone(), "alg", json!("X"))),
        ("alg of another type", &rsa, with(rsa.clone(), "alg", json!(7))),
        ("encryption", &rsa, with(rsa.clone(), "use", json!("enc"))),
        ("another kid", &rsa, with(rsa.clone(), "kid", json!("two"))),
        ("a bad kid", &rsa, with(rsa.clone(), "kid", json!(7))),
        ("no kid", &rsa, without(rsa.clone(), "kid")),
        ("no kty", &rsa, without(rsa.clone(), "kty")),
        ("no e", &rsa, without(rsa.clone(), "e")),
        ("another e", &rsa, with(rsa.clone(), "e", json!("Aw"))),
        ("padded", &rsa, padded(&rsa, "n")),
        ("zeros", &rsa, with(rsa.clone(), "n", json!(zeros))),
        ("ES512", &ec, with(ec.clone(), "alg", json!("ES512"))),
        ("ECDH", &ec, with(ec.clone(), "alg", json!("ECDH-ES"))),
        ("no y", &ec, without(ec.clone(), "y")),
        ("another y", &ec, with(ec.clone(), "y", json!("AA"))),
        ("no crv", &ec, without(ec.clone(), "crv")),
        ("padded x", &ec, padded(&ec, "x")),
        ("OKP", &okp, okp.clone()),
        ("OKP, alg", &okp, with(okp.clone(), "alg", json!("EdDSA448"))),
        ("OKP with y", &okp, with(okp.clone(), "y", json!("AA"))),
    ] {
        for private in ["d", "p", "qi", "oth"] {
            let shown = with(shown.clone(), private, json!("AQAB"));
            for keys in [[key.clone(), shown.clone()], [shown, key.clone()]] {
                let found = of(&keys).err();
                assert_eq!(found, Some(KeysError::NoneUsable), "B491 {case} {private}");
            }
        }
        // Without a private member, the entry harms no other.
        let other = with(shown, "alg", json!("none"));
        assert_eq!(of(&[key.clone(), other]).unwrap().len(), 1, "B491 {case}");
    }
    // The private half of another key.
    for other in [OTHER_RSA.jwk("two"), Ec::new().jwk("two"), with(rsa.clone(), "n", json!("!"))] {
        let other = with(other, "d", json!("AQAB"));
        assert_eq!(of(&[rsa.clone(), ec.clone(), other]).unwrap().len(), 2, "B491");
    }
}

#[test]
fn b052_rsa_keys_must_be_sound_and_bound() {
    let parse = |keys: Json, algorithms: &[Algorithm]| {
        let set = json!({"keys": [keys, Ec::new().jwk("good")]}).to_string();
        let all = [Algorithm::Es256].into_iter().chain(algorithms.iter().copied());
        Keys::parse_for(set.as_bytes(), Algorithms::of(all)).unwrap().problems()
    };
    let (rs256, ps256) = (Algorithm::Rs256, Algorithm::Ps256);
    let modulus = |n: &[u8]| with(RSA.jwk("r"), "n", json!(test_issuer::b64(n)));
    let mut even = RSA.modulus();
    even[255] &= 0xfe;
    for (case, key, problem) in [
        ("1024 bits", modulus(&RSA.modulus()[..128]), KeyError::WeakRsa),
        ("2040 bits", modulus(&RSA.modulus()[..255]), KeyError::WeakRsa),
        ("a zero before it", modulus(&[&[0], &RSA.modulus()[..]].concat()), KeyError::WeakRsa),
        ("even", modulus(&even), KeyError::WeakRsa),
        ("16384 bits", modulus(&RSA.modulus().repeat(8)), KeyError::WeakRsa),
        ("e = 1", with(RSA.jwk("r"), "e", json!("AQ")), KeyError::WeakRsa),
        ("e = 3", with(RSA.jwk("r"), "e", json!("Aw")), KeyError::WeakRsa),
        ("no e", without(RSA.jwk("r"), "e"), KeyError::Malformed),
        ("no n", without(RSA.jwk("r"), "n"), KeyError::Malformed),
        ("n is a number", with(RSA.jwk("r"), "n", json!(7)), KeyError::Malformed),
        ("padded", with(RSA.jwk("r"), "e", json!("AQAB==")), KeyError::Malformed),
        ("private", with(RSA.jwk("r"), "d", json!("AQAB")), KeyError::Private),
        ("p alone", with(RSA.jwk("r"), "p", json!("AQAB")), KeyError::Private),
        ("encryption", with(RSA.jwk("r"), "use", json!("enc")), KeyError::OtherPurpose),
        ("RSA-OAEP", with(RSA.jwk("r"), "alg", json!("RSA-OAEP")), KeyError::UnsupportedType),
        ("RS512", with(RSA.jwk("r"), "alg", json!("RS512")), KeyError::UnsupportedType),
        ("PS256", with(RSA.jwk("r"), "alg", json!("PS256")), KeyError::UnsupportedType),
        ("HS256", with(RSA.jwk("r"), "alg", json!("HS256")), KeyError::UnsupportedType),
    ] {
        assert_eq!(parse(key, &[rs256]), [(0, problem)], "B052 {case}");
    }
    assert_eq!(parse(RSA.jwk("r"), &[]), [(0, KeyError::UnsupportedType)], "not by default");
    assert_eq!(parse(RSA.jwk("r"), &[rs256, ps256]), [(0, KeyError::NoAlgorithm)]);
    for algorithm in [rs256, ps256] {
        assert_eq!(parse(RSA.jwk("r"), &[algorithm]), []);
        let named = with(RSA.jwk("r"), "alg", json!(algorithm.as_str()));
        assert_eq!(parse(named, &[rs256, ps256]), []);
    }
}

#[tokio::test]
async fn b028_a_key_is_for_one_rsa_algorithm() {
    let rsa = &*RSA;
    for (bound, other) in [("RS256", "PS256"), ("PS256", "RS256")] {
        let key = with(rsa.jwk("r"), "alg", json!(bound));
        let text = json!({"keys": [key]}).to_string();
        let keys = Keys::parse_for(text.as_bytes(), [Algorithm::Rs256, Algorithm::Ps256]).unwrap();
        let good = rsa.sign(&header(bound, "r"), &claims(NOW));
        assert_eq!(refused(keys.clone(), &good).await, None, "{bound}");
        let token = rsa.sign(&header(other, "r"), &claims(NOW));
        let found = refused(keys.clone(), &token).await;
        assert_eq!(found, Some(Reason::JwtAlgorithmKeyMismatch), "B028 {bound}");
        for unknown in ["RS384", "RS512", "RS1", "rs256", "HS256", "none"] {
            let token = rsa.sign(&header(unknown, "r"), &claims(NOW));
            let found = refused(keys.clone(), &token).await;
            assert_eq!(found, Some(Reason::JwtAlgorithm), "B026 {unknown}");
        }
        let by_another = OTHER_RSA.sign(&header(bound, "r"), &claims(NOW));
        assert_eq!(refused(keys, &by_another).await, Some(Reason::JwtSignature));
    }
}

#[tokio::test]
async fn b492_a_kid_newer_than_the_set_is_503() {
    let (ec, next, clock, tasks) = (Ec::new(), Ec::new(), clock(), Tasks::new());
    let site = Site::default();
    site.serve(URL, 200, &json!({"keys": [ec.jwk("one")]}));
    let keys = RemoteKeys::build(site.clone(), URL.parse().unwrap(), &clock, &tasks);
    let verifier = JwtVerifier::new(ISSUER, keys);
    assert_eq!(
        outcome(&verifier, &clock, &ec.sign(&header("ES256", "one"), &claims(NOW))).await,
        None
    );
    clock.advance(Duration::from_secs(10));
    let unknown = |issued: Json| {
        let claims = with(claims(NOW), "iat", issued);
        next.sign(&header("ES256", "next"), &claims)
    };
    for (issued, reason) in [
        (json!(NOW + 1), Reason::KeysUnavailable),
        (json!(NOW + 10), Reason::KeysUnavailable),
        (json!(NOW + 40), Reason::KeysUnavailable),
        // Before the set was fetched, when it is not valid yet, or not at all.
        (json!(NOW), Reason::JwtKeyId),
        (json!(NOW - 3600), Reason::JwtKeyId),
        (json!(NOW + 41), Reason::JwtKeyId),
        (json!("1800000005"), Reason::JwtKeyId),
        (json!(-1), Reason::JwtKeyId),
        (Json::Null, Reason::JwtKeyId),
    ] {
        let found = outcome(&verifier, &clock, &unknown(issued.clone())).await;
        assert_eq!(found, Some(reason), "B492 {issued}");
    }
    assert_eq!(site.requests_to(URL), 1, "B029: within the cool-down");
    // After it, the newer set decides.
    site.serve(URL, 200, &json!({"keys": [ec.jwk("one"), next.jwk("next")]}));
    clock.advance(Duration::from_secs(20));
    assert_eq!(outcome(&verifier, &clock, &unknown(json!(NOW + 5))).await, None, "B492");
    assert_eq!(site.requests_to(URL), 2);
}

#[tokio::test]
async fn b500_a_key_that_is_replaced_under_its_name_is_found() {
    let unnamed = |ec: &Ec| without(ec.jwk("x"), "kid");
    let without_kid = |_: &str| json!({"alg": "ES256", "typ": "at+jwt"});
    let with_kid = |kid: &str| header("ES256", kid);
    let one = |ec: &Ec| ec.jwk("one");
    type Case<'a> = (&'a dyn Fn(&Ec) -> Json, &'a dyn Fn(&str) -> Json, bool);
    let cases: [Case<'_>; 2] = [(&unnamed, &without_kid, true), (&one, &with_kid, false)];
    for (jwk, header, is_unnamed) in cases {
        let (old, new, forger) = (Ec::new(), Ec::new(), Ec::new());
        let (clock, tasks, site) = (clock(), Tasks::new(), Site::default());
        site.serve(URL, 200, &json!({"keys": [jwk(&old)]}));
        let keys = RemoteKeys::build(site.clone(), URL.parse().unwrap(), &clock, &tasks);
        let verifier = JwtVerifier::new(ISSUER, keys);
        let token = |ec: &Ec, issued| ec.sign(&header("one"), &claims(issued));
        assert_eq!(outcome(&verifier, &clock, &token(&old, NOW)).await, None, "B500");
        // Forged tokens cause one fetch per cool-down.
        clock.advance(Duration::from_secs(30));
        for _ in 0..10 {
            let found = outcome(&verifier, &clock, &token(&forger, NOW - 60)).await;
            assert_eq!(found, Some(Reason::JwtSignature), "B500");
        }
        assert_eq!(site.requests_to(URL), 2, "B500");
        site.serve(URL, 200, &json!({"keys": [jwk(&new)]}));
        clock.advance(Duration::from_secs(10));
        let within = outcome(&verifier, &clock, &token(&new, NOW + 40)).await;
        let expected = if is_unnamed { Reason::KeysUnavailable } else { Reason::JwtSignature };
        assert_eq!(within, Some(expected), "B500: within the cool-down");
        clock.advance(Duration::from_secs(20));
        assert_eq!(outcome(&verifier, &clock, &token(&new, NOW + 40)).await, None, "B500");
        assert_eq!(site.requests_to(URL), 3, "B500");
        let replaced = outcome(&verifier, &clock, &token(&old, NOW)).await;
        assert_eq!(replaced, Some(Reason::JwtSignature), "B500");
        // An outage changes no verdict on a forged token with a `kid`.
        site.down(URL);
        clock.advance(Duration::from_secs(60));
        let forged = outcome(&verifier, &clock, &token(&forger, NOW)).await;
        assert_eq!(forged, Some(Reason::JwtSignature), "B500");
        assert_eq!(outcome(&verifier, &clock, &token(&new, NOW + 40)).await, None, "B500");
    }
}

#[tokio::test]
async fn b500_a_key_that_is_replaced_by_one_of_another_algorithm_is_found() {
    let (old, new) = (Ec::new(), &*RSA);
    let (clock, tasks, site) = (clock(), Tasks::new(), Site::default());
    site.serve(URL, 200, &json!({"keys": [old.jwk("one")]}));
    let keys = RemoteKeys::build(site.clone(), URL.parse().unwrap(), &clock, &tasks)
        .algorithms([Algorithm::Es256, Algorithm::Rs256]);
    let verifier = JwtVerifier::new(ISSUER, keys);
    let before = old.sign(&header("ES256", "one"), &claims(NOW));
    assert_eq!(outcome(&verifier, &clock, &before).await, None, "B500");
    site.serve(URL, 200, &json!({"keys": [with(new.jwk("one"), "alg", json!("RS256"))]}));
    clock.advance(Duration::from_secs(31));
    let after = new.sign(&header("RS256", "one"), &claims(NOW + 31));
    assert_eq!(outcome(&verifier, &clock, &after).await, None, "B500");
    // It was not retired: its name is that of another key.
    let found = outcome(&verifier, &clock, &before).await;
    assert_eq!(found, Some(Reason::JwtAlgorithmKeyMismatch), "B500");
    assert_eq!(site.requests_to(URL), 2, "B500: once per cool-down");
}
