//! Wycheproof's JWS and JWK files and the JOSE cookbook, run by a verifier of all algorithms that
//! exists only for this test. It reads tokens like ours (canonical base64url, strict JSON, key
//! rules), but supports more algorithms. Our own verifier refuses all of them.

use std::{fs, path::Path};

use aws_lc_rs::{hmac, signature};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value as Json;
use tower_token_broker::{
    Secret,
    authenticate::{
        PresentedToken, VerifyRequest, VerifyToken,
        jwt::{JwtVerifier, KeyError, Keys},
    },
    clock::Clock,
    json::{Limits, Value},
    principal::Resource,
    refusal::Reason,
};

use crate::vectors;

/// The cases in which we deliberately differ from Wycheproof's result. All others must have that
/// result.
const OVERRIDDEN_JWS: [(u64, bool, &str); OVERRIDES] = [
    (346, false, "the key is for PS256, the token is PS384: B028"),
    (347, false, "the key's alg is ES521, which no header can name"),
    (350, false, "the key is for PS256, the token is PS384: B028"),
    (351, false, "the key's alg is ES521, which no header can name"),
    (367, true, "octet by octet the token of 357, which is valid"),
    (370, true, "octet by octet the token of 357, which is valid"),
    (372, false, "a character that base64url does not have, in the header: B036"),
    (373, false, "a character that base64url does not have, in the payload: B036"),
];
const OVERRIDES: usize = 8;
/// Vectors that are refused because the key is for another algorithm, or its type has no algorithm
/// of that name. All except 24, a modified key, are about the algorithm itself. For any other
/// fault, such a refusal would prove nothing.
const BY_ALGORITHM_JWS: &[u64] =
    &[16, 31, 332, 334, 336, 338, 340, 341, 342, 343, 344, 346, 347, 350, 351];
const BY_ALGORITHM_JWK: &[u64] = &[19, 20, 24, 25, 26];

/// The public key of RFC 8037, appendix A.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// The reasons why a vector is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The key has another algorithm, or its type has no algorithm of this name.
    Algorithm,
    /// Any other fault, for which the vector was written.
    Fault,
}

#[test]
fn b057_wycheproof_jws_comes_out_as_pinned() {
    let Some(folder) = vectors::folder("wycheproof") else { return };
    let file = read(&folder.join("json_web_signature_test.json"));
    let (mut run, mut overridden, mut by_algorithm) = (0, 0, Vec::new());
    for group in array(&file["testGroups"]) {
        let key = key_of(group);
        for test in array(&group["tests"]) {
            let id = test["tcId"].as_u64().unwrap();
            let verdict = verify(&key, &compact(&test["jws"]));
            let accepted = verdict.is_ok();
            let said = test["result"] == "valid";
            let expected = OVERRIDDEN_JWS.iter().find(|(overridden, ..)| *overridden == id).map_or(
                said,
                |(_, pinned, _)| {
                    assert_ne!(*pinned, said, "{id}: nothing to override");
                    overridden += 1;
                    *pinned
                },
            );
            assert_eq!(accepted, expected, "B057 tcId {id} {}", test["comment"]);
            // A refusal for the algorithm proves nothing about the fault of the vector.
            if verdict == Err(Refused::Algorithm) {
                by_algorithm.push(id);
            } else {
                run += 1;
            }
        }
    }
    assert_eq!(by_algorithm, BY_ALGORITHM_JWS, "B057");
    assert_eq!((run + by_algorithm.len(), overridden), (401, OVERRIDES), "B057");
}

#[test]
fn b052_wycheproof_jwk_comes_out_as_it_says() {
    let Some(folder) = vectors::folder("wycheproof") else { return };
    let file = read(&folder.join("json_web_key_test.json"));
    let (mut run, mut by_algorithm) = (0, Vec::new());
    for group in array(&file["testGroups"]) {
        for test in array(&group["tests"]) {
            let id = test["tcId"].as_u64().unwrap();
            let verdict = verify_by_set(&key_of(group), &compact(&test["jws"]));
            assert_eq!(
                verdict.is_ok(),
                test["result"] == "valid",
                "B052 tcId {id} {}",
                test["comment"]
            );
            if verdict == Err(Refused::Algorithm) {
                by_algorithm.push(id);
            } else {
                run += 1;
            }
        }
    }
    assert_eq!(by_algorithm, BY_ALGORITHM_JWK, "B052");
    assert_eq!(run + by_algorithm.len(), 26, "B052");
}

#[test]
fn the_cookbook_s_compact_signatures_verify() {
    let Some(folder) = vectors::folder("jose-cookbook") else { return };
    for (name, verifies) in [
        ("jws/4_1.rsa_v15_signature.json", true),
        ("jws/4_2.rsa-pss_signature.json", true),
        ("jws/4_3.ecdsa_signature.json", true),
        ("jws/4_4.hmac-sha2_integrity_protection.json", true),
        ("curve25519/jws.json", true),
        // Detached: the token does not contain the payload.
        ("jws/4_5.signature_with_detached_content.json", false),
        // `b64: false` changes what the bytes mean: B032.
        ("rfc7797/hmac-sha2_b64_false.json", false),
    ] {
        let example = read(&folder.join(name));
        let key = example["input"]["key"].to_string();
        assert_eq!(
            verify(&key, &compact(&example["output"]["compact"])).is_ok(),
            verifies,
            "{name}"
        );
    }
}

#[tokio::test]
async fn our_verifier_refuses_all_of_it() {
    let (Some(wycheproof), Some(cookbook)) =
        (vectors::folder("wycheproof"), vectors::folder("jose-cookbook"))
    else {
        return;
    };
    let ours = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{ED25519}"}}]}}"#);
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let mut tokens = Vec::new();
    for name in [
        "json_web_signature_test.json",
        "json_web_key_test.json",
        "json_web_crypto_test.json",
        "json_web_encryption_test.json",
    ] {
        for group in array(&read(&wycheproof.join(name))["testGroups"]) {
            for test in array(&group["tests"]) {
                let text = if test["jws"].is_null() { &test["jwe"] } else { &test["jws"] };
                tokens.push((key_of(group), compact(text)));
            }
        }
    }
    let example = read(&cookbook.join("curve25519/jws.json"));
    tokens.push((example["input"]["key"].to_string(), compact(&example["output"]["compact"])));
    let mut reasons = std::collections::BTreeSet::new();
    for (key, token) in &tokens {
        // With the vector's own key if ours accepts it, so that no token is refused for lack of a
        // key.
        let own =
            if key.contains("\"keys\"") { key.clone() } else { format!(r#"{{"keys":[{key}]}}"#) };
        let keys = Keys::parse(own.as_bytes()).or_else(|_| Keys::parse(ours.as_bytes())).unwrap();
        let verifier = JwtVerifier::new("joe", keys);
        let presented = PresentedToken::new(Secret::from_text(token.clone()));
        let clock = Clock::system();
        let request = VerifyRequest::new(&presented, &resource, &clock);
        let rejected = verifier.verify(&request).await;
        reasons.insert(rejected.expect_err(token).reason());
    }
    assert!(tokens.len() > 500);
    // Never because of the signature: the profile is checked before any cryptography.
    assert!(!reasons.contains(&Reason::JwtSignature), "{reasons:?}");
    assert!(
        reasons.contains(&Reason::JwtAlgorithm)
            && reasons.contains(&Reason::JwtFormat)
            && reasons.contains(&Reason::JwtType)
    );
}

#[test]
fn our_key_rules_hold_for_the_vectors_of_our_algorithms() {
    let Some(folder) = vectors::folder("wycheproof") else { return };
    let file = read(&folder.join("json_web_key_test.json"));
    let problems_of = |comment: &str| {
        let group =
            array(&file["testGroups"]).iter().find(|group| group["comment"] == comment).unwrap();
        let mut set: Json = group["public"].clone();
        // With an additional good key, so that the whole set is read.
        let good = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519});
        set["keys"].as_array_mut().unwrap().push(good);
        Keys::parse(set.to_string().as_bytes()).unwrap().problems()
    };
    for (comment, problem) in [
        ("wrong_algorithm", KeyError::OtherPurpose),
        ("invalid_algorithm", KeyError::OtherPurpose),
        ("invalid_use", KeyError::OtherPurpose),
        ("invalid_point", KeyError::UnsoundPoint),
        ("wrong_curve", KeyError::UnsupportedType),
        ("wrong_kty", KeyError::UnsupportedType),
        ("jws_rsa_roca_key", KeyError::UnsupportedType),
        ("keysize_too_small", KeyError::UnsupportedType),
        ("exponentOne", KeyError::UnsupportedType),
    ] {
        assert_eq!(problems_of(comment), [(0, problem)], "B052 {comment}");
    }
}

/// The payload, if this key signed it and may have.
fn verify(key: &str, token: &str) -> Result<Vec<u8>, Refused> {
    read_and_verify(key, token).unwrap_or(Err(Refused::Fault))
}

/// `None` where something can't be read, or is missing.
fn read_and_verify(key: &str, token: &str) -> Option<Result<Vec<u8>, Refused>> {
    let key = Value::parse(key.as_bytes(), &Limits::default()).ok()?;
    let (signed, header, payload, given) = parts(token)?;
    let header = Value::parse(&header, &Limits::default()).ok()?;
    if ["crit", "b64"].iter().any(|name| header.get(name).is_some()) {
        return None;
    }
    let text = |value: Value<'_>, name: &str| {
        value.get(name).and_then(|found| found.as_str().map(std::borrow::Cow::into_owned))
    };
    let algorithm = text(header, "alg")?;
    let fits = key.get("use").is_none_or(|used| used.as_str().as_deref() == Some("sig"))
        && key.get("key_ops").is_none_or(|operations| {
            operations
                .elements()
                .is_some_and(|mut all| all.any(|one| one.as_str().as_deref() == Some("verify")))
        });
    if !fits {
        return None;
    }
    if key.get("alg").is_some_and(|named| named.as_str().as_deref() != Some(algorithm.as_str())) {
        return Some(Err(Refused::Algorithm));
    }
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(key, name)?).ok();
    let (kind, curve) = (text(key, "kty")?, text(key, "crv"));
    let message = signed.as_bytes();
    let verified = match (algorithm.as_str(), kind.as_str(), curve.as_deref()) {
        ("HS256" | "HS384" | "HS512", "oct", None) => {
            let (hash, least) = match algorithm.as_str() {
                "HS256" => (hmac::HMAC_SHA256, 32),
                "HS384" => (hmac::HMAC_SHA384, 48),
                _ => (hmac::HMAC_SHA512, 64),
            };
            let secret = bytes("k").filter(|secret| secret.len() >= least)?;
            hmac::verify(&hmac::Key::new(hash, &secret), message, &given).is_ok()
        }
        ("ES256" | "ES384" | "ES512", "EC", Some(curve)) => {
            let (expected, by): (_, &'static dyn signature::VerificationAlgorithm) =
                match algorithm.as_str() {
                    "ES256" => ("P-256", &signature::ECDSA_P256_SHA256_FIXED),
                    "ES384" => ("P-384", &signature::ECDSA_P384_SHA384_FIXED),
                    _ => ("P-521", &signature::ECDSA_P521_SHA512_FIXED),
                };
            let point = [&[4][..], &bytes("x")?, &bytes("y")?].concat();
            curve == expected
                && signature::UnparsedPublicKey::new(by, point).verify(message, &given).is_ok()
        }
        ("EdDSA", "OKP", Some("Ed25519")) => {
            signature::UnparsedPublicKey::new(&signature::ED25519, bytes("x")?)
                .verify(message, &given)
                .is_ok()
        }
        ("RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512", "RSA", None) => {
            let by = match algorithm.as_str() {
                "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                _ => &signature::RSA_PSS_2048_8192_SHA512,
            };
            let (n, e) = (bytes("n")?, bytes("e")?);
            !is_roca(&n)
                && signature::RsaPublicKeyComponents { n, e }.verify(by, message, &given).is_ok()
        }
        _ => return Some(Err(Refused::Algorithm)),
    };
    verified.then_some(Ok(payload))
}

/// By the one key of the set that the token names; sets of two minds are no sets.
fn verify_by_set(set: &str, token: &str) -> Result<Vec<u8>, Refused> {
    key_in_set(set, token).map_or(Err(Refused::Fault), |key| verify(&key, token))
}

fn key_in_set(set: &str, token: &str) -> Option<String> {
    let set = Value::parse(set.as_bytes(), &Limits::default()).ok()?;
    let keys: Vec<_> = set.get("keys")?.elements()?.collect();
    let is_symmetric = |key: &Value<'_>| key.get("k").is_some();
    if keys.iter().any(is_symmetric) && !keys.iter().all(is_symmetric) {
        return None;
    }
    let (_, header, ..) = parts(token)?;
    let named = Value::parse(&header, &Limits::default()).ok()?.get("kid")?.as_str()?.into_owned();
    let mut fitting = keys
        .iter()
        .filter(|key| key.get("kid").and_then(Value::as_str).as_deref() == Some(named.as_str()));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Some(key.raw().to_owned()),
        _ => None,
    }
}

/// The signed text, then header, payload and signature, decoded.
type Parts<'a> = (&'a str, Vec<u8>, Vec<u8>, Vec<u8>);

fn parts(token: &str) -> Option<Parts<'_>> {
    let (signed, given) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    Some((signed, decode(header)?, decode(payload)?, decode(given)?))
}

/// The fingerprint of CVE-2017-15361: modulo each of these primes, the modulus lies in the group
/// that 65537 generates.
fn is_roca(modulus: &[u8]) -> bool {
    [11_u32, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157].iter().all(
        |prime| {
            let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
            let mut power = 1;
            (0..*prime).any(|_| {
                power = power * 65537 % prime;
                power == rest
            })
        },
    )
}

fn compact(jws: &Json) -> String {
    jws.as_str().map_or_else(|| jws.to_string(), str::to_owned)
}

/// The public key, or the secret one.
fn key_of(group: &Json) -> String {
    if group["public"].is_null() {
        group["private"].to_string()
    } else {
        group["public"].to_string()
    }
}

fn array(value: &Json) -> &[Json] {
    value.as_array().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "vectors that we chose, not untrusted input")]
fn read(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
